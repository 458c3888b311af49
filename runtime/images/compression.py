"""The compressions of layers: none, gzip (RFC 1952) and zstd (RFC 8878).

What a layer is packed with is told by its first bytes and not by its media type: registries and
tools mislabel, and `docker save` archives say nothing at all. Both formats may be several frames
in a row (eStargz is many gzip members, zstd:chunked many zstd frames and skippable ones); what
follows the last frame, and a last frame that stops short, are errors.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

import zstandard

__all__ = ["CHUNK", "Bytes", "ChunkReader", "Compression", "Decompressor", "compress", "detect"]

Compression = Literal["none", "gzip", "zstd"]

CHUNK = 1 << 20
"""Bytes that are moved at once."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = (0x184D2A50, 0x184D2A5F)
_ZSTD_SLICE = 2048
"""Bytes given to zstd at once. An RLE block makes 128 KiB of 4 bytes (RFC 8878, 3.1.1.2), and
this interface has no other limit on what comes back: 64 MiB at worst."""


class Bytes(Protocol):
    """What is read from: a file, a member of an archive, a stream."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""


class ChunkReader:
    """Reads from pieces that somebody makes one by one."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """See `Bytes`."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken = self._rest[:size]
        self._rest = self._rest[size:]
        return bytes(taken)


def detect(head: bytes) -> Compression:
    """What begins with these (at least four) bytes."""
    if head[:2] == _GZIP:
        return "gzip"
    first = int.from_bytes(head[:4], "little") if len(head) >= 4 else 0
    if head[:4] == _ZSTD or _ZSTD_SKIPPABLE[0] <= first <= _ZSTD_SKIPPABLE[1]:
        return "zstd"
    return "none"


class Decompressor:
    """The uncompressed bytes of `raw`, and the digest of `raw` itself, in one pass.

    `raw` is read to its end before `read` gives nothing. ValueError says that the compression is
    broken, ends too early, or has something behind it."""

    def __init__(self, raw: Bytes) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self._hashing = False
        self.size_in = 0
        """Bytes read so far from `raw`."""
        self._head = b""
        while len(self._head) < 4 and (more := self._take(4 - len(self._head))):
            self._head += more
        self.compression: Compression = detect(self._head)
        self._hashing = self.compression != "none"
        if self._hashing:
            self._hash.update(self._head)
        self._rest = ChunkReader(self._plain() if self.compression == "none" else self._inflated())

    def read(self, size: int, /) -> bytes:
        """See `Bytes`."""
        return self._rest.read(size)

    @property
    def digest(self) -> str | None:
        """``sha256:…`` of what was read from `raw`. None if it is not compressed: whoever reads
        has the same bytes, and hashing them twice would cost a second for each 2 GB."""
        return f"sha256:{self._hash.hexdigest()}" if self._hashing else None

    def _take(self, size: int) -> bytes:
        data = self._raw.read(size)
        if self._hashing:
            self._hash.update(data)
        self.size_in += len(data)
        return data

    def _plain(self) -> Iterator[bytes]:
        yield self._head
        while data := self._take(CHUNK):
            yield data

    def _inflated(self) -> Iterator[bytes]:
        new_frame, step, broken = _decoder(self.compression)
        data, frame, open_frame = self._head, new_frame(), False
        try:
            while data := data or self._take(step):
                open_frame = True
                if self.compression == "gzip":
                    yield frame.decompress(data, CHUNK)
                else:
                    yield frame.decompress(data)
                if frame.eof:
                    data, frame, open_frame = frame.unused_data, new_frame(), False
                else:
                    data = frame.unconsumed_tail
        except broken as error:
            raise ValueError(
                f"broken {self.compression} stream, or garbage behind it: {error}"
            ) from error
        if open_frame:
            raise ValueError(f"the {self.compression} stream ends too early")


def _decoder(
    compression: Compression,
) -> tuple[Callable[[], Any], int, type[Exception]]:
    """What makes a decoder of one frame, how many bytes to give it at once, how it complains."""
    if compression == "gzip":
        return (lambda: zlib.decompressobj(wbits=31)), CHUNK, zlib.error
    return zstandard.ZstdDecompressor().decompressobj, _ZSTD_SLICE, zstandard.ZstdError


def compress(pieces: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """Pack these bytes. The same bytes give the same result each time: no time stamp goes in."""
    if compression == "none":
        yield from pieces
        return
    engine: Any = (
        zlib.compressobj(6, wbits=31)  # no name, no time (zlib's deflateSetHeader is not called)
        if compression == "gzip"
        else zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    )
    for piece in pieces:
        if packed := engine.compress(piece):
            yield packed
    yield engine.flush()
