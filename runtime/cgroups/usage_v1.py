"""Usage from the texts of cgroup v1's files (Documentation/admin-guide/cgroup-v1/).

As `runtime.cgroups.usage_v2`; here a file's name tells its hierarchy.
"""

from __future__ import annotations

import os

from runtime.cgroups.control import keyed
from runtime.cgroups.usage import HugetlbUsage, IoUsage, MemoryUsage
from runtime.cgroups.usage_v2 import Read

__all__ = ["cpu_times", "hugetlb", "io", "memory", "per_cpu", "throttling"]

Table = dict[tuple[str, str], int]

_UNLIMITED = 1 << 62
"""v1 says PAGE_COUNTER_MAX pages in bytes, just below 2**63, for no limit."""


def cpu_times(read: Read) -> tuple[int, int, int] | None:
    """Nanoseconds: all, in user mode, in the kernel (cpuacct.rst); None without cpuacct."""
    total, stat = read("cpuacct.usage"), dict(keyed(read("cpuacct.stat") or ""))
    if total is None:
        return None
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return int(total), stat.get("user", 0) * tick, stat.get("system", 0) * tick


def per_cpu(read: Read) -> tuple[int, ...]:
    """Nanoseconds on each CPU; v1 alone has them."""
    return tuple(map(int, (read("cpuacct.usage_percpu") or "").split()))


def throttling(read: Read) -> tuple[int, int, int, int, int]:
    """As v2's; times are nanoseconds already (scheduler/sched-bwc.rst, "Statistics")."""
    stat = dict(keyed(read("cpu.stat") or ""))
    keys = ("nr_periods", "nr_throttled", "throttled_time", "nr_bursts", "burst_time")
    return tuple(stat.get(key, 0) for key in keys)  # type: ignore[return-value]


def memory(read: Read) -> MemoryUsage | None:
    """None without the controller. memsw is memory and swap together: swap alone is the rest."""
    main = _counter(read, "memory")
    if main is None:
        return None
    current, peak, failures, limit = main
    stat = dict(keyed(read("memory.stat") or ""))
    names = ("memsw", "kmem", "kmem.tcp")
    found = ((name, _counter(read, f"memory.{name}")) for name in names)
    counters = {name: counter for name, counter in found if counter is not None}
    both = counters.get("memsw")
    no_swap_limit = both is None or both[3] is None or limit is None
    return MemoryUsage(
        current=current,
        peak=peak,
        limit=limit,
        swap=None if both is None else max(0, both[0] - current),
        swap_limit=None if no_swap_limit else both[3] - limit,  # type: ignore[index,operator]
        anon=stat.get("total_rss", 0),
        file=stat.get("total_cache", 0),
        kernel=counters["kmem"][0] if "kmem" in counters else None,
        slab=None,
        inactive_file=stat.get("total_inactive_file", 0),
        failures=failures,
        oom_kills=dict(keyed(read("memory.oom_control") or "")).get("oom_kill"),
        stat=stat,
        v1=counters,
    )


def _counter(read: Read, name: str) -> tuple[int, int, int, int | None] | None:
    """Bytes now, peak, failures, limit (memory.rst, section 4)."""
    current = read(f"{name}.usage_in_bytes")
    if current is None:
        return None
    peak, failures, limit = (
        int(read(f"{name}.{file}") or 0)
        for file in ("max_usage_in_bytes", "failcnt", "limit_in_bytes")
    )
    return int(current), peak, failures, limit if 0 < limit < _UNLIMITED else None


def io(read: Read) -> tuple[IoUsage, ...]:
    """What the throttling layer counts, for all schedulers; else BFQ's count of its own
    (blkio-controller.rst). Descendants included."""
    for policy in ("throttle", "bfq"):
        tables = [
            _table(read(f"blkio.{policy}.{file}_recursive"))
            for file in ("io_service_bytes", "io_serviced")
        ]
        if any(tables):
            break
    size, count = tables
    devices = sorted({device for device, _ in (*size, *count)})
    return tuple(_device(device, size, count) for device in devices)


def _device(name: str, size: Table, count: Table) -> IoUsage:
    major, _, minor = name.partition(":")
    return IoUsage(
        int(major),
        int(minor),
        read_bytes=size.get((name, "Read"), 0),
        write_bytes=size.get((name, "Write"), 0),
        read_ops=count.get((name, "Read"), 0),
        write_ops=count.get((name, "Write"), 0),
        discard_bytes=size.get((name, "Discard"), 0),
        discard_ops=count.get((name, "Discard"), 0),
    )


def _table(text: str | None) -> Table:
    """Lines of MAJOR:MINOR, operation, number; the last is a total without device."""
    rows = (line.split() for line in (text or "").splitlines())
    return {(row[0], row[1]): int(row[2]) for row in rows if len(row) == 3}


def hugetlb(size: str, read: Read) -> HugetlbUsage | None:
    """As v2's (hugetlb.rst)."""
    for name in (f"hugetlb.{size}.rsvd", f"hugetlb.{size}"):
        current = read(f"{name}.usage_in_bytes")
        if current is not None:
            peak, failures = (
                int(read(f"{name}.{file}") or 0) for file in ("max_usage_in_bytes", "failcnt")
            )
            return HugetlbUsage(int(current), peak, failures)
    return None
