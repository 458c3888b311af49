"""Backends: the ways of running a workload, found through the entry-point group ``lab.backends``.

An entry point names a class that is called with one `Context` and gives a `Backend`. The built-in
ones come in by the same door. Only modules of this folder import `runtime` and `vm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from lab.errors import ExperimentError
from lab.mistakes import closest

if TYPE_CHECKING:
    from lab.backends.base import Backend
    from lab.backends.context import Context

__all__ = ["BackendClass", "find_backend", "known_backends"]

GROUP = "lab.backends"


class BackendClass(Protocol):
    """What an entry point loads."""

    options: Mapping[str, tuple[str, ...]]

    def __call__(self, context: Context) -> Backend:
        """Make the backend; cheap, and without side effects."""


def known_backends() -> list[str]:
    """Names of all backends that are installed, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def find_backend(name: str) -> BackendClass:
    """The backend called `name`. Raises `ExperimentError` that names the choices."""
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            found: BackendClass = entry.load()
            return found
    raise ExperimentError(
        f'backends: there is no backend "{name}"; {closest(name, known_backends())}'
    )
