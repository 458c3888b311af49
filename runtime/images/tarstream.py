"""Reading a layer's archive in one pass: members, digest, limits, and a record for giving it back.

Headers are parsed by `tarfile`; everything around them is done here, because an archive is
hostile until shown otherwise and `tarfile` is lenient: it takes a damaged header for the end, a
negative size for a way back, and a header of any length into memory.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.errors import LayerRefused
from runtime.images.compression import CHUNK, Bytes, Decompressor
from runtime.images.split import SplitWriter

__all__ = ["MAX_HEADER", "XATTR", "Headers", "TarStream", "UnpackLimits", "mtime_ns", "segments"]

XATTR = "SCHILY.xattr."
"""Before the name of an extended attribute in a pax header; GNU tar, Go and libarchive agree."""

_BLOCK = 512
MAX_HEADER = 1 << 20
"""Bytes of one member's headers together; Go's archive/tar, which Docker reads with, has the same
limit."""

_BROKEN = (tarfile.TarError, ArithmeticError, LookupError, ValueError, RecursionError)
"""What tarfile raises for headers that are none."""

_TIME = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9})\d*)?")


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may ask for before it is taken for a bomb."""

    max_bytes: int = 1 << 36
    """Of the uncompressed archive, and of its files' sizes together (sparse ones in full)."""
    max_members: int = 2_000_000
    max_ratio: int = 250
    """Bytes out for each byte in. Text packs at 3 to 20; gzip ends at 1032, zstd at 32768."""
    ratio_from: int = 1 << 30
    """Bytes out before the ratio counts: a disk image full of zeros is no bomb yet."""
    max_path: int = 3072
    """Bytes of a member's name: PATH_MAX less room for the path of the layer itself."""
    max_depth: int = 256
    """Directories deep. Deeper trees break tools that walk them by recursion."""
    absolute_names: bool = False
    """Take names and hard links that begin with "/" as relative to the layer's root, as kaniko
    writes some. They never lead outside; but an honest layer has none, so they are refused."""


