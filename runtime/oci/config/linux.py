"""`linux`, but for `resources` and `seccomp`, which have files of their own (config-linux.md)."""

from __future__ import annotations

from runtime.engine.mounts import PROPAGATION
from runtime.engine.namespaces import NAMESPACES
from runtime.oci.config.check import (
    INT64,
    UINT32,
    Invalid,
    absolute,
    array,
    fields,
    integer,
    items,
    mapping,
    one_of,
    text,
)
from runtime.oci.config.mounts import MAPPINGS
from runtime.oci.config.resources import RESOURCES
from runtime.oci.config.seccomp import SECCOMP

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LINUX"]


def _namespaces(value: Any) -> None:
    items(value, _NAMESPACE)
    seen = set()
    for index, namespace in enumerate(value):
        if namespace["type"] in seen:
            raise Invalid(f"{namespace['type']} is there twice", f"[{index}]")
        seen.add(namespace["type"])


def _namespace(value: dict[str, Any]) -> None:
    if value.get("path") == "":  # Go's zero value: a new namespace
        del value["path"]
    elif "path" in value and value["path"][0] != "/":
        raise Invalid(f"must be an absolute path, not {value['path']!r}", ".path")


def _device(value: dict[str, Any]) -> None:
    for key in () if value["type"] == "p" else ("major", "minor"):
        if key not in value:
            raise Invalid("is required", f".{key}")


def _cgroups_path(value: Any) -> None:
    text(value)
    if ".." in value.split("/"):
        raise Invalid(f"{value!r} would lead out of the hierarchy")


def _refused(reason: str) -> Any:
    def check(value: Any) -> None:
        if value:
            raise Invalid(reason)

    return check


_NAMESPACE = fields("type", _namespace, type=one_of(NAMESPACES), path=text)
_id = integer(0, UINT32[1] - 1)
_number = integer(0, INT64[1])

LINUX = fields(
    uidMappings=MAPPINGS,
    gidMappings=MAPPINGS,
    namespaces=_namespaces,
    timeOffsets=mapping(
        fields(secs=integer(*INT64), nanosecs=integer(0, 999_999_999)),
        one_of(["monotonic", "boottime"]),
    ),
    devices=array(
        fields(
            "type path",
            _device,
            type=one_of(["c", "b", "u", "p"]),
            path=absolute,
            major=_number,
            minor=_number,
            fileMode=integer(*UINT32),
            uid=_id,
            gid=_id,
        )
    ),
    netDevices=_refused("moving network devices is not supported by this runtime"),
    cgroupsPath=_cgroups_path,
    resources=RESOURCES,
    seccomp=SECCOMP,
    sysctl=mapping(text),
    rootfsPropagation=one_of(["", *PROPAGATION]),
    maskedPaths=array(absolute),
    readonlyPaths=array(absolute),
    mountLabel=text,
    personality=fields(
        "domain",
        domain=one_of(["LINUX", "LINUX32"]),
        flags=_refused("no flags are defined"),
    ),
    intelRdt=_refused("Intel RDT is not supported by this runtime"),
    memoryPolicy=_refused("NUMA memory policies are not supported by this runtime"),
)
