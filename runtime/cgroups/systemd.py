"""cgroups that systemd makes: a transient scope for each container (`--systemd-cgroup`).

On a host that systemd manages, it alone may make cgroups in its tree (systemd,
docs/CGROUP_DELEGATION.md, "two key design rules"); what it has delegated is the delegate's. So a
scope is asked for with ``Delegate=yes`` (org.freedesktop.systemd1(5), StartTransientUnit), and the
limits are given twice: as properties of the unit, so that a ``daemon-reload`` finds them, and in
the files, which know more limits than systemd has properties.

A scope lives as long as it has processes, and there has to be one to begin with: a placeholder
holds the place until the container's first process has been cloned into it (`settle`).
"""

from __future__ import annotations

import os
import time

from runtime.cgroups import limits, settings, tree
from runtime.cgroups.control import read, refused
from runtime.cgroups.group import Cgroup
from runtime.cgroups.layout import CgroupLayout, own_path
from runtime.cgroups.placing import wanted_v2
from runtime.cgroups.unit import annotation_properties, unit_properties
from runtime.errors import CgroupError, ControllerMissing, SpecError, SystemdError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, Unpack

    from runtime.cgroups.limits import LimitArgs
    from runtime.cgroups.sdbus import Bus
    from runtime.cgroups.unit import Property

__all__ = ["SystemdCgroup", "expand_slice", "unit_of"]

_JOB_S = 30.0
_IDLE_VERSION = 252
"""The first systemd that takes a CPUWeight of 0 for cpu.idle."""

_ACCOUNTING = ("CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting")


class SystemdCgroup(Cgroup):
    """A scope's cgroup, made by `start`; otherwise a `Cgroup` like any other."""

    unit = ""
    user = False
    _placeholder: tuple[int, int] | None = None  # pid, and the pipe whose end ends it

    @classmethod
    def start(
        cls,
        layout: CgroupLayout,
        cgroups_path: str | None,
        container: str,
        *,
        resources: Mapping[str, Any] | None = None,
        annotations: Mapping[str, str] | None = None,
        controllers: Iterable[str] = (),
        strict: bool = True,
        **keywords: Unpack[LimitArgs],
    ) -> SystemdCgroup:
        """Have systemd make it: the system's for root, the user's own for others.

        `cgroups_path` is OCI's ``linux.cgroupsPath`` in the form ``slice:prefix:name``, or None.
        `annotations` may set further properties (``org.systemd.property.NAME``). The rest is as in
        `Cgroup.create`. Raises SystemdError where systemd does not run or says no."""
        user = os.geteuid() != 0
        parent, unit = unit_of(cgroups_path, container, user)
        _check_host(layout)
        wanted = limits.merge(resources or {}, limits.resources(**keywords))
        missing = tuple(name for name in settings.needed(wanted) if layout.where(name) is None)
        if missing and strict:
            raise ControllerMissing(missing, layout.describe())
        pid, pipe = _hold_place()
        group: SystemdCgroup | None = None
        try:
            with _bus(user) as bus:
                properties = [
                    ("Description", ("s", f"container {container}")),
                    ("Slice", ("s", parent)),
                    ("Delegate", ("b", True)),
                    ("DefaultDependencies", ("b", False)),
                    ("PIDs", ("au", [pid])),
                    *((name, ("b", True)) for name in _ACCOUNTING),
                    *annotation_properties(annotations or {}),
                    *_properties_here(bus, wanted),
                ]
                _start_unit(bus, unit, properties)
            path = own_path(read(f"/proc/{pid}/cgroup"))
            group = cls(layout, path, (f"{layout.v2}/{path}",))
            group.unit, group.user, group._placeholder = unit, user, (pid, pipe)
            try:
                tree.hand_down(str(layout.v2), path, wanted_v2(layout, wanted, controllers))
            except OSError as error:
                raise refused(path, error) from error
            group._apply(wanted, missing, live=True, strict=strict)
        except BaseException:
            if group is None:
                _let_go(pid, pipe)
            else:
                group.remove()
            raise
        return group

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SystemdCgroup:
        """See `Cgroup.from_record`."""
        group = cls(
            CgroupLayout.from_record(record["layout"]),
            record["path"],
            tuple(record["directories"]),
            (),
            tuple(record["unenforced"]),
        )
        group.unit, group.user = record["unit"], record["user"]
        return group

    def record(self) -> dict[str, Any]:
        """See `Cgroup.record`."""
        return {**super().record(), "unit": self.unit, "user": self.user}

    def settle(self) -> None:
        """Take the placeholder out: the container's process is in."""
        if self._placeholder is not None:
            _let_go(*self._placeholder)
            self._placeholder = None

    def update(
        self,
        resources: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
        **keywords: Unpack[LimitArgs],
    ) -> None:
        """See `Cgroup.update`; systemd is told too."""
        wanted = limits.merge(resources or {}, limits.resources(**keywords))
        self._check_usage(wanted.get("memory") or {})
        with _bus(self.user) as bus:
            properties = _properties_here(bus, wanted)
            if properties:
                bus.call(
                    "SetUnitProperties",
                    ("s", self.unit),
                    ("b", True),  # for as long as it runs
                    ("a(sv)", properties),
                )
        super().update(wanted, strict=strict)

    def remove(self, timeout: float = 5.0) -> None:
        """See `Cgroup.remove`. The unit goes with its last process, or is stopped."""
        self.settle()
        deadline = time.monotonic() + timeout
        with _bus(self.user) as bus:
            try:
                job = bus.call("StopUnit", ("s", self.unit), ("s", "replace"))
                bus.wait_job(job, max(0.1, deadline - time.monotonic()))
            except SystemdError as error:
                if not error.name.endswith(".NoSuchUnit"):
                    raise
            _reset_failed(bus, self.unit)
        super().remove(max(0.1, deadline - time.monotonic()))


