"""What a layer's archive has besides the contents of its files.

A layer is kept unpacked, and only unpacked. To give back the very archive that it came from, byte
for byte, so that its digest holds, the rest of the archive (headers, padding, order) is kept
beside it: less than a kilobyte for each file before compression. tar-split, which Docker and
Podman use, is the same idea.

    magic, size of the archive, bytes of content, members     8 bytes each
    zstd stream of records:  b"R" length bytes                verbatim
                             b"F" length path, count, count × (offset, length)
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import zstandard

from runtime.errors import LayerDamaged
from runtime.images.compression import CHUNK, Bytes

__all__ = ["SplitSummary", "SplitWriter", "assemble", "summary"]

_MAGIC = b"layerSP1"
_HEADER = struct.Struct("<8sQQQ")
_U32 = struct.Struct("<I")
_PAIR = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What is known of an archive without reading it."""

    size: int
    """Bytes of the uncompressed archive."""
    content: int
    """Bytes of the files' data in it."""
    files: int
    """Files with data."""


class SplitWriter:
    """Writes the record of one archive to a new file. A context."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self._file.write(bytes(_HEADER.size))
        self._packer = zstandard.ZstdCompressor(level=3).compressobj()
        self._pending: list[bytes] = []
        self._length = 0
        self._size = self._content = self._files = 0

    def raw(self, data: bytes) -> None:
        """These bytes come next."""
        if data:
            self._pending.append(data)
            self._length += len(data)
            self._size += len(data)
            if self._length >= CHUNK:
                self._flush()

    def payload(self, path: str, parts: Sequence[tuple[int, int]]) -> None:
        """Next come these parts (offset, length) of the file at `path` in the layer."""
        self._flush()
        name = os.fsencode(path)
        record = b"F" + _U32.pack(len(name)) + name + _U32.pack(len(parts))
        self._write(record + b"".join(_PAIR.pack(*part) for part in parts))
        content = sum(length for _, length in parts)
        self._size += content
        self._content += content
        self._files += bool(content)

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if kind is None:
                self._flush()
                self._file.write(self._packer.flush())
                self._file.seek(0)
                header = (_MAGIC, self._size, self._content, self._files)
                self._file.write(_HEADER.pack(*header))

    def _flush(self) -> None:
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._length = 0
            self._write(b"R" + _U32.pack(len(data)) + data)

    def _write(self, data: bytes) -> None:
        self._file.write(self._packer.compress(data))


def summary(split: Path) -> SplitSummary:
    """The sizes in a record. Raises LayerDamaged, or FileNotFoundError."""
    with split.open("rb") as file:
        return _summary(file, split)


def _summary(file: BinaryIO, split: Path) -> SplitSummary:
    header = file.read(_HEADER.size)
    if len(header) != _HEADER.size or not header.startswith(_MAGIC):
        raise LayerDamaged(str(split), "it does not begin as a record of an archive does")
    return SplitSummary(*_HEADER.unpack(header)[1:])


def assemble(split: Path, tree: Path, diff_id: str) -> Iterator[bytes]:
    """The archive, piece by piece, from its record and the unpacked layer.

    Raises LayerDamaged, at the latest behind the last piece, if it is not the archive of this
    digest: a file in the store was changed."""
    state = hashlib.sha256()
    for piece in _pieces(split, tree):
        state.update(piece)
        yield piece
    found = f"sha256:{state.hexdigest()}"
    if found != diff_id:
        raise LayerDamaged(
            str(tree), f"put together again it has the digest {found}, not {diff_id}"
        )


def _pieces(split: Path, tree: Path) -> Iterator[bytes]:
    with split.open("rb") as file:
        _summary(file, split)
        records = zstandard.ZstdDecompressor().stream_reader(file)
        while kind := records.read(1):
            (length,) = _U32.unpack(_exactly(records, _U32.size, split))
            data = _exactly(records, length, split)
            if kind == b"R":
                yield data
                continue
            (count,) = _U32.unpack(_exactly(records, _U32.size, split))
            table = _exactly(records, count * _PAIR.size, split)
            yield from _parts(tree / os.fsdecode(data), list(_PAIR.iter_unpack(table)))


def _parts(path: Path, parts: list[tuple[int, int]]) -> Iterator[bytes]:
    if not parts:
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise LayerDamaged(str(path), f"cannot be read: {error.strerror}") from error
    try:
        for offset, length in parts:
            done = 0
            while done < length:
                data = os.pread(fd, min(CHUNK, length - done), offset + done)
                if not data:
                    raise LayerDamaged(str(path), "is shorter than it was")
                yield data
                done += len(data)
    finally:
        os.close(fd)


def _exactly(source: Bytes, size: int, split: Path) -> bytes:
    data = b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise LayerDamaged(str(split), "the record of its archive ends too early")
        data += more
    return data
