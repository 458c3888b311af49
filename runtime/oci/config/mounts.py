"""`root` and `mounts` (config.md, "Root", "Mounts")."""

from __future__ import annotations

from runtime.oci.config.check import (
    UINT32,
    Invalid,
    array,
    boolean,
    fields,
    integer,
    items,
    text,
)

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAPPINGS", "MOUNTS", "ROOT"]

_BINDS = ("bind", "rbind")


def _path(value: Any) -> None:
    text(value)
    if not value:
        raise Invalid("is an empty string, and no path")


def _mapping(value: dict[str, Any]) -> None:
    for key in ("containerID", "hostID"):
        if value[key] + value["size"] > UINT32[1]:
            raise Invalid(f"and size together are more than {UINT32[1]}", f".{key}")


def _mappings(value: Any) -> None:
    items(value, _MAPPING)
    ranges = sorted((one["containerID"], one["size"]) for one in value)
    end = 0
    for first, size in ranges:
        if first < end:
            raise Invalid(f"maps container id {first} twice")
        end = first + size


def _mount(value: dict[str, Any]) -> None:
    options = value.get("options", ())
    bind = any(option in _BINDS for option in options)
    if bind and not value.get("source"):
        raise Invalid("is required by a bind mount", ".source")
    if not bind and not value.get("type") and "remount" not in options:
        raise Invalid("is required by a mount that is no bind mount", ".type")
    if ("uidMappings" in value) != ("gidMappings" in value):
        missing = "gidMappings" if "uidMappings" in value else "uidMappings"
        raise Invalid("is required where there is the other", f".{missing}")
    if not value["destination"].startswith("/"):  # deprecated, and relative to "/"
        value["destination"] = f"/{value['destination']}"


_id = integer(*UINT32)
_MAPPING = fields(
    "containerID hostID size", _mapping, containerID=_id, hostID=_id, size=integer(1, UINT32[1])
)

MAPPINGS = _mappings
ROOT = fields("path", path=_path, readonly=boolean)
MOUNTS = array(
    fields(
        "destination",
        _mount,
        destination=_path,
        type=text,
        source=text,
        options=array(text),
        uidMappings=_mappings,
        gidMappings=_mappings,
    )
)
