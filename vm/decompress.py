"""Decompression of kernels and modules, in memory.

Kernels come as gzip, bzip2, xz, lzma, lz4 (legacy frames) or zstd; modules as xz, zstd or plain.
What Python 3.11 lacks comes from liblz4 and libzstd, which every host with apt has (apt itself is
linked with both).
"""

from __future__ import annotations

import bz2
import ctypes
import functools
import lzma
import struct
import zlib

from vm.errors import KernelError, ToolMissing

__all__ = ["decompress"]

_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 * 2**20
"""Most that one block of the legacy format holds (lz4 doc/lz4_Frame_format.md, "Legacy frame")."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_UNKNOWN = 2**64 - 1
"""ZSTD_CONTENTSIZE_UNKNOWN (zstd.h)."""
_ZSTD_ERROR = 2**64 - 2


def decompress(data: bytes, size: int | None = None) -> bytes:
    """Return `data` unpacked; data in no known format (an ELF file, say) come back as they are.

    `size` is the unpacked size in bytes where the caller knows it; zstd frames that do not carry
    their size need it. KernelError: damaged data. ToolMissing: no liblz4 or libzstd.
    """
    try:
        if data.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(data)
        if data.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(data)
        if data.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
            return lzma.LZMADecompressor().decompress(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise KernelError(f"damaged compressed data: {error}") from error
    if data.startswith(_LZ4_LEGACY):
        return _lz4_legacy(data, size)
    if data.startswith(_ZSTD):
        return _zstd(data, size)
    return data


@functools.cache
def _library(name: str, package: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise ToolMissing(f"cannot load {name} ({error}); install {package}") from error


def _lz4_legacy(data: bytes, size: int | None) -> bytes:
    """Blocks of a little-endian length and LZ4 data. The kernel build appends the unpacked size to
    the frame, so with `size` known the loop ends there and not at the end of `data`."""
    liblz4 = _library("liblz4.so.1", "liblz4-1")
    block = ctypes.create_string_buffer(_LZ4_BLOCK)
    parts: list[bytes] = []
    have, position = 0, len(_LZ4_LEGACY)
    while position + 4 <= len(data) and (size is None or have < size):
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        source = data[position : position + length]
        got = liblz4.LZ4_decompress_safe(source, block, len(source), _LZ4_BLOCK)
        if got < 0:
            raise KernelError(f"damaged lz4 data at byte {position}")
        parts.append(ctypes.string_at(block, got))
        have, position = have + got, position + length
    return b"".join(parts)


def _zstd(data: bytes, size: int | None) -> bytes:
    libzstd = _library("libzstd.so.1", "libzstd1")
    libzstd.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
    libzstd.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
    libzstd.ZSTD_decompress.restype = ctypes.c_size_t
    told = libzstd.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if told < _ZSTD_ERROR:
        size = told
    if size is None:
        raise KernelError("zstd data that do not tell their unpacked size")
    # One frame only: the kernel build appends the unpacked size, which is no zstd.
    frame = libzstd.ZSTD_findFrameCompressedSize(data, ctypes.c_size_t(len(data)))
    if libzstd.ZSTD_isError(ctypes.c_size_t(frame)):
        raise KernelError("damaged zstd data")
    buffer = ctypes.create_string_buffer(size)
    got = libzstd.ZSTD_decompress(
        buffer, ctypes.c_size_t(size), data, ctypes.c_size_t(min(frame, len(data)))
    )
    if libzstd.ZSTD_isError(ctypes.c_size_t(got)):
        raise KernelError("damaged zstd data")
    return ctypes.string_at(buffer, got)
