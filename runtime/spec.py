"""What a container is to be: one frozen description."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from runtime.capabilities import DEFAULT
from runtime.cgroups.devices import DEFAULT as DEFAULT_DEVICES
from runtime.cgroups.limits import merge, resources
from runtime.engine import defaults
from runtime.engine.namespaces import NAMESPACES
from runtime.errors import SpecError
from runtime.namespaces import Namespace
from runtime.security.maps import own_maps
from runtime.security.seccomp import default_profile
from runtime.spawn.request import check_process, oci_process

__all__ = ["ContainerSpec", "Limits"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names are directory names, cgroup names and host names (64 bytes, sethostname(2))."""

_TTY = 5
"""The group of terminals, as everywhere."""
_NEEDED = Namespace.PID | Namespace.MOUNT


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take; None is no limit."""

    cpus: float | None = None
    """CPUs' worth of time, a fraction is fine."""
    memory: int | None = None
    """Bytes, swap included."""
    pids: int | None = None
    """Tasks alive at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container. Raises SpecError for what cannot be."""

    name: str
    layers: tuple[Path, ...]
    """Directories of the root file system, lowest first: `Image.layers`."""
    argv: tuple[str, ...]
    state_dir: Path
    """Made at launch and removed at stop: holds upper/, work/ and rootfs/. On a file system that
    overlayfs takes as an upper layer (not on another overlay)."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    hostname: str | None = None
    """The container's name if not given."""
    limits: Limits = Limits()
    namespaces: Namespace = Namespace.CONTAINER
    fds: Mapping[int, int] = field(default_factory=dict)
    """Number inside → descriptor here; 0, 1 and 2 are /dev/null unless given."""
    rlimits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    capabilities: frozenset[str] = DEFAULT
    no_new_privs: bool = True
    loopback: bool = False
    """Bring `lo` up. Off by default, because no workload of the lab needs it."""

    mounts: tuple[Mapping[str, Any], ...] = ()
    """Further mounts, in OCI's shape: volumes by bind, tmpfs, …"""
    devices: tuple[Mapping[str, Any], ...] = ()
    """Further device nodes, in OCI's shape (`linux.devices`), which it may then use."""
    resources: Mapping[str, Any] = field(default_factory=dict)
    """Limits that `limits` has no name for, in OCI's shape (`linux.resources`)."""
    readonly: bool = False
    """The root file system cannot be written to; its mounts can."""
    terminal: tuple[int, int] | None = None
    """Rows and columns of a terminal of its own, in the place of descriptors 0, 1 and 2."""
    init: bool = False
    """A small init as PID 1, which reaps orphans and passes signals on; else PID 1 is the workload
    itself."""
    time_offsets: Mapping[str, float] = field(default_factory=dict)
    """Seconds by which `boottime` and `monotonic` are ahead in a TIME namespace."""
    uid_map: tuple[tuple[int, int, int], ...] = ()
    """Of a USER namespace: (first id inside, first id outside, count) each. An ordinary user who
    gives none gets `runtime.security.maps.own_maps`: himself as root inside."""
    gid_map: tuple[tuple[int, int, int], ...] = ()
    seccomp: Mapping[str, Any] | Literal["default"] | None = "default"
    """OCI's `linux.seccomp`; "default" is `runtime.security.seccomp.default_profile`, None no
    filter."""

    def __post_init__(self) -> None:
        check_process(self.argv, self.env, self.cwd, self.fds, self.uid, self.gid)
        if not _NAME.fullmatch(self.name):
            raise SpecError(
                f"name: {self.name!r} must be 1 to 64 of A-Z a-z 0-9 _ . - and start with a "
                "letter or digit"
            )
        if not self.layers:
            raise SpecError("layers: at least one is needed, there is no root file system")
        if not self.state_dir.is_absolute():
            raise SpecError(f"state_dir: {self.state_dir} is not absolute")
        if self.namespaces & _NEEDED != _NEEDED:
            raise SpecError(
                "namespaces: a container needs PID (its end is the end of PID 1) and MOUNT (its "
                "mounts must not be the host's); use Request for a plain process"
            )
        self._complete_maps()
        if self.terminal is not None and self.fds.keys() & {0, 1, 2}:
            raise SpecError("terminal: takes the place of descriptors 0, 1 and 2: pass no others")
        if self.loopback and not self.namespaces & Namespace.NET:
            raise SpecError("loopback: needs a NET namespace, this would touch the host's lo")

    def _complete_maps(self) -> None:
        if bool(self.uid_map) != bool(self.gid_map):
            raise SpecError("uid_map, gid_map: give both or neither")
        if not self.namespaces & Namespace.USER:
            if self.uid_map:
                raise SpecError("uid_map: needs a USER namespace")
            if os.geteuid():
                raise SpecError(
                    "namespaces: an ordinary user needs USER among them, which brings the right "
                    "to have the others"
                )
        elif not self.uid_map:
            if not os.geteuid():
                raise SpecError("uid_map: root has to say which users a USER namespace maps")
            name = pwd.getpwuid(os.getuid()).pw_name
            uids, gids = own_maps(os.geteuid(), os.getegid(), name)
            object.__setattr__(self, "uid_map", uids)
            object.__setattr__(self, "gid_map", gids)

    def config(self) -> dict[str, Any]:
        """The same as an OCI runtime configuration (OCI config.md), but for what it has no words
        for: layers, descriptors, cgroup limits."""
        ids = (self.uid, self.gid, *self.groups)
        process = oci_process(
            self.argv,
            self.env,
            self.cwd,
            ids,
            self.rlimits,
            self.capabilities,
            self.no_new_privs,
        )
        config: dict[str, Any] = {
            "ociVersion": "1.2.0",
            "process": process,
            "root": {"path": str(self.rootfs), "readonly": self.readonly},
            "mounts": [*self._default_mounts(), *self.mounts],
            "linux": {
                "namespaces": [
                    {"type": kind} for kind, flag in NAMESPACES.items() if self.namespaces & flag
                ],
                "devices": [dict(device) for device in self.devices],
                "resources": self.all_resources(),
                "maskedPaths": list(defaults.MASKED),
                "readonlyPaths": list(defaults.READ_ONLY),
            },
        }
        if self.namespaces & Namespace.UTS:
            config["hostname"] = self.hostname or self.name
        if self.terminal is not None:
            rows, columns = self.terminal
            process["terminal"] = True
            process["consoleSize"] = {"height": rows, "width": columns}
        linux = config["linux"]
        if self.time_offsets:
            linux["timeOffsets"] = {
                clock: {"secs": int(ahead // 1), "nanosecs": round(ahead % 1 * 10**9)}
                for clock, ahead in self.time_offsets.items()
            }
        if self.uid_map:
            for key, lines in (("uidMappings", self.uid_map), ("gidMappings", self.gid_map)):
                linux[key] = [
                    {"containerID": inside, "hostID": outside, "size": count}
                    for inside, outside, count in lines
                ]
        if self.seccomp == "default":
            config["linux"]["seccomp"] = _default_seccomp(self.capabilities)
        elif self.seccomp is not None:
            config["linux"]["seccomp"] = dict(self.seccomp)
        return config

    def all_resources(self) -> dict[str, Any]:
        """`limits` and `resources` together, and the devices that it may use: the default ones,
        its own, and no others."""
        limits = self.limits
        own = [
            {
                "allow": True,
                "type": "b" if device.get("type") == "b" else "c",
                "major": device["major"],
                "minor": device["minor"],
                "access": "rwm",
            }
            for device in self.devices
            if device.get("type") != "p"
        ]
        named = resources(cpus=limits.cpus, memory=limits.memory, pids=limits.pids)
        return merge({"devices": [*DEFAULT_DEVICES, *own], **self.resources}, named)

    def _default_mounts(self) -> tuple[dict[str, Any], ...]:
        mounts = _default_mounts(self.namespaces)
        terminals = any(first <= _TTY < first + count for first, _, count in self.gid_map)
        if self.gid_map and not terminals:
            mounts = tuple(
                {**mount, "options": [each for each in mount["options"] if each != f"gid={_TTY}"]}
                for mount in mounts
            )
        return mounts

    @property
    def upper_dir(self) -> Path:
        """What the container has written: its own blocks on disk."""
        return self.state_dir / "upper"

    @property
    def work_dir(self) -> Path:
        """The directory that overlayfs itself needs."""
        return self.state_dir / "work"

    @property
    def rootfs(self) -> Path:
        """Where the root is mounted, in the container's own mount namespace; empty outside."""
        return self.state_dir / "rootfs"


@lru_cache(maxsize=16)
def _default_mounts(namespaces: Namespace) -> tuple[dict[str, Any], ...]:
    """Docker's, but for a message queue file system where it would be the host's, or where this
    kernel has none (CONFIG_POSIX_MQUEUE)."""
    mounts = defaults.MOUNTS
    with open("/proc/filesystems") as file:
        known = {line.split()[-1] for line in file}
    if not namespaces & Namespace.IPC or "mqueue" not in known:
        mounts = tuple(mount for mount in mounts if mount["type"] != "mqueue")
    return mounts


_default_seccomp = lru_cache(maxsize=16)(default_profile)
