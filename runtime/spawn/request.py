"""What to start: everything about one process, frozen, and the plan that follows from it."""

from __future__ import annotations

import marshal
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.cgroups import Cgroup
from runtime.errors import SpecError
from runtime.namespaces import Namespace
from runtime.operations import (
    Chdir,
    DieWithParent,
    DropBounding,
    JoinCgroup,
    NewSession,
    NoNewPrivileges,
    Operation,
    SetCapabilities,
    SetHostname,
    SetIds,
    SetLimit,
    Umask,
    Unshare,
)

__all__ = ["DEFAULT_PATH", "MAX_FD", "Request"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program without a slash is looked for if the environment has no PATH."""

MAX_FD = 65535
"""The highest descriptor number that a request may ask for; RLIMIT_NOFILE may be lower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One process to start. The defaults make a plain process as root, in no namespace of its
    own, that dies with this one.

    Raises SpecError for what cannot be; whether files and directories are there shows in the
    child, as StepFailed or ExecFailed.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment, nothing is inherited."""
    cwd: str = "/"
    fds: Mapping[int, int] = field(default_factory=dict)
    """Number in the child → descriptor here. 0, 1 and 2 are /dev/null unless given."""
    namespaces: Namespace = Namespace.NONE
    cgroup: Cgroup | None = None
    operations: tuple[Operation, ...] = ()
    """What to do inside the new namespaces, before hostname, limits and identity."""
    hostname: str | None = None
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
        if not self.argv or not self.argv[0]:
            raise SpecError("argv is empty: give the program to run")
        for text in (*self.argv, *self.env, *self.env.values(), self.cwd):
            if "\0" in text:
                raise SpecError(f"{text!r} has a zero byte, which no argument of exec can carry")
        for name in self.env:
            if not name or "=" in name:
                raise SpecError(f"env: {name!r} is no name of a variable")
        if not self.cwd.startswith("/"):
            raise SpecError(f"cwd: {self.cwd!r} is not absolute")
        if wrong := [number for number in self.fds if not 0 <= number <= MAX_FD]:
            raise SpecError(f"fds: {wrong} are not between 0 and {MAX_FD}")
        if self.uid < 0 or self.gid < 0:
            raise SpecError(f"uid {self.uid} or gid {self.gid} is negative")
        if self.hostname is not None and not self.namespaces & Namespace.UTS:
            raise SpecError("hostname: needs a UTS namespace, or it would rename the host")

    def plan(self) -> tuple[Operation, ...]:
        """All that the child does before its exec, in order, and why in that order."""
        plan: list[Operation] = [NewSession()]
        if self.cgroup is not None:
            # First: nothing that follows may be charged to another cgroup.
            plan += [JoinCgroup(directory) for directory in self.cgroup.join]
        if self.namespaces & Namespace.CGROUP:
            # After joining: the cgroup that a process is in *now* becomes its namespace's root
            # (cgroup_namespaces(7)); clone3 would take the helper's.
            plan.append(Unshare(Namespace.CGROUP))
        plan += self.operations
        if self.hostname is not None:
            plan.append(SetHostname(self.hostname))
        plan += [SetLimit(what, *pair) for what, pair in sorted(self.rlimits.items())]
        if self.capabilities is not None:
            plan.append(DropBounding(self.capabilities))  # needs CAP_SETPCAP: before the ids
        plan.append(SetIds(self.uid, self.gid, self.groups))
        if self.capabilities is not None and self.uid == 0:
            plan.append(SetCapabilities(self.capabilities))  # another user has none already
        if self.no_new_privs:
            plan.append(NoNewPrivileges())
        plan += [Chdir(self.cwd), Umask(0o022)]  # as the user: its rights decide
        if self.pdeathsig:
            plan.append(DieWithParent(self.pdeathsig))  # after the ids: they would clear it
        return tuple(plan)

    def candidates(self) -> tuple[str, ...]:
        """The paths that argv[0] may mean, in order (execvp(3))."""
        program = self.argv[0]
        if "/" in program:
            return (program,)
        path = self.env.get("PATH", DEFAULT_PATH)
        return tuple(f"{directory or '.'}/{program}" for directory in path.split(":"))

    def encode(self, plan: tuple[Operation, ...]) -> bytes:
        """The message for the helper (its docstring has the format)."""
        into = self.cgroup.into if self.cgroup is not None else None
        return marshal.dumps(
            (
                int(self.namespaces & ~Namespace.CGROUP),
                into or "",
                tuple(self.fds),
                [operation.step() for operation in plan],
                (self.candidates(), self.argv, dict(self.env)),
            )
        )
