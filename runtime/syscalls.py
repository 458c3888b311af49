"""The system calls that Python's `os` lacks: the only place where ctypes is used.

Each function is one call under its kernel name. On failure it raises OSError with the path (or
what stands for it) as `filename`. Calls that `os` has (mknod, setgroups, …) are used from there;
flags are in `runtime.engine.constants`.

Whoever starts a container imports this module and forks, so imports are watched: `_ctypes`, `os`.
"""

from __future__ import annotations

import os
import sys

from runtime import lightctypes as ctypes
from runtime.engine.constants import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    CLONE_INTO_CGROUP,
    CLONE_PARENT,
    MNT_DETACH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    PR_SET_PDEATHSIG,
)

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CLONE_PARENT",
    "MNT_DETACH",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "PR_SET_PDEATHSIG",
    "capset",
    "clone3",
    "close_range",
    "fsconfig_create",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "fstatfs_type",
    "interface_up",
    "ioprio_set",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "personality",
    "pivot_root",
    "prctl",
    "prlimit",
    "sched_setattr",
    "seccomp_filter",
    "setdomainname",
    "setfsids",
    "sethostname",
    "setns",
    "try_mount",
    "try_openat2",
    "try_prctl",
    "umount2",
    "unshare",
]

_AT_FDCWD = -100
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1

# PyDLL keeps the interpreter lock: a child must not wake up from its clone in the middle of taking
# it, and none of these calls waits for anything.
_libc = ctypes.PyDLL(None, use_errno=True)

_int, _uint, _long, _ulong = ctypes.c_int, ctypes.c_uint, ctypes.c_long, ctypes.c_ulong
_str, _pointer, _size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
_errno = ctypes.get_errno

# Numbers of calls without a libc wrapper everywhere. Most architectures have those of
# include/uapi/asm-generic; above 424 all agree.
_OLD = {
    "x86_64": {"pivot_root": 155, "ioprio_set": 251, "sched_setattr": 314, "seccomp": 317},
    "ppc64le": {"pivot_root": 203, "ioprio_set": 273, "sched_setattr": 355, "seccomp": 358},
    "s390x": {"pivot_root": 217, "ioprio_set": 282, "sched_setattr": 345, "seccomp": 348},
}
_GENERIC = {"pivot_root": 41, "ioprio_set": 30, "sched_setattr": 274, "seccomp": 277}
_numbers = _OLD.get(os.uname().machine, _GENERIC)


def _function(name: str, *argtypes: type) -> Any:
    """A libc function, looked up now and not at first use: that would be in every child anew."""
    function = _libc[name]
    function.argtypes = argtypes
    return function


_mount = _function("mount", _str, _str, _str, _ulong, _str)
_umount2 = _function("umount2", _str, _int)
_unshare = _function("unshare", _int)
_setns = _function("setns", _int, _int)
_sethostname = _function("sethostname", _str, _size)
_setdomainname = _function("setdomainname", _str, _size)
_prctl = _function("prctl", _int, _ulong, _ulong, _ulong, _ulong)
_capset = _function("capset", _pointer, _pointer)
_prlimit = _function("prlimit", _int, _int, _pointer, _pointer)
_ioctl = _function("ioctl", _int, _ulong, _pointer)
_fstatfs = _function("fstatfs", _int, _pointer)
_setfsuid = _function("setfsuid", _uint)
_setfsgid = _function("setfsgid", _uint)
_personality = _function("personality", _ulong)
_pivot_root = _function("syscall", _long, _str, _str)
_ioprio_set = _function("syscall", _long, _int, _int, _int)
_sched_setattr = _function("syscall", _long, _int, _pointer, _uint)
_seccomp = _function("syscall", _long, _uint, _uint, _pointer)
_open_tree = _function("syscall", _long, _int, _str, _uint)
_move_mount = _function("syscall", _long, _int, _str, _int, _str, _uint)
_fsopen = _function("syscall", _long, _str, _uint)
_fsconfig = _function("syscall", _long, _int, _uint, _str, _str, _int)
_fsmount = _function("syscall", _long, _int, _uint, _uint)
_clone3 = _function("syscall", _long, _pointer, _size)
_close_range = _function("syscall", _long, _uint, _uint, _uint)
_openat2 = _function("syscall", _long, _int, _str, _pointer, _size)
_mount_setattr = _function("syscall", _long, _int, _str, _uint, _pointer, _size)
_CapHeader = ctypes.c_uint32 * 2
_CapData = ctypes.c_uint32 * 6
_OpenHow = ctypes.c_uint64 * 3
_MountAttr = ctypes.c_uint64 * 4
_CloneArgs = ctypes.c_uint64 * 11


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _check(result: int, about: str | None = None) -> int:
    if result < 0:
        number = _errno()
        raise OSError(number, os.strerror(number), about)
    return result


