"""One virtual machine, from its launch to its end.

    with Machine.launch(config) as machine:
        ready = machine.wait_event(time.monotonic() + 30)   # bytes of the workload's fd 3
        exit = machine.wait(10)

Nothing polls and nothing sleeps: the caller waits on `fileno()` (one epoll instance over all of the
machine's channels) or in the methods that take a deadline.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from vm.channel import Channel, Control, WorkloadExit
from vm.command import channels, command
from vm.config import MachineConfig
from vm.errors import (
    ConfigError,
    GuestError,
    GuestPanic,
    LaunchError,
    MachineError,
    NotReady,
    QmpError,
    StillAlive,
)
from vm.job import POWEROFF, encode
from vm.process import Process, Spawn, spawn

if TYPE_CHECKING:
    from vm.qmp import Qmp

__all__ = ["Machine"]

_TAIL = 4096
"""Bytes of log and console that go into an error."""

_LAST_WORDS_S = 2.0
"""How long QEMU may take to be gone once its channels have closed."""


class Machine:
    """A machine that runs. Made by `launch`, left by `stop` or `kill`, or as a context."""

    def __init__(
        self,
        config: MachineConfig,
        argv: list[str],
        process: Process,
        sockets: Mapping[str, socket.socket],
        console: io.FileIO | None,
        resources: contextlib.ExitStack,
    ) -> None:
        self.config = config
        self.argv = argv
        self._process = process
        self._resources = resources
        self._qmp_socket = sockets["qmp"]
        self._qmp: Qmp | None = None
        self._control = Control()
        self._stdin = sockets.get("stdin")
        self._asked_to_end = False
        # Control first: when it tells of the workload's end, all that the workload wrote before is
        # already in the other sockets, and the same round takes it.
        readable = ("control", "events", "stdout", "stderr")
        self._channels = {name: Channel(sockets[name]) for name in readable}
        self._control_socket = sockets["control"]
        self._phases = {"process": time.monotonic_ns()}
        self._epoll = resources.enter_context(select.epoll())
        for channel in self._channels.values():
            self._epoll.register(channel.source, select.EPOLLIN)
        if console is not None:
            self._channels["console"] = Channel(console)
            # One wake-up, for the time of the first byte: the console comes byte by byte.
            self._epoll.register(console, select.EPOLLIN | select.EPOLLONESHOT)

    @classmethod
    def launch(cls, config: MachineConfig, *, spawn: Spawn = spawn) -> Machine:
        """Start the machine and return at once; `wait_event` tells when its workload is ready.

        `config.state_dir` must not exist: it is made here and removed at the end.
        LaunchError: QEMU cannot be started. ConfigError: `config` cannot be.
        """
        job = encode(config.job) if config.job else b""
        with contextlib.ExitStack() as stack:
            try:
                config.state_dir.mkdir(parents=True)
            except FileExistsError as error:
                raise ConfigError(f"{config.state_dir} is there already") from error
            stack.callback(shutil.rmtree, config.state_dir, ignore_errors=True)
            if config.disk is not None:
                config.disk.overlay(config.overlay)
            ours: dict[str, socket.socket] = {}
            with contextlib.ExitStack() as theirs:
                fds = {}
                console = None
                if config.console:
                    # Not a socket: that holds 278 writes of one byte, and then a guest whose host
                    # is looking elsewhere stands still in its boot. A pipe holds 64 KiB (pipe(7)).
                    read, write = os.pipe()
                    console = stack.enter_context(io.FileIO(read))
                    fds["console"] = theirs.enter_context(io.FileIO(write, "w")).fileno()
                for name in channels(config):
                    if name == "console":
                        continue
                    ours[name], end = socket.socketpair()
                    stack.enter_context(ours[name])
                    fds[name] = theirs.enter_context(end).fileno()
                # It waits in the socket until init reads it: the launch needs no second step.
                ours["control"].setblocking(True)
                ours["control"].sendall(job)
                argv = command(config, fds)
                process = _start(config, argv, fds, spawn)
            return cls(config, argv, process, ours, console, stack.pop_all())

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    # --- looking -------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    def fileno(self) -> int:
        """A descriptor that is readable when `read_events` has something to do."""
        return self._epoll.fileno()

    def phases(self) -> dict[str, int]:
        """CLOCK_MONOTONIC ns of the steps passed so far: ``process`` (QEMU spawned), ``kernel``
        (first byte of the guest kernel on the console), ``init`` (the guest's init is there).
        """
        phases = dict(self._phases)
        console = self._channels.get("console")
        if console is not None and console.first_ns is not None:
            phases["kernel"] = console.first_ns
        return phases | self._control.phases

    @property
    def exit(self) -> WorkloadExit | None:
        """How the workload ended; None while it has not."""
        return self._control.exit

    def output(self) -> tuple[bytes, bytes]:
        """The workload's standard output and error, at most their last 64 KiB each."""
        return self._channels["stdout"].data, self._channels["stderr"].data

    def console(self) -> str:
        """The end of the guest's serial console."""
        channel = self._channels.get("console")
        return channel.data[-_TAIL:].decode(errors="replace") if channel else ""

    def disk_paths(self) -> tuple[Path, ...]:
        """Files on disk that are this machine's alone."""
        return (self.config.overlay,) if self.config.disk else ()

    # --- events --------------------------------------------------------------------------------

    def read_events(self) -> bytes | None:
        """Take what has come, without blocking: bytes that the workload wrote to its fd 3, b"" if
        only something else came, None when no more can come.

        GuestError, GuestPanic, LaunchError: the guest's init failed, its kernel, or QEMU.
        """
        self._pump()
        events = self._channels["events"]
        taken = events.take()
        if taken:
            return taken
        if self._control.failure is not None:
            self._fail_guest()
        if not self._channels["control"].open:
            if self._control.exit is None and not self._asked_to_end:
                self._fail_process()
            return None
        return b""

    def wait_event(self, deadline: float) -> bytes:
        """Wait for bytes from the workload's fd 3 until `deadline` (time.monotonic() seconds).

        NotReady: none came, or the workload ended without any. Else as `read_events`.
        """
        while True:
            events = self.read_events()
            if events:
                return events
            if events is None or self.exit is not None:
                ended = f", status {self.exit.status}" if self.exit else ""
                self._fail(NotReady, f"the workload ended without an event{ended}")
            if not self._poll(deadline):
                self._fail(NotReady, "no event before the deadline")

    def wait_phase(self, name: str, deadline: float) -> int:
        """Wait until the step `name` of `phases` is passed and return its time; as `wait_event`."""
        while name not in self.phases():
            if self.read_events() is None:
                self._fail(NotReady, f"the guest ended before its phase {name}")
            if name not in self.phases() and not self._poll(deadline):
                self._fail(NotReady, f"phase {name} was not reached before the deadline")
        return self.phases()[name]

    def wait(self, timeout: float) -> WorkloadExit | None:
        """Wait at most `timeout` seconds for the workload's end; None if it still runs.

        Errors as `read_events`. Events that come meanwhile are kept for `read_events`.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._pump()
            if self.exit is not None:
                return self.exit
            if self._control.failure is not None:
                self._fail_guest()
            if not self._channels["control"].open:
                self._fail_process()
            if not self._poll(deadline):
                return None

    def write_stdin(self, data: bytes, timeout: float = 10.0) -> None:
        """Give the workload input. ConfigError: it was launched without an input port.

        MachineError: QEMU has gone, or the guest took too little of it in `timeout` seconds.
        """
        sock = self._input()
        sock.settimeout(timeout)
        try:
            sock.sendall(data)
        except OSError as error:
            self._fail(MachineError, f"the guest did not take {len(data)} bytes of input: {error}")

    def close_stdin(self) -> None:
        """End the workload's input."""
        with contextlib.suppress(OSError):  # QEMU has gone, and the input with it
            self._input().shutdown(socket.SHUT_WR)

    # --- control -------------------------------------------------------------------------------

    @property
    def qmp(self) -> Qmp:
        """The monitor, connected at first use: a launch does not pay for it."""
        if self._qmp is None:
            from vm.qmp import Qmp  # 40 ms of imports that most machines never need

            self._qmp = Qmp(self._qmp_socket)
            self._resources.callback(self._qmp.close)
        return self._qmp

    def pause(self) -> None:
        """Stop the vCPUs. QmpError: QEMU did not."""
        self.qmp.pause()

    def resume(self) -> None:
        """Let the vCPUs run again. QmpError: QEMU did not."""
        self.qmp.resume()

    def stop(self, grace: float = 5.0) -> None:
        """End the machine: ask its init, then QEMU (each `grace` seconds), then SIGKILL.

        Idempotent. StillAlive: it is there even then. Leaves no process and no file.
        """
        try:
            if self._process.poll() is None and not (
                self._ask_init(grace) or self._ask_qemu(grace)
            ):
                self._process.kill()
            self._reap()
        finally:
            self._resources.close()

    def kill(self) -> None:
        """End the machine at once. Idempotent. StillAlive: it outlived SIGKILL."""
        try:
            if self._process.poll() is None:
                self._process.kill()
            self._reap()
        finally:
            self._resources.close()

    def _ask_init(self, grace: float) -> bool:
        if "init" not in self._control.phases:
            self._pump()
            if "init" not in self._control.phases:
                return False  # nobody there to ask
        self._asked_to_end = True
        try:
            self._control_socket.sendall(POWEROFF)
        except OSError:
            return False  # QEMU is ending, or the guest takes nothing: the next step will tell
        return self._ended_by(time.monotonic() + grace)

    def _ask_qemu(self, grace: float) -> bool:
        self._asked_to_end = True
        try:
            self.qmp.quit()
        except QmpError:
            return False  # a monitor that does not answer is why there is a next step
        return self._ended_by(time.monotonic() + grace)

    def _ended_by(self, deadline: float) -> bool:
        """Take and drop output until QEMU has closed its channels, which its end does."""
        while self._channels["control"].open:
            self._pump()
            if self._channels["control"].open and not self._poll(deadline):
                return False
        return True

    def _reap(self) -> None:
        try:
            self._process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(_LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                self._fail(StillAlive, f"process {self.pid} is there after SIGKILL")

    # --- below ---------------------------------------------------------------------------------

    def _input(self) -> socket.socket:
        if self._stdin is None:
            raise ConfigError(f"{self.config.name} was launched without an input port")
        return self._stdin

    def _poll(self, deadline: float) -> bool:
        remaining = deadline - time.monotonic()
        return remaining > 0 and bool(self._epoll.poll(remaining))

    def _pump(self) -> None:
        if self._epoll.closed:
            return
        for name, channel in self._channels.items():
            if not channel.open:
                continue
            taken = channel.pump()
            if name == "control" and taken:
                self._control.feed(taken, time.monotonic_ns())
            if not channel.open:
                self._epoll.unregister(channel.source)

    def _fail_guest(self) -> NoReturn:
        failure = self._control.failure
        assert failure is not None
        raise GuestError(
            f"the guest's init failed at step {failure.step}: {failure.text}",
            step=failure.step,
            errno=failure.errno,
            name=self.config.name,
            argv=self.argv,
            output=self._log(),
            console=self.console(),
        )

    def _fail_process(self) -> NoReturn:
        """QEMU has closed its channels: it has ended, or is about to."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_S)
        self._pump()
        if panic := re.search(r"Kernel panic[^\n\r]*", self.console()):
            self._fail(GuestPanic, f"the guest gave up: {panic[0]}")
        self._fail(LaunchError, "QEMU ended before the workload did")

    def _fail(self, kind: type[MachineError], text: str) -> NoReturn:
        raise kind(
            text,
            name=self.config.name,
            exit_code=self._process.poll(),
            argv=self.argv,
            output=self._log(),
            console=self.console(),
        )

    def _log(self) -> str:
        return _tail(self.config.log)


def _start(config: MachineConfig, argv: list[str], fds: Mapping[str, int], spawn: Spawn) -> Process:
    with config.log.open("wb") as log:
        try:
            return spawn(argv, pass_fds=tuple(fds.values()), stderr=log.fileno())
        except OSError as error:
            raise LaunchError(
                f"QEMU cannot be started: {error}", name=config.name, argv=argv
            ) from error


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL))
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""  # the machine has been stopped, and its state directory is gone
