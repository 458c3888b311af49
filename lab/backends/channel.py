"""The pipes between the lab and a process: event channel, standard input, output and error.

All of the host's ends are watched by one epoll instance, which is itself pollable: whoever waits
for an instance waits for this one descriptor, and output is drained while waiting for events, so
that a workload that prints much does not block before it is ready.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Mapping

from lab.backends.base import EVENT_FD
from lab.errors import BackendError

__all__ = ["Pipes", "Tail"]

KEPT = 64 * 1024
"""Bytes of each output stream that are kept: the last ones."""


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append, and forget what is too old."""
        self._data += data
        if len(self._data) > 2 * KEPT:
            del self._data[:-KEPT]

    def __bytes__(self) -> bytes:
        return bytes(self._data[-KEPT:])


class Pipes:
    """Made before the launch; `child` goes to the launcher, then `launched` closes those ends."""

    def __init__(self, *, stdin: bool, outputs: bool = True) -> None:
        self._poll = select.epoll()
        self._tails: dict[int, Tail] = {}
        self._out, self._err = Tail(), Tail()
        self._events, event_end = self._reader()
        child = {EVENT_FD: event_end}
        if outputs:
            for number, tail in ((1, self._out), (2, self._err)):
                reader, child[number] = self._reader()
                self._tails[reader] = tail
        self._open = {self._events, *self._tails}
        self._stdin = -1
        if stdin:
            child[0], self._stdin = os.pipe2(os.O_CLOEXEC)
        self.child: Mapping[int, int] = child
        """Number in the child → descriptor here."""

    def _reader(self) -> tuple[int, int]:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Only this end must not block: the workload's is an ordinary blocking pipe.
        os.set_blocking(writer, True)
        self._poll.register(reader, select.EPOLLIN)
        return reader, writer

    def launched(self) -> None:
        """The child has its own copies: without this, its end would never be seen here."""
        for fd in self.child.values():
            os.close(fd)
        self.child = {}

    def fileno(self) -> int:
        """The epoll instance."""
        return self._poll.fileno()

    def read(self) -> bytes | None:
        """Drain all that is there; the event channel's bytes, or None at its end."""
        events, ended = bytearray(), self._events not in self._open
        for fd, _ in self._poll.poll(0):
            data = self._drain(fd)
            if fd == self._events:
                events += data
                ended = fd not in self._open
            else:
                self._tails[fd].add(data)
        return bytes(events) or (None if ended else b"")

    def _drain(self, fd: int) -> bytes:
        try:
            data = os.read(fd, KEPT)
        except BlockingIOError:
            return b""
        if not data:
            self._poll.unregister(fd)
            self._open.discard(fd)
            os.close(fd)
        return data

    def write(self, data: bytes) -> None:
        """Give the workload input. Raises `BackendError` if it takes none."""
        if self._stdin < 0:
            raise BackendError("this workload has no standard input")
        try:
            os.write(self._stdin, data)
        except BrokenPipeError as error:
            raise BackendError("the workload has closed its standard input") from error

    def output(self) -> tuple[bytes, bytes]:
        """Last bytes of standard output and error."""
        for fd in [fd for fd in self._open if fd in self._tails]:
            self._tails[fd].add(self._drain(fd))
        return bytes(self._out), bytes(self._err)

    def close(self) -> None:
        """Close every descriptor that is still open. Idempotent."""
        self.launched()
        for fd in self._open:
            os.close(fd)
        self._open.clear()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        with contextlib.suppress(ValueError):  # closed before
            self._poll.close()
