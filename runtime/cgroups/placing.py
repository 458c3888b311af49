"""Where a cgroup goes: its path, the hierarchies it is in, the controllers it has."""

from __future__ import annotations

from runtime.cgroups.settings import needed
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from runtime.cgroups.layout import CgroupLayout

__all__ = ["WANTED", "absolute", "check_path", "of_container", "roots", "wanted_v2"]

WANTED = ("cpu", "memory", "pids")
"""The controllers that a cgroup has whether they limit anything or not: they count."""

_DEFAULT_PARENT = "isolation-lab"


def check_path(path: str) -> None:
    """Raise SpecError for a path that is empty or leaves the tree."""
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise SpecError(f"cgroup path {path!r}: give a path such as lab/run/name")


def absolute(layout: CgroupLayout, path: str) -> str:
    """Relative to the mount points, without leading slash. A path that begins with one is so
    already; any other begins at the layout's home."""
    check_path(path.removeprefix("/"))
    if path.startswith("/"):
        return path[1:]
    return f"{layout.home}/{path}" if layout.home else path


def of_container(cgroups_path: str | None, container: str) -> str:
    """The path for `Cgroup.create` of OCI's ``linux.cgroupsPath`` (config-linux.md, "Cgroups
    Path") in the form that is a path; `runtime.cgroups.systemd` has the other.

    An absolute one is relative to the mount points; a relative one, and the default for none,
    begins where the caller may make cgroups. ``..`` does not leave the tree, as in runc."""
    if not cgroups_path:
        return f"{_DEFAULT_PARENT}/{container}"
    parts: list[str] = []
    for part in cgroups_path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise SpecError(f"linux.cgroupsPath: {cgroups_path!r} is the root, which cannot be limited")
    return ("/" if cgroups_path.startswith("/") else "") + "/".join(parts)


def wanted_v2(
    layout: CgroupLayout, resources: Mapping[str, Any], controllers: Iterable[str]
) -> frozenset[str]:
    """The v2 controllers that a cgroup is to have."""
    return layout.v2_controllers.intersection((*WANTED, *needed(resources), *controllers))


def roots(layout: CgroupLayout, more: Iterable[str]) -> tuple[str, ...]:
    """The hierarchies that a cgroup has a directory in, the unified one first: it brings
    clone3's CLONE_INTO_CGROUP, cgroup.kill, freezing, CPU time and a device filter even where its
    controllers are elsewhere. Without it v1's freezer and cpuacct are taken along."""
    names = (*WANTED, *more)
    if layout.v2 is None:
        names = (*WANTED, "freezer", "cpuacct", *more)
    paths = [layout.v2, *(layout.where(name) for name in names)]
    return tuple(dict.fromkeys(path for path in paths if path is not None))
