"""What a client raises besides what lies below it (the tree in `runtime.errors`).

ContainerError
├── ClientError            a container could not be started or watched
│   ├── RuntimeFailed      the OCI runtime's command ended with an error: verb, its words
│   └── CommandFailed      a container that was run to its end ended with a status other than 0
├── NameTaken              a container has that name
├── ContainerNotFound      no container is called that
├── VolumeNotFound         no volume is called that
└── VolumeInUse            a volume cannot be removed: containers have it
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from runtime.errors import ContainerError

__all__ = [
    "ClientError",
    "CommandFailed",
    "ContainerNotFound",
    "NameTaken",
    "RuntimeFailed",
    "VolumeInUse",
    "VolumeNotFound",
]

_WORDS = 2000
"""Characters of a program's own output that an error repeats."""


class ClientError(ContainerError):
    """A container could not be started or watched."""


class RuntimeFailed(ClientError):
    """The OCI runtime's command ended with an error."""

    def __init__(self, verb: str, status: int, words: str) -> None:
        self.verb = verb
        """What it was to do."""
        self.status = status
        """Its exit status."""
        super().__init__(f"{verb}: {words}")


class CommandFailed(ClientError):
    """What ran in the container ended with a status other than 0 (docker-py: ContainerError)."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        exit_status: int,
        stderr: bytes,
        *,
        oom_killed: bool = False,
    ) -> None:
        self.command = tuple(command)
        """Its argument vector."""
        self.exit_status = exit_status
        """128+n after signal n."""
        self.stderr = stderr
        """All that it wrote to standard error."""
        self.oom_killed = oom_killed
        """Whether the kernel killed something in it for want of memory."""
        why = " (out of memory: raise mem_limit)" if oom_killed else ""
        said = stderr.decode(errors="replace")[-_WORDS:].strip()
        super().__init__(
            f"{shlex.join(command)} in container {name} ended with status {exit_status}{why}"
            f"{f'; it wrote: {said}' if said else ''}"
        )


class NameTaken(ContainerError):
    """A container has that name."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f"the name {name!r} is that of container {holder[:12]}: remove that one, or take "
            "another name"
        )


class ContainerNotFound(ContainerError):
    """No container is called that."""

    def __init__(self, name: str, names: Iterable[str]) -> None:
        super().__init__(f"no container {name!r}; there are: {', '.join(names) or 'none'}")


class VolumeNotFound(ContainerError):
    """No volume is called that."""

    def __init__(self, name: str, names: Iterable[str]) -> None:
        super().__init__(f"no volume {name!r}; there are: {', '.join(names) or 'none'}")


class VolumeInUse(ContainerError):
    """A volume cannot be removed: containers have it."""

    def __init__(self, name: str, users: Iterable[str]) -> None:
        super().__init__(f"volume {name!r} is in use by {', '.join(users)}: remove these first")
