"""The handle of the helper process that starts all others."""

from __future__ import annotations

import array
import marshal
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from runtime.engine.plan import Plan
from runtime.errors import SpawnerDied, SpawnError
from runtime.spawn.interpreter import interpreter_fd
from runtime.spawn.process import Process
from runtime.spawn.request import Request

__all__ = ["Spawner"]

_HELPER = Path(__file__).with_name("helper.py")
_START_TIMEOUT = 30.0
_PACKET = 64 * 1024
"""Bytes that go as one packet; more go by memfd, since a socket's buffer is limited."""


class Spawner:
    """Starts processes without forking this one. Opened once, in the main thread, as a context.

    A fork copies page tables, which takes milliseconds in a process as large as the lab; the
    helper is small. Its children are nevertheless *this* process's children (CLONE_PARENT).
    `spawn` may be called from any thread.
    """

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._helper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Spawner:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The helper's process id."""
        return self._alive()[1].pid

    def open(self) -> Spawner:
        """Start the helper and wait until it is ready. Raises SpawnError."""
        if self._helper is not None:
            return self
        if threading.current_thread() is not threading.main_thread():
            # PR_SET_PDEATHSIG follows the *thread* that is the parent, not the process.
            raise SpawnError(
                "open the Spawner in the main thread: what it starts is killed when the thread "
                "that opened it ends"
            )
        program = interpreter_fd()
        try:
            ready = self._begin(program)
            if not ready and program is not None:
                # A Python that looks for its libraries beside its own file (RPATH of $ORIGIN)
                # finds none beside a descriptor.
                self.close()
                ready = self._begin(None)
        finally:
            if program is not None:
                os.close(program)
        if not ready:
            status = None if self._helper is None else self._helper.poll()
            self.close()
            raise SpawnError(
                f"the spawn helper ({sys.executable} {_HELPER}) did not come up within "
                f"{_START_TIMEOUT:g} s (exit status {status}); its message is on standard error"
            )
        return self

    def _begin(self, program: int | None) -> bool:
        """Start the helper, from this descriptor if there is one; whether it came up."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        me = os.pidfd_open(os.getpid())
        passed = [theirs.fileno(), me]
        if program is not None:
            passed.append(program)
        try:
            self._helper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_HELPER), *map(str, passed)],
                executable=None if program is None else f"/proc/self/fd/{program}",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=passed,
                start_new_session=True,  # a terminal's Ctrl-C is the lab's to handle
                env={},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(me)
        self._control = ours
        ours.settimeout(_START_TIMEOUT)
        try:
            return ours.recv(16) == b"ready"
        except TimeoutError:
            return False
        finally:
            ours.settimeout(None)

    def spawn(self, request: Request) -> Process:
        """Ask for a plain process; see `start`."""
        return self.start(request.plan(), request.fds)

    def start(self, plan: Plan, fds: Mapping[int, int], extra: Sequence[int] = ()) -> Process:
        """Ask for a plan to be carried out, and return as soon as the request is on its way.

        `fds` has a descriptor of this process for each of the plan's numbers, `extra` has those
        that the plan counts from the end: -2 is the last. What goes wrong in
        the child is raised by the returned process's `started`, `poll` or `wait`. Raises
        SpawnerDied if the helper has gone."""
        control, helper = self._alive()
        message = marshal.dumps(plan.message())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        passed = [theirs.fileno(), *fds.values(), *extra]
        memfd = -1
        try:
            if len(message) > _PACKET:
                memfd = os.memfd_create("launch")
                with open(memfd, "wb", closefd=False) as file:
                    file.write(message)
                passed.insert(0, memfd)
                message = b"memfd"
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))
            control.sendmsg([message], [rights], socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as error:
            ours.close()
            raise SpawnerDied(
                f"the spawn helper (pid {helper.pid}) has gone, exit status {helper.poll()}; "
                "open a new Spawner"
            ) from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            if memfd >= 0:
                os.close(memfd)
        return Process(plan, ours)

    def close(self) -> None:
        """End the helper. Processes that it started go on. Idempotent."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._helper is not None:
            try:
                self._helper.wait(5)
            except subprocess.TimeoutExpired:
                self._helper.kill()
                self._helper.wait()
            self._helper = None

    def _alive(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        if self._control is None or self._helper is None:
            raise SpawnerDied("this Spawner is not open: use it as a context, or call open()")
        return self._control, self._helper
