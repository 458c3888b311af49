"""The line to a running container's streams, through its monitor."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from types import TracebackType

from runtime.client.monitor import FRAME
from runtime.client.record import Record
from runtime.errors import NotRunning

__all__ = ["Attachment"]

_STREAMS = {b"o": "stdout", b"E": "stderr"}


class Attachment:
    """A context; `output` ends when the container does."""

    def __init__(self, record: Record) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        folder = os.open(record.directory, os.O_PATH | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{record.socket.name}")
        except OSError as error:
            self._socket.close()
            raise NotRunning(f"container {record.id[:12]} is not running: {error}") from error
        finally:
            os.close(folder)
        self._file = self._socket.makefile("rb")

    def write(self, data: bytes) -> None:
        """Give it input, if it was made with `stdin_open` or `tty`."""
        self._send(b"i", data)

    def close_input(self) -> None:
        """End its input."""
        self._send(b"e", b"")

    def resize(self, rows: int, columns: int) -> None:
        """Set its terminal's size."""
        self._send(b"r", json.dumps([rows, columns]).encode())

    def output(self) -> Iterator[tuple[str, bytes]]:
        """(stream, bytes) as they come; a terminal's are all ``stdout``."""
        while len(head := self._file.read(FRAME.size)) == FRAME.size:
            kind, length = FRAME.unpack(head)
            yield _STREAMS[kind], self._file.read(length)

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(FRAME.pack(kind, len(body)) + body)

    def close(self) -> None:
        """Hang up; the container goes on."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
