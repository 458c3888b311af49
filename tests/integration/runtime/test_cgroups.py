"""cgroups of this host's own layout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupError, CgroupLayout

pytestmark = pytest.mark.root


def test_limits_are_written_where_the_controllers_are(group: Cgroup, layout: CgroupLayout) -> None:
    child = group.child("x", cpus=0.5, memory=64 * 2**20, pids=33)
    for path, text in child.limit_files(cpus=0.5, memory=64 * 2**20, pids=33):
        if Path(path).exists():
            assert Path(path).read_text().strip() == text
    assert child.memory_current() is not None
    assert child.unenforced == ()
    child.remove()
    child.remove()
    assert not any(Path(path).exists() for path in child.directories)


def test_a_cgroup_that_is_there_is_not_taken(group: Cgroup) -> None:
    first = group.child("x")
    with pytest.raises(CgroupError, match="another instance"):
        group.child("x")
    assert all(Path(path).exists() for path in first.directories)
    first.remove()


def test_kill_takes_processes_below_too(group: Cgroup) -> None:
    outer = group.child("outer")
    inner = outer.child("inner")
    sleeper = subprocess.Popen(["sleep", "1000"])
    for directory in inner.directories:
        Path(directory, "cgroup.procs").write_text(str(sleeper.pid))
    assert outer.processes() == (sleeper.pid,)
    outer.freeze()
    outer.freeze(False)
    outer.kill()
    assert sleeper.wait(30) == -9
    inner.remove()
    outer.remove()


def test_removing_one_in_use_names_the_process(group: Cgroup) -> None:
    busy = group.child("busy")
    sleeper = subprocess.Popen(["sleep", "1000"])
    for directory in busy.directories:
        Path(directory, "cgroup.procs").write_text(str(sleeper.pid))
    with pytest.raises(CgroupError, match=str(sleeper.pid)):
        busy.remove(timeout=0.05)
    busy.kill()
    sleeper.wait()
    busy.remove()


def test_parents_that_it_made_go_with_it(layout: CgroupLayout) -> None:
    name = f"isolation-lab-test-{os.getpid()}-parents"
    deep = Cgroup.create(layout, f"{name}/a/b")
    deep.remove()
    for directory in deep.directories:
        assert not Path(directory).parents[1].exists()
