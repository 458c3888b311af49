"""The host's ends of a machine's channels: what has come, and when.

Everything here is non-blocking and without threads: the caller waits on one descriptor, and `pump`
takes what is there.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Protocol

from vm.errors import VmError

__all__ = ["Channel", "Control", "GuestFailure", "WorkloadExit"]

_CHUNK = 65536


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Channel:
    """One stream from the guest, a socket or a pipe. Keeps its last `keep` bytes."""

    def __init__(self, source: _Readable, *, keep: int = _CHUNK) -> None:
        self.source = source
        self.first_ns: int | None = None
        """CLOCK_MONOTONIC when its first byte was taken."""
        self.open = True
        self.data = b""
        self._keep = keep
        os.set_blocking(source.fileno(), False)

    def pump(self) -> bytes:
        """Take what is there now; b"" if nothing is, or nothing will be (`open` tells)."""
        taken = b""
        while self.open:
            try:
                chunk = os.read(self.source.fileno(), _CHUNK)
            except BlockingIOError:
                break
            except ConnectionResetError:
                chunk = b""  # QEMU ended with bytes of ours unread: an end like any other
            if not chunk:
                self.open = False
                break
            if self.first_ns is None:
                self.first_ns = time.monotonic_ns()
            taken += chunk
        self.data = (self.data + taken)[-self._keep :]
        return taken

    def take(self) -> bytes:
        """Return what is kept and forget it."""
        data, self.data = self.data, b""
        return data


@dataclass(frozen=True, slots=True)
class WorkloadExit:
    """How the workload ended, by the guest's own wait4(2)."""

    wait_status: int
    user_s: float
    system_s: float
    max_rss: int
    """Bytes."""

    @property
    def status(self) -> int:
        """Exit code, or 128 + n after signal n, as a shell says."""
        signal = self.wait_status & 0x7F
        return 128 + signal if signal else (self.wait_status >> 8) & 0xFF


@dataclass(frozen=True, slots=True)
class GuestFailure:
    """A step of the guest's init that failed."""

    step: str
    errno: int
    text: str


@dataclass(slots=True)
class Control:
    """What the guest's init has said, line by line (the format is in init.c)."""

    phases: dict[str, int] = field(default_factory=dict)
    """Name → CLOCK_MONOTONIC ns of its arrival."""
    exit: WorkloadExit | None = None
    failure: GuestFailure | None = None
    _rest: bytes = b""

    def feed(self, data: bytes, now_ns: int) -> None:
        """Take `data` that came at `now_ns`. VmError: the guest speaks another language."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode(errors="replace"), now_ns)

    def _line(self, line: str, now_ns: int) -> None:
        verb, _, rest = line.partition(" ")
        try:
            if verb == "phase":
                self.phases.setdefault(rest, now_ns)
            elif verb == "exit":
                status, user, system, rss = (int(number) for number in rest.split())
                self.exit = WorkloadExit(status, user / 1e6, system / 1e6, rss * 1024)
            elif verb == "error":
                step, errno, text = rest.split(" ", 2)
                # The first failure is the cause; what follows is its consequence.
                self.failure = self.failure or GuestFailure(step, int(errno), text)
            else:
                raise ValueError(verb)
        except ValueError as error:
            raise VmError(f"the guest's init said what it should not: {line!r}") from error
