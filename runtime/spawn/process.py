"""A started process: its pid, its phases, its end."""

from __future__ import annotations

import marshal
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from resource import struct_rusage
from types import TracebackType

from runtime.errors import ExecFailed, SpawnerDied, SpawnError, StartTimeout, StepFailed
from runtime.operations import Operation

__all__ = ["Process"]

_PATIENCE = 30.0
"""Seconds to wait for the helper's answer, where the caller gave no deadline of its own."""


class Process:
    """A child of *this* process, made by the spawner. It is a real child: only `poll` and `wait`
    reap it, and nobody else can.

    A failure before the exec is raised by whichever method notices first: `started`, `pid`,
    `poll` or `wait`. Leaving the object as a context kills and reaps. Methods may be called from
    any thread.
    """

    def __init__(
        self, argv: Sequence[str], plan: Sequence[Operation], report: socket.socket
    ) -> None:
        self.argv = tuple(argv)
        self._plan = plan
        self._report: socket.socket | None = report
        self._lock = threading.RLock()
        self._pid: int | None = None
        self._pidfd = -1
        self._marks: dict[str, int] = {}
        self._failure: SpawnError | None = None
        self._status: int | None = None
        self._rusage: struct_rusage | None = None

    def __repr__(self) -> str:
        return f"<Process {self.argv[0]!r} pid={self._pid} status={self._status}>"

    @property
    def pid(self) -> int:
        """Its process id here, outside any PID namespace. Waits for the helper's answer.

        Raises SpawnError if there never was a process."""
        deadline = time.monotonic() + _PATIENCE
        with self._lock:
            while self._pid is None and self._report is not None:
                self._receive(deadline)
            if self._pid is None:
                raise self._failure or SpawnError(f"{self.argv[0]!r} was never started")
            return self._pid

    @property
    def pidfd(self) -> int:
        """A descriptor that is readable once the process has ended (pidfd_open(2))."""
        self.pid  # noqa: B018 - waits
        return self._pidfd

    def fileno(self) -> int:
        """The pidfd, for poll and selectors."""
        return self.pidfd

    @property
    def phases(self) -> Mapping[str, int]:
        """CLOCK_MONOTONIC nanoseconds of each phase reported so far; never blocks.

        `clone` is the child's first instruction, `exec` just before its execve; a plan's `Mark`
        operations add theirs."""
        with self._lock:
            while self._report is not None and self._receive(0.0):
                pass
            return dict(self._marks)

    @property
    def returncode(self) -> int | None:
        """Exit code, or 128+n after signal n; None while nobody has seen the end."""
        return self._status

    @property
    def rusage(self) -> struct_rusage | None:
        """What the process and its waited-for children used, once it has been reaped."""
        return self._rusage

    def started(self, timeout: float = _PATIENCE) -> Process:
        """Wait until the program itself runs (execve has succeeded).

        Raises StepFailed or ExecFailed if it never will (the child is then reaped),
        StartTimeout after `timeout` seconds, SpawnerDied if the helper died before the clone."""
        deadline = time.monotonic() + timeout
        with self._lock:
            while self._report is not None:
                if not self._receive(deadline):
                    raise StartTimeout(
                        f"{self.argv[0]!r} did not reach its exec within {timeout:g} s; phases so "
                        f"far: {', '.join(self._marks) or 'none'}; it is left running: kill it"
                    )
            self._raise_failure()
        return self

    def poll(self) -> int | None:
        """The exit status if it has ended, else None; never blocks.

        Raises SpawnError if it never came to run."""
        with self._lock:
            self.phases  # noqa: B018 - drains what was reported
            self._raise_failure()
            self._reap(os.WNOHANG)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end: the exit code, or 128+n after signal n.

        Raises subprocess.TimeoutExpired after `timeout` seconds, SpawnError if it never came to
        run."""
        if self._status is None:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if timeout is None else max(0.0, timeout) * 1000):
                raise subprocess.TimeoutExpired(self.argv, timeout or 0.0)
        status = self.poll()
        while status is None:  # the thread-group leader is gone, other threads are still ending
            with self._lock:
                self._reap(0)
                status = self._status
        return status

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal. One that has ended is left in peace: the pidfd never names another."""
        with self._lock:
            if self._status is None:
                try:
                    signal.pidfd_send_signal(self.pidfd, sig)
                except ProcessLookupError:
                    return  # ended, not yet reaped

    def close(self) -> None:
        """Kill it if it runs, reap it, close the descriptors. Idempotent."""
        with self._lock:
            if self._report is not None:
                with suppress(SpawnError):  # never a process: its failure was for others to raise
                    self.kill()
                self._hang_up()
            if self._pid is not None and self._status is None:
                self.kill()
                self._reap(0)
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _receive(self, deadline: float) -> bool:
        """Take one message of the report socket; False if none came by `deadline` (monotonic
        seconds, 0 for "do not wait"). At the socket's end, hang up."""
        assert self._report is not None
        poller = select.poll()
        poller.register(self._report, select.POLLIN)
        left = max(0.0, deadline - time.monotonic()) if deadline else 0.0
        if not poller.poll(left * 1000):
            return False
        message = self._report.recv(1 << 16)
        kind, body = message[:1], message[1:]
        if kind == b"P":
            self._pid = marshal.loads(body)
            # Our own child that only we reap: its number cannot have passed to another.
            self._pidfd = os.pidfd_open(self._pid)
        elif kind == b"M":
            self._marks.update(marshal.loads(body))
        elif kind == b"E":
            self._failure = self._explain(*marshal.loads(body))
        else:
            self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._report is not None:
            self._report.close()
            self._report = None
        if self._pid is None and self._failure is None:
            self._failure = SpawnerDied(
                f"the spawn helper ended before it had started {self.argv[0]!r}; its own message, "
                "if any, is on standard error; open a new Spawner"
            )

    def _explain(self, number: int, errno: int, path: str | None) -> SpawnError:
        if not errno:
            return SpawnError(f"the child of {self.argv[0]!r} failed in its set-up: {path}")
        if number == -2:
            return StepFailed("pass on the descriptors", errno, path, "raise RLIMIT_NOFILE")
        if number < 0:
            advice = "namespaces need root, and free room in /proc/sys/user/max_*_namespaces"
            return StepFailed("clone a child", errno, path, advice)
        if number < len(self._plan):
            operation = self._plan[number]
            return StepFailed(operation.describe(), errno, path, operation.advice)
        advice = "is it in the image, on PATH, and is its interpreter there too?"
        return ExecFailed(f"execute {self.argv[0]}", errno, path, advice)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            if self._pid is not None:
                self._reap(0)  # it ends by itself right after its report
            raise self._failure

    def _reap(self, flags: int) -> None:
        if self._status is not None or self._pid is None:
            return
        pid, status, rusage = os.wait4(self._pid, flags)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._status, self._rusage = (code if code >= 0 else 128 - code), rusage
