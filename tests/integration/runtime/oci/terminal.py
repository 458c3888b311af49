"""A program on a pseudoterminal, as a person would use it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from types import TracebackType

__all__ = ["Terminal"]


class Terminal:
    """Runs a command with a terminal of its own. Used as a context."""

    def __init__(self, command: list[str], rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        self.output = ""
        self.resize(rows, columns)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, text: str, timeout: float = 30) -> str:
        """What came up to and including `text`; the rest is kept for the next time."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} within {timeout} s in {self.output!r}"
            try:
                data = os.read(self._master, 4096)
            except OSError:  # EIO: the last user of the terminal has gone
                data = b""
            assert data, f"no {text!r} before the end in {self.output!r}"
            self.output += data.decode(errors="replace")
        before, _, self.output = self.output.partition(text)
        return before + text

    def wait(self, timeout: float = 30) -> int:
        """The exit status; output is read meanwhile, so that nobody waits for a reader."""
        deadline = time.monotonic() + timeout
        while select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(self._master, 4096)
            except OSError:
                break
            if not data:
                break
            self.output += data.decode(errors="replace")
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
