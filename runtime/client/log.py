"""What a container wrote: Docker's json-file format, one object a line.

    {"log":"hello\\n","stream":"stdout","time":"2026-01-01T00:00:00.000000Z"}

A line of output is an object; one longer than 16 KiB, or cut by the end, is several, of which only
the last has its newline. Bytes that are no UTF-8 are kept as surrogates (os.fsdecode).
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.client.record import now

__all__ = ["LogWriter", "read_log"]

_LONGEST = 16 * 1024


class LogWriter:
    """Appends to the file."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab")
        self._rest = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Take bytes of one stream; whole lines go to the file at once."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        for line in lines:
            self._append(stream, line + b"\n")
        while len(rest) >= _LONGEST:
            self._append(stream, rest[:_LONGEST])
            rest = rest[_LONGEST:]
        self._rest[stream] = rest
        self._file.flush()

    def close(self) -> None:
        """Write what has no newline, too."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(stream, rest)
        self._file.close()

    def _append(self, stream: str, line: bytes) -> None:
        for start in range(0, len(line), _LONGEST):
            entry = {"log": os.fsdecode(line[start : start + _LONGEST]), "stream": stream}
            self._file.write(json.dumps({**entry, "time": now()}).encode() + b"\n")


def read_log(
    path: Path,
    *,
    streams: Iterable[str] = ("stdout", "stderr"),
    tail: int | None = None,
    timestamps: bool = False,
    more: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """(stream, bytes) of each entry, in order; the last `tail` of them if given.

    With `more`, at the end of the file it is asked to wait for more; False ends it."""
    wanted = frozenset(streams)
    if not path.exists():
        return
    with path.open("rb") as file:
        lines: Iterable[bytes] = file
        if tail is not None:
            lines = deque((line for line in file if _stream(line) in wanted), maxlen=tail)
        for line in lines:
            yield from _entry(line, wanted, timestamps)
        rest = b""
        while more is not None:
            last = not more()
            *whole, rest = (rest + file.read()).split(b"\n")
            for line in whole:
                yield from _entry(line, wanted, timestamps)
            if last:
                return


def _stream(line: bytes) -> str:
    return str(json.loads(line)["stream"]) if line.endswith(b"\n") else ""


def _entry(line: bytes, wanted: frozenset[str], timestamps: bool) -> Iterator[tuple[str, bytes]]:
    if not line.strip():
        return
    entry = json.loads(line)
    if entry["stream"] in wanted:
        stamp = f"{entry['time']} ".encode() if timestamps else b""
        yield entry["stream"], stamp + os.fsencode(entry["log"])
