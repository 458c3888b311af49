"""Putting the members of a layer's archive into a directory.

Whiteouts change form on the way (whiteouts.py). None touches what this layer itself brings,
wherever in the archive it comes (OCI image-spec, layer.md, "Whiteouts").

A layer is hostile until shown otherwise. Each file is made by a call relative to the descriptor of
its directory, which was opened one component at a time without following links: a member that
would land elsewhere is refused by its name.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections import OrderedDict
from pathlib import Path

from runtime.errors import ImageError, LayerRefused, StoreFull
from runtime.images.idmap import IdMap
from runtime.images.tarstream import XATTR, TarStream, mtime_ns
from runtime.images.whiteouts import WHITEOUT, OverlayForm, is_whiteout, whiteout

__all__ = ["Unpacker"]

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_AT_ONCE = 64
"""Descriptors of directories kept, for archives that come back to them."""
_ZEROS = bytes(1 << 16)
_MAX_ID = (1 << 32) - 2

_FAULT_OF_THE_HOST = {
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EROFS,
}

Parts = tuple[str, ...]


class Unpacker:
    """Puts the members of a stream into a directory, and nowhere else."""

    def __init__(
        self, stream: TarStream, target: Path, form: OverlayForm, idmap: IdMap | None
    ) -> None:
        self._stream = stream
        self._limits = stream.limits
        self._form = form
        self._idmap = idmap
        self._fds: OrderedDict[Parts, int] = OrderedDict()
        self._root = os.open(target, _OPEN_DIR)
        self._attributes: dict[Parts, tuple[int, int]] = {(): (0o755, 0)}
        """Mode and time of each directory: set at the end, since what is put into a directory
        moves its time, and a mode may forbid to put anything. Those that the archive leaves out
        have fixed ones, so that the same archive gives the same tree everywhere."""
        self._left_out: set[Parts] = set()
        if idmap is not None and (owner := idmap.outside(0, 0)) is not None:
            os.fchown(self._root, *owner)  # archives may leave it out

    def close(self) -> None:
        """Let go of all descriptors."""
        for fd in (*self._fds.values(), self._root):
            os.close(fd)

    def take(self, member: tarfile.TarInfo) -> None:
        """Put the member where it belongs. Raises LayerRefused, StoreFull or ImageError."""
        parts = self._parts(member.name)
        try:
            self._take(member, parts)
        except (ValueError, OverflowError) as error:  # zero bytes, numbers that fit nowhere
            raise self._stream.refuse(str(error)) from error
        except OSError as error:
            if error.errno not in _FAULT_OF_THE_HOST:
                raise self._stream.refuse(f"the kernel refuses: {error.strerror}") from error
            kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else ImageError
            raise kind(
                f"cannot unpack {member.name!r} of layer {self._stream.archive}: {error.strerror}"
            ) from error
        while len(self._fds) > _OPEN_AT_ONCE:  # not earlier: one member may use several
            os.close(self._fds.popitem(last=False)[1])

    def finish(self) -> None:
        """Give the directories their modes and times."""
        for parts, (mode, time) in sorted(self._attributes.items(), reverse=True):
            fd = self._directory(parts, make=False)
            os.fchmod(fd, mode)
            os.utime(fd, ns=(time, time))
            while len(self._fds) > _OPEN_AT_ONCE:
                os.close(self._fds.popitem(last=False)[1])

    def _take(self, member: tarfile.TarInfo, parts: Parts) -> None:
        if not parts:
            if not member.isdir():
                raise self._stream.refuse("the root must be a directory")
            self._describe(self._root, member, parts)
            return
        parent = self._directory(parts[:-1])
        name = parts[-1]
        if name.startswith(WHITEOUT):
            self._whiteout(parent, name, member)
        elif member.isdir():
            self._make_directory(parent, name)
            self._describe(self._directory(parts), member, parts)
        elif member.islnk():
            self._hard_link(parent, name, member, parts)
        elif member.isreg():
            self._file(parent, name, member, parts)
        else:
            self._special(parent, name, member, parts)

    def _parts(self, name: str, link_of: str | None = None) -> Parts:
        """The components of a member's name, or of the name that a hard link gives."""

        def refuse(reason: str) -> LayerRefused:
            if link_of is None:
                return self._stream.refuse(reason, name)
            return self._stream.refuse(f"links to {name!r}: {reason}", link_of)

        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise refuse("'..' in its name")
        if name.startswith("/") and parts and not self._limits.absolute_names:
            raise refuse("its name is absolute; absolute_names takes it from the root")
        if len(parts) > self._limits.max_depth:
            raise refuse(f"more than {self._limits.max_depth} directories deep")
        if len(os.fsencode(name)) > self._limits.max_path:
            raise refuse(f"its name is longer than {self._limits.max_path} bytes")
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise refuse("a directory cannot have the name of a whiteout")
        return parts

    def _directory(self, parts: Parts, make: bool = True) -> int:
        """A descriptor of this directory; archives may leave parents out."""
        if not parts:
            return self._root
        fd = self._fds.get(parts)
        if fd is None:
            parent = self._directory(parts[:-1], make)
            fd = self._enter(parent, parts, make)
            self._fds[parts] = fd
        else:
            self._fds.move_to_end(parts)
        return fd

    def _enter(self, parent: int, parts: Parts, make: bool) -> int:
        name = parts[-1]
        try:
            return os.open(name, _OPEN_DIR, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if not is_whiteout(os.stat(name, dir_fd=parent, follow_symlinks=False)):
                raise self._stream.refuse(
                    f"{'/'.join(parts)!r} is in its way and no directory"
                ) from None
        self._make_directory(parent, name)
        fd = os.open(name, _OPEN_DIR, dir_fd=parent)
        self._own(fd, 0, 0)
        self._attributes[parts] = (0o755, 0)
        return fd

    def _make_directory(self, parent: int, name: str) -> None:
        """One that is there may stay; one that replaces a removed one hides what that had."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                return
            self._make_way(parent, name)
            os.mkdir(name, 0o755, dir_fd=parent)
            self._form.set_opaque(f"/proc/self/fd/{parent}/{name}")

    def _make_way(self, parent: int, name: str) -> None:
        """This layer's own whiteout yields to what the layer brings. All else is a duplicate, of
        which it is not said which one counts (layer.md, "Distributable Format")."""
        if not is_whiteout(os.stat(name, dir_fd=parent, follow_symlinks=False)):
            raise self._stream.refuse("a member of that name came before")
        os.unlink(name, dir_fd=parent)

    def _whiteout(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        hidden = whiteout(name)
        if hidden == "":
            self._form.set_opaque(parent)
            return
        if hidden in (None, ".", "..") or hidden.startswith(WHITEOUT) or member.isdir():
            raise self._stream.refuse("no whiteout of the OCI's kind")
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            self._form.may_have_whiteouts(parent)
        except FileExistsError:
            info = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                self._form.set_opaque(f"/proc/self/fd/{parent}/{hidden}")

    def _file(self, parent: int, name: str, member: tarfile.TarInfo, parts: Parts) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._make_way(parent, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            for offset, data in self._stream.payload(member, "/".join(parts)):
                _write(fd, offset, data)
            os.ftruncate(fd, member.size)  # it may end in a hole
            self._describe(fd, member, None)
        finally:
            os.close(fd)

    def _hard_link(self, parent: int, name: str, member: tarfile.TarInfo, parts: Parts) -> None:
        """Owner, mode and time are the file's, set with its first name."""
        target = self._parts(member.linkname, member.name)
        if target in self._left_out:
            self._left_out.add(parts)
            return
        refuse = self._stream.refuse
        try:
            source = self._directory(target[:-1], make=False)
            info = os.stat(target[-1] if target else ".", dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            raise refuse(f"links to {member.linkname!r}, which is not there") from None
        if stat.S_ISDIR(info.st_mode) or is_whiteout(info):
            raise refuse(f"links to {member.linkname!r}, a directory or whiteout")
        if target == parts:
            raise refuse("links to itself")
        for attempt in (1, 2):
            try:
                os.link(
                    target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False
                )
                return
            except FileExistsError:
                if attempt == 2:
                    raise
                self._make_way(parent, name)

    def _special(self, parent: int, name: str, member: tarfile.TarInfo, parts: Parts) -> None:
        """Links, devices, pipes."""
        device = os.makedev(0, 0)
        if member.issym():
            pass
        elif member.ischr() or member.isblk():
            major, minor = member.devmajor, member.devminor
            if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                raise self._stream.refuse(f"no device number: {major}:{minor}")
            if member.ischr() and (major, minor) == (0, 0):
                raise self._stream.refuse("device 0:0 is overlayfs's whiteout")
            if not self._form.devices:
                self._left_out.add(parts)
                return
            device = os.makedev(major, minor)
        elif not member.isfifo():
            raise self._stream.refuse(f"unknown kind {member.type!r}")
        if _exists(parent, name):
            self._make_way(parent, name)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        else:
            kind = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK}
            os.mknod(name, kind.get(member.type, stat.S_IFIFO) | 0o600, device, dir_fd=parent)
        self._describe_by_name(parent, name, member)

    def _describe(self, fd: int, member: tarfile.TarInfo, directory: Parts | None) -> None:
        """Owner, then mode, whose set-user-ID a change of owner clears, then attributes, among
        them capabilities, which it clears too, then the time."""
        time = self._time(member)
        self._own(fd, member.uid, member.gid)
        if directory is None:
            os.fchmod(fd, member.mode & 0o7777)
        else:
            self._attributes[directory] = (member.mode & 0o7777, time)
        self._set_xattrs(fd, member)
        if directory is None:
            os.utime(fd, ns=(time, time))

    def _describe_by_name(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        time = self._time(member)
        owner = self._owner(member.uid, member.gid)
        if self._form.owners:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        path = f"/proc/self/fd/{parent}/{name}"
        if not member.issym():
            os.chmod(path, member.mode & 0o7777)  # noqa: PTH101 - no link: made a moment ago
        self._set_xattrs(path, member)
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _time(self, member: tarfile.TarInfo) -> int:
        time = mtime_ns(member)
        if time is None:
            raise self._stream.refuse(f"no time: {member.pax_headers.get('mtime')!r}")
        return time

    def _own(self, fd: int, uid: int, gid: int) -> None:
        owner = self._owner(uid, gid)
        if self._form.owners:
            os.fchown(fd, *owner)

    def _owner(self, uid: int, gid: int) -> tuple[int, int]:
        if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
            raise self._stream.refuse(f"no owner: {uid}:{gid}")
        if self._idmap is None:
            return uid, gid
        owner = self._idmap.outside(uid, gid)
        if owner is None:
            raise self._stream.refuse(f"its owner {uid}:{gid} is not in the id map")
        return owner

    def _set_xattrs(self, file: int | str, member: tarfile.TarInfo) -> None:
        for key, value in member.pax_headers.items():
            if not key.startswith(XATTR):
                continue
            name = key.removeprefix(XATTR)
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                raise self._stream.refuse(f"attribute {name} is overlayfs's own")
            data = value.encode("utf-8", "surrogateescape")
            try:
                if isinstance(file, int):
                    os.setxattr(file, name, data)
                else:
                    os.setxattr(file, name, data, follow_symlinks=False)
            except PermissionError:
                if self._form.xattrs == "trusted":
                    raise  # root of the host may set them all


def _write(fd: int, offset: int, data: bytes) -> None:
    """Write, but leave a hole where a stretch is nothing but zeros."""
    size = len(_ZEROS)
    begin = 0
    for start in range(0, len(data) - size + 1, size):
        if data[start] == 0 and data[start : start + size] == _ZEROS:
            _write_all(fd, offset + begin, memoryview(data)[begin:start])
            begin = start + size
    _write_all(fd, offset + begin, memoryview(data)[begin:])


def _write_all(fd: int, offset: int, data: memoryview) -> None:
    while data:
        done = os.pwrite(fd, data, offset)
        offset, data = offset + done, data[done:]


def _exists(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
