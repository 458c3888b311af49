"""The cgroup of a container: made by the manager that was asked for, found again by its record."""

from __future__ import annotations

import os

from runtime.errors import CgroupError, StateError, UsageError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.oci.main import Context
    from runtime.oci.state import Container

__all__ = ["below", "group_of", "make_group", "needed_group"]


_COUNTING = frozenset(
    ["cpu", "cpuacct", "memory", "pids", "blkio", "io", "hugetlb", "rdma", "misc"]
)
_DEVICES = [
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, -1))
    ),
]
"""What a container may use whatever its rules say: the default devices, terminals, and to make
nodes of any that it then may not use (config-linux.md, "Default Devices"; as in runc)."""


def make_group(
    context: Context, layout: CgroupLayout, config: dict[str, Any], container_id: str
) -> Cgroup | None:
    """A new cgroup with the limits of the config.

    Also in the hierarchies that only count something of it: Docker's and Podman's statistics look
    for the container there. None for an ordinary user who may make none and asked for
    nothing; raises CgroupError and its like otherwise."""
    from runtime.cgroups import Cgroup
    from runtime.cgroups.placing import of_container

    linux, annotations = config["linux"], config.get("annotations")
    resources, path = linux.get("resources", {}), linux.get("cgroupsPath")
    if resources.get("devices"):
        resources = {**resources, "devices": [*resources["devices"], *_DEVICES]}
    try:
        if context.cgroup_manager == "systemd":
            from runtime.cgroups.systemd import SystemdCgroup

            return SystemdCgroup.start(
                layout, path, container_id, resources=resources, annotations=annotations
            )
        return Cgroup.create(
            layout,
            of_container(path, container_id),
            resources=resources,
            controllers=_COUNTING.intersection(layout.controllers),
            exist_ok=True,
        )
    except CgroupError as error:
        if os.geteuid() == 0 or resources or path:
            raise
        context.log.debug(f"without a cgroup: {error}")
        return None


def group_of(container: Container) -> Cgroup | None:
    """Its cgroup, or None if it has none (`--cgroup-manager disabled`, or an ordinary user who may
    make none)."""
    record = container.record["cgroup"]
    if record is None:
        return None
    from runtime.cgroups import Cgroup

    return Cgroup.from_record(record)


def needed_group(container: Container, what: str) -> Cgroup:
    """Its cgroup, for what cannot be done without. Raises StateError."""
    group = group_of(container)
    if group is None:
        raise StateError(f"cannot {what} container {container.id!r}: it has no cgroup")
    return group


class _Below:
    """Directories in which a process of `exec --cgroup` is to be."""

    def __init__(self, into: str | None, join: list[str]) -> None:
        self.into = into
        self.join = join


def below(group: Cgroup, places: tuple[str, ...]) -> _Below:
    """The places of a process in cgroups below the container's, each given as PATH in the unified
    hierarchy or CONTROLLER[,CONTROLLER...]:PATH in those of v1. Raises UsageError."""
    into = group.into
    join = {directory: directory for directory in group.join}
    for place in places:
        controllers, colon, path = place.rpartition(":")
        if ".." in path.split("/"):
            raise UsageError(f"--cgroup {place!r} would lead out of the container's cgroup")
        if not colon:
            if into is None:
                raise UsageError(f"--cgroup {place!r}: no unified hierarchy here: name controllers")
            into = f"{group.into}/{path.strip('/')}"
            continue
        for controller in controllers.split(","):
            directory = f"{group.layout.where(controller)}/{group.path}"
            if directory not in join:
                raise UsageError(f"--cgroup {place!r}: the container is in no {controller!r} of v1")
            join[directory] = f"{directory}/{path.strip('/')}"
    return _Below(into, list(join.values()))
