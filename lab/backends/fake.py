"""The `fake` backend: everything above I/O, tested without root.

Its instances are no processes: a socketpair, on which the ready byte arrives after an exactly
known, seeded delay. It measures nothing real, says so in every record (``kind = "fake"``), and
takes part only in experiments that name it. A workload whose first argument is ``fail`` never gets
ready.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from lab.backends.base import READY, Capabilities, Exit, Prepared, Workload
from lab.backends.context import Context
from lab.errors import BackendError

__all__ = ["FakeBackend", "FakeInstance"]

DELAY = 0.001
"""Mean seconds until ready."""


class FakeInstance:
    """An instance that is only a socketpair and a timer."""

    def __init__(self, name: str, workload: Workload, delay: float) -> None:
        self.name = name
        self.argv: Sequence[str] = ("fake", *workload.argv)
        self._stdin = workload.stdin
        self._host, self._guest = socket.socketpair()
        self._host.setblocking(False)
        self._started = time.monotonic_ns()
        self._timer: threading.Timer | None = None
        self._stopped = False
        if workload.argv[0] == "fail":
            self._guest.close()
        else:
            self._timer = threading.Timer(delay, self._guest.sendall, (READY,))
            self._timer.start()

    def fileno(self) -> int:
        """The host's end of the socketpair."""
        return self._host.fileno()

    def read_events(self) -> bytes | None:
        """What the timer or `write_stdin` sent."""
        try:
            return self._host.recv(4096) or None
        except BlockingIOError:
            return b""

    def phases(self) -> Mapping[str, int]:
        """One step: made."""
        return {"made": self._started}

    def write_stdin(self, data: bytes) -> None:
        """A fake workload answers any input as the disk experiment's does: it has written."""
        if not self._stdin:
            raise BackendError(f"{self.name}: this workload has no standard input")
        self._guest.sendall(b"w")

    def output(self) -> tuple[bytes, bytes]:
        """Nothing is ever printed."""
        return b"", b""

    def pids(self) -> Sequence[int]:
        """There is no process."""
        return ()

    def cgroup_memory(self) -> int | None:
        """There is no cgroup."""
        return None

    def disk_paths(self) -> Sequence[Path]:
        """There are no files."""
        return ()

    def wait(self, timeout: float) -> Exit | None:
        """Ended with status 1 if it was told to fail, else running until stopped."""
        return Exit(0 if self._timer else 1) if self._stopped or self._timer is None else None

    def stop(self) -> None:
        """Close both ends."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._host.close()
        self._guest.close()


class FakeBackend:
    """Makes `FakeInstance`s, with delays drawn from a seed."""

    name = "fake"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._random = random.Random(context.shared.run)

    def capabilities(self) -> Capabilities:
        """It can do all, for it does nothing."""
        return Capabilities()

    def prepare(self, workload: Workload) -> Prepared:
        """Nothing to prepare; the digest is plainly not one of an image."""
        return Prepared(workload, image_digest="fake", factors={"kind": "fake"})

    def launch(self, prepared: Prepared, name: str) -> FakeInstance:
        """An instance that says ready after about a millisecond."""
        delay = DELAY * self._random.lognormvariate(0, 0.25)
        return FakeInstance(name, prepared.workload, delay)

    def close(self) -> None:
        """Nothing is held."""
