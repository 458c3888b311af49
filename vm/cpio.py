"""Writing an initramfs archive: the "new ASCII" cpio format.

Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Times are zero and inode
numbers count from one, so that equal content gives equal bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Entry", "archive", "device", "directory", "file"]

_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `name` is relative to the root; `rdev` is (major, minor) of a device node."""

    name: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(name, stat.S_IFDIR | permissions)


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """Return a character device node."""
    return Entry(name, stat.S_IFCHR | permissions, rdev=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the archive that holds `entries`, in order. A directory must come before its members:
    the kernel makes no missing parents."""
    out = bytearray()
    for number, entry in enumerate(entries, start=1):
        _append(out, number, entry)
    _append(out, 0, Entry(_TRAILER, 0))
    return bytes(out)


def _append(out: bytearray, inode: int, entry: Entry) -> None:
    name = entry.name.encode() + b"\0"
    fields = (
        inode,
        entry.mode,
        0,  # uid
        0,  # gid
        1,  # nlink
        0,  # mtime
        len(entry.data),
        0,  # device of the file, major
        0,  # and minor
        *entry.rdev,
        len(name),
        0,  # check sum, unused by this variant
    )
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
    out += b"\0" * (-len(out) % 4) + entry.data
    out += b"\0" * (-len(out) % 4)
