"""The system calls that Python's `os` lacks: the only place where ctypes is used.

Each function is one call under its kernel name. On failure it raises OSError with the path (or
what stands for it) as `filename`. Calls that `os` has (mknod, setgroups, …) are used from there.

The spawn helper imports this module and forks often, so imports are watched: `ctypes` and `os`.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = [
    "CLONE_INTO_CGROUP",
    "CLONE_PARENT",
    "MNT_DETACH",
    "MOVE_MOUNT_F_EMPTY_PATH",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "MS_STRICTATIME",
    "PR_CAPBSET_DROP",
    "PR_SET_NO_NEW_PRIVS",
    "PR_SET_PDEATHSIG",
    "capset",
    "clone3",
    "fsconfig_create",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "interface_up",
    "mount",
    "move_mount",
    "pivot_root",
    "prctl",
    "prlimit",
    "sethostname",
    "setns",
    "try_mount",
    "umount2",
    "unshare",
]

# include/uapi/linux/sched.h
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x2_0000_0000

# include/uapi/linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_STRICTATIME = 1 << 24
MNT_DETACH = 2
MOVE_MOUNT_F_EMPTY_PATH = 4
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

# Calls without a libc wrapper everywhere. Numbers above 424 are the same on all architectures
# (include/uapi/asm-generic/unistd.h).
_NR_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_CLONE3 = 435

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_CAPABILITY_VERSION_3 = 0x20080522

# PyDLL keeps the interpreter lock: a child must not wake up from its clone in the middle of taking
# it, and none of these calls waits for anything.
_libc = ctypes.PyDLL(None, use_errno=True)

_long, _int, _ulong, _str = ctypes.c_long, ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p
_libc.mount.argtypes = (_str, _str, _str, _ulong, _str)
_libc.umount2.argtypes = (_str, _int)
_libc.unshare.argtypes = (_int,)
_libc.setns.argtypes = (_int, _int)
_libc.sethostname.argtypes = (_str, ctypes.c_size_t)
_libc.prctl.argtypes = (_int, _ulong, _ulong, _ulong, _ulong)
_libc.capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_libc.prlimit.argtypes = (_int, _int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ioctl.argtypes = (_int, _ulong, ctypes.c_void_p)

# Looked up here and not at first use: that would be in every child anew.
_syscall = _libc.syscall
_mount = _libc.mount
_prctl = _libc.prctl
_NR_PIVOT = _NR_PIVOT_ROOT.get(os.uname().machine, -1)
_CapHeader = ctypes.c_uint32 * 2
_CapData = ctypes.c_uint32 * 6


def _encode(text: str | None) -> bytes | None:
    return None if text is None else text.encode(errors="surrogateescape")


def _check(result: int, about: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about)
    return result


class _CloneArgs(ctypes.Structure):
    """`struct clone_args`, clone(2)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    )


def clone3(flags: int, cgroup_fd: int = -1) -> int:
    """clone(2) by `struct clone_args`, with a copied address space, like fork(2).

    `exit_signal` stays 0, as CLONE_PARENT demands: the child then has its caller's. Returns 0 in
    the child. Python's at-fork hooks do not run: only for a process with a single thread.
    """
    args = _CloneArgs(flags=flags)
    if cgroup_fd >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup_fd
    return _check(
        _syscall(_long(_NR_CLONE3), ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args))),
        "clone3",
    )


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int, about: str = "setns") -> None:
    """setns(2): the namespace of this descriptor."""
    _check(_libc.setns(fd, flags), about)


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
    return ctypes.get_errno() if result < 0 else 0


def umount2(target: str, flags: int) -> None:
    """umount(2)."""
    _check(_libc.umount2(_encode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_syscall(_long(_NR_PIVOT), _str(_encode(new_root)), _str(_encode(put_old))), new_root)


def fsopen(fstype: str) -> int:
    """fsopen(2): a context in which a file system is configured; a descriptor."""
    return _check(_syscall(_long(_NR_FSOPEN), _str(_encode(fstype)), _int(_FSOPEN_CLOEXEC)), fstype)


def _fsconfig(fd: int, command: int, key: str | None, value: str | None) -> None:
    _check(
        _syscall(
            _long(_NR_FSCONFIG),
            _int(fd),
            _int(command),
            _str(_encode(key)),
            _str(_encode(value)),
            _int(0),
        ),
        f"{key}={value}" if key else "fsconfig",
    )


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING. The kernel takes at most 255 bytes of value."""
    _fsconfig(fd, _FSCONFIG_SET_STRING, key, value)


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG: an option without a value."""
    _fsconfig(fd, _FSCONFIG_SET_FLAG, key, None)


def fsconfig_create(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE: make the file system as configured."""
    _fsconfig(fd, _FSCONFIG_CMD_CREATE, None, None)


def fsmount(fd: int) -> int:
    """fsmount(2): a detached mount of the file system; a descriptor."""
    return _check(
        _syscall(_long(_NR_FSMOUNT), _int(fd), _int(_FSMOUNT_CLOEXEC), _int(0)), "fsmount"
    )


def move_mount(fd: int, target: str) -> None:
    """move_mount(2): put the detached mount at `target`."""
    _check(
        _syscall(
            _long(_NR_MOVE_MOUNT),
            _int(fd),
            _str(b""),
            _int(-100),  # AT_FDCWD
            _str(_encode(target)),
            _int(MOVE_MOUNT_F_EMPTY_PATH),
        ),
        target,
    )


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = os.fsencode(name)
    _check(_libc.sethostname(raw, len(raw)), name)


def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
    """prctl(2)."""
    result: int = _prctl(option, arg2, arg3, 0, 0)
    return result if result >= 0 else _check(result, f"prctl {option}")


def capset(mask: int) -> None:
    """capset(2) on the caller: effective and permitted are `mask` (bit n for capability n),
    inheritable is empty."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = _CapData(low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capabilities")


def prlimit(resource: int, soft: int, hard: int) -> None:
    """prlimit(2) on the caller. -1 is RLIM_INFINITY."""
    unlimited = (1 << 64) - 1
    pair = (ctypes.c_uint64 * 2)(soft & unlimited, hard & unlimited)
    _check(_libc.prlimit(0, resource, pair, None), f"rlimit {resource}")


def interface_up(socket_fd: int, name: str) -> None:
    """ioctl(2) SIOCSIFFLAGS: set a network interface up (netdevice(7))."""
    flags = _IFF_UP.to_bytes(2, sys.byteorder)
    ifreq = os.fsencode(name).ljust(16, b"\0") + flags  # struct ifreq, 40 bytes
    request = ctypes.create_string_buffer(ifreq, 40)
    _check(_libc.ioctl(socket_fd, _SIOCSIFFLAGS, request), name)
