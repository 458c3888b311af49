"""Which cgroup hierarchies this host has, and which controller is where."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SUPERVISOR", "CgroupLayout", "own_path"]

SUPERVISOR = "supervisor"
"""The leaf that `tree.vacate` moves the caller to. A process in it has its parent as home.
systemd's DelegateSubgroup= is commonly set to the same name."""

_V1_CONTROLLERS = frozenset(
    (
        *("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc"),
        *("net_cls", "net_prio", "perf_event", "pids", "rdma"),
    )
)

_V1_NAME = {"io": "blkio"}
_V2_NAME = {"blkio": "io"}
"""The one controller that has two names."""

_USUAL = "/sys/fs/cgroup"

# What a mangled path may hold (fs/proc_namespace.c, mangle). The backslash comes last.
_ESCAPES = ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\043", "#"), (r"\134", "\\"))


class CgroupLayout:
    """The mounted hierarchies. A controller is in exactly one of them (cgroups(7), "Cgroups
    version 2": a controller that v1 holds is not available to v2)."""

    __slots__ = ("home", "v1", "v1_usable", "v2", "v2_controllers")

    def __init__(
        self,
        v2: str | os.PathLike[str] | None = None,
        v2_controllers: frozenset[str] = frozenset(),
        v1: Mapping[str, str | os.PathLike[str]] | None = None,
        home: str = "",
        v1_usable: bool = True,
    ) -> None:
        self.v2 = None if v2 is None else os.fspath(v2)
        """Mount point of the unified hierarchy."""
        self.v2_controllers = v2_controllers
        """What its root offers, or what `home` does (cgroup.controllers)."""
        self.v1 = {name: os.fspath(path) for name, path in (v1 or {}).items()}
        """Controller → mount point of its v1 hierarchy; co-mounted ones share it."""
        self.home = home
        """Where relative paths begin: "" for the root, else the delegated cgroup that the caller
        is in (``user.slice/…/run-1.scope``)."""
        self.v1_usable = v1_usable
        """Whether this process may make cgroups in the v1 hierarchies: root only."""

    def __repr__(self) -> str:
        return f"<CgroupLayout {self.describe()}>"

    @classmethod
    def detect(cls) -> CgroupLayout:
        """What is mounted here and now, and where in it this process may make cgroups.

        That is the root for whoever may write there, and for others the cgroup that they are in,
        if systemd (``Delegate=yes``) or another manager has handed it to them."""
        return cls._detect()._at_home()

    @classmethod
    def _detect(cls) -> CgroupLayout:
        # A pure v2 host is told by two short reads: mountinfo has a line for each mount of each
        # container, and the kernel takes its time to write them.
        try:
            controllers = _read(f"{_USUAL}/cgroup.controllers")
            if not _v1_in_use(_read("/proc/cgroups")):
                return cls(_USUAL, frozenset(controllers.split()))
        except OSError:
            pass  # v1, hybrid or mounted elsewhere: mountinfo knows
        return cls.parse(_read("/proc/self/mountinfo"))

    @classmethod
    def parse(cls, mountinfo: str, controllers: str | None = None) -> CgroupLayout:
        """From the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)).

        `controllers` stands for the v2 root's cgroup.controllers; None reads it. Of several mounts
        of one hierarchy the first counts; a mount of a part of a hierarchy counts like the whole,
        as inside a container."""
        v2: str | None = None
        v1: dict[str, str | os.PathLike[str]] = {}
        for line in mountinfo.splitlines():
            left, _, right = line.partition(" - ")
            if not right.startswith("cgroup"):
                continue
            fstype, _, options = right.split(" ", 2)
            point = _unescape(left.split(" ")[4])
            if fstype == "cgroup2":
                v2 = v2 or point
            elif fstype == "cgroup":
                for name in _V1_CONTROLLERS.intersection(options.split(",")):
                    v1.setdefault(name, point)
        if v2 is not None and controllers is None:
            controllers = _read(f"{v2}/cgroup.controllers")
        return cls(v2, frozenset((controllers or "").split()) if v2 else frozenset(), v1)

    def _at_home(self) -> CgroupLayout:
        """The same, as far as this process may use it."""
        if self.v1 and not os.access(next(iter(self.v1.values())), os.W_OK):
            self.v1_usable = False
        if self.v2 is None or os.access(self.v2, os.W_OK):
            return self
        own = own_path(_read("/proc/self/cgroup"))
        if own.endswith(f"/{SUPERVISOR}"):
            own = own.removesuffix(f"/{SUPERVISOR}")
        if own and os.access(f"{self.v2}/{own}", os.W_OK):
            self.home = own
            offered = _read(f"{self.v2}/{own}/cgroup.controllers")
            self.v2_controllers = frozenset(offered.split())
        return self

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> CgroupLayout:
        """What `record` gave, in another process."""
        return cls(
            record["v2"],  # type: ignore[arg-type]
            frozenset(record["v2_controllers"]),  # type: ignore[call-overload]
            record["v1"],  # type: ignore[arg-type]
            record["home"],  # type: ignore[arg-type]
            record["v1_usable"],  # type: ignore[arg-type]
        )

    def record(self) -> dict[str, object]:
        """All of it in lists, dicts and strings: for a state file (JSON or marshal)."""
        return {
            "v2": self.v2,
            "v2_controllers": sorted(self.v2_controllers),
            "v1": dict(self.v1),
            "home": self.home,
            "v1_usable": self.v1_usable,
        }

    @property
    def kind(self) -> str:
        """`v2`, `v1`, `hybrid` or `none`."""
        if self.v2 is None:
            return "v1" if self.v1 else "none"
        return "hybrid" if self.v1 else "v2"

    @property
    def controllers(self) -> tuple[str, ...]:
        """All that can be used here, in v1 or v2, sorted."""
        return tuple(sorted({*self.v2_controllers, *(self.v1 if self.v1_usable else ())}))

    @property
    def roots(self) -> tuple[str, ...]:
        """The directories that relative paths begin in, one for each hierarchy, v2's first."""
        tail = f"/{self.home}" if self.home else ""
        unified = () if self.v2 is None else (f"{self.v2}{tail}",)
        return (*unified, *self.roots_of_v1)

    @property
    def roots_of_v1(self) -> tuple[str, ...]:
        """The mount points of the v1 hierarchies that can be used."""
        return tuple(dict.fromkeys(self.v1.values())) if self.v1_usable else ()

    def where(self, controller: str) -> str | None:
        """Mount point of the hierarchy that has this controller and can be used, or None.

        `io` and `blkio` are one controller: v2's name and v1's."""
        if self.v2 is not None and _V2_NAME.get(controller, controller) in self.v2_controllers:
            return self.v2
        if not self.v1_usable:
            return None
        return self.v1.get(_V1_NAME.get(controller, controller))

    def describe(self) -> str:
        """One line for a person: the kind, and each controller's place."""
        parts = [f"{name} at {path}" for name, path in sorted(self.v1.items())]
        if self.v1 and not self.v1_usable:
            parts = [f"v1 is root's alone ({' '.join(sorted(self.v1))})"]
        if self.v2 is not None:
            offered = " ".join(sorted(self.v2_controllers)) or "no controllers"
            place = f"{self.v2}/{self.home}" if self.home else self.v2
            parts.append(f"v2 at {place} with {offered}")
        return f"cgroup {self.kind}: {'; '.join(parts) or 'nothing mounted'}"


def own_path(text: str) -> str:
    """A process's cgroup in the unified hierarchy, without leading slash, from the text of its
    /proc/PID/cgroup (cgroups(7)). "" is the root, or a cgroup outside the cgroup namespace."""
    for line in text.splitlines():
        if line.startswith("0::"):
            path = line[3:].strip("/")
            return "" if path.startswith("..") else path
    return ""


def _v1_in_use(text: str) -> bool:
    """Whether any controller of /proc/cgroups has a v1 hierarchy: a number other than 0."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return any(fields[1] != "0" for fields in lines if len(fields) > 1)


def _unescape(text: str) -> str:
    if "\\" in text:
        for escaped, plain in _ESCAPES:
            text = text.replace(escaped, plain)
    return text


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
