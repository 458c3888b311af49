"""Ctrl-C that leaves nothing behind.

A Python signal handler that raises can do so between any two instructions: after a container was
made and before anyone noted that it must be stopped. So inside a trial a signal only leaves a mark,
and the trial looks for it where it waits anyway (selecting, settling). Outside trials, where long
work is plain function calls and subprocesses (building an image), the handler raises at once.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from lab.errors import LabError

__all__ = ["Interrupted", "Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(LabError):
    """A signal, of this number, asked the run to stop. What was measured is kept."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP while the context is open (in the main thread only, where Python
    delivers them). After the first one, later ones are ignored: clean-up goes on to its end."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._raised = False
        self._holds = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._handle) for n in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            self._writer.send(b"!")
        if not self._holds:
            self.check()

    def fileno(self) -> int:
        """Readable once a signal has come: for a selector that must not sleep through it."""
        return self._reader.fileno()

    def check(self) -> None:
        """Raises `Interrupted`, once, if a signal has come."""
        if self._received is not None and not self._raised:
            self._raised = True
            name = signal.Signals(self._received).name
            raise Interrupted(f"interrupted by {name}", self._received)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal raises only where `check` or `sleep` is called; at the end it raises."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if not self._holds:
            self.check()

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise `Interrupted` as soon as a signal comes."""
        self.check()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            watched = [] if self._raised else [self._reader]
            select.select(watched, [], [], left)
            self.check()
