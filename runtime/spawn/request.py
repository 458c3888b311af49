"""A plain process to start: everything about it, frozen, and the plan that follows from it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime import capabilities
from runtime.cgroups import Cgroup
from runtime.engine.plan import Plan, process_plan
from runtime.engine.process import RLIMITS
from runtime.engine.steps import Step
from runtime.errors import SpecError

__all__ = ["MAX_FD", "Request", "check_process", "oci_process"]

MAX_FD = 65535
"""The highest descriptor number that a request may ask for; RLIMIT_NOFILE may be lower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One process in the host's namespaces. The defaults make one as root that dies with this one.

    Raises SpecError for what cannot be; whether files and directories are there shows in the
    child, as StepFailed or ExecFailed.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment, nothing is inherited."""
    cwd: str = "/"
    fds: Mapping[int, int] = field(default_factory=dict)
    """Number in the child → descriptor here. 0, 1 and 2 are /dev/null unless given."""
    cgroup: Cgroup | None = None
    before: tuple[Step, ...] = ()
    """Steps of `runtime.engine.steps` that come before all that follows here, with the parent's
    rights: a mount namespace with mounts of its own."""
    root: str | None = None
    """Another root directory, by chroot(2): the bits of an image, without isolation."""
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    rlimits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """`resource.RLIMIT_*` → (soft, hard); -1 is unlimited."""
    capabilities: frozenset[str] | None = None
    """Bounding, permitted and effective set. None leaves the parent's."""
    no_new_privs: bool = False
    pdeathsig: int = signal.SIGKILL
    """Sent when the thread that opened the spawner ends; 0 for a process that may live on."""

    def __post_init__(self) -> None:
        check_process(self.argv, self.env, self.cwd, self.fds, self.uid, self.gid)

    def plan(self) -> Plan:
        """All that is done until the exec; `runtime.engine.describe.listing` prints it."""
        return process_plan(
            oci_process(
                self.argv,
                self.env,
                self.cwd,
                (self.uid, self.gid, *self.groups),
                self.rlimits,
                self.capabilities or frozenset(),
                self.no_new_privs,
            ),
            before=self.before,
            root=self.root,
            cgroup=self.cgroup,
            fds=tuple(self.fds),
            restrict=self.capabilities is not None,
            available=-1 if self.capabilities is None else capabilities.permitted(),
            die_with_parent=self.pdeathsig,
        )


def check_process(
    argv: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    fds: Mapping[int, int],
    uid: int,
    gid: int,
) -> None:
    """Raises SpecError, by the names of this package's own settings, for what cannot be."""
    if not argv or not argv[0]:
        raise SpecError("argv is empty: give the program to run")
    for text in (*argv, *env, *env.values(), cwd):
        if "\0" in text:
            raise SpecError(f"{text!r} has a zero byte, which no argument of exec can carry")
    for name in env:
        if not name or "=" in name:
            raise SpecError(f"env: {name!r} is no name of a variable")
    if not cwd.startswith("/"):
        raise SpecError(f"cwd: {cwd!r} is not absolute")
    if wrong := [number for number in fds if not 0 <= number <= MAX_FD]:
        raise SpecError(f"fds: {wrong} are not between 0 and {MAX_FD}")
    if uid < 0 or gid < 0:
        raise SpecError(f"uid {uid} or gid {gid} is negative")


def oci_process(
    argv: tuple[str, ...],
    env: Mapping[str, str],
    cwd: str,
    ids: tuple[int, ...],
    rlimits: Mapping[int, tuple[int, int]],
    keep: frozenset[str],
    no_new_privs: bool,
) -> dict[str, Any]:
    """The `process` of an OCI configuration. `ids` are uid, gid and supplementary groups."""
    names = {number: name for name, number in RLIMITS.items()}
    kept = sorted(keep)
    return {
        "args": list(argv),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": cwd,
        "user": {"uid": ids[0], "gid": ids[1], "additionalGids": list(ids[2:])},
        "rlimits": [
            {"type": names[what], "soft": soft, "hard": hard}
            for what, (soft, hard) in sorted(rlimits.items())
        ],
        "capabilities": {"bounding": kept, "permitted": kept, "effective": kept},
        "noNewPrivileges": no_new_privs,
    }
