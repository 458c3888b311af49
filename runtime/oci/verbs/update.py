"""`update`: change the limits of a container that is there."""

from __future__ import annotations

from runtime.errors import StateError, UsageError
from runtime.oci.config.load import load_resources
from runtime.oci.group import needed_group
from runtime.oci.options import NUMBER, TEXT, Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main", "size"]

OPTIONS: tuple[Option, ...] = (
    ("resources", "r", TEXT, "file with linux.resources as JSON, or - ; all else is then ignored"),
    ("blkio-weight", "", NUMBER, "10 to 1000"),
    ("cpu-period", "", NUMBER, "microseconds"),
    ("cpu-quota", "", NUMBER, "microseconds in each period; -1 is no limit"),
    ("cpu-burst", "", NUMBER, "microseconds above the quota"),
    ("cpu-share", "", NUMBER, "weight against other containers, 1024 is usual"),
    ("cpu-rt-period", "", NUMBER, "microseconds"),
    ("cpu-rt-runtime", "", NUMBER, "microseconds in each real-time period"),
    ("cpu-idle", "", NUMBER, "1 to run only when nobody else wants to"),
    ("cpuset-cpus", "", TEXT, "list such as 0-3,7"),
    ("cpuset-mems", "", TEXT, "list of memory nodes"),
    ("memory", "", TEXT, "bytes, or with a unit: 512m; -1 is no limit"),
    ("memory-reservation", "", TEXT, "bytes that are reclaimed last"),
    ("memory-swap", "", TEXT, "memory and swap together; -1 is no limit"),
    ("kernel-memory", "", TEXT, "tolerated: kernels have no such limit any more"),
    ("kernel-memory-tcp", "", TEXT, "tolerated"),
    ("pids-limit", "", NUMBER, "tasks at once; -1 is no limit"),
    ("l3-cache-schema", "", TEXT, "refused: Intel RDT is not supported"),
    ("mem-bw-schema", "", TEXT, "refused"),
)
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)

_PLACES = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "pids-limit": ("pids", "limit"),
}
"""Option → where it stands in linux.resources."""

_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def main(context: Context, options: Parsed) -> int:
    """Set the limits that are given, and leave the others."""
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if name in options.given:
            raise UsageError(f"update: --{name}: Intel RDT is not supported by this runtime")
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if name in options.given:
            context.log.warning(f"update: --{name} is ignored: kernels have no such limit any more")
    resources = (
        load_resources(options["resources"]) if options["resources"] else _from_options(options)
    )
    # Rules for devices are made once, with the container: runc does not update them either.
    resources.pop("devices", None)
    with Container.locked(context.root, options.rest[0]) as container:
        status = container.status()
        if status == "stopped":
            raise StateError(f"cannot update container {container.id!r}: it is stopped")
        group = needed_group(container, "update")
        group.update(resources)
        container.record["cgroup"] = group.record()
        container.save()
    return 0


def _from_options(options: Parsed) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, (section, key) in _PLACES.items():
        if name in options.given:
            value = options[name]
            made.setdefault(section, {})[key] = size(name, value) if section == "memory" else value
    return made


def size(option: str, text: str) -> int:
    """Bytes of `-1`, `1048576`, `512m`, `1.5GiB`, as docker/go-units reads them."""
    if text == "-1":
        return -1
    number = text.rstrip("BbIiKkMmGgTtPp")
    unit = text[len(number) :].lower().removesuffix("b").removesuffix("i")
    try:
        if unit not in _UNITS or float(number) < 0:
            raise ValueError
        return int(float(number) * (1 << _UNITS[unit]))
    except (ValueError, OverflowError):
        raise UsageError(f"update: --{option}: {text!r} is no size such as 512m") from None
