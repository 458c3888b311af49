"""One cgroup: a directory of the same path in each hierarchy that it needs."""

from __future__ import annotations

import errno
import os
import time

from runtime.cgroups import freezer, limits, settings, tree
from runtime.cgroups.apply import apply, settings_of
from runtime.cgroups.control import read, refused, wait_event
from runtime.cgroups.layout import CgroupLayout
from runtime.cgroups.placing import absolute, check_path, roots, wanted_v2
from runtime.cgroups.processes import await_empty, kill_all, processes
from runtime.errors import CgroupError, ControllerMissing

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Unpack

    from runtime.cgroups.apply import Place
    from runtime.cgroups.limits import LimitArgs
    from runtime.cgroups.usage import Pressure, Usage
    from runtime.cgroups.watch import Watch

__all__ = ["Cgroup"]

_DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")
"""What a delegate owns where the kernel has no list of it (cgroups(7), "Delegation")."""


class Cgroup:
    """Made by `create` or `child`, ended by `remove`.

    Whoever makes many of them under one parent makes the parent first, as an object of its own,
    and the children by its `child`: a cgroup removes its own directories, what is left below
    them, and of those above the ones that it made itself.
    """

    def __init__(
        self,
        layout: CgroupLayout,
        path: str,
        directories: tuple[str, ...],
        made: tuple[str, ...] = (),
        unenforced: tuple[str, ...] = (),
    ) -> None:
        self.layout = layout
        self.path = path
        """Relative to each hierarchy's mount point: ``lab/<run>/<instance>``."""
        self.directories = directories
        """Its directories, the unified hierarchy's first if there is one."""
        self.unenforced = unenforced
        """Limits that were asked for and that nothing here enforces, by their OCI names or that of
        the missing controller. With ``strict=True`` only such as do no harm."""
        self._made = made
        self._v2 = f"{layout.v2}/{path}" if layout.v2 is not None and directories else None
        self._handed: frozenset[str] = frozenset()  # what is known to be handed to the children

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} in {len(self.directories)} hierarchies>"

    @classmethod
    def create(
        cls,
        layout: CgroupLayout,
        path: str,
        *,
        resources: Mapping[str, Any] | None = None,
        controllers: Iterable[str] = (),
        strict: bool = True,
        exist_ok: bool = False,
        **keywords: Unpack[LimitArgs],
    ) -> Cgroup:
        """Make it, parents included, and set its limits.

        `path` is relative to the layout's home; with a leading slash to the mount points.
        `resources` is OCI's ``linux.resources``, device rules included; `keywords` are those of
        `limits.resources` (``cpus=1.5, memory=2**26, pids=64``), and win. `controllers` are wanted
        for what they count, besides cpu, memory and pids (`layout.controllers` for all).

        Raises ControllerMissing for a limit that nothing here enforces (with `strict`; else it
        stands in `unenforced`), SpecError for one that cannot be, CgroupError if the kernel
        refuses or if the cgroup is there already: two users would share its limits. `exist_ok`
        accepts one that is there, if no process is in it and it is not frozen."""
        wanted = limits.merge(resources or {}, limits.resources(**keywords))
        place = absolute(layout, path)
        return cls._create(layout, place, wanted, tuple(controllers), strict, exist_ok)

    def child(
        self,
        name: str,
        *,
        resources: Mapping[str, Any] | None = None,
        controllers: Iterable[str] = (),
        strict: bool = True,
        exist_ok: bool = False,
        **keywords: Unpack[LimitArgs],
    ) -> Cgroup:
        """A cgroup below this one, in all its hierarchies, so that its limits hold there too; see
        `create` for limits and errors."""
        check_path(name)
        wanted = limits.merge(resources or {}, limits.resources(**keywords))
        path = f"{self.path}/{name}"
        extra = tuple(controllers)
        made = Cgroup._create(self.layout, path, wanted, extra, strict, exist_ok, self)
        if "/" not in name:
            # The next child need not look again: nobody takes a controller back from us.
            self._handed |= wanted_v2(self.layout, wanted, extra)
        return made

    @classmethod
    def _create(
        cls,
        layout: CgroupLayout,
        path: str,
        resources: Mapping[str, Any],
        controllers: tuple[str, ...],
        strict: bool,
        exist_ok: bool,
        parent: Cgroup | None = None,
    ) -> Cgroup:
        wanted = settings.needed(resources)
        missing = tuple(name for name in wanted if layout.where(name) is None)
        if missing and strict:
            raise ControllerMissing(missing, layout.describe())
        names = (*wanted, *controllers)
        if resources.get("devices") and layout.v2 is None:
            names = (*names, "devices")  # else an eBPF program does it
        hierarchies = roots(layout, names)
        if parent is not None and len(parent.directories) > 1:
            hierarchies = tuple(dict.fromkeys((*hierarchies, *parent._roots())))
        made: list[str] = []
        try:
            fresh = True
            for root in hierarchies:
                prepare = tree.inherit_cpuset if root == layout.v1.get("cpuset") else None
                if not tree.make(root, path, made, prepare):
                    fresh = False
                    if not exist_ok:
                        raise FileExistsError(errno.EEXIST, "it exists", f"{root}/{path}")
            group = cls(layout, path, tuple(f"{root}/{path}" for root in hierarchies), tuple(made))
            if not fresh:
                group._check_unused()
            to_hand = wanted_v2(layout, resources, controllers)
            if parent is not None:
                to_hand -= parent._handed
            if to_hand:
                tree.hand_down(str(layout.v2), path, to_hand)
            group._apply(resources, missing, live=not fresh, strict=strict)
        except BaseException as error:
            for directory in reversed(made):
                tree.remove_if_unused(directory)
            if isinstance(error, OSError):
                raise refused(path, error) from error
            raise
        return group

    @classmethod
    def adopt(cls, layout: CgroupLayout, path: str) -> Cgroup:
        """The handle of a cgroup that another process makes or has made; `remove` then removes
        its directories, but no parents.

        They are those that every cgroup has here, and those of other hierarchies that exist."""
        place = absolute(layout, path)
        usual = roots(layout, ())
        more = (f"{root}/{place}" for root in layout.roots_of_v1 if root not in usual)
        there = [path for path in more if os.path.isdir(path)]  # noqa: PTH112
        return cls(layout, place, (*(f"{root}/{place}" for root in usual), *there))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Cgroup:
        """What `record` gave, in another process. Asks the host nothing."""
        if "unit" in record and cls is Cgroup:
            from runtime.cgroups.systemd import SystemdCgroup

            return SystemdCgroup.from_record(record)
        return cls(
            CgroupLayout.from_record(record["layout"]),
            record["path"],
            tuple(record["directories"]),
            tuple(record["made"]),
            tuple(record["unenforced"]),
        )

    def record(self) -> dict[str, Any]:
        """All of it in lists, dicts and strings: for a state file (JSON or marshal)."""
        return {
            "layout": self.layout.record(),
            "path": self.path,
            "directories": list(self.directories),
            "made": list(self._made),
            "unenforced": list(self.unenforced),
        }

    @property
    def into(self) -> str | None:
        """The directory for clone3's CLONE_INTO_CGROUP, or None without a unified hierarchy."""
        return self._v2

    @property
    def join(self) -> tuple[str, ...]:
        """The directories that a process enters by writing itself to cgroup.procs."""
        return self.directories[1:] if self._v2 else self.directories

    def settle(self) -> None:
        """To be called once the first process is in it. Only a systemd scope has to know."""

    def update(
        self,
        resources: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
        **keywords: Unpack[LimitArgs],
    ) -> None:
        """Change limits while it is in use; what is not given stays.

        Limits that depend on each other (memory and swap, quota, period and burst) may be raised
        or lowered together in any combination. In v1 a memory limit below what is in use is
        refused; in v2 the kernel reclaims, and kills if that is not enough, unless
        ``memory.checkBeforeUpdate`` is set. Arguments and errors as in `create`."""
        wanted = limits.merge(resources or {}, limits.resources(**keywords))
        names = settings.needed(wanted)
        missing = tuple(name for name in names if self._directory(name) is None)
        if missing and strict:
            raise ControllerMissing(missing, self.layout.describe())
        self._check_usage(wanted.get("memory") or {})
        to_hand = self.layout.v2_controllers.intersection(names)
        try:
            if to_hand:
                tree.hand_down(str(self.layout.v2), self.path, to_hand)
        except OSError as error:
            raise refused(self.path, error) from error
        self._apply(wanted, missing, live=True, strict=strict)

    def limit_files(self, **keywords: Unpack[LimitArgs]) -> Iterator[tuple[str, str]]:
        """Paths and texts of the control files that set these limits here."""
        wanted = limits.resources(**keywords)
        for directory, found in settings_of(wanted, self._places(wanted), live=False):
            for setting in found:
                for file, text in setting.choices[:1]:
                    yield f"{directory}/{file}", text

    def set_devices(self, rules: Iterable[Mapping[str, Any]]) -> bool:
        """Let its processes, and those in cgroups below it, use only the devices that OCI rules
        allow (config-linux.md, "Allowed Device list"); see `runtime.cgroups.devices`.

        False where an ordinary user may not, who has no rights over devices to give either.
        Raises CgroupError where neither eBPF nor the v1 controller can be used."""
        from runtime.cgroups.devices import restrict

        return restrict(self, rules)

    def delegate(self, uid: int, gid: int = -1) -> None:
        """Make a user the owner of its v2 directory and of the files that a delegate may write, and
        of nothing more (config-linux.md, "Cgroup ownership"). v1 cannot be delegated safely."""
        if self._v2 is None:
            return
        try:
            names = read("/sys/kernel/cgroup/delegate").split()
        except FileNotFoundError:
            names = list(_DELEGATED)
        try:
            os.chown(self._v2, uid, gid)
            for name in names:
                try:
                    os.chown(f"{self._v2}/{name}", uid, gid)
                except FileNotFoundError:
                    continue  # of a controller that is not here
        except OSError as error:
            raise refused(self.path, error) from error

    def memory_current(self) -> int | None:
        """Bytes charged to it now, descendants included; None without a memory controller."""
        directory = self._directory("memory")
        if directory is None:
            return None
        name = "memory.current" if directory == self._v2 else "memory.usage_in_bytes"
        return int(read(f"{directory}/{name}"))

    def usage(self) -> Usage:
        """Everything that the kernel counts for it, in one snapshot with units."""
        from runtime.cgroups.usage import measure

        return measure(self)

    def pressure(self) -> Mapping[str, Pressure]:
        """Pressure stall information: ``cpu``, ``memory`` and ``io``, and ``irq`` where the kernel
        has it; empty where it has none (a v2 directory is needed, and ``psi=1``)."""
        from runtime.cgroups.usage import pressures

        return pressures(self.into)

    def watch(self) -> Watch:
        """Its events from now on: OOM kills, its last process gone, frozen; see `Watch`."""
        from runtime.cgroups.watch import Watch

        return Watch(self)

    def processes(self) -> tuple[int, ...]:
        """Ids of the processes in it and below it, ascending; zombies may be among them."""
        return processes(self.directories)

    def wait_empty(self, timeout: float) -> bool:
        """Wait until no process is in it or below it; False after `timeout` seconds."""
        if self._v2 is not None:
            return wait_event(self._v2, "populated", 0, timeout)
        return await_empty(self.directories, timeout)

    def freeze(self, frozen: bool = True, timeout: float = 10.0) -> None:
        """Stop all its processes, or let them go on, and return when it has happened.

        Raises CgroupError if it has not after `timeout` seconds (a freeze is then taken back),
        ControllerMissing where there is neither a v2 tree nor the v1 freezer."""
        if self._v2 is not None:
            freezer.freeze_v2(self._v2, self.path, frozen, timeout)
        elif (directory := self._directory("freezer")) is not None:
            freezer.freeze_v1(directory, self.path, frozen, timeout)
        else:
            raise ControllerMissing(["freezer"], self.layout.describe())

    def frozen(self) -> bool:
        """Whether all its processes stand still."""
        if self._v2 is not None:
            return freezer.is_frozen_v2(self._v2)
        directory = self._directory("freezer")
        return directory is not None and freezer.is_frozen_v1(directory)

    def kill(self, timeout: float = 5.0) -> None:
        """SIGKILL to every process in it and below it, until there is none.

        Raises CgroupError naming the processes that are left after `timeout` seconds."""
        kill_all(self.path, self._v2, self.join, timeout)

    def remove(self, timeout: float = 5.0) -> None:
        """Remove its directories with what is below them, then the parents that it made and
        nobody else uses. Idempotent.

        Raises CgroupError, naming the processes, if it is still in use after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for directory in self.directories:
            tree.remove(directory, self.path, deadline, self.processes)
        parents = (directory for directory in self._made if directory not in self.directories)
        try:
            for directory in sorted(parents, key=len, reverse=True):
                tree.remove_if_unused(directory)
        except OSError as error:
            raise refused(self.path, error) from error

    def _roots(self) -> tuple[str, ...]:
        """The mount points of the hierarchies that it is in."""
        return tuple(directory.removesuffix(f"/{self.path}") for directory in self.directories)

    def _directory(self, controller: str) -> str | None:
        root = self.layout.where(controller)
        directory = f"{root}/{self.path}"
        return directory if root is not None and directory in self.directories else None

    def _places(self, resources: Mapping[str, Any]) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for name in settings.needed(resources):
            directory = self._directory(name)
            found[name] = (directory, directory == self._v2)
        if self._v2 is not None and resources.get("unified"):
            found["cgroup"] = (self._v2, True)
        return found

    def _apply(
        self, resources: Mapping[str, Any], missing: tuple[str, ...], *, live: bool, strict: bool
    ) -> None:
        places = self._places(resources)
        refuse, tell = apply(self.path, resources, places, live=live)
        if refuse and strict:
            raise ControllerMissing(refuse, self.layout.describe())
        if resources.get("devices") and not self.set_devices(resources["devices"]):
            tell.append("devices")
        self.unenforced = tuple(dict.fromkeys((*missing, *refuse, *tell)))

    def _check_unused(self) -> None:
        """Fit to be taken over (config-linux.md, "Control groups", on fitness)."""
        if inside := self.processes():
            raise CgroupError(
                f"cgroup {self.path} is there already and in use by processes {inside[:10]}: "
                "another container has it; give this one a cgroupsPath of its own"
            )
        if self.frozen():
            raise CgroupError(f"cgroup {self.path} is there already and frozen: thaw or remove it")

    def _check_usage(self, memory: Mapping[str, Any]) -> None:
        """memory.checkBeforeUpdate: v2 would kill where v1 refuses."""
        if not memory.get("checkBeforeUpdate"):
            return
        current = self.memory_current() or 0
        for key in ("limit", "swap"):
            if 0 < (memory.get(key) or 0) <= current:
                raise CgroupError(
                    f"cgroup {self.path}: memory.{key} of {memory[key]} is below the "
                    f"{current} bytes in use; memory.checkBeforeUpdate forbids it"
                )
