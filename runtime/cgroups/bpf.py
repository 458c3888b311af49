"""bpf(2), as far as a device filter needs it: load, attach, replace.

Each command is one function under its kernel name that raises OSError. The attributes are the
parts of `union bpf_attr` in use (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import errno
import os
import struct

from runtime import lightctypes as ctypes

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from ctypes import Array, c_char

__all__ = ["attach_device_filter", "attached_filters"]

_NR_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_OBJ_GET_INFO_BY_FD = 15
_PROG_QUERY = 16

_TYPE_CGROUP_DEVICE = 15  # BPF_PROG_TYPE_CGROUP_DEVICE
_CGROUP_DEVICE = 6  # enum bpf_attach_type
_F_ALLOW_MULTI = 2
_F_REPLACE = 4

_NAME = b"runtime_devices"  # at most 15 bytes; by it a filter of ours is known again
_LICENSE = b"Apache-2.0"
_MAX_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_ATTR_SIZE = 144
"""More than the part that we fill in: kernels from 6.17 write to fields beyond what they were
told of (opencontainers/cgroups devices/ebpf_linux.go), and older ones take zeros after theirs."""

_syscall = ctypes.CDLL(None, use_errno=True)["syscall"]
_number = _NR_BPF.get(os.uname().machine, -1)
_loaded: dict[bytes, int] = {}


def _bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """The call's result, and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, _ATTR_SIZE)
    result = _syscall(
        ctypes.c_long(_number), ctypes.c_int(command), buffer, ctypes.c_uint(_ATTR_SIZE)
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "bpf")
    return result, buffer.raw


def attach_device_filter(directory: str, program: bytes) -> None:
    """Let `program` decide about devices in a v2 cgroup and in all below it, from now on.

    It takes the place of the one that an earlier call put there, without a moment between, and
    stands beside those of others, systemd's for one: all must agree (BPF_F_ALLOW_MULTI). The
    kernel drops it with the cgroup. Raises OSError: EPERM without CAP_BPF or CAP_SYS_ADMIN, EINVAL
    with the verifier's words if the program is wrong."""
    fd = _loaded.get(program, -1)
    if fd < 0:
        fd = _load(program)
        if len(_loaded) < 8:
            _loaded[program] = fd  # the next container mostly has the same rules
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ours: list[int] = []
    try:
        ours = _ours(target)
        _attach(target, fd, ours[0] if len(ours) == 1 else -1)
        if len(ours) > 1:  # two of us at once
            for old in ours:
                _detach(target, old)
    finally:
        for each in (target, *ours, *(() if fd in _loaded.values() else (fd,))):
            os.close(each)


def attached_filters(directory: str) -> tuple[int, ...]:
    """Identifiers of the device programs on this cgroup itself (`bpftool prog show id N`)."""
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _query(target)
    finally:
        os.close(target)


def _load(program: bytes) -> int:
    """BPF_PROG_LOAD. The log is asked for only once it has failed: it costs time."""
    try:
        return _prog_load(program, None)
    except OSError as error:
        if error.errno == errno.EPERM and (fd := _load_with_memlock(program)) >= 0:
            return fd
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
    log = ctypes.create_string_buffer(1 << 16)
    try:
        return _prog_load(program, log)
    except OSError as error:
        said = log.value.decode(errors="replace").strip()
        raise OSError(
            error.errno, f"{error.strerror}; verifier: {said or 'nothing'}", "bpf"
        ) from None


def _load_with_memlock(program: bytes) -> int:
    """Before Linux 5.11 programs counted as locked memory, of which root too has 64 KiB. -1 if it
    was not that."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(
            resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
    except (ValueError, OSError):
        return -1
    try:
        return _prog_load(program, None)
    except OSError:
        return -1
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def _prog_load(program: bytes, log: Array[c_char] | None) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    words = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(words),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,  # kern_version
        0,  # prog_flags
        _NAME,
    )
    for _ in range(10):
        try:
            return _bpf(_PROG_LOAD, attributes)[0]
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a signal came while the verifier was at it
                raise
    raise OSError(errno.EAGAIN, "interrupted again and again", "bpf")


def _attach(target: int, program: int, replace: int) -> None:
    """BPF_PROG_ATTACH; in place of `replace` if that is a descriptor (Linux 5.6)."""
    flags = _F_ALLOW_MULTI | (_F_REPLACE if replace >= 0 else 0)
    words = (target, program, _CGROUP_DEVICE)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=IIIII", *words, flags, max(replace, 0)))
    except OSError as error:
        if replace < 0 or error.errno != errno.EINVAL:
            raise
        _bpf(_PROG_ATTACH, struct.pack("=IIII", *words, _F_ALLOW_MULTI))
        _detach(target, replace)


def _detach(target: int, program: int) -> None:
    _bpf(_PROG_DETACH, struct.pack("=III", target, program, _CGROUP_DEVICE))


def _query(target: int) -> tuple[int, ...]:
    identifiers = (ctypes.c_uint32 * _MAX_PROGRAMS)()
    attributes = struct.pack(
        "=IIIIQI", target, _CGROUP_DEVICE, 0, 0, ctypes.addressof(identifiers), _MAX_PROGRAMS
    )
    _, answer = _bpf(_PROG_QUERY, attributes)
    count = struct.unpack_from("=I", answer, 24)[0]
    return tuple(identifiers[:count])


def _ours(target: int) -> list[int]:
    """Descriptors of the programs on this cgroup that bear our name."""
    fds = []
    for identifier in _query(target):
        try:
            fd, _ = _bpf(_PROG_GET_FD_BY_ID, struct.pack("=I", identifier))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOENT):
                raise
            continue  # another's, guarded by a security module; or gone
        if _program_name(fd) == _NAME:
            fds.append(fd)
        else:
            os.close(fd)
    return fds


def _program_name(fd: int) -> bytes:
    """`struct bpf_prog_info`: the name comes after 64 bytes."""
    info = ctypes.create_string_buffer(128)
    _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)))
    return info.raw[64:80].rstrip(b"\0")
