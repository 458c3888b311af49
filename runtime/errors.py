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
    ├── NetworkError             a network could not be made, changed, read or removed
    │   ├── NetworkNotFound      no network of that name in this store
    │   ├── NetworkExists        that name is taken, by whom
    │   ├── NetworkInUse         it cannot be removed: endpoints of the living are on it
    │   ├── SubnetInUse          a subnet overlaps a route of the host or another network
    │   ├── AddressExhausted     a subnet has no address left
    │   ├── AddressInUse         the address that was wanted is taken, or not of the subnet
    │   ├── NameInUse            an endpoint of that name is on the network already
    │   ├── PortInUse            a host port is taken, by whom
    │   └── KernelRefused        a netlink message, nft transaction or switch failed: errno
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
    "AddressExhausted",
    "AddressInUse",
    "ArchiveRefused",
    "BuildError",
    "BuildStepFailed",
    "CgroupError",
    "CompileFailed",
    "ConfigError",
    "ContainerError",
    "ControllerMissing",
    "DigestMismatch",
    "DockerfileError",
    "ExecFailed",
    "FloorError",
    "HookFailed",
    "ImageError",
    "ImageInUse",
    "ImageNotFound",
    "ImageNotInRegistry",
    "KernelRefused",
    "LayerDamaged",
    "LayerRefused",
    "NameInUse",
    "NetworkError",
    "NetworkExists",
    "NetworkInUse",
    "NetworkNotFound",
    "NoSuchContainer",
    "NotRunning",
    "PortInUse",
    "RecipeFailed",
    "RegistryDenied",
    "RegistryError",
    "SpawnError",
    "SpawnerDied",
    "SpecError",
    "StartTimeout",
    "StateError",
    "StepFailed",
    "StillAlive",
    "StoreFull",
    "SubnetInUse",
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


class NetworkError(ContainerError):
    """Something about a network."""


class NetworkNotFound(NetworkError):
    """No network of that name is in the store."""

    def __init__(self, name: str, store: str, known: Iterable[str]) -> None:
        self.name = name
        """What was looked for."""
        have = ", ".join(sorted(known)) or "none"
        super().__init__(f"no network {name!r} in {store}; there: {have}; make it with create()")


class NetworkExists(NetworkError):
    """The name of a network is taken."""


class NetworkInUse(NetworkError):
    """A network cannot be removed while endpoints of living owners are on it."""

    def __init__(self, name: str, endpoints: Iterable[str]) -> None:
        self.endpoints = tuple(endpoints)
        """Each in words: name and address."""
        super().__init__(
            f"network {name!r} is in use by {', '.join(self.endpoints)}; disconnect them first, "
            "or remove it with force=True"
        )


class SubnetInUse(NetworkError):
    """A subnet overlaps what is there already."""

    def __init__(self, subnet: str, other: str) -> None:
        self.subnet = subnet
        """What was wanted, in CIDR notation."""
        self.other = other
        """What it overlaps, in words."""
        super().__init__(
            f"subnet {subnet} overlaps {other}; choose another one, or none to have one chosen"
        )


class AddressExhausted(NetworkError):
    """No address of a subnet is free."""

    def __init__(self, network: str, subnet: str, taken: int) -> None:
        self.subnet = subnet
        """In CIDR notation."""
        super().__init__(
            f"network {network!r}: all {taken} addresses of {subnet} are taken; disconnect "
            "endpoints, run collect() for those of dead owners, or make a wider network"
        )


class AddressInUse(NetworkError):
    """The address that was asked for cannot be had."""


class NameInUse(NetworkError):
    """An endpoint of that name is on the network already."""


class PortInUse(NetworkError):
    """A port of the host cannot be published: something has it."""

    def __init__(self, port: str, holder: str) -> None:
        self.port = port
        """As address:port/protocol."""
        self.holder = holder
        """Who has it, in words."""
        super().__init__(f"cannot publish {port}: {holder}; choose another port, or 0 for any")


class KernelRefused(NetworkError):
    """The kernel refused one message, transaction or switch."""

    def __init__(self, what: str, errno: int, said: str = "") -> None:
        self.what = what
        """What was asked, in words."""
        self.errno = errno
        """The error number; 0 where only text came back."""
        name = errno_names.errorcode.get(errno, str(errno))
        came = f"{os.strerror(errno)} ({name})" if errno else ""
        reason = ": ".join(part for part in (came, said) if part)
        advice = _NETWORK_ADVICE.get(errno, "")
        super().__init__(f"could not {what}: {reason}{f'; {advice}' if advice else ''}")


_NETWORK_ADVICE = {
    errno_names.EPERM: "networks need root, or CAP_NET_ADMIN in the user namespace of this "
    "network namespace",
    errno_names.EOPNOTSUPP: "the kernel was built without it, or its module is not loaded",
    errno_names.EXFULL: "a Linux bridge takes at most 1,023 ports: use a second network",
    errno_names.EROFS: "/proc/sys is read-only here: inside a container, give it a writable one",
}


class CompileFailed(ContainerError):
    """A C program of this package could not be compiled: no compiler, or what it said."""


class FloorError(ContainerError):
    """The C floor did not come up, or is not open."""
