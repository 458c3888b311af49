"""A started process: its pid, its phases, its end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from resource import struct_rusage
from types import TracebackType

from runtime.engine.plan import Plan
from runtime.engine.report import Report
from runtime.errors import SpawnerDied, SpawnError, StartTimeout

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

    def __init__(self, plan: Plan, report: socket.socket) -> None:
        self.argv = plan.argv
        self._report = Report(plan, report)
        self._lock = threading.RLock()
        self._pidfd = -1
        self._status: int | None = None
        self._rusage: struct_rusage | None = None

    def __repr__(self) -> str:
        return f"<Process {self.argv[0]!r} pid={self._report.pid} status={self._status}>"

    @property
    def pid(self) -> int:
        """Its process id here, outside any PID namespace. Waits for the helper's answer.

        Raises SpawnError if there never was a process."""
        deadline = time.monotonic() + _PATIENCE
        with self._lock:
            while self._report.pid is None and self._report.open:
                self._receive(deadline)
            if self._report.pid is None:
                raise self._failure() or SpawnError(f"{self.argv[0]!r} was never started")
            return self._report.pid

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

        `clone` is the child's first instruction, `exec` just before its execve; a plan's steps
        "mark" add theirs."""
        with self._lock:
            while self._report.open and self._receive(0.0):
                pass
            return dict(self._report.marks)

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
        self._until(None, timeout)
        return self

    def meet(self, name: str, timeout: float = _PATIENCE) -> None:
        """Wait until the child has come to this meeting point, where it waits for `go`.

        Raises as `started`, and SpawnError if it has passed or missed that point."""
        self._until(name, timeout)

    def go(self) -> None:
        """Let the child go on from the point where it waits."""
        with self._lock:
            self._report.go()

    def _until(self, meeting: str | None, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        report = self._report
        with self._lock:
            while report.open and (meeting is None or report.meeting != meeting):
                if not self._receive(deadline):
                    raise StartTimeout(
                        f"{self.argv[0]!r} did not reach {meeting or 'its exec'} within "
                        f"{timeout:g} s; phases so far: {', '.join(report.marks) or 'none'}; it "
                        "is left running: kill it"
                    )
            self._raise_failure()
            if meeting is not None and report.meeting != meeting:
                raise SpawnError(f"{self.argv[0]!r} did not come to {meeting!r}")

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
            if self._report.open:
                with suppress(SpawnError):  # never a process: its failure was for others to raise
                    self.kill()
                self._report.close()
            if self._report.pid is not None and self._status is None:
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
        left = max(0.0, deadline - time.monotonic()) if deadline else 0.0
        if not self._report.receive(left * 1000):
            return False
        if self._pidfd < 0 and self._report.pid is not None:
            # Our own child that only we reap: its number cannot have passed to another.
            self._pidfd = os.pidfd_open(self._report.pid)
        return True

    def _failure(self) -> SpawnError | None:
        """Why it never came to run, if so; once the report has ended."""
        if self._report.failure is None and self._report.pid is None and not self._report.open:
            self._report.failure = SpawnerDied(
                f"the spawn helper ended before it had started {self.argv[0]!r}; its own message, "
                "if any, is on standard error; open a new Spawner"
            )
        return self._report.failure

    def _raise_failure(self) -> None:
        if (failure := self._failure()) is not None:
            self._reap(0)  # it ends by itself right after its report
            raise failure

    def _reap(self, flags: int) -> None:
        if self._status is not None or self._report.pid is None:
            return
        pid, status, rusage = os.wait4(self._report.pid, flags)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._status, self._rusage = (code if code >= 0 else 128 - code), rusage
