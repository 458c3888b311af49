"""`linux.namespaces` of an OCI configuration: which are made, which are joined, and by whom; user
and group maps, time offsets, and which sysctls are a namespace's own (OCI config-linux.md).
"""

from __future__ import annotations

from runtime.engine.constants import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.engine.steps import Step

    Map = tuple[tuple[int, int, int], ...]
    Spaces = dict[str, str | None]

__all__ = [
    "MAPS",
    "NAMESPACES",
    "map_of",
    "namespaces_of",
    "outside_of",
    "sort_out",
    "sysctl_path",
    "without_groups",
]

NAMESPACES = {
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "network": CLONE_NEWNET,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
    "mount": CLONE_NEWNS,
}
"""OCI's names, in the order of joining: the user namespace first, because it brings the rights for
the others, and the mount namespace last, because the others' paths are the host's."""

MAPS = ("uidMappings", "gidMappings")

_SYSCTLS: dict[str, tuple[str, ...]] = {
    "network": ("net.",),
    "ipc": (
        "fs.mqueue.",
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ),
    "uts": ("kernel.domainname", "kernel.hostname"),
    "user": ("user.",),
}
"""Which of them are a namespace's own; all others are the host's, and refused."""


def namespaces_of(config: dict[str, Any]) -> Spaces:
    """Kind → path to join, or None for a new one; what is absent is the parent's.

    Raises SpecError for unknown kinds, duplicates and relative paths."""
    found: Spaces = {}
    for number, entry in enumerate((config.get("linux") or {}).get("namespaces") or ()):
        kind, path = entry.get("type"), entry.get("path") or None
        where = f"linux.namespaces[{number}]"
        if kind not in NAMESPACES:
            raise SpecError(f"{where}.type: {kind!r} is none of {', '.join(NAMESPACES)}")
        if kind in found:
            raise SpecError(f"{where}.type: a second {kind!r}")
        if path is not None and not path.startswith("/"):
            raise SpecError(f"{where}.path: {path!r} is not absolute")
        found[kind] = path
    return found


def sort_out(config: dict[str, Any], spaces: Spaces) -> tuple[int, list[Step], list[Step]]:
    """The flags of the clone, and what joins namespaces: a stage, or the child itself.

    The child can do it, unless setns(2) is into a PID namespace, which is for children to come
    (pid_namespaces(7)); or the new namespaces shall belong to the user namespace that is joined; or
    the child is in a new one, where it has no right to join any. Then a stage does before the
    clone."""
    joined = [kind for kind in NAMESPACES if spaces.get(kind)]
    new_user = "user" in spaces and spaces["user"] is None
    if new_user and "mount" in joined:
        raise SpecError("linux.namespaces: a new user namespace has no rights in a joined mount's")
    offsets = (config.get("linux") or {}).get("timeOffsets") or {}
    flags = 0
    for kind, path in spaces.items():
        if path is None and kind != "cgroup" and not (kind == "time" and offsets):
            flags |= NAMESPACES[kind]
    joins: list[Step] = [("join", spaces[kind], NAMESPACES[kind]) for kind in joined]
    by_stage = bool({"pid", "user", "mount"} & {*joined}) or (new_user and bool(joined))
    stage, child = (joins, []) if by_stage else ([], joins)
    if offsets:
        if "time" not in spaces or spaces["time"]:
            raise SpecError("linux.timeOffsets: need a new time namespace")
        # They can be set only while nobody is in it yet (time_namespaces(7)).
        stage = [*stage, ("unshare", CLONE_NEWTIME)]
        for clock, offset in sorted(offsets.items()):
            line = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
            stage.append(("write", "/proc/self/timens_offsets", line))
    return flags, stage, child


def map_of(entries: Any, where: str) -> Map:
    """A map as tuples (first id inside, first id outside, count)."""
    if not entries:
        raise SpecError(f"{where}: a new user namespace needs one")
    return tuple((entry["containerID"], entry["hostID"], entry["size"]) for entry in entries)


def outside_of(number: int, lines: Map, where: str) -> int:
    """The id outside that stands for this one inside. Raises SpecError if none does."""
    for inside, outside, count in lines:
        if inside <= number < inside + count:
            return outside + number - inside
    raise SpecError(f"linux.{where}: does not map {number}")


def without_groups(linux: dict[str, Any], rootless: bool) -> bool:
    """Whether setgroups(2) is forbidden: to an ordinary user who maps just his own group by
    himself (user_namespaces(7), "The /proc/PID/setgroups file")."""
    groups = linux.get("gidMappings") or []
    return rootless and len(groups) == 1 and groups[0].get("size") == 1


def sysctl_path(name: str, spaces: Spaces) -> str:
    """Its file. Raises SpecError for what is not of a namespace that the container has."""
    where = f"linux.sysctl[{name!r}]"
    if "." not in name.partition("/")[0]:
        name = name.translate({46: "/", 47: "."})  # the form with slashes, as sysctl(8) takes it
    for kind, prefixes in _SYSCTLS.items():
        if any(name == each or (each[-1] == "." and name.startswith(each)) for each in prefixes):
            if kind not in spaces:
                raise SpecError(f"{where}: needs a {kind} namespace, or it would be the host's")
            if ".." in name or "//" in name:
                raise SpecError(f"{where}: no such name")
            # "/" and "." change places: an interface's name can have a dot.
            return "/proc/sys/" + name.translate({46: "/", 47: "."})
    raise SpecError(f"{where}: not of a namespace; it would change the host")
