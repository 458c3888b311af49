"""What a cgroup has used, is using and may use: one typed snapshot, for v1 and v2 alike.

Units are in the names or the docstrings: nanoseconds and bytes. A part is None where no controller
counts it here. The parsers take texts and know no paths: `measure` reads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.cgroups.control import read_if_there
from runtime.cgroups.settings import cpu_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.cgroups.group import Cgroup

__all__ = [
    "CpuUsage",
    "HugetlbUsage",
    "IoUsage",
    "MemoryUsage",
    "PidsUsage",
    "Pressure",
    "Stall",
    "Usage",
    "measure",
    "parse_pressure",
    "pressures",
]

_RESOURCES = ("cpu", "memory", "io", "irq")


@dataclass(frozen=True, slots=True)
class CpuUsage:
    """CPU time since it was made, of all its processes that ever were."""

    usage_ns: int
    user_ns: int
    system_ns: int
    periods: int = 0
    """Periods of the quota that have passed while somebody wanted to run."""
    throttled_periods: int = 0
    """Those in which the quota ran out."""
    throttled_ns: int = 0
    """Time for which tasks that wanted to run were kept from it, summed over CPUs."""
    bursts: int = 0
    burst_ns: int = 0
    per_cpu_ns: tuple[int, ...] = ()
    """v1 only."""


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory charged to it, the kernel's own for its processes included."""

    current: int
    """Bytes."""
    peak: int | None
    """Bytes; v2 has it since Linux 5.19."""
    limit: int | None
    """Bytes; None is no limit."""
    swap: int | None
    """Bytes of swap alone; None without swap accounting."""
    swap_limit: int | None
    """Bytes of swap alone; None is no limit, or no accounting."""
    anon: int
    """Bytes of anonymous memory: heaps, stacks, copied pages."""
    file: int
    """Bytes of page cache, tmpfs and shared memory included."""
    kernel: int | None
    """Bytes of kernel memory: stacks, page tables, slab, sockets; v2 has it since Linux 5.18."""
    slab: int | None
    """Bytes; v2 only."""
    inactive_file: int
    """Bytes of page cache that would go first."""
    failures: int
    """How often the limit was hit (v1's failcnt, v2's event ``max``)."""
    oom_kills: int | None
    """Processes that the OOM killer took; v1 has it since Linux 4.13."""
    stat: Mapping[str, int]
    """All of memory.stat; in v1 the hierarchical values begin with ``total_``."""
    v1: Mapping[str, tuple[int, int, int, int | None]] = field(default_factory=dict)
    """v1's own counters: ``memsw``, ``kmem``, ``kmem.tcp`` → bytes now, peak, failures, limit."""

    @property
    def working_set(self) -> int:
        """Bytes that are really needed: without the page cache that would go first. What
        `docker stats` shows (docker/cli, cli/command/container/stats_helpers.go)."""
        return max(0, self.current - self.inactive_file)


@dataclass(frozen=True, slots=True)
class PidsUsage:
    """Tasks: processes and threads."""

    current: int
    limit: int | None
    """None is no limit."""
    peak: int | None
    """Since Linux 6.1 (v2) and 6.9 (v1)."""
    refused: int | None
    """Forks that failed for the limit (pids.events)."""


@dataclass(frozen=True, slots=True)
class IoUsage:
    """What it has done to one block device."""

    major: int
    minor: int
    read_bytes: int
    write_bytes: int
    read_ops: int
    write_ops: int
    discard_bytes: int = 0
    discard_ops: int = 0


@dataclass(frozen=True, slots=True)
class HugetlbUsage:
    """Huge pages of one size, reserved ones where the kernel counts them."""

    current: int
    """Bytes."""
    peak: int | None
    """Bytes; v1 only."""
    failures: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Share of time in which tasks waited for a resource."""

    avg10: float
    """Percent of the last 10 s."""
    avg60: float
    avg300: float
    total_us: int
    """Microseconds since it was made."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Documentation/accounting/psi.rst."""

    some: Stall | None
    """At least one task waited. None for ``irq``, which has `full` alone."""
    full: Stall | None
    """All of them did. None for the CPU of kernels before 5.13."""


