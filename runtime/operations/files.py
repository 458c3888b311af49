"""Operations on mounts and files."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import ClassVar

from runtime import steps, syscalls
from runtime.errors import SpecError
from runtime.operations.base import Operation

__all__ = [
    "Bind",
    "Chdir",
    "Chroot",
    "MakeDevice",
    "MakeDirectory",
    "MakeSymlink",
    "Mask",
    "Mount",
    "MountOverlay",
    "Pivot",
    "PrivatePropagation",
    "ReadOnly",
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
    advice: ClassVar[str] = (
        "the upper layer cannot lie on another overlay or a network file system: put the state "
        "directory on a disk or a tmpfs; dmesg has the kernel's reason"
    )

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
    """A directory to mount on. One that is there is taken, a symbolic link is refused; where it
    is known that there is none, `fresh` saves the look."""

    path: str
    mode: int = 0o755
    fresh: bool = False

    def describe(self) -> str:
        """See `Operation`."""
        return f"make directory {self.path}"

    def step(self) -> steps.Step:
        """See `Operation`."""
        return ("mkdir" if self.fresh else "mount_point", self.path, self.mode)


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
