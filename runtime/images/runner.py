"""What a build needs of whoever runs its commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["Network", "RunStep", "Runner"]

Network = Literal["none", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """One command to run in a container."""

    name: str
    layers: tuple[Path, ...]
    """Its root file system, lowest first."""
    upper: Path
    """Where the runner leaves the container's upper directory; not there yet. Beside it is room
    for the runner's own files, on the store's file system."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    network: Network
    output: int
    """Descriptor for standard output and error."""


class Runner(Protocol):
    """Runs one step to its end."""

    def __call__(self, step: RunStep, /) -> int:
        """The exit status, 128+n after signal n. Raises ContainerError if it cannot be run."""
