"""`lab gc`: find and remove what killed runs left behind.

A run is dead when nobody holds the lock in its state directory (`lab.ownership`). What it can have
left carries its id: the cgroups ``lab-<run id>`` with the processes in them, mounts and files below
its state directory. Its network and mount namespaces have no names: they are gone with their
processes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.ownership import abandoned, held, runs_dir

__all__ = ["collect"]


def collect(cache: Path, *, dry_run: bool = False) -> list[str]:
    """Remove it, and return what it was, one text a thing. Touches no live run.

    With `dry_run` nothing is removed. Raises `lab.errors.LabError` for what cannot be."""
    removed: list[str] = []
    dead = abandoned(cache)
    for run in sorted({*dead, *_cgroup_runs(cache)}):
        removed += _remove_cgroups(run, dry_run)
    for run in dead:
        state = runs_dir(cache) / run
        removed += _unmount(state, dry_run)
        removed.append(f"directory {state}")
        if not dry_run:
            shutil.rmtree(state)
    return removed


def _cgroup_runs(cache: Path) -> Iterator[str]:
    """Runs that have a cgroup and no living owner."""
    from lab.backends.context import cgroup_of
    from runtime.cgroups import CgroupLayout

    layout = CgroupLayout.detect()
    prefix = cgroup_of("")
    for root in layout.roots:
        for path in Path(root).glob(f"{prefix}*"):
            run = path.name.removeprefix(prefix)
            if not held(runs_dir(cache) / run):
                yield run


def _remove_cgroups(run: str, dry_run: bool) -> Iterator[str]:
    from lab.backends.context import cgroup_of
    from lab.backends.process import translated
    from runtime.cgroups import Cgroup, CgroupLayout

    with translated():
        group = Cgroup.adopt(CgroupLayout.detect(), cgroup_of(run))
        for pid in group.processes():
            yield f"process {pid} ({_name(pid)})"
        if not dry_run and any(Path(d).exists() for d in group.directories):
            group.kill(10)
        for top in group.directories:
            # From the leaves up: a cgroup with children cannot be removed.
            for folder, _, _ in os.walk(top, topdown=False):
                yield f"cgroup {folder}"
                if not dry_run:
                    Path(folder).rmdir()


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
        yield f"mount {point}"
        if not dry_run:
            umount2(point, MNT_DETACH)
