"""Where an image is read from: a directory, or a tar archive that is never unpacked as a whole.

The members of an archive are found by one pass over its headers, seeking over the data; each is
then read where it lies. An archive that is packed as a whole (`docker save | gzip`), or comes
through a pipe, cannot be sought in: it is unpacked to a file in the store's tmp/ first.
"""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from runtime.errors import ArchiveRefused, DigestMismatch, ImageError
from runtime.images.compression import CHUNK, Bytes, Decompressor, detect
from runtime.images.files import StoreFiles
from runtime.images.image import digest
from runtime.images.names import DIGEST
from runtime.images.tarstream import MAX_HEADER, Headers

__all__ = [
    "DirectorySource",
    "Source",
    "TarSource",
    "blob_name",
    "open_source",
    "read_blob",
    "read_json",
    "read_member",
]

_MAX_JSON = 4 << 20
"""Bytes of a manifest or configuration; registries take no larger ones (distribution-spec)."""
_MAX_MEMBERS = 100_000


class Source(Protocol):
    """Files by their names relative to the root of a layout."""

    where: str
    """What it is called in messages."""

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name."""

    @contextmanager
    def open(self, name: str) -> Iterator[Bytes]:
        """Its content. Raises ArchiveRefused if it is not there."""


class DirectorySource:
    """A directory. Links in it are not followed: it may come from elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)

    def has(self, name: str) -> bool:
        """See `Source`."""
        try:
            return stat.S_ISREG((self.root / name).lstat().st_mode)
        except OSError:
            return False

    @contextmanager
    def open(self, name: str) -> Iterator[Bytes]:
        """See `Source`."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(self.root / name, flags)
        except OSError as error:
            raise ArchiveRefused(self.where, name, f"cannot be read: {error.strerror}") from error
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ArchiveRefused(self.where, name, "is no regular file")
            yield file


class TarSource:
    """A tar archive in a file that can be sought in."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.where = where
        self._file = file
        self._members: dict[str, tarfile.TarInfo] = {}
        self._index()

    def has(self, name: str) -> bool:
        """See `Source`."""
        return self._look(name) is not None

    @contextmanager
    def open(self, name: str) -> Iterator[Bytes]:
        """See `Source`."""
        member = self._look(name)
        if member is None:
            raise ArchiveRefused(self.where, name, "is not in the archive")
        yield _Part(self._file, member.offset_data, member.size, self.where, name)

    def _look(self, name: str) -> tarfile.TarInfo | None:
        """A regular file, or what a link of older `docker save`s leads to."""
        member = self._members.get(_normal(name))
        if member is not None and (member.issym() or member.islnk()):
            folder = name.rpartition("/")[0] if member.issym() else ""
            member = self._members.get(_normal(f"{folder}/{member.linkname}"))
        return member if member is not None and member.isreg() else None

    def _index(self) -> None:
        headers = Headers(_HeaderReader(self._file))
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        last = "(the first header)"
        while True:
            try:
                member = headers.next()
            except ValueError as error:
                raise ArchiveRefused(self.where, f"(after {last})", f"broken: {error}") from error
            if member is None:
                break
            last = member.name
            if headers.end < self._file.tell() or headers.end > size or member.size < 0:
                raise ArchiveRefused(self.where, last, "the archive ends within it: truncated?")
            if getattr(member, "sparse", None) is not None:
                raise ArchiveRefused(self.where, last, "a sparse file in an image archive")
            if not member.isdir():
                if self._members.setdefault(_normal(last), member) is not member:
                    raise ArchiveRefused(self.where, last, "is in the archive twice")
                if len(self._members) > _MAX_MEMBERS:
                    raise ArchiveRefused(self.where, last, f"more than {_MAX_MEMBERS} members")
            self._file.seek(headers.end)


class _HeaderReader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise ValueError(f"a header of {size} bytes")
        return self._file.read(size)


class _Part:
    """A stretch of a file."""

    def __init__(self, file: BinaryIO, start: int, size: int, where: str, name: str) -> None:
        self._file = file
        self._position = start
        self._end = start + size
        self._about = (where, name)

    def read(self, size: int, /) -> bytes:
        size = min(size, self._end - self._position)
        data = os.pread(self._file.fileno(), size, self._position) if size > 0 else b""
        if size > 0 and not data:
            raise ArchiveRefused(*self._about, "the archive ends within it")
        self._position += len(data)
        return data


@contextmanager
def open_source(path: Path, files: StoreFiles, max_bytes: int) -> Iterator[Source]:
    """The directory or archive at `path`, which may be packed or a pipe.

    Raises ArchiveRefused or ImageError."""
    if path.is_dir():
        yield DirectorySource(path)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if file.seekable() and detect(os.pread(file.fileno(), 4, 0)) == "none":
            yield TarSource(file, str(path))
            return
        with files.temporary() as folder, (folder / "archive").open("w+b") as plain:
            _unpack(file, plain, str(path), max_bytes)
            yield TarSource(plain, str(path))


def _unpack(file: BinaryIO, plain: BinaryIO, where: str, max_bytes: int) -> None:
    unpacked = Decompressor(file)
    try:
        while data := unpacked.read(CHUNK):
            if plain.tell() + len(data) > max_bytes:
                raise ArchiveRefused(where, "(all of it)", f"more than {max_bytes} bytes: a bomb?")
            plain.write(data)
    except ValueError as error:
        raise ArchiveRefused(where, "(all of it)", str(error)) from error
    plain.flush()


def read_json(source: Source, name: str) -> Any:
    """A JSON file. Raises ArchiveRefused."""
    return _parse(source, name, read_member(source, name))


def read_blob(source: Source, descriptor: Any, about: str) -> tuple[Any, bytes]:
    """The JSON that a descriptor (OCI image-spec, descriptor.md) names, parsed and as it is.

    `about` is the member that the descriptor was found in. Raises ArchiveRefused, and
    DigestMismatch if the blob is another."""
    name = blob_name(source, descriptor, about)
    data = read_member(source, name)
    expected = descriptor["digest"]
    if (found := digest(data)) != expected:
        raise DigestMismatch(source.where, name, expected, found)
    return _parse(source, name, data), data


def blob_name(source: Source, descriptor: Any, about: str) -> str:
    """Where the blob of a descriptor lies in a layout. Raises ArchiveRefused."""
    value = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise ArchiveRefused(source.where, about, f"a descriptor has no sha256 digest: {value!r}")
    return f"blobs/sha256/{value.removeprefix('sha256:')}"


def read_member(source: Source, name: str) -> bytes:
    """A small member as it is. Raises ArchiveRefused."""
    data = b""
    with source.open(name) as file:
        while len(data) <= _MAX_JSON and (more := file.read(_MAX_JSON + 1 - len(data))):
            data += more
    if len(data) > _MAX_JSON:
        raise ArchiveRefused(source.where, name, f"is larger than {_MAX_JSON} bytes")
    return data


def _parse(source: Source, name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveRefused(source.where, name, f"is no JSON: {error}") from error


def _normal(name: str) -> str:
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
