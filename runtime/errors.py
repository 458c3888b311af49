"""Every error that the runtime raises, in one tree.

    ContainerError
    ├── SpecError                what was asked for cannot be (also a ValueError)
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
    │   ├── ImageInUse           a removal that something running forbids: who
    │   ├── ArchiveRefused       an archive or layout that is no sound image: which member, why
    │   │   ├── LayerRefused     … a layer that must not be unpacked
    │   │   └── DigestMismatch   … a blob that is not what its digest says
    │   ├── LayerDamaged         a stored layer is no longer what its digest says
    │   ├── StoreFull            no room on the disk; the store is as before
    │   ├── RecipeFailed         an image could not be built: tool missing, or its output
    │   ├── RegistryError        a pull or push failed: skopeo's words
    │   │   ├── ImageNotInRegistry   … no such repository or tag there
    │   │   └── RegistryDenied       … it wants (other) credentials
    │   └── BuildError           a build failed: file, line, why
    │       ├── DockerfileError  … it is written in a way that cannot be built
    │       └── BuildStepFailed  … a command ended with an error: status, end of its output
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
    "ArchiveRefused",
    "BuildError",
    "BuildStepFailed",
    "CgroupError",
    "CompileFailed",
    "ContainerError",
    "ControllerMissing",
    "DigestMismatch",
    "DockerfileError",
    "ExecFailed",
    "FloorError",
    "ImageError",
    "ImageInUse",
    "ImageNotFound",
    "ImageNotInRegistry",
    "LayerDamaged",
    "LayerRefused",
    "RecipeFailed",
    "RegistryDenied",
    "RegistryError",
    "SpawnError",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StepFailed",
    "StillAlive",
    "StoreFull",
    "SystemdError",
]


class ContainerError(Exception):
    """Root of all errors of this package."""


class SpecError(ContainerError, ValueError):
    """What was asked for cannot be; nothing was started."""


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


class ImageInUse(ImageError):
    """An image cannot be removed: something that runs stands on it."""

    def __init__(self, name: str, holders: Iterable[str]) -> None:
        self.holders = tuple(holders)
        """Who holds it, in words."""
        super().__init__(
            f"image {name!r} is in use by {', '.join(self.holders)}; stop that first, or take "
            "only the name away (force) and prune later"
        )


class ArchiveRefused(ImageError):
    """An image archive or layout that cannot be taken. Nothing of it is in the store."""

    what = "image archive"

    def __init__(self, archive: str, member: str, reason: str) -> None:
        self.archive = archive
        """The file or directory, or what stands for it."""
        self.member = member
        """Name of the offending member, as the archive spells it."""
        super().__init__(f"{self.what} {archive} refused at member {member!r}: {reason}")


class LayerRefused(ArchiveRefused):
    """An archive that must not be unpacked."""

    what = "layer"


class DigestMismatch(ArchiveRefused):
    """A manifest, configuration or layer is not what its digest says."""

    def __init__(self, archive: str, member: str, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            archive,
            member,
            f"its digest should be {expected} and is {found}; it was damaged or exchanged on its "
            "way, fetch it again",
        )


class LayerDamaged(ImageError):
    """A stored layer is no longer what its digest says: something wrote into the store."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        """The file or directory in the store."""
        super().__init__(
            f"the stored layer is damaged: {path} {reason}; remove the images that use it, prune, "
            "and load or pull them again"
        )


class StoreFull(ImageError):
    """The disk has no room. What was being made is gone, the store is as before."""


class RecipeFailed(ImageError):
    """An image could not be built from its recipe."""


class RegistryError(ImageError):
    """A pull or push failed."""

    def __init__(self, tried: str, reference: str, words: str) -> None:
        self.reference = reference
        """The image in the registry."""
        self.words = words
        """What skopeo said."""
        super().__init__(f"cannot {tried} {reference}: {words}")


class ImageNotInRegistry(RegistryError):
    """The registry has no such repository or tag."""


class RegistryDenied(RegistryError):
    """The registry wants credentials, or others."""


class BuildError(ImageError):
    """A build failed. Steps that were done before are in the cache."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        self.file = file
        """The Dockerfile."""
        self.line = line
        """Line of the instruction, from 1."""
        super().__init__(f"{file}:{line}: {reason}")


class DockerfileError(BuildError):
    """A Dockerfile is written in a way that cannot be built; nothing was run for it."""


class BuildStepFailed(BuildError):
    """A command of the build ended with an error."""

    def __init__(self, file: str, line: int, step: str, status: int, output: str) -> None:
        self.status = status
        """Its exit status; 128 and a signal's number if one ended it."""
        self.output = output
        """The end of what it wrote."""
        super().__init__(
            file, line, f"{step} ended with {status}; the end of what it wrote:\n{output}"
        )


class CompileFailed(ContainerError):
    """A C program of this package could not be compiled: no compiler, or what it said."""


class FloorError(ContainerError):
    """The C floor did not come up, or is not open."""
