"""Unpacking one layer: from a tar archive in OCI form to a directory in overlayfs form.

Whiteouts change form on the way (OCI image-spec, layer.md, "Whiteouts"; overlayfs.rst, "whiteouts
and opaque directories"): an empty file `.wh.NAME` becomes a character device 0:0 called NAME, and
`.wh..wh..opq` becomes the attribute trusted.overlay.opaque=y of its directory.

A layer is hostile until shown otherwise. Names are taken apart here, every directory on the way
to a member must be a real directory of this very layer, and nothing is followed; a member that
would land elsewhere is refused by its name.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from runtime.errors import LayerRefused

__all__ = ["diff_id", "open_archive", "unpack", "whiteout"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_CHUNK = 1 << 20


@contextmanager
def open_archive(archive: Path) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of a tar or gzipped tar."""
    with archive.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as unpacked:
                yield unpacked  # type: ignore[misc]  # GzipFile reads bytes as IO does
        else:
            yield raw


def diff_id(archive: Path) -> str:
    """``sha256:…`` of the uncompressed archive (OCI image-spec, config.md, "Layer DiffID").

    Raises LayerRefused if its compression is broken."""
    state = hashlib.sha256()
    try:
        with open_archive(archive) as file:
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    except (EOFError, gzip.BadGzipFile) as error:
        raise LayerRefused(str(archive), "(the archive)", str(error)) from error
    return f"sha256:{state.hexdigest()}"


def whiteout(name: str) -> str | None:
    """What a whiteout's file name hides: a name, "" for all that lower layers have in the
    directory; None for a file that is no whiteout."""
    if name == _OPAQUE:
        return ""
    if name.startswith(_WHITEOUT):
        return name.removeprefix(_WHITEOUT)
    return None


def unpack(archive: Path, target: Path) -> None:
    """Unpack into the empty directory `target`. Needs root (owners, devices, trusted xattrs).

    Raises LayerRefused, naming the member; what was unpacked until then stays in `target`, which
    the caller throws away."""
    times: list[tuple[Path, float]] = []
    member: tarfile.TarInfo | None = None
    try:
        with open_archive(archive) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                path = _place(archive, target, member)
                _extract(archive, tar, member, target, path)
                if member.isdir():
                    times.append((path, member.mtime))
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        where = f"(after {member.name!r})" if member else "(the archive)"
        raise LayerRefused(str(archive), where, f"broken archive: {error}") from error
    for path, mtime in reversed(times):  # what was put into them has moved their times
        if path.is_dir() and not path.is_symlink():
            os.utime(path, (mtime, mtime))


def _place(archive: Path, target: Path, member: tarfile.TarInfo) -> Path:
    """Where the member goes: inside `target`, over real directories only."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LayerRefused(str(archive), member.name, "'..' in its name")
    path = target
    for part in parts[:-1]:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            path.mkdir(mode=0o755)  # archives may leave parents out
            continue
        if not stat.S_ISDIR(mode):
            raise LayerRefused(
                str(archive), member.name, f"{path.relative_to(target)} is in its way, no directory"
            )
    return path / parts[-1] if parts else target


def _extract(
    archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, path: Path
) -> None:
    hidden = whiteout(path.name) if path != target else None
    if hidden == "":
        os.setxattr(path.parent, "trusted.overlay.opaque", b"y")
        return
    if hidden is not None:
        if hidden in (".", "..") or hidden.startswith(_WHITEOUT):
            raise LayerRefused(str(archive), member.name, "no whiteout of the OCI's kind")
        path = path.with_name(hidden)
        _clear(path)
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        return
    _create(archive, tar, member, target, path)
    if member.islnk():
        return  # owner and mode are the file's, set with its first name
    os.lchown(path, member.uid, member.gid)
    if not member.issym():
        path.chmod(member.mode & 0o7777)  # after the owner, whose change clears set-user-ID
    _set_xattrs(archive, member, path)
    if not member.isdir():
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _create(
    archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, path: Path
) -> None:
    if member.isdir():
        if path.is_symlink() or not path.is_dir():
            _clear(path)
            path.mkdir()
        return
    if path == target:
        raise LayerRefused(str(archive), member.name, "the root must be a directory")
    _clear(path)
    if member.isreg():
        source = tar.extractfile(member)
        assert source is not None  # isreg says so
        with path.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        _hard_link(archive, member, target, path)
    elif member.ischr() or member.isblk():
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        if member.ischr() and (member.devmajor, member.devminor) == (0, 0):
            raise LayerRefused(str(archive), member.name, "device 0:0 is overlayfs's whiteout")
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    elif member.isfifo():
        os.mkfifo(path, 0o600)
    else:
        raise LayerRefused(str(archive), member.name, f"unknown kind {member.type!r}")


def _hard_link(archive: Path, member: tarfile.TarInfo, target: Path, path: Path) -> None:
    try:
        source = _place(archive, target, tarfile.TarInfo(member.linkname))
    except LayerRefused as error:
        reason = f"links to {member.linkname!r}: {error}"
        raise LayerRefused(str(archive), member.name, reason) from error
    if not os.path.lexists(source):
        raise LayerRefused(str(archive), member.name, f"links to {member.linkname!r}, not there")
    if stat.S_ISDIR(source.lstat().st_mode):
        raise LayerRefused(str(archive), member.name, f"links to {member.linkname!r}, a directory")
    os.link(source, path, follow_symlinks=False)


def _set_xattrs(archive: Path, member: tarfile.TarInfo, path: Path) -> None:
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            name = key.removeprefix(_XATTR)
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                raise LayerRefused(
                    str(archive), member.name, f"attribute {name} is overlayfs's own"
                )
            os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def _clear(path: Path) -> None:
    """Make way: a later member of the same name replaces the earlier."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