@dataclass(frozen=True, slots=True)
class Usage:
    """All of it, read one after the other within well under a millisecond."""

    time_ns: int
    """CLOCK_MONOTONIC when reading began."""
    cpu: CpuUsage | None
    memory: MemoryUsage | None
    pids: PidsUsage | None
    io: tuple[IoUsage, ...]
    """By device; empty also without the controller."""
    hugetlb: Mapping[str, HugetlbUsage]
    """By page size: ``2MB``."""
    cpus: tuple[int, ...]
    """Numbers of the CPUs that it may run on; empty without the cpuset controller."""
    mems: tuple[int, ...]
    """Likewise of the memory nodes."""
    pressure: Mapping[str, Pressure]
    """``cpu``, ``memory``, ``io`` and ``irq``, of those that the kernel has."""


def measure(group: Cgroup) -> Usage:
    """Read everything. What this host, kernel or cgroup does not count is None or empty."""
    from runtime.cgroups import usage_v1, usage_v2

    began = time.monotonic_ns()
    layout = group.layout

    def v1(name: str) -> str | None:
        root = layout.v1.get(name.partition(".")[0])
        return read_if_there(f"{root}/{group.path}/{name}") if root is not None else None

    def v2(name: str) -> str | None:
        return read_if_there(f"{group.into}/{name}") if group.into is not None else None

    def is_v2(controller: str) -> bool:
        return group.into is not None and layout.where(controller) == layout.v2

    return Usage(
        began,
        # v2 counts CPU time without its controller; the throttling is where the quota is.
        _cpu(
            usage_v2.cpu_times(v2) or usage_v1.cpu_times(v1),
            usage_v2.throttling(v2) if is_v2("cpu") else usage_v1.throttling(v1),
            usage_v1.per_cpu(v1),
        ),
        usage_v2.memory(v2) if is_v2("memory") else usage_v1.memory(v1),
        usage_v2.pids(v2 if is_v2("pids") else v1),  # the files are the same
        usage_v2.io(v2) if is_v2("io") else usage_v1.io(v1),
        _hugetlb(group),
        cpu_list(v2("cpuset.cpus.effective") or v1("cpuset.effective_cpus")),
        cpu_list(v2("cpuset.mems.effective") or v1("cpuset.effective_mems")),
        pressures(group.into),
    )


def _cpu(
    times: tuple[int, int, int] | None,
    throttling: tuple[int, int, int, int, int],
    per_cpu: tuple[int, ...],
) -> CpuUsage | None:
    return None if times is None else CpuUsage(*times, *throttling, per_cpu)


def _hugetlb(group: Cgroup) -> dict[str, HugetlbUsage]:
    from runtime.cgroups import usage_v1, usage_v2

    root = group.layout.where("hugetlb")
    directory = f"{root}/{group.path}"
    if root is None or not os.path.isdir(directory):  # noqa: PTH112
        return {}
    parse = usage_v2.hugetlb if root == group.layout.v2 else usage_v1.hugetlb
    names = os.listdir(directory)  # noqa: PTH208
    sizes = sorted({name.split(".")[1] for name in names if name.startswith("hugetlb.")})
    found = {size: parse(size, lambda name: read_if_there(f"{directory}/{name}")) for size in sizes}
    return {size: usage for size, usage in found.items() if usage is not None}


def pressures(directory: str | None) -> dict[str, Pressure]:
    """Those of a v2 directory; empty without one, or without PSI."""
    if directory is None:
        return {}
    texts = {name: read_if_there(f"{directory}/{name}.pressure") for name in _RESOURCES}
    return {name: parse_pressure(text) for name, text in texts.items() if text}


def parse_pressure(text: str) -> Pressure:
    """One file of PSI, a cgroup's or one of /proc/pressure."""
    stalls: dict[str, Stall] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        stalls[kind] = Stall(
            float(values["avg10"]),
            float(values["avg60"]),
            float(values["avg300"]),
            int(values["total"]),
        )
    return Pressure(stalls.get("some"), stalls.get("full"))
