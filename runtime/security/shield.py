"""A tiny program between the runtime and the container's: the runtime's own is never at hand.

A container's program can be `#!/proc/self/exe`, or be made so by another container's process: the
kernel then executes whatever executed it, that is the host's Python, within the container. Who
opens that file through /proc there, as the host's root, can write to it as soon as it is no longer
executed: CVE-2019-5736. So the command line's child first becomes this program, which lies in
sealed memory and holds nothing, and this one becomes the container's. That costs 0.1 ms; to run the
whole command line from a copy, as others do, would cost 10.

(The spawn helper runs from a read-only mount instead: see `runtime.spawn.interpreter`.)

The bytes are those that an assembler makes of shield.S (tests/unit/runtime/test_shield.py).
"""

from __future__ import annotations

import os

__all__ = ["CODE", "program", "shield_fd"]

CODE = {
    "x86_64": (
        "488b74240831ff0fb60685c0740c6bff0a8d7c07d048ffc6ebed89fbbe02000000ba01000000b848"
        "0000000f05488b0c24488b7c2410488d742418488d54cc10b83b0000000f05f7d848c1e008b05850"
        "89df4889e6ba05000000b8010000000f05bf7f000000b8e70000000f05"
    ),
    "aarch64": (
        "e10740f91300805243018052221440388200003442c00051730a031bfcffff17e003132a410080d2"
        "220080d2280380d2010000d4e30340f9e00b40f9e1630091e26f238b42400091a81b80d2010000d4"
        "e003004b00dc78d300600191e00f1ff8e003132ae1030091a20080d2080880d2010000d4e00f80d2"
        "c80b80d2010000d4"
    ),
}
"""Machine code by architecture, position-independent, its entry at its begin."""

_MACHINE = {"x86_64": 62, "aarch64": 183}
_BASE = 0x400000
_HEADERS = 64 + 56
_MFD_EXEC = 0x10
_F_ADD_SEALS = 1033
_ALL_SEALS = 15


def program(architecture: str) -> bytes:
    """The program as an ELF file (elf(5)): its header, one segment that is all of it, the code."""
    code = bytes.fromhex(CODE[architecture])
    size = _HEADERS + len(code)

    def word(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    header = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64-bit, little-endian, version 1
    header += word(2, 2) + word(_MACHINE[architecture], 2) + word(1, 4)  # an executable
    header += word(_BASE + _HEADERS, 8) + word(64, 8) + word(0, 8) + word(0, 4)
    header += word(64, 2) + word(56, 2) + word(1, 2) + bytes(6)
    segment = word(1, 4) + word(5, 4) + word(0, 8) + word(_BASE, 8) + word(_BASE, 8)  # load, r-x
    segment += word(size, 8) + word(size, 8) + word(0x1000, 8)
    return header + segment + code


def shield_fd() -> int:
    """A descriptor to execute it from, or -1 where there is none: on another architecture, or where
    the kernel lets nothing be executed from memory (vm.memfd_noexec)."""
    architecture = os.uname().machine
    if architecture not in CODE:
        return -1
    from fcntl import fcntl

    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("shield", flags | _MFD_EXEC)
    except PermissionError:
        return -1
    except OSError:  # before Linux 6.3 all can be executed, and the flag is not known
        fd = os.memfd_create("shield", flags)
    os.write(fd, program(architecture))
    fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    return fd
