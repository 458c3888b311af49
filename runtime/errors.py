"""Every error that the runtime raises, in one tree.

    ContainerError
    ├── SpecError                what was asked for cannot be (also a ValueError)
    │   ├── ConfigError          … by a config.json: its JSON path and the reason
    │   └── UsageError           … by a command line
    ├── StateError               a container is not in the state that the operation needs
    │   ├── NoSuchContainer      … or there is none of that id
    │   └── NotRunning           … or it has ended
    ├── HookFailed               a hook could not be run, failed, or took too long
    ├── SpawnError               a process could not be started
    │   ├── SpawnerDied          the helper process has gone
    │   ├── StartTimeout         the child did not reach its exec in time
    │   └── StepFailed           one step in the child failed: which, on what, errno
    │       └── ExecFailed       … and it was the exec itself
    ├── StillAlive               a stop ended and something is left: what, by name
    ├── CgroupError              a cgroup could not be made, written, emptied or removed
    │   ├── ControllerMissing    a limit was asked for that no mounted controller enforces
    │   └── SystemdError         systemd was to make the cgroup, and is not there or said no
    ├── ImageError
    │   ├── ImageNotFound        no such name or digest, and no recipe
    │   ├── LayerRefused         an archive that must not be unpacked: which member, why
    │   └── RecipeFailed         an image could not be built: tool missing, or its output
    ├── CompileFailed            a C program of this package could not be compiled
    └── FloorError               the C floor did not come up, or is not open

A message says what was tried, on which object, what came back, and what the user can do.
"""

from __future__ import annotations

import errno as errno_names
import os

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CgroupError",
    "CompileFailed",
    "ConfigError",
    "ContainerError",
    "ControllerMissing",
    "ExecFailed",
    "FloorError",
    "HookFailed",
    "ImageError",
    "ImageNotFound",
    "LayerRefused",
    "NoSuchContainer",
    "NotRunning",
    "RecipeFailed",
    "SpawnError",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StateError",
    "StepFailed",
    "StillAlive",
    "SystemdError",
    "UsageError",
]


class ContainerError(Exception):
    """Root of all errors of this package."""


class SpecError(ContainerError, ValueError):
    """What was asked for cannot be; nothing was started."""


class ConfigError(SpecError):
    """A config.json that cannot be read or must not be run; nothing was started."""

    def __init__(self, path: str, reason: str, name: str = "config.json") -> None:
        self.path = path
        """Where in the document, as a JSON path (`$.process.args[0]`); empty for all of it."""
        self.reason = reason
        """Why."""
        super().__init__(f"{name}: {path}: {reason}" if path else f"{name}: {reason}")


class UsageError(SpecError):
    """A command line that makes no sense."""


class StateError(ContainerError):
    """The container is not in a state in which this can be done; nothing has changed."""


class NoSuchContainer(StateError):
    """There is no container of this id below this root."""

    def __init__(self, container_id: str, root: str) -> None:
        # Callers look for "does not exist": containerd and Podman take it as "gone already".
        super().__init__(f"container {container_id!r} does not exist in {root}")


class NotRunning(StateError):
    """The container's process has ended, or it has none."""


class HookFailed(ContainerError):
    """A hook could not be run, ended with a failure, or outlived its timeout."""


class SpawnError(ContainerError):
    """A process could not be started."""


class SpawnerDied(SpawnError):
    """The helper process that starts all others has gone; open a new `Spawner`."""


class StartTimeout(SpawnError):
    """The child did not reach its exec in the time given."""


class StepFailed(SpawnError):
    """One step of a child's set-up failed; the child is gone."""

    def __init__(self, step: str, errno: int, path: str | None, advice: str = "") -> None:
        self.step = step
        """The step in words, as `describe()` gives it."""
        self.errno = errno
        """The error number that the kernel returned."""
        self.path = path
        """The object the call was about, where there is one."""
        name = errno_names.errorcode.get(errno, str(errno))
        about = f" on {path!r}" if path and path not in step else ""
        hint = f"; {advice}" if advice else ""
        super().__init__(f"could not {step}{about}: {os.strerror(errno)} ({name}){hint}")


class ExecFailed(StepFailed):
    """The program could not be executed: not there, not executable, or its interpreter missing."""


class StillAlive(ContainerError):
    """A stop has used up its deadlines and something is left."""

    def __init__(self, name: str, left: Iterable[str]) -> None:
        self.left = tuple(left)
        """What is left, each in words with its pid or path."""
        super().__init__(
            f"stopping {name!r} left behind: {'; '.join(self.left)}; "
            "a process in state D ends when its I/O does: look at /proc/PID/stack, then stop again"
        )


class CgroupError(ContainerError):
    """A cgroup could not be made, written, emptied or removed."""


class ControllerMissing(CgroupError):
    """A limit was asked for and no mounted controller can enforce it."""

    def __init__(self, controllers: Iterable[str], layout: str) -> None:
        self.controllers = tuple(controllers)
        """Names of the controllers that are not there."""
        super().__init__(
            f"no cgroup controller for {', '.join(self.controllers)} on this host ({layout}); "
            "mount or delegate it, leave the limit out, or pass strict=False and read `unenforced`"
        )


class SystemdError(CgroupError):
    """systemd was to make or change a cgroup, and cannot be reached or said no."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        """The D-Bus error (``org.freedesktop.systemd1.NoSuchUnit``), or ""."""
        super().__init__(f"systemd: {text}")


class ImageError(ContainerError):
    """Something about an image."""


class ImageNotFound(ImageError):
    """No image of that name or digest is stored, and no recipe makes it."""

    def __init__(self, name: str, stored: Iterable[str], recipes: Iterable[str]) -> None:
        self.name = name
        """What was looked for."""
        have = ", ".join(sorted(stored)) or "none"
        make = ", ".join(sorted(recipes)) or "none"
        super().__init__(f"no image {name!r}; stored: {have}; can be built: {make}")


class LayerRefused(ImageError):
    """An archive that must not be unpacked."""

    def __init__(self, archive: str, member: str, reason: str) -> None:
        self.member = member
        """Name of the offending member, as the archive spells it."""
        super().__init__(f"layer {archive} refused at member {member!r}: {reason}")


class RecipeFailed(ImageError):
    """An image could not be built from its recipe."""


class CompileFailed(ContainerError):
    """A C program of this package could not be compiled: no compiler, or what it said."""


class FloorError(ContainerError):
    """The C floor did not come up, or is not open."""
