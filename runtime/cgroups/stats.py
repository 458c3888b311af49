"""A `Usage` in the JSON that other tools read: `runc events --stats` and Docker Engine's API.

Numbers are as those tools have them: nanoseconds, bytes, and for "no limit" the greatest number of
64 bits. Both forms come from v1, so v2's values go where v1's equivalents are.
"""

from __future__ import annotations

from runtime.cgroups.control import read

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from runtime.cgroups.usage import IoUsage, MemoryUsage, Pressure, Usage

__all__ = ["engine_document", "runc_document", "system_cpu_ns"]

_UNLIMITED = (1 << 64) - 1


def runc_document(usage: Usage) -> dict[str, Any]:
    """The ``data`` of a ``stats`` event of `runc events` (opencontainers/runc types/events.go),
    which go-runc, containerd's shim and Podman read; fields that are 0 there may be missing."""
    document: dict[str, Any] = {
        "cpu": {"usage": _cpu_usage(usage), "throttling": _throttling(usage, "throttledPeriods")},
        "cpuset": _cpuset(usage),
        "memory": _memory(usage),
        "pids": _pids(usage),
        "blkio": {},
        "hugetlb": {
            size: _without_zeros(usage=each.current, max=each.peak) | {"failcnt": each.failures}
            for size, each in usage.hugetlb.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }
    for name, entries in _blkio(usage.io).items():
        if entries:
            document["blkio"][name] = entries
    for section, resource in (("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")):
        if resource in usage.pressure:
            document[section]["psi"] = _psi(usage.pressure[resource])
    return document


def engine_document(usage: Usage, system_ns: int, online_cpus: int) -> dict[str, Any]:
    """The cgroup's part of Docker Engine's ``GET /containers/ID/stats`` (moby
    api/types/container/stats.go): ``cpu_stats``, ``memory_stats``, ``blkio_stats``, ``pids_stats``.

    `system_ns` is `system_cpu_ns()` from about the same time: the share of a CPU that
    `docker stats` shows is the one's growth by the other's."""
    memory = usage.memory
    cpu = usage.cpu
    times = {
        "total_usage": cpu.usage_ns if cpu else 0,
        "usage_in_kernelmode": cpu.system_ns if cpu else 0,
        "usage_in_usermode": cpu.user_ns if cpu else 0,
    }
    if cpu and cpu.per_cpu_ns:
        times["percpu_usage"] = list(cpu.per_cpu_ns)  # type: ignore[assignment]
    throttling = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    throttling |= _throttling(usage, "throttled_periods", "throttled_time")
    document: dict[str, Any] = {
        "cpu_stats": {
            "cpu_usage": times,
            "system_cpu_usage": system_ns,
            "online_cpus": online_cpus,
            "throttling_data": throttling,
        },
        "memory_stats": {},
        "pids_stats": _pids(usage),
        "blkio_stats": {
            "io_service_bytes_recursive": _rows(usage.io, "bytes"),
            "io_serviced_recursive": _rows(usage.io, "ops"),
        },
    }
    if memory is not None:
        document["memory_stats"] = {
            "usage": memory.current,
            "limit": _total_memory() if memory.limit is None else memory.limit,
            "stats": dict(memory.stat),
        }
        if memory.v1:
            document["memory_stats"] |= {"max_usage": memory.peak, "failcnt": memory.failures}
    return document


def system_cpu_ns() -> int:
    """Nanoseconds that all CPUs have been powered on together: the sum of the first seven columns
    of /proc/stat (proc_stat(5)), as moby counts (daemon/stats_unix.go)."""
    from os import sysconf

    first = read("/proc/stat").split("\n", 1)[0].split()
    return sum(map(int, first[1:8])) * (1_000_000_000 // sysconf("SC_CLK_TCK"))


def _total_memory() -> int:
    """Docker shows the host's where there is no limit."""
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return _UNLIMITED


def _cpu_usage(usage: Usage) -> dict[str, Any]:
    cpu = usage.cpu
    if cpu is None:
        return {"kernel": 0, "user": 0}
    document: dict[str, Any] = _without_zeros(total=cpu.usage_ns)
    if cpu.per_cpu_ns:
        document["percpu"] = list(cpu.per_cpu_ns)
    return document | {"kernel": cpu.system_ns, "user": cpu.user_ns}


def _throttling(usage: Usage, periods: str, time: str = "throttledTime") -> dict[str, int]:
    cpu = usage.cpu
    if cpu is None:
        return {}
    return _without_zeros(
        **{"periods": cpu.periods, periods: cpu.throttled_periods, time: cpu.throttled_ns}
    )


def _cpuset(usage: Usage) -> dict[str, Any]:
    lists = {"cpus": list(usage.cpus), "mems": list(usage.mems)}
    flags = (
        *("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate"),
        *("memory_spread_page", "memory_spread_slab", "memory_pressure", "sched_load_balance"),
        "sched_relax_domain_level",
    )
    return {name: numbers for name, numbers in lists.items() if numbers} | dict.fromkeys(flags, 0)


def _memory(usage: Usage) -> dict[str, Any]:
    memory = usage.memory
    if memory is None:
        return {}
    document: dict[str, Any] = _without_zeros(cache=memory.file)
    document["usage"] = _entry(memory.current, memory.peak, memory.failures, memory.limit)
    document["swap"] = _swap(memory)
    for name, key in (("kernel", "kmem"), ("kernelTCP", "kmem.tcp")):
        if key in memory.v1:
            document[name] = _entry(*memory.v1[key])
        else:
            document[name] = {"limit": 0, "failcnt": 0}
    return document | {"raw": dict(memory.stat)}


def _swap(memory: MemoryUsage) -> dict[str, int]:
    """Memory and swap together, v1's way; a peak of the sum is not known from v2."""
    if "memsw" in memory.v1:
        return _entry(*memory.v1["memsw"])
    if memory.swap is None:
        return {"limit": 0, "failcnt": 0}
    no_limit = memory.limit is None or memory.swap_limit is None
    limit = None if no_limit else memory.limit + memory.swap_limit  # type: ignore[operator]
    return _entry(memory.current + memory.swap, None, 0, limit)


def _entry(current: int, peak: int | None, failures: int, limit: int | None) -> dict[str, int]:
    document = {"limit": _UNLIMITED if limit is None else limit}
    return document | _without_zeros(usage=current, max=peak) | {"failcnt": failures}


def _pids(usage: Usage) -> dict[str, int]:
    """No limit is no field: runc says 0, and leaves it out."""
    pids = usage.pids
    return {} if pids is None else _without_zeros(current=pids.current, limit=pids.limit)


def _blkio(devices: Iterable[IoUsage]) -> dict[str, list[dict[str, Any]]]:
    used = tuple(devices)
    return {
        "ioServiceBytesRecursive": _rows(used, "bytes"),
        "ioServicedRecursive": _rows(used, "ops"),
    }


def _rows(devices: Iterable[IoUsage], what: str) -> list[dict[str, Any]]:
    return [
        {
            "major": device.major,
            "minor": device.minor,
            "op": op.capitalize(),
            "value": getattr(device, f"{op}_{what}"),
        }
        for device in devices
        for op in ("read", "write")
    ]


def _psi(pressure: Pressure) -> Mapping[str, Any]:
    return {
        kind: {
            "avg10": stall.avg10,
            "avg60": stall.avg60,
            "avg300": stall.avg300,
            "total": stall.total_us,
        }
        for kind, stall in (("some", pressure.some), ("full", pressure.full))
        if stall is not None
    }


def _without_zeros(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value}
