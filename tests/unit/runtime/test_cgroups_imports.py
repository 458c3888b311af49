"""What the OCI command line uses of this package starts in no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = "dataclasses enum pathlib re typing subprocess json socket signal contextlib functools"


@pytest.mark.parametrize(
    "module",
    [
        *("group", "layout", "placing", "apply", "v1", "v2", "tree", "processes", "freezer"),
        *("devices", "devicefilter", "bpf", "systemd", "unit", "sdbus", "stats"),
    ],
)
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import runtime.cgroups.{module}
print(*sorted(set({HEAVY!r}.split()) & set(sys.modules)))
"""
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_whole_life_brings_nothing_heavy_in(tmp_path: Path) -> None:
    """Create with limits and devices, update, freeze, kill, remove: in a tree of plain files the
    steps fail at the first write that only a kernel answers, but the imports are made."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from runtime.cgroups import Cgroup, CgroupLayout
from runtime.errors import CgroupError
layout = CgroupLayout({str(tmp_path)!r}, frozenset(["cpu", "memory", "pids"]))
group = Cgroup.from_record(Cgroup.adopt(layout, "x").record())
for step in (
    lambda: Cgroup.create(layout, "y", cpus=1, memory=2**20, pids=3),
    lambda: group.update(memory=2**20),
    lambda: group.set_devices([{{"allow": False, "access": "rwm"}}]),
    group.freeze,
    group.kill,
    group.processes,
    group.remove,
):
    try:
        step()
    except (CgroupError, OSError):
        pass
print(*sorted(set({HEAVY!r}.split()) & set(sys.modules)))
"""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids")
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
