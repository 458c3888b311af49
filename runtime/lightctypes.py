"""The names of ctypes that system calls need, made of its C half alone.

`import ctypes` runs a thousand lines that nobody here uses, and brings `os`, `types` and
`struct`: two milliseconds, of the ten that a container takes. What is not here, such as
callbacks, is ctypes' own; and where there is no such C half, all is.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would bring typing

__all__ = [
    "CDLL",
    "PyDLL",
    "Structure",
    "addressof",
    "c_char_p",
    "c_int",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_uint32",
    "c_uint64",
    "c_ulong",
    "c_ushort",
    "c_void_p",
    "create_string_buffer",
    "get_errno",
]

if not TYPE_CHECKING:
    try:
        from _ctypes import (
            FUNCFLAG_CDECL,
            FUNCFLAG_PYTHONAPI,
            FUNCFLAG_USE_ERRNO,
            CFuncPtr,
            Structure,
            _SimpleCData,
            addressof,
            dlopen,
            get_errno,
        )
    except ImportError:
        TYPE_CHECKING = True

if TYPE_CHECKING:
    from ctypes import (
        CDLL,
        PyDLL,
        Structure,
        addressof,
        c_char_p,
        c_int,
        c_long,
        c_size_t,
        c_uint,
        c_uint32,
        c_uint64,
        c_ulong,
        c_ushort,
        c_void_p,
        create_string_buffer,
        get_errno,
    )
else:
    # The letters are those of the module struct; "z" and "P" are ctypes' own.
    def _simple(name, letter):
        return type(_SimpleCData)(name, (_SimpleCData,), {"_type_": letter})

    _char = _simple("c_char", "c")
    c_ushort = _simple("c_ushort", "H")
    c_int, c_uint = _simple("c_int", "i"), _simple("c_uint", "I")
    c_long, c_ulong = _simple("c_long", "l"), _simple("c_ulong", "L")
    c_uint32, c_uint64, c_size_t = c_uint, _simple("c_ulonglong", "Q"), c_ulong
    c_char_p, c_void_p = _simple("c_char_p", "z"), _simple("c_void_p", "P")

    class _Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class _LockedFunction(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI
        _restype_ = c_int

    class CDLL:
        """A library. Its functions leave their errno for `get_errno`."""

        _function = _Function

        def __init__(self, name, *, use_errno):
            self._handle = dlopen(name, 0)

        def __getitem__(self, name):
            return self._function((name, self))

    class PyDLL(CDLL):
        """A library whose functions are called with the interpreter's lock held."""

        _function = _LockedFunction

    def create_string_buffer(init, size=None):
        """Bytes that can be changed; the first are `init`, and the last is a zero."""
        if isinstance(init, int):
            return (_char * init)()
        buffer = (_char * (len(init) + 1 if size is None else size))()
        buffer.value = init
        return buffer
