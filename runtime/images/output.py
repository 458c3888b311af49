"""What a command of a build writes: passed on while it runs, its end kept for the error."""

from __future__ import annotations

import os
import threading
from types import TracebackType

__all__ = ["Output"]

_KEPT = 4096
"""Bytes."""


class Output:
    """A pipe with a thread at its other end. A context."""

    def __init__(self, onward: int | None) -> None:
        self._read, self.fd = os.pipe()
        """The end to write to."""
        self._onward = onward
        self._kept = b""
        self._thread = threading.Thread(target=self._pass_on, name="build output", daemon=True)
        self._thread.start()

    @property
    def tail(self) -> str:
        """The end of what was written."""
        return self._kept.decode(errors="replace").strip()

    def finish(self) -> None:
        """Wait for the last of it. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._thread.join()
            os.close(self._read)

    def _pass_on(self) -> None:
        while data := os.read(self._read, 1 << 16):
            self._kept = (self._kept + data)[-_KEPT:]
            if self._onward is not None:
                view = memoryview(data)
                try:
                    while view:
                        view = view[os.write(self._onward, view) :]
                except OSError:
                    self._onward = None  # nobody reads any more; the step goes on

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()
