"""Taking the ELF kernel out of a bzImage.

A bzImage unpacks itself in the guest. Under QEMU's emulator that alone takes 0.2 s of a boot of
1.5 s (Debian 6.1 cloud kernel, lz4); QEMU can instead enter the unpacked ``vmlinux`` directly
through its PVH note. The price: the decompressor is also what randomises the kernel's base address,
so a vmlinux guest runs without text KASLR (its memory regions are still randomised).
"""

from __future__ import annotations

import struct

from vm.decompress import decompress
from vm.errors import KernelError

__all__ = ["extract_vmlinux", "has_pvh_entry"]

_ELF = b"\x7fELF"
_XEN_ELFNOTE_PHYS32_ENTRY = 18
"""The note through which a PVH loader finds the 32-bit entry (Linux, include/xen/interface/
elfnote.h)."""


def extract_vmlinux(image: bytes) -> bytes:
    """Return the ELF kernel inside the bzImage `image`.

    Offsets are those of the x86 boot protocol (Linux, Documentation/arch/x86/boot.rst):
    ``setup_sects`` at 0x1f1, magic ``HdrS`` at 0x202, version at 0x206, ``payload_offset`` and
    ``payload_length`` at 0x248, since protocol 2.08. KernelError: not such an image.
    """
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise KernelError("not an x86 bzImage: no boot protocol header")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x208:
        raise KernelError(f"boot protocol {version:#x} is too old to tell where the payload is")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if len(payload) < length or length < 8:
        raise KernelError("bzImage is cut short")
    # scripts/Makefile.lib, size_append: the last four bytes are the unpacked size. Only gzip
    # carries it as part of its own format, at the same place.
    (size,) = struct.unpack_from("<I", payload, length - 4)
    vmlinux = decompress(payload, size)
    if not vmlinux.startswith(_ELF):
        raise KernelError("the payload of the bzImage is not an ELF kernel")
    return vmlinux


def has_pvh_entry(vmlinux: bytes) -> bool:
    """Whether the ELF kernel carries the PVH entry note (CONFIG_PVH)."""
    if vmlinux[:5] != _ELF + b"\x02":
        return False
    (table,) = struct.unpack_from("<Q", vmlinux, 0x20)
    entry_size, count = struct.unpack_from("<HH", vmlinux, 0x36)
    for index in range(count):
        kind, _, offset, _, _, size = struct.unpack_from(
            "<IIQQQQ", vmlinux, table + index * entry_size
        )
        if kind == 4 and _notes_hold_pvh(vmlinux[offset : offset + size]):  # PT_NOTE
            return True
    return False


def _notes_hold_pvh(notes: bytes) -> bool:
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, position)
        name = notes[position + 12 : position + 12 + name_size]
        if name == b"Xen\0" and kind == _XEN_ELFNOTE_PHYS32_ENTRY:
            return True
        position += 12 + -(-name_size // 4) * 4 + -(-size // 4) * 4
    return False
