"""`linux.resources`: what a container may take (config-linux.md, "Control groups")."""

from __future__ import annotations

from runtime.oci.config.check import (
    INT64,
    UINT16,
    UINT32,
    UINT64,
    Invalid,
    array,
    boolean,
    fields,
    integer,
    mapping,
    one_of,
    text,
)
from runtime.oci.config.process import cpu_list

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RESOURCES"]

_ACCESS = frozenset("rwm")


def _access(value: Any) -> None:
    text(value)
    if not _ACCESS.issuperset(value):
        raise Invalid(f"{value!r} is no composition of r, w and m")


def _page_size(value: Any) -> None:
    text(value)
    if not value[:-2].isdecimal() or value[-2:] not in ("KB", "MB", "GB"):
        raise Invalid(f"{value!r} is no page size such as 64KB, 2MB or 1GB")


def _file(value: Any) -> None:
    """A key of `unified`: the name of a control file, which must not lead out of the cgroup."""
    text(value)
    if "/" in value or "." not in value[1:]:
        raise Invalid("is no name of a cgroup v2 file such as memory.high")


def _weight_device(value: dict[str, Any]) -> None:
    if "weight" not in value and "leafWeight" not in value:
        raise Invalid("has neither weight nor leafWeight")


def _burst(value: dict[str, Any]) -> None:
    quota = value.get("quota", -1)
    if quota > 0 and value.get("burst", 0) > quota:
        raise Invalid(f"is more than the quota, {quota}", ".burst")


_uint64 = integer(*UINT64)
_number = integer(*INT64)
_bytes = integer(-1, INT64[1])  # -1 is no limit
_device = integer(-1, INT64[1])  # -1 is any, as Docker writes it
_weight = integer(*UINT16)
_count = integer(*UINT32)

_throttle = array(fields("major minor rate", major=_number, minor=_number, rate=_uint64))

RESOURCES = fields(
    devices=array(
        fields(
            "allow",
            allow=boolean,
            type=one_of(["", "a", "b", "c"]),
            major=_device,
            minor=_device,
            access=_access,
        )
    ),
    memory=fields(
        limit=_bytes,
        reservation=_bytes,
        swap=_bytes,
        kernel=_bytes,
        kernelTCP=_bytes,
        # Docker writes -1 for "as the kernel has it", through a Go uint64.
        swappiness=lambda value: _uint64(value) if value != -1 else None,
        disableOOMKiller=boolean,
        useHierarchy=boolean,
        checkBeforeUpdate=boolean,
    ),
    cpu=fields(
        "",
        _burst,
        shares=_uint64,
        quota=_number,
        burst=_uint64,
        period=_uint64,
        realtimeRuntime=_number,
        realtimePeriod=_uint64,
        cpus=cpu_list,
        mems=cpu_list,
        idle=integer(0, 1),
    ),
    pids=fields(limit=_number),
    blockIO=fields(
        weight=_weight,
        leafWeight=_weight,
        weightDevice=array(
            fields(
                "major minor",
                _weight_device,
                major=_number,
                minor=_number,
                weight=_weight,
                leafWeight=_weight,
            )
        ),
        throttleReadBpsDevice=_throttle,
        throttleWriteBpsDevice=_throttle,
        throttleReadIOPSDevice=_throttle,
        throttleWriteIOPSDevice=_throttle,
    ),
    hugepageLimits=array(fields("pageSize limit", pageSize=_page_size, limit=_uint64)),
    network=fields(
        classID=_count,
        priorities=array(fields("name priority", name=text, priority=_count)),
    ),
    rdma=mapping(fields(hcaHandles=_count, hcaObjects=_count)),
    unified=mapping(text, _file),
)
