"""OCI resources in the files of cgroup v1 (Documentation/admin-guide/cgroup-v1/).

As in `runtime.cgroups.v2`; controllers go by their v2 names here too.
"""

from __future__ import annotations

from runtime.cgroups import v2
from runtime.cgroups.limits import PERIOD_US
from runtime.cgroups.settings import PASS, REFUSE, TELL, Setting, cpu_shares, unified

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from runtime.cgroups.settings import Read, Translation

__all__ = ["translate"]


def cpu(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """A period that is the kernel's default needs no write in a new cgroup."""
    values = resources.get("cpu") or {}
    idle = values.get("idle")
    if idle is not None:
        yield Setting("cpu.idle", ("cpu.idle", str(idle)))
    if values.get("shares") and idle != 1:
        yield Setting("cpu.shares", ("cpu.shares", str(values["shares"])))
    period = values.get("period")
    if period and (live or period != PERIOD_US):
        yield Setting("cpu.period", ("cpu.cfs_period_us", str(period)))
    if values.get("quota"):
        yield Setting("cpu.quota", ("cpu.cfs_quota_us", str(max(-1, values["quota"]))))
    if values.get("burst") is not None:
        yield Setting("cpu.burst", ("cpu.cfs_burst_us", str(values["burst"])))
    if values.get("realtimePeriod"):
        yield Setting("cpu.realtimePeriod", ("cpu.rt_period_us", str(values["realtimePeriod"])))
    if values.get("realtimeRuntime"):
        yield Setting("cpu.realtimeRuntime", ("cpu.rt_runtime_us", str(values["realtimeRuntime"])))


def cpuset(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """A hierarchy mounted with ``noprefix`` has the bare names (cpusets.rst)."""
    values = resources.get("cpu") or {}
    for name in ("cpus", "mems"):
        if values.get(name):
            text = values[name]
            yield Setting(f"cpu.{name}", (f"cpuset.{name}", text), (name, text))


def memory(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """memsw counts memory and swap together, as OCI does, and may not be below the memory limit:
    it comes second in a new cgroup."""
    values = resources.get("memory") or {}
    limit, swap = values.get("limit"), values.get("swap")
    if limit:
        yield Setting("memory.limit", ("memory.limit_in_bytes", str(max(-1, limit))))
    if not swap and limit == -1:
        swap = -1  # else the old memory+swap limit would hold for memory alone
    if swap:
        missing = TELL if swap in (-1, limit) else REFUSE
        text = str(max(-1, swap))
        yield Setting("memory.swap", ("memory.memsw.limit_in_bytes", text), if_missing=missing)
    if values.get("reservation"):
        text = str(max(-1, values["reservation"]))
        yield Setting("memory.reservation", ("memory.soft_limit_in_bytes", text))
    if (values.get("kernel") or 0) > 0:
        yield Setting("memory.kernel", if_missing=TELL)  # gone since Linux 5.16; runc ignores it
    if (values.get("kernelTCP") or 0) > 0:
        text = str(values["kernelTCP"])
        yield Setting("memory.kernelTCP", ("memory.kmem.tcp.limit_in_bytes", text))
    if values.get("swappiness") is not None:
        yield Setting("memory.swappiness", ("memory.swappiness", str(values["swappiness"])))
    if values.get("disableOOMKiller") or (live and "disableOOMKiller" in values):
        text = str(int(bool(values["disableOOMKiller"])))
        yield Setting("memory.disableOOMKiller", ("memory.oom_control", text))
    if values.get("useHierarchy") is False:
        yield Setting("memory.useHierarchy", if_missing=TELL)  # always on since Linux 5.11


def io(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """CFQ's names for the weights first; kernels since 5.0 have BFQ's. One write for each device
    and direction."""
    values = resources.get("blockIO") or {}
    for key, name in (("weight", "weight"), ("leafWeight", "leaf_weight")):
        if values.get(key):
            yield _weight(f"blockIO.{key}", name, str(values[key]))
    for each in values.get("weightDevice") or ():
        device = f"{each['major']}:{each['minor']}"
        for key, name in (("weight", "weight_device"), ("leafWeight", "leaf_weight_device")):
            if each.get(key):
                yield _weight(f"blockIO.{key}", name, f"{device} {each[key]}")
    for section, file in (
        ("throttleReadBpsDevice", "read_bps_device"),
        ("throttleWriteBpsDevice", "write_bps_device"),
        ("throttleReadIOPSDevice", "read_iops_device"),
        ("throttleWriteIOPSDevice", "write_iops_device"),
    ):
        for each in values.get(section) or ():
            line = f"{each['major']}:{each['minor']} {each['rate']}"
            yield Setting("blockIO.throttle", (f"blkio.throttle.{file}", line))


def _weight(limit: str, name: str, text: str) -> Setting:
    return Setting(limit, (f"blkio.{name}", text), (f"blkio.bfq.{name}", text))


def hugetlb(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """As in v2."""
    for each in resources.get("hugepageLimits") or ():
        name, text = f"hugetlb.{each['pageSize']}", str(each["limit"])
        yield Setting("hugepageLimits", (f"{name}.limit_in_bytes", text))
        yield Setting("hugepageLimits", (f"{name}.rsvd.limit_in_bytes", text), if_missing=PASS)


def net_cls(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """v1 only: v2 has eBPF programs instead."""
    identifier = (resources.get("network") or {}).get("classID")
    if identifier:
        yield Setting("network.classID", ("net_cls.classid", str(identifier)))


def net_prio(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """v1 only. One write for each interface."""
    for each in (resources.get("network") or {}).get("priorities") or ():
        line = f"{each['name']} {each['priority']}"
        yield Setting("network.priorities", ("net_prio.ifpriomap", line))


_TRANSLATIONS: dict[str, Translation] = {
    "cpu": cpu,
    "cpuset": cpuset,
    "memory": memory,
    "pids": v2.pids,
    "io": io,
    "hugetlb": hugetlb,
    "rdma": v2.rdma,
    "net_cls": net_cls,
    "net_prio": net_prio,
}


def translate(
    controller: str, resources: Mapping[str, Any], live: Read | None
) -> Iterator[Setting]:
    """The settings of one controller. ``unified`` names v2's files, which a controller in v1 does
    not have; for cpu.weight it has another."""
    if controller in _TRANSLATIONS:
        yield from _TRANSLATIONS[controller](resources, live)
    for name, line in unified(resources, controller):
        if name == "cpu.weight":
            yield Setting(name, ("cpu.shares", str(cpu_shares(int(line)))))
        else:
            yield Setting(name)
