"""A config's mount of type `cgroup`, made into mounts that the kernel knows.

OCI has one word for two things. On a v2 host it is a new mount of cgroup2, whose root is the
container's own cgroup if it has a cgroup namespace. On a v1 host, and on a hybrid, it is a
directory with a mount for each hierarchy, and what is shown of each is the container's part.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.cgroups import Cgroup, CgroupLayout

__all__ = ["expanded"]


def expanded(config: dict[str, Any], layout: CgroupLayout, group: Cgroup | None) -> dict[str, Any]:
    """The config with such mounts replaced; the one that is given is left as it is."""
    mounts = config.get("mounts", ())
    if not any(mount.get("type") == "cgroup" for mount in mounts):
        return config
    linux = config["linux"]
    made: list[dict[str, Any]] = []
    readonly = list(linux.get("readonlyPaths", ()))
    for mount in mounts:
        if mount.get("type") != "cgroup":
            made.append(mount)
        elif not layout.v1:
            made.append(_v2(mount, layout, linux))
        else:
            made += _v1(mount, layout, group)
            if "ro" in mount.get("options", ()):
                readonly.append(mount["destination"])  # now that all is in it
    return {**config, "mounts": made, "linux": {**linux, "readonlyPaths": readonly}}


def _v2(mount: dict[str, Any], layout: CgroupLayout, linux: dict[str, Any]) -> dict[str, Any]:
    spaces = {space["type"]: space.get("path") for space in linux.get("namespaces", ())}
    if "user" in spaces and spaces.get("cgroup", "") is not None:
        # Only who owns the cgroup namespace may mount it anew (cgroup_namespaces(7)).
        options = [*mount.get("options", ()), "rbind"]
        return {**mount, "type": "bind", "source": str(layout.v2), "options": options}
    return {**mount, "type": "cgroup2", "source": "cgroup2"}


def _v1(mount: dict[str, Any], layout: CgroupLayout, group: Cgroup | None) -> list[dict[str, Any]]:
    place = mount["destination"].rstrip("/")
    options = [*mount.get("options", ()), "bind"]
    made = [
        {
            "destination": place,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "noexec", "nodev", "mode=755", "size=64k"],
        }
    ]
    for name, source in _views(layout, group).items():
        made.append(
            {"destination": f"{place}/{name}", "type": "bind", "source": source, "options": options}
        )
    return made


def _views(layout: CgroupLayout, group: Cgroup | None) -> dict[str, str]:
    """Name below the mount → directory of the container's cgroup, also for each name of a
    hierarchy with several controllers (`cpu` and `cpu,cpuacct`)."""
    views: dict[str, str] = {}
    if group is None:
        return views
    points = {str(point): str(point).rpartition("/")[2] for point in layout.v1.values()}
    if layout.v2 is not None:
        points[str(layout.v2)] = str(layout.v2).rpartition("/")[2]
    for point, name in points.items():
        directory = f"{point}/{group.path}"
        if directory in group.directories:
            views[name] = directory
    for controller, point in layout.v1.items():
        directory = f"{point}/{group.path}"
        if directory in group.directories:
            views.setdefault(controller, directory)
    return views
