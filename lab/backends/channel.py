"""The pipes between the lab and a process: event channel, standard input, output and error.

All of the host's ends are watched by one epoll instance, which is itself pollable: whoever waits
for an instance waits for this one descriptor, and output is drained while waiting for events, so
that a workload that prints much does not block before it is ready.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping

from lab.backends.base import EVENT_FD
from lab.errors import BackendError

__all__ = ["Pipes", "Tail"]

KEPT = 64 * 1024
"""Bytes of each output stream that are kept: the last ones."""

_PATIENCE_S = 10.0
"""How long a workload may leave its input unread."""


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
            os.set_blocking(self._stdin, False)
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
        self.pump()
        data = self._drain(self._events) if self._events in self._open else b""
        return data or (b"" if self._events in self._open else None)

    def pump(self) -> None:
        """Drain the outputs, and leave events for `read`: so `fileno` stays readable."""
        for fd in self.outputs:
            self._tails[fd].add(self._drain(fd))

    @property
    def outputs(self) -> frozenset[int]:
        """The descriptors of standard output and error that have not ended: to wait for these
        alone."""
        return frozenset(self._open.intersection(self._tails))

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
        """Give the workload input. Raises `BackendError` if it takes none, or too little of it."""
        if self._stdin < 0:
            raise BackendError("this workload has no standard input")
        left = memoryview(data)
        deadline = time.monotonic() + _PATIENCE_S
        poller = select.poll()
        poller.register(self._stdin, select.POLLOUT)
        while left:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise BackendError(
                    f"the workload left {len(left)} of {len(data)} bytes of input unread for "
                    f"{_PATIENCE_S:g} s"
                )
            try:
                left = left[os.write(self._stdin, left) :]
            except BrokenPipeError as error:
                raise BackendError("the workload has closed its standard input") from error

    def output(self) -> tuple[bytes, bytes]:
        """Last bytes of standard output and error."""
        self.pump()
        return bytes(self._out), bytes(self._err)

    def close(self) -> None:
        """Close every descriptor that is still open. What was read before stays. Idempotent."""
        self.launched()
        for fd in self._open:
            os.close(fd)
        self._open.clear()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        self._poll.close()