class Headers:
    """The headers of an archive: parsed by tarfile, one at a time.

    `file` needs `read` and `tell`; whoever uses this moves it from the end of one header to `end`,
    the beginning of the next, and sees to it that no read is too large."""

    def __init__(self, file: Any) -> None:
        self.marked = False
        """Whether the end-of-archive marker was met."""
        # An empty archive to begin with: the constructor would read, and swallow errors.
        nothing = io.BytesIO(bytes(2 * _BLOCK))
        self._tar = tarfile.TarFile(fileobj=nothing, encoding="utf-8", errors="surrogateescape")
        self._tar.fileobj = file
        self._tar.offset = 0

    @property
    def end(self) -> int:
        """Where the data of the last member ends, padding included."""
        return self._tar.offset

    def next(self) -> tarfile.TarInfo | None:
        """The next member; None at the end. Raises ValueError for what is no header."""
        try:
            return tarfile.TarInfo.fromtarfile(self._tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            self.marked = True
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            pass
        except (
            tarfile.TarError,
            ArithmeticError,
            LookupError,
            ValueError,
            RecursionError,
        ) as error:
            raise ValueError(str(error)) from error
        return None


class TarStream:
    """The members of an archive in order, with their payloads.

    Raises LayerRefused, naming the last member seen, for an archive that is broken or over its
    limits. After the iteration has ended, all of it has been read."""

    def __init__(
        self,
        source: Bytes,
        archive: str,
        limits: UnpackLimits = UnpackLimits(),
        record: SplitWriter | None = None,
    ) -> None:
        self.archive = archive
        """What it is called in messages."""
        self.limits = limits
        self.ended = False
        """Whether the end-of-archive marker was there."""
        self._record = record
        self._hash = hashlib.sha256()
        self._position = 0
        self._header = 0
        self._content = 0
        self._where = "(the first header)"
        self._headers = Headers(self)
        self._source = Decompressor(source)

    @property
    def compression(self) -> str:
        """ "none", "gzip" or "zstd", by its first bytes."""
        return self._source.compression

    @property
    def diff_id(self) -> str:
        """``sha256:…`` of the uncompressed archive (image-spec, config.md, "Layer DiffID")."""
        return f"sha256:{self._hash.hexdigest()}"

    @property
    def digest(self) -> str:
        """``sha256:…`` of the archive as it came."""
        return self._source.digest or self.diff_id

    @property
    def size(self) -> int:
        """Bytes of the uncompressed archive so far."""
        return self._position

    def refuse(self, reason: str, member: str | None = None) -> LayerRefused:
        """The error to raise about this member, or the one that is being read."""
        return LayerRefused(self.archive, self._where if member is None else member, reason)

    def tell(self) -> int:
        """For tarfile."""
        return self._position

    def read(self, size: int, /) -> bytes:
        """For tarfile, which reads nothing but headers."""
        self._header += size
        if size < 0 or self._header > MAX_HEADER:
            raise self.refuse(f"a header of {size} bytes: more than {MAX_HEADER} in all")
        data = b""
        while len(data) < size and (more := self._pull(size - len(data))):
            data += more
        if self._record is not None:
            self._record.raw(data)
        return data

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        count = 0
        while (member := self._next()) is not None:
            count += 1
            self._where = member.name
            if count > self.limits.max_members:
                raise self.refuse(f"the archive has more than {self.limits.max_members} members")
            end = self._headers.end
            if member.size < 0 or end < self._position:
                raise self.refuse("a negative size")
            if member.isreg():
                self._content += member.size
                self._check(self._content, "files")
            yield member
            while self._position < end:
                self._raw(min(CHUNK, end - self._position))
            self._where = f"(after {member.name!r})"
        while data := self._pull(CHUNK):
            if data.strip(b"\0"):
                raise self.refuse("something follows the end of the archive")
            if self._record is not None:
                self._record.raw(data)

    def payload(self, member: tarfile.TarInfo, path: str) -> Iterator[tuple[int, bytes]]:
        """Where in the file which bytes go. `path` is where the caller puts them, for the record.

        To be used up before the next member is asked for."""
        parts = segments(member)
        if parts is None:
            raise self.refuse("a sparse map out of order, or past the end of the file")
        if self._position + sum(length for _, length in parts) > self._headers.end:
            raise self.refuse("a sparse map of more data than the archive has")
        if self._record is not None and parts:
            self._record.payload(path, parts)
        for start, length in parts:
            done = 0
            while done < length:
                data = self._pull(min(CHUNK, length - done))
                if not data:
                    raise self.refuse("broken archive: it ends within the member")
                yield start + done, data
                done += len(data)

    def _next(self) -> tarfile.TarInfo | None:
        self._header = 0
        try:
            member = self._headers.next()
        except ValueError as error:
            raise self.refuse(f"broken archive: {error}") from error
        if member is None:
            self.ended = self._headers.marked
            if not self._position:
                raise self.refuse("the archive is empty")
        return member

    def _raw(self, size: int) -> None:
        data = self._pull(size)
        if not data:
            raise self.refuse("broken archive: it ends within the member")
        if self._record is not None:
            self._record.raw(data)

    def _pull(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except ValueError as error:
            raise self.refuse(f"broken archive: {error}") from error
        self._hash.update(data)
        self._position += len(data)
        self._check(self._position, "archive")
        if (
            self._position > self.limits.ratio_from
            and self._position > self.limits.max_ratio * self._source.size_in
        ):
            raise self.refuse(
                f"{self._position} bytes from {self._source.size_in} packed ones: a bomb? "
                f"max_ratio is {self.limits.max_ratio}"
            )
        return data

    def _check(self, size: int, what: str) -> None:
        if size > self.limits.max_bytes:
            raise self.refuse(f"{what} of more than max_bytes, {self.limits.max_bytes} bytes")


def segments(member: tarfile.TarInfo) -> list[tuple[int, int]] | None:
    """Offset and length of the parts of a regular file that have data, in order; all of it is one
    such part unless the file is sparse. None for a map that cannot be."""
    sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
    if sparse is None:
        return [(0, member.size)] if member.size else []
    parts = []
    last = 0
    for start, length in sparse:
        if start < last or length < 0 or start + length > member.size:
            return None
        last = start + length
        if length:
            parts.append((start, length))
    return parts


def mtime_ns(member: tarfile.TarInfo) -> int | None:
    """Its time in nanoseconds: `tarfile` gives a float, which has lost the last digits of a pax
    time. None for what is no time."""
    text = member.pax_headers.get("mtime")
    if text is None:
        return int(member.mtime) * 10**9
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    sign, seconds, fraction = match.groups()
    value = int(seconds) * 10**9 + int((fraction or "").ljust(9, "0"))
    return -value if sign else value
