"""Limits in Python's words, made into those of the OCI specification (``linux.resources``)."""

from __future__ import annotations

import os

from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypedDict

    Resources = dict[str, Any]

    class IoMax(TypedDict, total=False):
        """What a cgroup may do to one device each second."""

        rbps: int
        wbps: int
        riops: int
        wiops: int

    class LimitArgs(TypedDict, total=False):
        """The keywords of `resources`."""

        cpus: float | None
        cpu_weight: int | None
        cpu_idle: bool | None
        cpuset: str | None
        cpuset_mems: str | None
        memory: int | None
        memory_low: int | None
        memory_high: int | None
        swap: int | None
        pids: int | None
        io_weight: int | None
        io_max: Mapping[str, IoMax] | None
        hugetlb: Mapping[str, int] | None


__all__ = ["PERIOD_US", "merge", "resources"]

PERIOD_US = 100_000
"""The CFS period: the kernel's own default (Documentation/scheduler/sched-bwc.rst)."""

_THROTTLES = {
    "rbps": "throttleReadBpsDevice",
    "wbps": "throttleWriteBpsDevice",
    "riops": "throttleReadIOPSDevice",
    "wiops": "throttleWriteIOPSDevice",
}


def resources(
    *,
    cpus: float | None = None,
    cpu_weight: int | None = None,
    cpu_idle: bool | None = None,
    cpuset: str | None = None,
    cpuset_mems: str | None = None,
    memory: int | None = None,
    memory_low: int | None = None,
    memory_high: int | None = None,
    swap: int | None = None,
    pids: int | None = None,
    io_weight: int | None = None,
    io_max: Mapping[str, IoMax] | None = None,
    hugetlb: Mapping[str, int] | None = None,
) -> Resources:
    """``linux.resources`` of config.json for these limits; None leaves one as it is.

    - `cpus`: CPUs' worth of time, a fraction is fine.
    - `cpu_weight`: 1 to 10000, 100 is everybody's (cgroup-v2.rst, "Weights"); `cpu_idle`: run only
      when nobody else wants to.
    - `cpuset`, `cpuset_mems`: lists such as ``0-3,7`` of CPUs and memory nodes.
    - `memory`: bytes, and no swap beyond it unless `swap` says how many bytes of that (-1 for as
      much as there is). `memory_low`: bytes that are reclaimed last. `memory_high`: bytes beyond
      which it is throttled and reclaimed from; v2 only.
    - `pids`: tasks, that is processes and threads, at once.
    - `io_weight`: 10 to 1000 as in OCI. `io_max`: device (``8:0`` or ``/dev/sda``) → bytes
      (`rbps`, `wbps`) and operations (`riops`, `wiops`) a second.
    - `hugetlb`: page size (``2MB``) → bytes.

    Raises SpecError, naming the limit, for what cannot be."""
    made: Resources = {}
    for section, values in (
        ("cpu", _cpu(cpus, cpu_idle, cpuset, cpuset_mems)),
        ("memory", _memory(memory, memory_low, swap)),
        ("pids", {} if pids is None else {"limit": _positive("pids", pids)}),
        ("blockIO", _block_io(io_weight, io_max)),
        ("unified", _unified(cpu_weight, memory_high)),
    ):
        if values:
            made[section] = values
    if hugetlb:
        made["hugepageLimits"] = [
            {"pageSize": size, "limit": _positive("hugetlb", limit)}
            for size, limit in hugetlb.items()
        ]
    return made


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> Resources:
    """Both, field by field; where both have one, the second's counts."""
    merged = dict(first)
    for section, values in second.items():
        earlier = merged.get(section)
        if isinstance(earlier, dict) and isinstance(values, dict):
            merged[section] = {**earlier, **values}
        else:
            merged[section] = values
    return merged


def _cpu(
    cpus: float | None, idle: bool | None, cpuset: str | None, mems: str | None
) -> dict[str, object]:
    values: dict[str, object] = {}
    if cpus is not None:
        quota = round(cpus * PERIOD_US)
        if quota < 1000:
            raise SpecError(f"cpus: {cpus:g} is less than 0.01, the least that the scheduler takes")
        values = {"quota": quota, "period": PERIOD_US}
    if idle is not None:
        values["idle"] = int(idle)
    if cpuset is not None:
        values["cpus"] = cpuset
    if mems is not None:
        values["mems"] = mems
    return values


def _memory(memory: int | None, low: int | None, swap: int | None) -> dict[str, object]:
    values: dict[str, object] = {}
    if memory is not None:
        _positive("memory", memory)
        values = {"limit": memory, "swap": memory}
        if swap is not None:
            values["swap"] = swap if swap == -1 else memory + swap
    if swap is not None and (memory is None or swap < -1):
        raise SpecError(f"swap: {swap} needs a memory limit beside it, and is bytes or -1")
    if low is not None:
        values["reservation"] = _positive("memory_low", low)
    return values


def _block_io(weight: int | None, io_max: Mapping[str, IoMax] | None) -> dict[str, object]:
    values: dict[str, object] = {}
    if weight is not None:
        if not 10 <= weight <= 1000:
            raise SpecError(f"io_weight: {weight} is not between 10 and 1000")
        values["weight"] = weight
    for device, rates in (io_max or {}).items():
        major, minor = _numbers(device)
        for key, rate in rates.items():
            if key not in _THROTTLES:
                raise SpecError(f"io_max[{device!r}]: {key!r} is none of {', '.join(_THROTTLES)}")
            entry = {"major": major, "minor": minor, "rate": _positive(f"io_max {key}", rate)}
            values.setdefault(_THROTTLES[key], []).append(entry)  # type: ignore[attr-defined]
    return values


def _unified(weight: int | None, high: int | None) -> dict[str, object]:
    values: dict[str, object] = {}
    if weight is not None:
        if not 1 <= weight <= 10_000:
            raise SpecError(f"cpu_weight: {weight} is not between 1 and 10000")
        values["cpu.weight"] = str(weight)
    if high is not None:
        values["memory.high"] = str(_positive("memory_high", high))
    return values


def _positive(name: str, value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise SpecError(f"{name}: {value} is not positive")
    return value


def _numbers(device: str) -> tuple[int, int]:
    if device.startswith("/"):
        try:
            number = os.stat(device).st_rdev  # noqa: PTH116 - pathlib stays out of this package
        except OSError as error:
            raise SpecError(f"io_max: {device}: {error.strerror}") from error
        return os.major(number), os.minor(number)
    major, _, minor = device.partition(":")
    if not (major.isdecimal() and minor.isdecimal()):
        raise SpecError(f"io_max: {device!r} is neither MAJOR:MINOR nor the path of a device")
    return int(major), int(minor)
