"""The two ways to write down that something of a lower layer is gone.

In an archive (OCI image-spec, layer.md, "Whiteouts"): an empty file `.wh.NAME` says that NAME is
gone, `.wh..wh..opq` that all that lower layers have in its directory is.

On the disk, for overlayfs (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque
directories"): a removed name is a character device 0:0, and a directory that hides what lower
layers have in it carries the attribute trusted.overlay.opaque=y; user.overlay.opaque=y on an
overlay mounted with "userxattr", which is what a user without rights can mount.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.errors import ImageError

__all__ = ["OPAQUE", "WHITEOUT", "OverlayForm", "is_whiteout", "whiteout"]

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM)


def whiteout(name: str) -> str | None:
    """What a whiteout's file name hides: a name, "" for all that lower layers have in the
    directory; None for a file that is no whiteout."""
    if name == OPAQUE:
        return ""
    if name.startswith(WHITEOUT) and name != WHITEOUT:
        return name.removeprefix(WHITEOUT)
    return None


def is_whiteout(info: os.stat_result) -> bool:
    """Whether this is a removed name."""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


@dataclass(frozen=True, slots=True)
class OverlayForm:
    """What an unpacked layer may hold here. The defaults are those of root."""

    xattrs: Literal["trusted", "user"] = "trusted"
    """Name space of overlayfs's attributes: "user" for overlays mounted with userxattr."""
    owners: bool = True
    """Files get the owners that the archive names; else all are the caller's own."""
    devices: bool = True
    """Device nodes are made; else left out, as Podman does in a user namespace."""

    @classmethod
    def probe(cls, directory: Path) -> OverlayForm:
        """What the caller can make in this (empty, own) directory: found out by trying."""
        if os.geteuid() != 0:
            return cls("user", owners=False, devices=False)
        try:
            os.setxattr(directory, "trusted.overlay.probe", b"y")
            os.removexattr(directory, "trusted.overlay.probe")
        except OSError as error:
            if error.errno != errno.EPERM:
                raise ImageError(
                    f"{directory} is on a file system without extended attributes, which layers "
                    f"need ({error.strerror}): put the image store on another"
                ) from error
            return cls("user", owners=True, devices=False)  # root of a user namespace
        return cls()

    @property
    def prefix(self) -> str:
        """Of the attributes that are overlayfs's own."""
        return f"{self.xattrs}.overlay."

    def set_opaque(self, directory: int | str) -> None:
        """Hide what lower layers have in this directory, by path or descriptor."""
        os.setxattr(directory, f"{self.prefix}opaque", b"y")

    def may_have_whiteouts(self, directory: int) -> None:
        """Mark a directory in which names are removed. Where no lower layer has it, overlayfs
        merges nothing and lists the whiteouts as names that are not there, unless it looks like a
        directory that was copied up (fs/overlayfs/inode.c, `ovl_get_inode`, "non-merge dir that
        may have whiteouts"). The empty value is overlayfs's "origin unknown"."""
        os.setxattr(directory, f"{self.prefix}origin", b"")

    def is_opaque(self, directory: str | Path) -> bool:
        """Whether it hides what lower layers have in it."""
        return self._get(directory, "opaque") == b"y"

    def depends(self, path: str | Path) -> str | None:
        """The attribute by which an entry of an upper layer borrows its content from another
        place below ("redirect", "metacopy"), so that it means nothing by itself. Or None."""
        for name in ("redirect", "metacopy"):
            if self._get(path, name) is not None:
                return f"{self.prefix}{name}"
        return None

    def _get(self, path: str | Path, name: str) -> bytes | None:
        try:
            return os.getxattr(path, f"{self.prefix}{name}", follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_ATTRIBUTE:
                return None
            raise
