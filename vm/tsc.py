"""The rate of the host's time stamp counter.

An emulated guest sees the host's TSC as its own and can be told its rate (`vm.command`). The kernel
shows the rate nowhere in /proc or /sys ("cpu MHz" is the current clock, not the TSC), so it is
counted against CLOCK_MONOTONIC_RAW.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import time

__all__ = ["host_tsc_khz"]

# rdtsc; shl rdx,32; or rax,rdx; ret
_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_WINDOW_S = 0.02
_TRIES = 3


@functools.cache
def host_tsc_khz() -> int | None:
    """Return the TSC's rate in kHz, within about 10⁻⁴; None if it cannot be counted here.

    Takes 60 ms, once in a process. The median of three: one preemption cannot spoil it.
    """
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None  # a hardened host allows no memory both written and run
    code.write(_RDTSC)
    anchor = ctypes.c_char.from_buffer(code)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(anchor))
    rates = []
    for _ in range(_TRIES):
        start, ticks = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), read()
        time.sleep(_WINDOW_S)
        end, more = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), read()
        rates.append((more - ticks) * 1_000_000 // (end - start))
    return int(sorted(rates)[_TRIES // 2])
