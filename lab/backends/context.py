"""What all backends of one run share: where things go, the image store, the spawner.

Everything that can outlive a crash is under `state` or in a cgroup under ``lab/<run id>``, so that
`lab.gc` finds it by name alone.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.images import ImageStore
    from runtime.spawn import Spawner

    from lab.backends.base import Limits

__all__ = ["CGROUP_ROOT", "Context", "Shared"]

CGROUP_ROOT = "lab"
"""First component of every cgroup that the lab makes."""


class Shared:
    """Opened once a run, in the main thread (a child's death signal follows the thread that made
    it)."""

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
    def cgroups(self) -> CgroupLayout:
        """Which cgroup controllers this host has, and where."""
        from runtime.cgroups import CgroupLayout

        return CgroupLayout.detect()

    def make_cgroup(self, name: str, limits: Limits | None) -> Cgroup:
        """The cgroup ``lab/<run>/<name>``; without limits it only accounts."""
        from runtime.cgroups import Cgroup

        path = f"{CGROUP_ROOT}/{self.run}/{name}"
        if limits is None:
            return Cgroup.create(self.cgroups, path)
        return Cgroup.create(
            self.cgroups, path, cpus=limits.cpus, memory=limits.memory, pids=limits.pids
        )

    def instance_dir(self, name: str) -> Path:
        """A fresh directory for one instance, below the run's state directory."""
        path = self.state / name
        path.mkdir()
        return path

    def remove_dir(self, path: Path) -> None:
        """Remove an instance's directory, if it is still there."""
        if path.exists():
            shutil.rmtree(path)


class Context:
    """What one backend gets: the shared things and its own options."""

    def __init__(self, shared: Shared, options: Mapping[str, str]) -> None:
        self.shared = shared
        self.options = options
