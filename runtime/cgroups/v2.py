"""OCI resources in the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

Each translation takes all resources and a way to read a file of the live cgroup, or None if the
cgroup is new and has the kernel's defaults. Settings come in an order that a new cgroup accepts.
"""

from __future__ import annotations

from runtime.cgroups.limits import PERIOD_US
from runtime.cgroups.settings import (
    PASS,
    REFUSE,
    TELL,
    Setting,
    cpu_weight,
    io_weight,
    number,
    swap_alone,
    unified,
)

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from runtime.cgroups.settings import Read, Translation

__all__ = ["pids", "rdma", "translate"]


def cpu(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """Idle before weight: a cgroup that is idle takes no weight."""
    values = resources.get("cpu") or {}
    idle = values.get("idle")
    if idle is not None:
        yield Setting("cpu.idle", ("cpu.idle", str(idle)))
    if values.get("shares") and idle != 1:
        yield Setting("cpu.shares", ("cpu.weight", str(cpu_weight(values["shares"]))))
    quota, period = values.get("quota"), values.get("period")
    if quota or period:
        quota_text = number(quota or -1)
        if not quota and live:  # the file takes a quota alone, but no period alone
            quota_text = live("cpu.max").split()[0]
        period_text = str(period) if period else "" if live else str(PERIOD_US)
        yield Setting("cpu.quota", ("cpu.max", f"{quota_text} {period_text}".strip()))
    if values.get("burst") is not None:
        yield Setting("cpu.burst", ("cpu.max.burst", str(values["burst"])))
    for name in ("realtimePeriod", "realtimeRuntime"):
        if values.get(name):
            yield Setting(f"cpu.{name}")  # "does not yet support control of realtime processes"


def cpuset(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """Lists of CPUs and memory nodes."""
    values = resources.get("cpu") or {}
    for name in ("cpus", "mems"):
        if values.get(name):
            yield Setting(f"cpu.{name}", (f"cpuset.{name}", values[name]))


def memory(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """v1's other knobs have no counterpart: kernel memory counts as memory, swappiness is the
    host's, and the OOM killer cannot be switched off."""
    values = resources.get("memory") or {}
    limit = values.get("limit")
    if limit:
        yield Setting("memory.limit", ("memory.max", number(limit)))
    alone = _swap(limit, values.get("swap"), live)
    if alone is not None:
        # Without swap accounting there is no file; no swap at all or as much as there is are then
        # no limits that anybody would miss, unless the host has swap.
        missing = TELL if alone <= 0 else REFUSE
        yield Setting("memory.swap", ("memory.swap.max", number(alone)), if_missing=missing)
    if values.get("reservation"):
        text = number(values["reservation"])
        yield Setting("memory.reservation", ("memory.low", text))
    for name in ("kernel", "kernelTCP"):
        if (values.get(name) or 0) > 0:
            yield Setting(f"memory.{name}", if_missing=TELL)
    if values.get("swappiness") is not None:
        yield Setting("memory.swappiness")
    if values.get("disableOOMKiller"):
        yield Setting("memory.disableOOMKiller")
    if values.get("useHierarchy") is False:
        yield Setting("memory.useHierarchy", if_missing=TELL)


def _swap(limit: int | None, swap: int | None, live: Read | None) -> int | None:
    """Bytes of swap alone. OCI's number is memory and swap together: of a live cgroup that gets
    just one of the two, the other is what it has, so that the sum stays as it was set."""
    if live is None or bool(limit) == bool(swap) or (swap or limit or 0) < 0:
        return swap_alone(limit, swap)
    try:
        now = [live(f"memory.{name}").strip() for name in ("max", "swap.max")]
    except FileNotFoundError:
        now = ["max", "max"]  # no swap accounting
    if swap:
        return swap_alone(-1 if now[0] == "max" else int(now[0]), swap)
    total = 0 if "max" in now else int(now[0]) + int(now[1])
    return total - limit if limit and total >= limit else None


def pids(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """0 becomes 1, as in runc: systemd takes no 0, and both forbid the first fork."""
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        yield Setting("pids.limit", ("pids.max", number(limit or 1)))


def io(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """Weights go to BFQ where the kernel has it, else to iocost. All rates of one device are one
    line of io.max; a rate of 0 takes the limit away, as it does in v1."""
    values = resources.get("blockIO") or {}
    weight = values.get("weight")
    if weight:
        yield Setting(
            "blockIO.weight",
            ("io.bfq.weight", str(weight)),
            ("io.weight", str(io_weight(weight))),
        )
    for each in values.get("weightDevice") or ():
        device, weight = f"{each['major']}:{each['minor']}", each.get("weight")
        if weight:
            yield Setting(
                "blockIO.weightDevice",
                ("io.bfq.weight", f"{device} {weight}"),
                ("io.weight", f"{device} {io_weight(weight)}"),
            )
        if each.get("leafWeight"):
            yield Setting("blockIO.leafWeight")
    if values.get("leafWeight"):
        yield Setting("blockIO.leafWeight")
    rates: dict[str, list[str]] = {}
    for section, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for each in values.get(section) or ():
            device = f"{each['major']}:{each['minor']}"
            rates.setdefault(device, []).append(f"{key}={each['rate'] or 'max'}")
    for device, words in rates.items():
        yield Setting("blockIO.throttle", ("io.max", f"{device} {' '.join(words)}"))


def hugetlb(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """Reservations are limited too where the kernel counts them: a process then hears of its
    limit from mmap and not from SIGBUS."""
    for each in resources.get("hugepageLimits") or ():
        name, text = f"hugetlb.{each['pageSize']}", str(each["limit"])
        yield Setting("hugepageLimits", (f"{name}.max", text))
        yield Setting("hugepageLimits", (f"{name}.rsvd.max", text), if_missing=PASS)


def rdma(resources: Mapping[str, Any], live: Read | None) -> Iterator[Setting]:
    """Documentation/admin-guide/cgroup-v1/rdma.rst: the same file in v1 and v2."""
    for device, values in (resources.get("rdma") or {}).items():
        words = [
            f"{name}={values[key]}"
            for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if values.get(key) is not None
        ]
        yield Setting("rdma", ("rdma.max", " ".join([device, *words])))


_TRANSLATIONS: dict[str, Translation] = {
    "cpu": cpu,
    "cpuset": cpuset,
    "memory": memory,
    "pids": pids,
    "io": io,
    "hugetlb": hugetlb,
    "rdma": rdma,
}


def translate(
    controller: str, resources: Mapping[str, Any], live: Read | None
) -> Iterator[Setting]:
    """The settings of one controller; of one without OCI fields (misc, dmem, …), and of
    ``cgroup``, whatever ``unified`` says of it."""
    if controller in _TRANSLATIONS:
        yield from _TRANSLATIONS[controller](resources, live)
    for name, text in unified(resources, controller):
        yield Setting(name, (name, text))
