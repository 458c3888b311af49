"""What a child does between its clone and its exec, as plain functions.

A *step* is a tuple: the name of a function here, then its arguments, nothing but what `marshal`
can carry. `runtime.engine.plan` lists the steps of a container, `runtime.engine.describe` puts
them into words, and whoever has cloned looks each up in `STEPS` and calls it. Composite steps are
here because they have to look before they act: a path that one kernel has and another lacks.

Steps that few containers need are in `runtime.engine.rare`, those that talk to the parent in
`runtime.engine.child`.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import syscalls
from runtime.engine.constants import (
    CLONE_NEWCGROUP,
    MNT_DETACH,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
)

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Step = tuple[Any, ...]
else:
    Step = tuple

__all__ = ["STEPS", "Step", "held", "open_directory"]

held: dict[str, int] = {}
"""Descriptors that one step has opened for a later one, by a name that the plan gives them."""

_STRICT = MS_NOSUID | MS_NODEV | MS_NOEXEC
_SAFE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_PROC_SUPER_MAGIC = 0x9FA0


def write(path: str, text: str) -> None:
    """Write a control file (cgroup, /proc): one write(2), no create, no truncate."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:  # os.write does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def join(path: str, flags: int) -> None:
    """Enter the namespace that this file stands for (setns(2))."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, flags, path)
    finally:
        os.close(fd)


def join_process(pid: int, flags: int) -> None:
    """Enter several namespaces of a process at once: all of them or none (setns(2), "fd refers
    to a PID file descriptor")."""
    fd = os.pidfd_open(pid)
    try:
        syscalls.setns(fd, flags, f"namespaces of process {pid}")
    finally:
        os.close(fd)


def mount_point(path: str, mode: int) -> None:
    """Make the directory, or accept a real one. A symbolic link in an image could lead a later
    mount astray (CVE-2019-19921), so it is refused."""
    try:
        found = os.lstat(path).st_mode
    except FileNotFoundError:
        os.mkdir(path, mode)
        return
    if not stat.S_ISDIR(found):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def mount_overlay(
    target: str, lowers: tuple[str, ...], options: tuple[tuple[str, str | None], ...]
) -> None:
    """Mount overlayfs by the new mount API, one layer a call: no page limit on all of them
    together (Linux 6.7, Documentation/filesystems/overlayfs.rst, "lowerdir+")."""
    context = syscalls.fsopen("overlay")
    for lower in lowers:
        syscalls.fsconfig_string(context, "lowerdir+", lower)
    for key, value in options:
        if value is None:
            syscalls.fsconfig_flag(context, key)
        else:
            syscalls.fsconfig_string(context, key, value)
    syscalls.fsconfig_create(context)
    detached = syscalls.fsmount(context)
    syscalls.move_mount(detached, target)
    os.close(detached)
    os.close(context)


def pivot(shared: bool = False) -> None:
    """Make the working directory the root and let go of the old one.

    pivot_root(2), "pivot_root(".", ".")": the old root lands on top of the new one at the same
    place, so no directory for it is needed in the image. With `shared`, the old one's mounts are
    still the host's peers, which its unmount must not reach."""
    syscalls.pivot_root(".", ".")
    if shared:
        syscalls.mount(None, ".", None, MS_SLAVE | MS_REC, None)
    syscalls.umount2(".", MNT_DETACH)
    os.chdir("/")


def move_root() -> None:
    """The way of an initramfs, whose root cannot be pivoted away (switch_root(8)): move the
    working directory's mount over the root, then chroot into it."""
    syscalls.mount(".", "/", None, MS_MOVE, None)
    os.chroot(".")
    os.chdir("/")


def take(name: str, source: str, flags: int) -> None:
    """Hold a detached copy of a mount (open_tree(2)), from where the host's paths are still there,
    to be attached where they are not any more."""
    held[name] = syscalls.open_tree(source, OPEN_TREE_CLONE | flags)


def open_directory(path: str, create: bool = True, depth: int = 0) -> int:
    """A descriptor of a directory below the root of this process, made if it is missing.

    Links are followed within the root and never beyond it (RESOLVE_IN_ROOT), those of /proc/PID
    never at all: mounts go where this descriptor is, and nobody can swap a link in between
    (CVE-2021-30465)."""
    fd = syscalls.try_openat2(-100, path, os.O_PATH | os.O_DIRECTORY, _SAFE)
    if fd >= 0 or fd != -errno.ENOENT or not create or depth > 40:
        return fd if fd >= 0 else _refuse(-fd, path)
    head, _, tail = path.rstrip("/").rpartition("/")
    parent = open_directory(head or "/", create, depth + 1)
    try:
        try:
            os.mkdir(tail, 0o755, dir_fd=parent)
        except FileExistsError:  # a dangling link: make what it points to
            target = os.readlink(tail, dir_fd=parent)
            path = target if target.startswith("/") else f"{head}/{target}"
            return open_directory(path, create, depth + 1)
        return syscalls.openat2(
            parent, tail, os.O_PATH | os.O_DIRECTORY, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
        )
    finally:
        os.close(parent)


def _open_file(path: str) -> int:
    """A descriptor of a file to mount on, made if it is missing."""
    fd = syscalls.try_openat2(-100, path, os.O_PATH, _SAFE)
    if fd >= 0 or fd != -errno.ENOENT:
        return fd if fd >= 0 else _refuse(-fd, path)
    head, _, tail = path.rpartition("/")
    parent = open_directory(head or "/")
    try:
        flags, mode = os.O_CREAT | os.O_RDONLY, 0o644
        return syscalls.openat2(parent, tail, flags, RESOLVE_NO_MAGICLINKS, mode)
    finally:
        os.close(parent)


def _refuse(number: int, path: str) -> int:
    raise OSError(number, os.strerror(number), path)


def _not_on_proc(fd: int, path: str) -> None:
    """A mount below /proc could feign what security modules read there (CVE-2019-16884)."""
    if syscalls.fstatfs_type(fd) == _PROC_SUPER_MAGIC:
        _refuse(errno.EPERM, path)


def mount_at(
    source: str,
    target: str,
    fstype: str,
    flags: int,
    data: str | None,
    on_proc: bool = False,
    copy_up: bool = False,
) -> None:
    """Mount a file system on a directory that an image or a volume can have a say in."""
    fd = open_directory(target)
    try:
        if not on_proc:
            _not_on_proc(fd, target)
        os.chdir(fd)
        number = syscalls.try_mount(source, ".", fstype, flags, data)
        if number:
            _refuse(number, target)
        if copy_up:
            from runtime.engine.rare import copy_up as copy

            os.chdir("/")
            copy(fd, target)
    finally:
        os.close(fd)
        os.chdir("/")


def attach(name: str, target: str, on_proc: bool = False) -> None:
    """Attach what `take` holds at a place that an image or a volume can have a say in."""
    tree = held.pop(name)
    directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    fd = open_directory(target) if directory else _open_file(target)
    if not on_proc:
        _not_on_proc(fd, target)
    try:
        syscalls.move_mount(tree, "", fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    os.close(fd)
    os.close(tree)


def attributes(name: str, set_: int, clear: int, propagation: int, recursive: bool) -> None:
    """Give a held mount its flags while nobody can see it yet (mount_setattr(2))."""
    syscalls.mount_setattr(
        held[name], set_, clear, propagation=propagation, recursive=recursive, about=name
    )


def mask(path: str) -> None:
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs. What
    this kernel does not have needs no hiding (OCI config-linux.md, "Masked Paths")."""
    number = syscalls.try_mount("/dev/null", path, None, MS_BIND, None)
    if number == errno.ENOTDIR:
        syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY | _STRICT, "size=0")
    elif number and number != errno.ENOENT:
        _refuse(number, path)


def read_only(path: str) -> None:
    """Make a path that is there read-only (OCI config-linux.md, "Readonly Paths"): a bind mount
    of itself, then a remount, because a first bind takes no flags (mount(2), "Remounting")."""
    number = syscalls.try_mount(path, path, None, MS_BIND | MS_REC, None)
    if number == errno.ENOENT:
        return
    if number:
        _refuse(number, path)
    syscalls.mount(None, path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _STRICT, None)


def root_attributes(set_: int, propagation: int, recursive: bool) -> None:
    """Flags of the root mount itself, and how it, or all below it too, propagates."""
    fd = syscalls.open_tree("/", 0)
    syscalls.mount_setattr(fd, set_, about="/")
    if propagation:
        syscalls.mount_setattr(fd, 0, propagation=propagation, recursive=recursive, about="/")
    os.close(fd)


def mknod(path: str, mode: int, major: int, minor: int, uid: int = 0, gid: int = 0) -> None:
    """A device node (the umask is 0 here)."""
    os.mknod(path, mode, os.makedev(major, minor))
    if uid or gid:
        os.chown(path, uid, gid)


def unshare_cgroup() -> None:
    """A cgroup namespace whose root is the cgroup that the process is in *now*
    (cgroup_namespaces(7)); clone3 would take the parent's."""
    syscalls.unshare(CLONE_NEWCGROUP)


def drop_bounding(keep: int) -> None:
    """Take all capabilities but those of the mask out of the bounding set, for good
    (capabilities(7)). The first number that the kernel does not know ends it."""
    prctl, drop = syscalls.try_prctl, PR_CAPBSET_DROP
    for capability in range(64):
        if not keep >> capability & 1 and (result := prctl(drop, capability)):
            if result != -errno.EINVAL:
                _refuse(-result, f"capability {capability}")
            return


def raise_ambient(capabilities: tuple[int, ...]) -> None:
    """Capabilities that an exec of an ordinary program keeps (capabilities(7), "Ambient")."""
    for capability in capabilities:
        syscalls.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def loopback_up() -> None:
    """Bring `lo` up in a new network namespace."""
    import _socket  # `socket` costs the helper a megabyte of enum and selectors

    with_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        syscalls.interface_up(with_socket.fileno(), "lo")
    finally:
        with_socket.close()


def setids(uid: int, gid: int, groups: tuple[int, ...] | None) -> None:
    """Groups first: after setresuid there is no right to change them. None leaves them."""
    if groups is not None:
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def work_in(path: str) -> None:
    """Change directory, and see that it is below the root: a descriptor of the host's, reached
    through /proc/self/fd, would be a way out (CVE-2024-21626)."""
    os.chdir(path)
    os.getcwd()  # ENOENT for what the root does not lead to (getcwd(3))


STEPS: dict[str, Callable[..., object]] = {
    "attach": attach,
    "attributes": attributes,
    "capset": syscalls.capset,
    "chdir": os.chdir,
    "chroot": os.chroot,
    "close_on_exec": syscalls.close_range,
    "drop_bounding": drop_bounding,
    "join": join,
    "join_process": join_process,
    "loopback_up": loopback_up,
    "mask": mask,
    "mkdir": os.mkdir,
    "mknod": mknod,
    "mount": syscalls.mount,
    "mount_at": mount_at,
    "mount_overlay": mount_overlay,
    "mount_point": mount_point,
    "move_root": move_root,
    "pivot": pivot,
    "prctl": syscalls.prctl,
    "prlimit": syscalls.prlimit,
    "raise_ambient": raise_ambient,
    "read_only": read_only,
    "root_attributes": root_attributes,
    "seccomp": syscalls.seccomp_filter,
    "sethostname": syscalls.sethostname,
    "setids": setids,
    "setsid": os.setsid,
    "symlink": os.symlink,
    "take": take,
    "umask": os.umask,
    "unshare": syscalls.unshare,
    "unshare_cgroup": unshare_cgroup,
    "work_in": work_in,
    "write": write,
}
