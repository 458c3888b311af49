"""libseccomp, the little of it that compiling a profile needs (seccomp_init(3) and its like).

By ctypes and not by a Python package, because the command line runs without site-packages. Only
loaded for a profile that is in no cache.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Filter", "LibraryMissing"]

_ATTRIBUTE_NO_NEW_PRIVS = 3
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_UNKNOWN = -1


class LibraryMissing(Exception):
    """libseccomp.so.2 is not installed."""


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise LibraryMissing(str(error)) from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_void_p,
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


class Filter:
    """A filter in the making. Used as a context. Errors of the library are OSError."""

    def __init__(self, default: int) -> None:
        self._library = _load()
        self._context = self._library.seccomp_init(default)
        if not self._context:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"default action {default:#x}")
        # Whether to forbid new privileges is the container's own choice.
        self._check(self._library.seccomp_attr_set(self._context, _ATTRIBUTE_NO_NEW_PRIVS, 0), "")
        # A tree instead of a list of comparisons: fewer instructions for each system call, and for
        # the kernel, which tries all numbers out at load (kernel/seccomp.c, "action cache").
        # Versions before 2.5 do not have it and go on with the list.
        self._library.seccomp_attr_set(self._context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)

    def add_architecture(self, name: str) -> bool:
        """Cover one more, by libseccomp's name; False if this version does not know it."""
        token = self._library.seccomp_arch_resolve_name(name.encode())
        if not token:
            return False
        result = self._library.seccomp_arch_add(self._context, token)
        if result != -errno.EEXIST:  # the host's own is there already
            self._check(result, name)
        return True

    def add_rule(
        self, action: int, name: str, comparisons: Sequence[tuple[int, int, int, int]]
    ) -> bool:
        """One rule, for all comparisons (argument, operator, value, second value) together; False
        if this version does not know a system call of that name."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            return False
        count = len(comparisons)
        array = (_Comparison * count)(*(_Comparison(*each) for each in comparisons))
        result = self._library.seccomp_rule_add_array(self._context, action, number, count, array)
        self._check(result, name)
        return True

    def program(self) -> bytes:
        """The compiled filter: an array of `struct sock_filter`."""
        fd = os.memfd_create("seccomp")
        try:
            self._check(self._library.seccomp_export_bpf(self._context, fd), "export")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def _check(self, result: int, about: str) -> None:
        if result < 0:
            raise OSError(-result, os.strerror(-result), f"libseccomp: {about}")
