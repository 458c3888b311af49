"""`lab gc`: find and remove what killed runs left behind.

A run is dead when nobody holds its locks (`lab.ownership`). What it can have left carries its id:
the cgroups ``lab-<run id>`` with the processes in them, mounts and files below its state directory;
and in the cache, half-made images, kernels and disks. Its network and mount namespaces have no
names: they are gone with their processes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.backends.context import cgroup_folders, cgroup_of, remove_cgroup_folders
from lab.errors import LabError
from lab.ownership import OWNER, RUN_ID, abandoned, claimed, held, locked, runs_dir

__all__ = ["collect", "collect_run"]


def collect(cache: Path, *, dry_run: bool = False) -> Iterator[str]:
    """Remove it, naming each thing when it has gone. Touches no live run, of whatever cache.

    With `dry_run` nothing is removed. What cannot be removed does not stop the rest; at the end
    raises `LabError` that names it."""
    failures: list[str] = []
    for run in sorted({*abandoned(cache), *_cgroup_runs(cache)}):
        with _told(failures, f"run {run}"):
            yield from collect_run(cache, run, dry_run=dry_run)
    with _told(failures, f"cache {cache}"):
        yield from _half_made(cache, dry_run)
    if failures:
        advice = "" if os.geteuid() == 0 else "; run it as root: sudo lab gc"
        raise LabError(f"not removed: {'; '.join(failures)}{advice}")


@contextlib.contextmanager
def _told(failures: list[str], about: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failures.append(f"{about}: {error.filename}: {error.strerror}")
    except LabError as error:
        failures.append(f"{about}: {error}")


def collect_run(cache: Path, run: str, *, dry_run: bool = False) -> Iterator[str]:
    """The same for one run; nothing if it has an owner."""
    state = runs_dir(cache) / run
    with claimed(state / OWNER) as dead:
        if not dead or _cgroup_held(run):
            return
        yield from _remove_cgroups(run, dry_run)
        if state.is_dir():
            yield from _unmount(state, dry_run)
            if not dry_run:
                shutil.rmtree(state)
            yield f"directory {state}"


def _roots() -> list[Path]:
    """The hierarchies' roots, in the order in which a cgroup is made."""
    from runtime.cgroups import Cgroup, CgroupLayout

    group = Cgroup.adopt(CgroupLayout.detect(), cgroup_of("x"))
    return [Path(directory).parent for directory in group.directories]


def _cgroup_runs(cache: Path) -> Iterator[str]:
    """Runs that have a cgroup and no living owner, here or in another cache."""
    prefix = cgroup_of("")
    roots = _roots()
    if not roots:
        return
    with locked(roots[0]):  # whoever makes a cgroup holds it until the new one is locked
        # In all hierarchies: Docker and others that the lab starts use more than it does.
        every = cgroup_folders("")
        names = {path.name for root in every for path in root.glob(f"{prefix}*")}
    for name in names:
        run = name.removeprefix(prefix)
        if not RUN_ID.fullmatch(run):
            continue  # the name of something else
        if not held(runs_dir(cache) / run / OWNER) and not _cgroup_held(run):
            yield run


def _cgroup_held(run: str) -> bool:
    return any(held(root / cgroup_of(run)) for root in _roots())


def _remove_cgroups(run: str, dry_run: bool) -> Iterator[str]:
    from lab.backends.process import translated
    from runtime.cgroups import Cgroup, CgroupLayout

    with translated():
        group = Cgroup.adopt(CgroupLayout.detect(), cgroup_of(run))
        processes = [f"process {pid} ({_name(pid)})" for pid in group.processes()]
        if processes and not dry_run:
            group.kill(10)
        yield from processes
        below = {
            str(Path(folder).relative_to(top))
            for top in group.directories
            for folder, _, _ in os.walk(top)
        }
        # From the leaves up: a cgroup with children cannot be removed.
        for name in sorted(below, key=lambda name: name.count("/") - (name == "."), reverse=True):
            one = Cgroup.adopt(group.layout, f"{group.path}/{name}".removesuffix("/."))
            folders = [f"cgroup {folder}" for folder in one.directories if Path(folder).exists()]
            if not dry_run:
                one.remove()
            yield from folders
        more = cgroup_folders(group.path)  # in hierarchies that only others use
        if not dry_run:
            remove_cgroup_folders(group.path)
        yield from (f"cgroup {folder}" for folder in more if str(folder) not in group.directories)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def _unmount(state: Path, dry_run: bool) -> Iterator[str]:
    """Mounts below the state directory: the lab makes none on the host, whoever debugs might."""
    from runtime.syscalls import MNT_DETACH, umount2

    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((p for p in points if Path(p).is_relative_to(state)), reverse=True):
        if not dry_run:
            umount2(point, MNT_DETACH)
        yield f"mount {point}"


def _half_made(cache: Path, dry_run: bool) -> Iterator[str]:
    """What somebody was making for the cache when he was killed. Whoever makes the next entry
    would remove it too."""
    from runtime.images import ImageStore
    from vm.cache import sweep

    if not cache.is_dir():
        return
    folders = (path for path in sorted(cache.iterdir()) if path.is_dir() and path.name[0] != ".")
    for folder in (cache, *folders):
        yield from (f"directory {path}" for path in sweep(folder, dry_run=dry_run))
    making = cache / "images" / "tmp"
    if making.is_dir() and not dry_run:
        before = sorted(making.iterdir())
        ImageStore(cache / "images")  # sweeps when it is opened
        yield from (f"directory {path}" for path in before if not path.exists())
