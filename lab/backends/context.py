"""What all backends of one run share: where things go, the image store, the spawner.

Everything that can outlive a crash is under `state` or in a cgroup under ``lab-<run id>``, so that
`lab.gc` finds it by name alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.images import ImageStore
    from runtime.spawn import Spawner

__all__ = ["Context", "Shared", "cgroup_of"]


def cgroup_of(run: str) -> str:
    """Path of a run's cgroup, below the root of each hierarchy."""
    return f"lab-{run}"


class Shared:
    """Opened once a run, in the main thread: a child's death signal follows the thread that
    started it."""

    def __init__(self, run: str, cache: Path, state: Path) -> None:
        self.run = run
        self.cache = cache
        self.state = state
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Shared:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def spawner(self) -> Spawner:
        """The small process that starts everything: workloads, containers and QEMU alike."""
        from runtime.spawn import Spawner

        return self._stack.enter_context(Spawner())

    @cached_property
    def images(self) -> ImageStore:
        """The content-addressed image store in the cache."""
        from runtime.images import ImageStore

        return ImageStore(self.cache / "images")

    @cached_property
    def cgroup(self) -> Cgroup:
        """The run's cgroup; instances are its children."""
        from runtime.cgroups import Cgroup, CgroupLayout

        made = Cgroup.create(CgroupLayout.detect(), cgroup_of(self.run))
        self._stack.callback(made.remove)
        return made


class Context:
    """What one backend gets: the shared things and its own options."""

    def __init__(self, shared: Shared, options: Mapping[str, str]) -> None:
        self.shared = shared
        self.options = options