def clone3(flags: int, cgroup_fd: int = -1, exit_signal: int = 0) -> int:
    """clone(2) by `struct clone_args`, with a copied address space, like fork(2).

    With CLONE_PARENT, `exit_signal` must stay 0: the child then has its caller's. Returns 0 in
    the child. Python's at-fork hooks do not run: only for a process with a single thread.
    """
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    # set_tid_size, cgroup
    args = _CloneArgs(flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0))
    return _check(_clone3(435, args, 88), "clone3")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_unshare(flags), "unshare")


def setns(fd: int, flags: int, about: str = "setns") -> None:
    """setns(2): the namespace of this descriptor; or, of a pidfd, all those in `flags`."""
    _check(_setns(fd, flags), about)


def mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None
) -> None:
    """mount(2). `data` must fit in one page with its terminating zero."""
    number = try_mount(source, target, fstype, flags, data)
    if number:
        raise OSError(number, os.strerror(number), target)


def try_mount(
    source: str | None, target: str, fstype: str | None, flags: int, data: str | None
) -> int:
    """mount(2), but returns the error number, 0 for none: for targets that may well be missing.
    An exception would cost a fresh child more than the call."""
    result = _mount(_encode(source), _encode(target), _encode(fstype), flags, _encode(data))
    return _errno() if result < 0 else 0


