"""Which cgroup hierarchies this host has, and which controller is where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

__all__ = ["CgroupLayout"]

_V1_CONTROLLERS = frozenset(
    [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls",
        "net_prio",
        "perf_event",
        "hugetlb",
        "rdma",
        "misc",
    ]
)


@dataclass(frozen=True, slots=True)
class CgroupLayout:
    """The mounted hierarchies. A controller is in exactly one of them (cgroups(7), "Cgroups
    version 2": a controller that v1 holds is not available to v2)."""

    v2: Path | None = None
    """Mount point of the unified hierarchy."""
    v2_controllers: frozenset[str] = frozenset()
    """What its root offers (cgroup.controllers)."""
    v1: Mapping[str, Path] = field(default_factory=dict)
    """Controller → mount point of its v1 hierarchy; co-mounted ones share it."""

    @classmethod
    def detect(cls) -> CgroupLayout:
        """What is mounted here and now."""
        return cls.parse(Path("/proc/self/mountinfo").read_text())

    @classmethod
    def parse(cls, mountinfo: str, controllers: str | None = None) -> CgroupLayout:
        """From the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)).

        `controllers` stands for the v2 root's cgroup.controllers; None reads it. Of several mounts
        of one hierarchy the first counts; a mount of a part of a hierarchy counts like the whole,
        as inside a container."""
        v2: Path | None = None
        v1: dict[str, Path] = {}
        for line in mountinfo.splitlines():
            left, _, right = line.partition(" - ")
            fstype, _, options = right.split(" ", 2)
            point = Path(_unescape(left.split(" ")[4]))
            if fstype == "cgroup2":
                v2 = v2 or point
            elif fstype == "cgroup":
                for name in _V1_CONTROLLERS.intersection(options.split(",")):
                    v1.setdefault(name, point)
        if v2 is None:
            return cls(v1=v1)
        if controllers is None:
            controllers = (v2 / "cgroup.controllers").read_text()
        return cls(v2, frozenset(controllers.split()), v1)

    @property
    def kind(self) -> str:
        """`v2`, `v1`, `hybrid` or `none`."""
        if self.v2 is None:
            return "v1" if self.v1 else "none"
        return "hybrid" if self.v1 else "v2"

    def where(self, controller: str) -> Path | None:
        """Mount point of the hierarchy that has this controller, or None."""
        if self.v2 is not None and controller in self.v2_controllers:
            return self.v2
        return self.v1.get(controller)

    def describe(self) -> str:
        """One line for a person: the kind, and each controller's place."""
        parts = [f"{name} at {path}" for name, path in sorted(self.v1.items())]
        if self.v2 is not None:
            offered = " ".join(sorted(self.v2_controllers)) or "no controllers"
            parts.append(f"v2 at {self.v2} with {offered}")
        return f"cgroup {self.kind}: {'; '.join(parts) or 'nothing mounted'}"


@lru_cache(maxsize=64)
def _unescape(text: str) -> str:
    r"""Undo mountinfo's octal escapes: a space is \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
