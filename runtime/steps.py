"""What a child does between its clone and its exec, as plain functions.

A *step* is a tuple: the name of a function here, then its arguments, nothing but what `marshal`
can carry. An `Operation` (runtime/operations/) describes itself and becomes a step; the spawn
helper, which stays small and never sees the dataclasses, looks the function up in `STEPS` and
calls it. Composite steps are here because they have to look before they act: a path that one
kernel has and another lacks.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import syscalls
from runtime.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, MS_REMOUNT

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STEPS", "Step", "run"]

Step = tuple[object, ...]


def write(path: str, text: str) -> None:
    """Write a control file (cgroup, /proc): one write(2), no create, no truncate."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:  # os.write does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def mount_point(path: str, mode: int) -> None:
    """Make the directory, or accept a real one. A symbolic link in an image could lead a later
    mount astray (CVE-2019-19921), so it is refused."""
    try:
        found = os.lstat(path).st_mode
    except FileNotFoundError:
        os.mkdir(path, mode)  # noqa: PTH102 - pathlib stays out of the helper
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


def pivot() -> None:
    """Make the working directory the root and let go of the old one.

    pivot_root(2), "pivot_root(".", ".")": the old root lands on top of the new one at the same
    place, so no directory for it is needed in the image."""
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def mask(path: str) -> None:
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs. What
    this kernel does not have needs no hiding (OCI config-linux.md, "Masked Paths")."""
    number = syscalls.try_mount("/dev/null", path, None, MS_BIND, None)
    if number == errno.ENOTDIR:
        flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
        syscalls.mount("tmpfs", path, "tmpfs", flags, "size=0")
    elif number and number != errno.ENOENT:
        raise OSError(number, os.strerror(number), path)


def read_only(path: str) -> None:
    """Make a path that is there read-only (OCI config-linux.md, "Readonly Paths"): a bind mount
    of itself, then a remount, because a first bind takes no flags (mount(2), "Remounting")."""
    number = syscalls.try_mount(path, path, None, MS_BIND | MS_REC, None)
    if number == errno.ENOENT:
        return
    if number:
        raise OSError(number, os.strerror(number), path)
    flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    syscalls.mount(None, path, None, flags, None)


def mknod(path: str, mode: int, major: int, minor: int) -> None:
    """A device node."""
    os.mknod(path, mode, os.makedev(major, minor))


def drop_bounding(capabilities: tuple[int, ...]) -> None:
    """Take capabilities out of the bounding set, for good (capabilities(7))."""
    prctl, drop = syscalls.prctl, syscalls.PR_CAPBSET_DROP
    for capability in capabilities:
        prctl(drop, capability)


def loopback_up() -> None:
    """Bring `lo` up in a new network namespace."""
    import _socket  # `socket` costs the helper a megabyte of enum and selectors

    with_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        syscalls.interface_up(with_socket.fileno(), "lo")
    finally:
        with_socket.close()


def setids(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Groups first: after setresuid there is no right to change them."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


STEPS: dict[str, Callable[..., object]] = {
    "capset": syscalls.capset,
    "chdir": os.chdir,
    "chroot": os.chroot,
    "drop_bounding": drop_bounding,
    "loopback_up": loopback_up,
    "mask": mask,
    "mkdir": os.mkdir,
    "mknod": mknod,
    "mount": syscalls.mount,
    "mount_overlay": mount_overlay,
    "mount_point": mount_point,
    "pivot": pivot,
    "prctl": syscalls.prctl,
    "prlimit": syscalls.prlimit,
    "read_only": read_only,
    "sethostname": syscalls.sethostname,
    "setids": setids,
    "setsid": os.setsid,
    "symlink": os.symlink,
    "umask": os.umask,
    "unshare": syscalls.unshare,
    "write": write,
}


def run(step: Step) -> None:
    """Do one step in this process. Raises OSError with the path."""
    STEPS[step[0]](*step[1:])  # type: ignore[index]
