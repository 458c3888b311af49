"""The vocabulary of a set-up: small frozen operations that say what they do and then do it.

`describe()` gives words that fit after "could not …", so that a plan prints and an error reads.
`step()` gives the same thing as plain data for the spawn helper (runtime/steps.py); `execute()`
does it in this process. The order of operations is tested without root by their descriptions.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import ClassVar

from runtime import capabilities, steps, syscalls
from runtime.errors import SpecError
from runtime.namespaces import Namespace

__all__ = [
    "Bind",
    "Chdir",
    "Chroot",
    "DieWithParent",
    "DropBounding",
    "JoinCgroup",
    "LoopbackUp",
    "MakeDevice",
    "MakeDirectory",
    "MakeSymlink",
    "Mark",
    "Mask",
    "Mount",
    "MountOverlay",
    "NewSession",
    "NoNewPrivileges",
    "Operation",
    "Pivot",
    "PrivatePropagation",
    "ReadOnly",
    "SetCapabilities",
    "SetHostname",
    "SetIds",
    "SetLimit",
    "Umask",
    "Unshare",
]

_MOUNT_FLAGS = {
    syscalls.MS_RDONLY: "ro",
    syscalls.MS_NOSUID: "nosuid",
    syscalls.MS_NODEV: "nodev",
    syscalls.MS_NOEXEC: "noexec",
    syscalls.MS_BIND: "bind",
    syscalls.MS_REC: "rec",
}

_PAGE = 4096
"""mount(2) copies at most one page of options, the terminating zero included."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that is done between clone and exec."""

    def describe(self) -> str:
        """What it does, in words that fit after "could not"."""
        raise NotImplementedError

    def step(self) -> steps.Step:
        """The same as plain data: a name of `steps.STEPS` and its arguments."""
        raise NotImplementedError

    def execute(self) -> None:
        """Do it here and now. Raises OSError with the path."""
        steps.run(self.step())


@dataclass(frozen=True, slots=True)
class Mark(Operation):
    """Takes the time: the phase of this name is reached. Only the spawn helper has a use for it."""

    name: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"note the time of {self.name!r}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mark", self.name)

    def execute(self) -> None:
        """Nothing: the one who executes here can look at the clock."""


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
class PrivatePropagation(Operation):
    """Cuts all mounts loose from the host's, so that nothing done here shows there
    (mount_namespaces(7), "Shared subtrees")."""

    def describe(self) -> str:
        """See `Operation`."""
        return "make mount propagation private"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mount", None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)


@dataclass(frozen=True, slots=True)
class Mount(Operation):
    """A new file system on a directory that is there."""

    fstype: str
    target: str
    flags: int = 0
    data: str | None = None

    def describe(self) -> str:
        """See `Operation`."""
        words = [word for bit, word in _MOUNT_FLAGS.items() if self.flags & bit]
        if self.data:
            words.append(self.data)
        options = f" ({','.join(words)})" if words else ""
        return f"mount {self.fstype} on {self.target}{options}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mount", self.fstype, self.target, self.fstype, self.flags, self.data)


@dataclass(frozen=True, slots=True)
class Bind(Operation):
    """Shows a file or tree of the host at a second place. Both must be there."""

    source: str
    target: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"bind {self.source} on {self.target}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        flags = syscalls.MS_BIND | syscalls.MS_REC
        return ("mount", self.source, self.target, None, flags, None)


@dataclass(frozen=True, slots=True)
class MountOverlay(Operation):
    """An overlay of read-only layers, lowest first, with a writable one on top where `upper` is
    given (Documentation/filesystems/overlayfs.rst).

    Volatile by default: nothing of a short-lived container's upper layer has to survive a crash
    of the host, and without it every unmount would wait for a sync of the disk below.
    """

    lowers: tuple[str, ...]
    target: str
    upper: str | None = None
    work: str | None = None
    volatile: bool = True

    def __post_init__(self) -> None:
        for path in (*self.lowers, self.upper or "", self.work or ""):
            if any(character in path for character in ":,\\"):
                raise SpecError(
                    f"overlayfs cannot take the path {path!r}: ':', ',' and '\\' separate its "
                    "options; use another directory"
                )
        if not self.lowers or (self.upper is None) != (self.work is None):
            raise SpecError("an overlay needs a lower layer, and upper and work both or neither")

    def describe(self) -> str:
        """See `Operation`."""
        count = f"{len(self.lowers)} layer{'s' if len(self.lowers) > 1 else ''}"
        return f"mount overlay of {count} on {self.target}"

    def step(self) -> steps.Step:
        """One mount(2) if its options fit in a page, else the new mount API."""
        top_first = tuple(reversed(self.lowers))  # "lowerdir=top:…:bottom"
        options: tuple[tuple[str, str | None], ...] = ()
        if self.upper and self.work:
            options = (("upperdir", self.upper), ("workdir", self.work))
            if self.volatile:
                options += (("volatile", None),)
        words = [f"lowerdir={':'.join(top_first)}"]
        words += [key if value is None else f"{key}={value}" for key, value in options]
        data = ",".join(words)
        if len(data.encode()) < _PAGE:
            return ("mount", "overlay", self.target, "overlay", 0, data)
        return ("mount_overlay", self.target, top_first, options)


@dataclass(frozen=True, slots=True)
class Pivot(Operation):
    """Makes the working directory the root, and detaches the old root. All after it is confined."""

    def describe(self) -> str:
        """See `Operation`."""
        return "pivot into the new root and detach the old one"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("pivot",)


@dataclass(frozen=True, slots=True)
class Chroot(Operation):
    """Changes the root directory. No isolation: only for plain processes that need an image."""

    path: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"chroot to {self.path}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("chroot", self.path)


@dataclass(frozen=True, slots=True)
class Chdir(Operation):
    """Changes the working directory."""

    path: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"change directory to {self.path}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("chdir", self.path)


@dataclass(frozen=True, slots=True)
class MakeDirectory(Operation):
    """A directory to mount on; one that is there is taken, a symbolic link is refused."""

    path: str
    mode: int = 0o755

    def describe(self) -> str:
        """See `Operation`."""
        return f"make directory {self.path}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mount_point", self.path, self.mode)


@dataclass(frozen=True, slots=True)
class MakeSymlink(Operation):
    """A symbolic link."""

    path: str
    target: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"link {self.path} to {self.target}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("symlink", self.target, self.path)


@dataclass(frozen=True, slots=True)
class MakeDevice(Operation):
    """A character device that everybody may read and write."""

    path: str
    major: int
    minor: int
    mode: ClassVar[int] = stat.S_IFCHR | 0o666

    def describe(self) -> str:
        """See `Operation`."""
        return f"make device {self.path} ({self.major}:{self.minor})"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mknod", self.path, self.mode, self.major, self.minor)


@dataclass(frozen=True, slots=True)
class Mask(Operation):
    """Hides a path, if this kernel has it."""

    path: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"mask {self.path}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mask", self.path)


@dataclass(frozen=True, slots=True)
class ReadOnly(Operation):
    """Makes a path read-only, if this kernel has it."""

    path: str

    def describe(self) -> str:
        """See `Operation`."""
        return f"make {self.path} read-only"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("read_only", self.path)


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
