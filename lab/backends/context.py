"""What all backends of one run share: where things go, the image store, the spawner.

Everything that can outlive a crash is under `state` or in a cgroup under ``lab-<run id>``, so that
`lab.gc` finds it by name alone.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lab.ownership import locked

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.images import ImageStore
    from runtime.spawn import Spawner

__all__ = [
    "Context",
    "Shared",
    "cgroup_folders",
    "cgroup_of",
    "remove_cgroup_folders",
    "run_cgroup",
]


def cgroup_of(run: str) -> str:
    """Path of a run's cgroup, below the root of each hierarchy."""
    return f"lab-{run}"


def cgroup_folders(path: str) -> list[Path]:
    """The directories of a cgroup that are there, in all hierarchies: other programs that the lab
    starts (Docker, runc) use more of them than the lab does."""
    return [folder for point in _hierarchies() if (folder := point / path).is_dir()]


def remove_cgroup_folders(path: str) -> None:
    """All of them, with what is below. Raises OSError for one that is in use."""
    for top in cgroup_folders(path):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                Path(folder).rmdir()


@lru_cache(maxsize=1)
def _hierarchies() -> tuple[Path, ...]:
    """Mount points, v1's named hierarchies included (proc_pid_mountinfo(5))."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup"):
            points.append(left.split(" ")[4])
    return tuple(map(Path, dict.fromkeys(points)))


@contextlib.contextmanager
def run_cgroup(
    run: str, *, cpus: float | None = None, memory: int | None = None, pids: int | None = None
) -> Iterator[Cgroup]:
    """The run's cgroup, made and owned for the length of the context, and then removed."""
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.errors import CgroupError

    layout, path = CgroupLayout.detect(), cgroup_of(run)
    directories = Cgroup.adopt(layout, path).directories
    if not directories:
        raise CgroupError("no cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup")
    first = Path(directories[0])
    with contextlib.ExitStack() as stack:
        # Under the parent's lock, so that no `lab gc` finds it before it is owned.
        with locked(first.parent):
            made = Cgroup.create(layout, path, cpus=cpus, memory=memory, pids=pids)
            stack.enter_context(locked(first))
            # Before its lock goes; first what others have made of it.
            stack.callback(remove_cgroup_folders, made.path)
            stack.callback(made.remove)
        yield made


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
        from lab.backends.process import translated

        with translated():
            self._stack.close()

    @cached_property
    def spawner(self) -> Spawner:
        """The small process that starts everything: workloads, containers and QEMU alike."""
        from runtime.spawn import Spawner

        spawner = self._stack.enter_context(Spawner())
        # After it, so that what it starts keeps the usual limit: an instance takes half a dozen
        # descriptors here, and a thousand instances more than a process has by default.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return spawner

    @cached_property
    def images(self) -> ImageStore:
        """The content-addressed image store in the cache."""
        from lab.backends.images import image_store

        return image_store(self.cache / "images")

    @cached_property
    def cgroup(self) -> Cgroup:
        """The run's cgroup; instances are its children."""
        return self._stack.enter_context(run_cgroup(self.run))


class Context:
    """What one backend gets: the shared things and its own options."""

    def __init__(self, shared: Shared, options: Mapping[str, str]) -> None:
        self.shared = shared
        self.options = options
