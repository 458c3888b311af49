import bz2
import ctypes
import gzip
import lzma
import struct

import pytest

from vm.bzimage import extract_vmlinux, has_pvh_entry
from vm.decompress import decompress
from vm.errors import KernelError

DATA = b"some kernel " * 1000


def lz4_legacy(data: bytes) -> bytes:
    out = ctypes.create_string_buffer(len(data) + 1000)
    size = ctypes.CDLL("liblz4.so.1").LZ4_compress_default(data, out, len(data), len(out))
    return b"\x02\x21\x4c\x18" + struct.pack("<I", size) + out.raw[:size]


def zstd(data: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(len(data) + 1000)
    size = library.ZSTD_compress(
        out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3
    )
    return out.raw[:size]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lz4_legacy, zstd])
def test_each_format(pack) -> None:  # type: ignore[no-untyped-def]
    assert decompress(pack(DATA)) == DATA
    # As the kernel build leaves it: the size appended.
    assert decompress(pack(DATA) + struct.pack("<I", len(DATA)), len(DATA)) == DATA


def test_plain_data_come_back() -> None:
    assert decompress(b"\x7fELF") == b"\x7fELF"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lz4_legacy, zstd])
def test_damage_is_told(pack) -> None:  # type: ignore[no-untyped-def]
    data = bytearray(pack(DATA))
    data[10:] = b"\xff" * (len(data) - 10)
    with pytest.raises(KernelError):
        decompress(bytes(data), len(DATA))


def bzimage(payload: bytes) -> bytes:
    header = bytearray(1024)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, 0x20F)
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    return bytes(header) + bytes(16) + payload + b"trailing"


def elf(note_type: int) -> bytes:
    note = struct.pack("<III", 4, 4, note_type) + b"Xen\0" + bytes(4)
    head = bytearray(64)
    head[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", head, 0x20, 64)
    struct.pack_into("<HH", head, 0x36, 56, 1)
    table = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4)
    return bytes(head) + table + note


def test_vmlinux_is_found_by_the_boot_protocol() -> None:
    inner = elf(18) + bytes(5000)
    payload = lz4_legacy(inner) + struct.pack("<I", len(inner))
    assert extract_vmlinux(bzimage(payload)) == inner


@pytest.mark.parametrize("image", [b"", bytes(2000), bzimage(b"x" * 100)[:1100]])
def test_what_is_no_kernel_is_told(image: bytes) -> None:
    with pytest.raises(KernelError):
        extract_vmlinux(image)


def test_pvh_note() -> None:
    assert has_pvh_entry(elf(18))
    assert not has_pvh_entry(elf(5))
    assert not has_pvh_entry(b"MZ")
