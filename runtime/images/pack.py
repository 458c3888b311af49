"""Packing: from a directory in overlayfs form to a layer's archive in OCI form.

The same tree gives the same bytes: names in byte order, whiteouts before what lies beside them
(OCI image-spec, layer.md, "Whiteouts"), numeric owners without names, times to the nanosecond.

The tree may be the upper directory of a container that runs and is hostile. So it is walked by
descriptors, no link is followed, and nothing outside it is ever read.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from runtime.errors import ImageError
from runtime.images.compression import CHUNK
from runtime.images.idmap import IdMap
from runtime.images.tarstream import XATTR
from runtime.images.whiteouts import OPAQUE, WHITEOUT, OverlayForm, is_whiteout

__all__ = ["END", "describe", "emit", "header", "pack"]

END = bytes(1024)
"""The end-of-archive marker."""

_BLOCK = 512
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HOLES_WORTH = 1 << 30
"""Bytes of holes from which a file is stored as a sparse member. The OCI's layer.md says that
those SHOULD NOT be used, and Docker can load such a layer but not save it again; smaller holes are
stored as zeros, which pack well and become holes again where they are unpacked. But nobody wants a
terabyte of zeros in an archive."""

_OF_THIS_HOST = frozenset(
    {"security.selinux", "security.SMACK64", "security.ima", "security.evm", "system.nfs4_acl"}
)

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def pack(tree: Path, form: OverlayForm, idmap: IdMap | None = None) -> Iterator[bytes]:
    """The archive of all that is in `tree`, piece by piece; the root itself is not in it.

    `idmap` shifts owners back. Sockets are left out: tar has none. Raises ImageError, naming the
    path, for what cannot be packed."""
    links: dict[tuple[int, int], str] = {}
    try:
        root = os.open(tree, _OPEN_DIR)
        try:
            yield from _directory(root, "", form, idmap, links)
        finally:
            os.close(root)
    except OSError as error:
        raise ImageError(
            f"cannot pack {tree}: {error.filename or ''} {error.strerror}; something may have "
            "changed it meanwhile, pause what uses it"
        ) from error
    yield END


def _directory(
    fd: int,
    where: str,
    form: OverlayForm,
    idmap: IdMap | None,
    links: dict[tuple[int, int], str],
) -> Iterator[bytes]:
    if form.is_opaque(f"/proc/self/fd/{fd}/"):
        yield header(_empty(f"{where}{OPAQUE}"))
    names = sorted(os.listdir(fd), key=os.fsencode)
    infos = {name: os.stat(name, dir_fd=fd, follow_symlinks=False) for name in names}
    for name in names:
        if is_whiteout(infos[name]):
            yield header(_empty(f"{where}{WHITEOUT}{name}"))
    for name in names:
        info = infos[name]
        if is_whiteout(info) or stat.S_ISSOCK(info.st_mode):
            continue
        path = f"/proc/self/fd/{fd}/{name}"
        if borrowed := form.depends(path):
            raise ImageError(
                f"{where}{name} has the attribute {borrowed}: its content is elsewhere in the "
                "overlay; mount it with redirect_dir=off,metacopy=off"
            )
        if name.startswith(WHITEOUT):
            raise ImageError(f"{where}{name}: no image can hold a name that begins with {WHITEOUT}")
        member = describe(fd, name, info, f"{where}{name}", idmap)
        first = links.get((info.st_dev, info.st_ino))
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if first is not None:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, first, 0
            links.setdefault((info.st_dev, info.st_ino), f"{where}{name}")
        yield from emit(member, fd, name)
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, _OPEN_DIR, dir_fd=fd)
            try:
                yield from _directory(below, f"{where}{name}/", form, idmap, links)
            finally:
                os.close(below)


def _empty(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = 0o600
    return member


def describe(
    dir_fd: int, name: str, info: os.stat_result, member_name: str, idmap: IdMap | None = None
) -> tarfile.TarInfo:
    """The header of the entry `name` of a directory. Raises ImageError if its owner is not in the
    id map."""
    member = tarfile.TarInfo(member_name)
    member.type = _KINDS[stat.S_IFMT(info.st_mode)]
    member.mode = stat.S_IMODE(info.st_mode)
    owner = (info.st_uid, info.st_gid)
    if idmap is not None:
        inside = idmap.inside(*owner)
        if inside is None:
            raise ImageError(f"{member_name}: owner {owner[0]}:{owner[1]} is not in the id map")
        owner = inside
    member.uid, member.gid = owner
    set_time(member, info.st_mtime_ns)
    path = f"/proc/self/fd/{dir_fd}/{name}"
    if member.isreg():
        member.size = info.st_size
    elif member.issym():
        member.linkname = os.readlink(name, dir_fd=dir_fd)
    elif member.ischr() or member.isblk():
        member.devmajor, member.devminor = os.major(info.st_rdev), os.minor(info.st_rdev)
    for key in sorted(_attributes(path)):
        value = os.getxattr(path, key, follow_symlinks=False)
        _extend(member, {XATTR + key: value.decode("utf-8", "surrogateescape")})
    return member


def set_time(member: tarfile.TarInfo, time: int) -> None:
    """Nanoseconds since the epoch; a pax header only where the plain one would not do."""
    seconds, rest = divmod(time, 10**9)
    member.mtime = max(0, seconds)
    if rest or seconds < 0:
        sign, value = ("-", -time) if time < 0 else ("", time)
        digits = f"{value // 10**9}.{value % 10**9:09d}".rstrip("0").rstrip(".")
        _extend(member, {"mtime": f"{sign}{digits}"})


def _extend(member: tarfile.TarInfo, fields: Mapping[str, str]) -> None:
    member.pax_headers = {**member.pax_headers, **fields}


def _attributes(path: str) -> list[str]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EPERM):
            return []
        raise
    return [
        name
        for name in names
        if name not in _OF_THIS_HOST and not name.startswith(("trusted.overlay.", "user.overlay."))
    ]


def header(member: tarfile.TarInfo) -> bytes:
    """The blocks before a member's data, in pax form."""
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def emit(member: tarfile.TarInfo, dir_fd: int, name: str) -> Iterator[bytes]:
    """The member with its data, which is the file `name` of a directory."""
    if not member.isreg() or not member.size:
        yield header(member)
        return
    fd = os.open(name, _OPEN_FILE, dir_fd=dir_fd)
    try:
        parts = _data(fd, member.size)
        size = sum(length for _, length in parts)
        if member.size - size >= _HOLES_WORTH:
            table = _sparse(member, parts)
            size += len(table)
            yield header(member) + table
        else:
            parts, size = [(0, member.size)], member.size
            yield header(member)
        for start, length in parts:
            done = 0
            while done < length:
                data = os.pread(fd, min(CHUNK, length - done), start + done)
                if not data:
                    raise ImageError(f"{member.name} became shorter while it was packed")
                yield data
                done += len(data)
        yield bytes(-size % _BLOCK)
    finally:
        os.close(fd)


def _sparse(member: tarfile.TarInfo, parts: list[tuple[int, int]]) -> bytes:
    """Turn it into a sparse member; returns the map that goes before its data (GNU tar manual,
    "PAX Format, Version 1.0")."""
    real = member.size
    entries = [*parts, (real, 0)]
    text = f"{len(entries)}\n" + "".join(f"{start}\n{length}\n" for start, length in entries)
    table = text.encode()
    table += bytes(-len(table) % _BLOCK)
    fields = {"major": "1", "minor": "0", "name": member.name, "realsize": str(real)}
    _extend(member, {f"GNU.sparse.{key}": value for key, value in fields.items()})
    folder, _, base = member.name.rpartition("/")
    member.name = f"{folder}/GNUSparseFile.0/{base}" if folder else f"GNUSparseFile.0/{base}"
    member.size = len(table) + sum(length for _, length in parts)
    return table


def _data(fd: int, size: int) -> list[tuple[int, int]]:
    """The parts of a file that are not holes (lseek(2), SEEK_DATA)."""
    parts = []
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole from here on
        position = min(size, os.lseek(fd, start, os.SEEK_HOLE))
        if start < size:
            parts.append((start, position - start))
    return parts