def unit_of(cgroups_path: str | None, container: str, user: bool = False) -> tuple[str, str]:
    """Slice and unit for ``slice:prefix:name`` (opencontainers/runc docs/systemd.md): an empty
    slice is ``system.slice``, or ``user.slice`` of a user's manager."""
    default = "user.slice" if user else "system.slice"
    if not cgroups_path:
        return default, f"runtime-{container}.scope"
    parts = cgroups_path.split(":")
    if len(parts) != 3 or not parts[2] or "/" in cgroups_path:
        raise SpecError(
            f"linux.cgroupsPath: {cgroups_path!r} is not slice:prefix:name, as it has to be for "
            "--systemd-cgroup (system.slice:docker:1234)"
        )
    parent, prefix, name = parts
    parent = parent or default
    expand_slice(parent)
    if name.endswith(".slice"):
        raise SpecError(f"linux.cgroupsPath: {name!r} is a slice, and a container needs a scope")
    return parent, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def expand_slice(name: str) -> str:
    """The cgroup of a slice: ``a-b.slice`` is ``a.slice/a-b.slice`` (systemd.slice(5))."""
    stem = name.removesuffix(".slice")
    if stem == "-" and name == "-.slice":
        return ""
    parts = stem.split("-")
    if stem == name or not all(parts) or "/" in name:
        raise SpecError(f"linux.cgroupsPath: {name!r} is no name of a slice (a-b.slice)")
    return "/".join(f"{'-'.join(parts[: depth + 1])}.slice" for depth in range(len(parts)))


def _properties_here(bus: Bus, resources: Mapping[str, Any]) -> list[Property]:
    if (resources.get("cpu") or {}).get("idle") != 1:
        return unit_properties(resources)
    digits = bus.manager_property("Version").lstrip("v").split(".")[0].split("-")[0]
    version = int("".join(filter(str.isdecimal, digits)) or 0)
    return unit_properties(resources, idle=version >= _IDLE_VERSION)


def _check_host(layout: CgroupLayout) -> None:
    if not os.path.isdir("/run/systemd/system"):  # noqa: PTH112 - sd_booted(3)
        raise SystemdError(
            "",
            "systemd is not what this host was booted with (no /run/systemd/system): leave "
            "--systemd-cgroup out, and give cgroupsPath as a path",
        )
    if layout.kind != "v2":
        raise SystemdError(
            "",
            f"a scope needs the unified hierarchy alone, and here is {layout.describe()}; leave "
            "--systemd-cgroup out, or boot with systemd.unified_cgroup_hierarchy=1",
        )


def _bus(user: bool) -> Bus:
    from runtime.cgroups.sdbus import Bus

    return Bus(user)


def _start_unit(bus: Bus, unit: str, properties: list[Property]) -> None:
    auxiliary: list[object] = []  # other units to be made beside it
    arguments = (("s", unit), ("s", "replace"), ("a(sv)", properties), ("a(sa(sv))", auxiliary))
    try:
        job = bus.call("StartTransientUnit", *arguments)
    except SystemdError as error:
        if not error.name.endswith(".UnitExists"):
            raise
        # A failed unit of that name is kept for whoever wants to look at it.
        _reset_failed(bus, unit)
        job = bus.call("StartTransientUnit", *arguments)
    result = bus.wait_job(job, _JOB_S)
    if result != "done":
        _reset_failed(bus, unit)
        raise SystemdError("", f"starting {unit} ended with {result!r}; see journalctl -u {unit}")


def _reset_failed(bus: Bus, unit: str) -> None:
    try:
        bus.call("ResetFailedUnit", ("s", unit))
    except SystemdError:
        return  # it has not failed, or is not there: either is what is wanted


def _hold_place() -> tuple[int, int]:
    """A process that does nothing until our end of a pipe is closed, be it by our death."""
    theirs, ours = os.pipe()
    try:
        pid = os.posix_spawnp("cat", ["cat"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)])
    except FileNotFoundError:
        os.close(ours)
        raise CgroupError("no `cat` on the PATH, to hold the scope's place: coreutils") from None
    finally:
        os.close(theirs)
    return pid, ours


def _let_go(pid: int, pipe: int) -> None:
    os.close(pipe)
    os.waitpid(pid, 0)
