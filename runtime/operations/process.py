"""Operations on the process itself: where it belongs, what it is, what it may do."""

from __future__ import annotations

from dataclasses import dataclass

from runtime import capabilities, steps, syscalls
from runtime.namespaces import Namespace
from runtime.operations.base import Operation

__all__ = [
    "DieWithParent",
    "DropBounding",
    "JoinCgroup",
    "LoopbackUp",
    "NewSession",
    "NoNewPrivileges",
    "SetCapabilities",
    "SetHostname",
    "SetIds",
    "SetLimit",
    "Umask",
    "Unshare",
]


@dataclass(frozen=True, slots=True)
class JoinCgroup(Operation):
    """Moves the process itself ("0") into a cgroup, so that there is no moment outside it."""

    directory: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"join cgroup {self.directory}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("write", f"{self.directory}/cgroup.procs", "0")


@dataclass(frozen=True, slots=True)
class Unshare(Operation):
    """A new namespace of these kinds for the process itself."""

    namespaces: Namespace

    def describe(self) -> str:
        """See `Operation`."""
        return f"unshare {str(self.namespaces.name).lower()} namespace"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("unshare", int(self.namespaces))


@dataclass(frozen=True, slots=True)
class SetHostname(Operation):
    """The name that this UTS namespace goes by."""

    name: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"set hostname {self.name}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("sethostname", self.name)


@dataclass(frozen=True, slots=True)
class LoopbackUp(Operation):
    """Brings up `lo`, which a new network namespace has down."""

    def describe(self) -> str:
        """See `Operation`."""
        return "bring up the loopback interface"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("loopback_up",)


@dataclass(frozen=True, slots=True)
class NewSession(Operation):
    """A session of its own: no terminal's Ctrl-C reaches it but through the runtime."""

    def describe(self) -> str:
        """See `Operation`."""
        return "start a session"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("setsid",)


@dataclass(frozen=True, slots=True)
class Umask(Operation):
    """The mode bits that new files go without."""

    value: int

    def describe(self) -> str:
        """See `Operation`."""
        return f"set umask {self.value:03o}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("umask", self.value)


@dataclass(frozen=True, slots=True)
class SetLimit(Operation):
    """A resource limit, by its number in `resource`; -1 is unlimited (prlimit(2))."""

    resource: int
    soft: int
    hard: int

    def describe(self) -> str:
        """See `Operation`."""
        return f"set resource limit {self.resource} to {self.soft}:{self.hard}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("prlimit", int(self.resource), self.soft, self.hard)


@dataclass(frozen=True, slots=True)
class SetIds(Operation):
    """User, group and supplementary groups, real, effective and saved alike."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def describe(self) -> str:
        """See `Operation`."""
        return f"become user {self.uid}, group {self.gid}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("setids", self.uid, self.gid, self.groups)


@dataclass(frozen=True, slots=True)
class DropBounding(Operation):
    """Takes all capabilities but these out of the bounding set. Needs CAP_SETPCAP: comes early."""

    keep: frozenset[str]

    def describe(self) -> str:
        """See `Operation`."""
        return f"reduce the bounding set to {len(self.keep)} capabilities"

    def step(self) -> steps.Step:
        """See `Operation`."""
        everything = (1 << capabilities.last_capability() + 1) - 1
        return ("drop_bounding", capabilities.bits(everything & ~capabilities.mask(self.keep)))


@dataclass(frozen=True, slots=True)
class SetCapabilities(Operation):
    """Effective and permitted are these, inheritable is empty; ambient follows inheritable down
    to nothing (capabilities(7))."""

    keep: frozenset[str]

    def describe(self) -> str:
        """See `Operation`."""
        return f"reduce to {len(self.keep)} capabilities"

    def step(self) -> steps.Step:
        """What the parent itself lacks cannot be kept, so the child meets it with its own."""
        return ("capset", capabilities.mask(self.keep) & capabilities.permitted())


@dataclass(frozen=True, slots=True)
class NoNewPrivileges(Operation):
    """No exec gives more rights, set-user-ID files included."""

    def describe(self) -> str:
        """See `Operation`."""
        return "forbid new privileges"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("prctl", syscalls.PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True, slots=True)
class DieWithParent(Operation):
    """The kernel sends this signal when the parent thread ends (PR_SET_PDEATHSIG(2const)).

    A change of credentials clears it, so it comes after them; the helper then looks whether the
    parent was gone already.
    """

    signal: int

    def describe(self) -> str:
        """See `Operation`."""
        return f"ask for signal {self.signal} at the parent's death"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("die_with_parent", int(self.signal))  # marshal takes no enum

    def execute(self) -> None:
        """Without the helper's look at the parent."""
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, self.signal)
