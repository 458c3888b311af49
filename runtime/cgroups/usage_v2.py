"""Usage from the texts of cgroup v2's files (cgroup-v2.rst, "Controllers").

Each function takes a way to read a file by its name, which gives None for one that is not there.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.cgroups.control import keyed
from runtime.cgroups.usage import HugetlbUsage, IoUsage, MemoryUsage, PidsUsage

__all__ = ["Read", "cpu_times", "hugetlb", "io", "memory", "pids", "throttling"]

Read = Callable[[str], str | None]

_US = 1000  # nanoseconds


def cpu_times(read: Read) -> tuple[int, int, int] | None:
    """Nanoseconds: all, in user mode, in the kernel. Counted without the controller too."""
    text = read("cpu.stat")
    if text is None:
        return None
    stat = dict(keyed(text))
    return tuple(stat[key] * _US for key in ("usage_usec", "user_usec", "system_usec"))  # type: ignore[return-value]


def throttling(read: Read) -> tuple[int, int, int, int, int]:
    """Periods, throttled ones, nanoseconds throttled, bursts, nanoseconds of them."""
    stat = dict(keyed(read("cpu.stat") or ""))
    return (
        stat.get("nr_periods", 0),
        stat.get("nr_throttled", 0),
        stat.get("throttled_usec", 0) * _US,
        stat.get("nr_bursts", 0),
        stat.get("burst_usec", 0) * _US,
    )


def memory(read: Read) -> MemoryUsage | None:
    """None without the controller."""
    current = read("memory.current")
    if current is None:
        return None
    stat = dict(keyed(read("memory.stat") or ""))
    events = dict(keyed(read("memory.events") or ""))
    return MemoryUsage(
        current=int(current),
        peak=limit(read("memory.peak")),
        limit=limit(read("memory.max")),
        swap=limit(read("memory.swap.current")),
        swap_limit=limit(read("memory.swap.max")),
        anon=stat.get("anon", 0),
        file=stat.get("file", 0),
        kernel=stat.get("kernel"),
        slab=stat.get("slab"),
        inactive_file=stat.get("inactive_file", 0),
        failures=events.get("max", 0),
        oom_kills=events.get("oom_kill"),
        stat=stat,
    )


def limit(text: str | None) -> int | None:
    """A number, or None for ``max`` and for no file."""
    return None if text is None or text.strip() == "max" else int(text)


def pids(read: Read) -> PidsUsage | None:
    """None without the controller. v1's files are the same."""
    current = read("pids.current")
    if current is None:
        return None
    events = dict(keyed(read("pids.events") or ""))
    return PidsUsage(
        int(current), limit(read("pids.max")), limit(read("pids.peak")), events.get("max")
    )


def io(read: Read) -> tuple[IoUsage, ...]:
    """``io.stat``: MAJOR:MINOR, then key=value pairs; a device that did nothing has none."""
    found = []
    for line in (read("io.stat") or "").splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        if "rbytes" in values:
            major, minor = map(int, device.split(":"))
            keys = ("rbytes", "wbytes", "rios", "wios", "dbytes", "dios")
            found.append(IoUsage(major, minor, *(int(values.get(key, 0)) for key in keys)))
    return tuple(found)


def hugetlb(size: str, read: Read) -> HugetlbUsage | None:
    """Reserved pages if the kernel counts them, else used ones."""
    for name in (f"hugetlb.{size}.rsvd", f"hugetlb.{size}"):
        current = read(f"{name}.current")
        if current is not None:
            events = dict(keyed(read(f"hugetlb.{size}.events") or ""))
            return HugetlbUsage(int(current), None, events.get("max", 0))
    return None