def umount2(target: str, flags: int) -> None:
    """umount(2)."""
    _check(_umount2(_encode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_pivot_root(_numbers["pivot_root"], _encode(new_root), _encode(put_old)), new_root)


def open_tree(path: str, flags: int, dir_fd: int = _AT_FDCWD) -> int:
    """open_tree(2): with OPEN_TREE_CLONE a detached copy of the mount at `path`; a descriptor."""
    flags |= OPEN_TREE_CLOEXEC if flags & OPEN_TREE_CLONE else 0
    return _check(_open_tree(428, dir_fd, _encode(path), flags), path)


def move_mount(fd: int, target: str, to_fd: int = _AT_FDCWD) -> None:
    """move_mount(2): put the detached mount at `target`, or with "" on what `to_fd` refers to."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if target else MOVE_MOUNT_T_EMPTY_PATH)
    _check(_move_mount(429, fd, b"", to_fd, _encode(target), flags), target)


def fsopen(fstype: str) -> int:
    """fsopen(2): a context in which a file system is configured; a descriptor."""
    return _check(_fsopen(430, _encode(fstype), _FSOPEN_CLOEXEC), fstype)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING. The kernel takes at most 255 bytes of value."""
    result = _fsconfig(431, fd, _FSCONFIG_SET_STRING, _encode(key), _encode(value), 0)
    _check(result, f"{key}={value}")


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG: an option without a value."""
    _check(_fsconfig(431, fd, _FSCONFIG_SET_FLAG, _encode(key), None, 0), key)


def fsconfig_create(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the file system as configured."""
    _check(_fsconfig(431, fd, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")


def fsmount(fd: int) -> int:
    """fsmount(2): a detached mount of the file system; a descriptor."""
    return _check(_fsmount(432, fd, _FSMOUNT_CLOEXEC, 0), "fsmount")


def close_range(first: int, last: int, flags: int) -> None:
    """close_range(2)."""
    _check(_close_range(436, first, last, flags), "close_range")


def try_openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2), but returns minus the error number: for paths that may well be missing."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    result: int = _openat2(437, dir_fd, _encode(path), how, 24)
    return result if result >= 0 else -_errno()


def openat2(dir_fd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): a descriptor, close-on-exec."""
    fd = try_openat2(dir_fd, path, flags, resolve, mode)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), path)
    return fd


def mount_setattr(
    fd: int,
    set_: int,
    clear: int = 0,
    *,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = 0,
    about: str = "mount_setattr",
) -> None:
    """mount_setattr(2) on the mount that `fd` refers to, and on all below it if `recursive`."""
    attr = _MountAttr(set_, clear, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _check(_mount_setattr(442, fd, b"", flags, attr, 32), about)


def fstatfs_type(fd: int) -> int:
    """The magic number of the file system that `fd` is on (fstatfs(2), `f_type`)."""
    buffer = (_long * 32)()  # struct statfs, 120 bytes; f_type is its first word
    _check(_fstatfs(fd, buffer), "fstatfs")
    return buffer[0]


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = name.encode(errors="surrogateescape")
    _check(_sethostname(raw, len(raw)), name)


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain name."""
    raw = name.encode(errors="surrogateescape")
    _check(_setdomainname(raw, len(raw)), name)


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2)."""
    result: int = _prctl(option, arg2, arg3, 0, 0)
    return result if result >= 0 else _check(result, f"prctl {option}")


def try_prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2), but returns minus the error number."""
    result: int = _prctl(option, arg2, arg3, 0, 0)
    return result if result >= 0 else -_errno()


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on the caller; masks with bit n for capability n."""
    low, high = 0xFFFFFFFF, 32
    data = _CapData(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    _check(_capset(_CapHeader(_CAPABILITY_VERSION_3, 0), data), "capabilities")


def setfsids(uid: int, gid: int) -> None:
    """setfsuid(2) and setfsgid(2): who files are made by. They report no failure."""
    _setfsgid(gid)
    _setfsuid(uid)


def prlimit(resource: int, soft: int, hard: int) -> None:
    """prlimit(2) on the caller. -1 is RLIM_INFINITY."""
    unlimited = (1 << 64) - 1
    pair = (ctypes.c_uint64 * 2)(soft & unlimited, hard & unlimited)
    _check(_prlimit(0, resource, pair, None), f"rlimit {resource}")


def personality(persona: int) -> None:
    """personality(2)."""
    _check(_personality(persona), f"personality {persona:#x}")


def ioprio_set(class_: int, priority: int) -> None:
    """ioprio_set(2) on the caller: class 1 is real-time, 2 best effort, 3 idle."""
    value = class_ << 13 | priority
    _check(_ioprio_set(_numbers["ioprio_set"], 1, 0, value), f"ioprio {class_}:{priority}")


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """sched_setattr(2) on the caller; times in nanoseconds."""
    fields = ((48, 4), (policy, 4), (flags, 8), (nice & 0xFFFFFFFF, 4), (priority, 4))
    times = ((runtime, 8), (deadline, 8), (period, 8))
    attr = b"".join(value.to_bytes(size, sys.byteorder) for value, size in (*fields, *times))
    _check(_sched_setattr(_numbers["sched_setattr"], 0, attr, 0), f"scheduler policy {policy}")


def seccomp_filter(program: bytes, flags: int) -> None:
    """seccomp(2), SECCOMP_SET_MODE_FILTER: `program` is an array of `struct sock_filter`."""

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("filter", _str))

    fprog = Program(len(program) // 8, program)
    at = ctypes.addressof(fprog)
    _check(_seccomp(_numbers["seccomp"], _SECCOMP_SET_MODE_FILTER, flags, at), "seccomp filter")


def interface_up(socket_fd: int, name: str) -> None:
    """ioctl(2) SIOCSIFFLAGS: set a network interface up (netdevice(7))."""
    flags = _IFF_UP.to_bytes(2, sys.byteorder)
    ifreq = name.encode(errors="surrogateescape").ljust(16, b"\0") + flags  # struct ifreq, 40 bytes
    request = ctypes.create_string_buffer(ifreq, 40)
    _check(_ioctl(socket_fd, _SIOCSIFFLAGS, request), name)
