"""Layouts from the mountinfo of several hosts, and v2 files in a plain directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout, ControllerMissing, SpecError

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
OTHER = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"


def test_pure_v2() -> None:
    layout = CgroupLayout.parse(OTHER + V2, "cpu io memory pids\n")
    assert layout.kind == "v2"
    assert layout.where("memory") == Path("/sys/fs/cgroup")
    assert layout.where("devices") is None


def test_v1_with_controllers_mounted_together() -> None:
    layout = CgroupLayout.parse(OTHER + V1)
    assert layout.kind == "v1"
    assert layout.where("cpu") == layout.where("cpuacct") == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert layout.where("pids") is None
    group = Cgroup.adopt(layout, "lab/x")
    assert group.into is None
    assert group.join == tuple(
        f"/sys/fs/cgroup/{name}/lab/x" for name in ("cpu,cpuacct", "memory", "freezer")
    )


def test_hybrid_enters_the_unified_tree_by_clone_and_the_others_by_joining() -> None:
    layout = CgroupLayout.parse(HYBRID, "hugetlb")
    assert layout.kind == "hybrid"
    group = Cgroup.adopt(layout, "lab/x")
    assert group.into == "/sys/fs/cgroup/unified/lab/x"
    assert group.join == (
        "/sys/fs/cgroup/cpu,cpuacct/lab/x",
        "/sys/fs/cgroup/memory/lab/x",
    )


def test_nothing_mounted() -> None:
    layout = CgroupLayout.parse(OTHER)
    assert layout.kind == "none"
    assert "nothing mounted" in layout.describe()


def test_escaped_mount_points() -> None:
    text = V2.replace("/sys/fs/cgroup", r"/mnt/my\040cgroups")
    assert CgroupLayout.parse(text, "").v2 == Path("/mnt/my cgroups")


def test_v1_limits() -> None:
    group = Cgroup.adopt(CgroupLayout.parse(V1), "x")
    assert dict(group.limit_files(cpus=1.5, memory=1000)) == {
        "/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "150000",
        "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1000",
        "/sys/fs/cgroup/memory/x/memory.memsw.limit_in_bytes": "1000",
    }


@pytest.fixture
def fake(tmp_path: Path) -> CgroupLayout:
    """The root of a v2 tree, as files that can be looked at."""
    for folder in (tmp_path, tmp_path / "lab"):
        folder.mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("pids\n")
    return CgroupLayout(tmp_path, frozenset({"cpu", "memory", "pids", "io"}))


def test_v2_hands_controllers_down_and_sets_limits(fake: CgroupLayout, tmp_path: Path) -> None:
    group = Cgroup.create(fake, "lab/x", cpus=0.5, memory=4096, pids=3)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "lab/cgroup.subtree_control").read_text() == "+cpu +memory"
    files = {path.name: path.read_text() for path in (tmp_path / "lab/x").iterdir()}
    assert files == {
        "cpu.max": "50000 100000",
        "memory.max": "4096",
        "memory.swap.max": "0",
        "pids.max": "3",
    }
    assert group.into == str(tmp_path / "lab/x")
    assert group.join == ()


def test_a_limit_that_nothing_enforces_is_an_error_or_on_record(tmp_path: Path) -> None:
    layout = CgroupLayout(tmp_path, frozenset({"pids"}))
    (tmp_path / "cgroup.subtree_control").write_text("pids")
    with pytest.raises(ControllerMissing, match="cpu, memory"):
        Cgroup.create(layout, "x", cpus=1, memory=4096)
    group = Cgroup.create(layout, "x", cpus=1, memory=4096, pids=5, strict=False)
    assert group.unenforced == ("cpu", "memory")
    assert (tmp_path / "x/pids.max").read_text() == "5"


@pytest.mark.parametrize("path", ["", "/x", "a/../b", "a//b"])
def test_a_path_that_leaves_the_tree_is_refused(fake: CgroupLayout, path: str) -> None:
    with pytest.raises(SpecError, match="cgroup path"):
        Cgroup.create(fake, path)


@pytest.mark.parametrize("limits", [{"cpus": 0.001}, {"memory": 0}, {"pids": -1}])
def test_impossible_limits_are_refused(fake: CgroupLayout, limits: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=next(iter(limits))):
        Cgroup.create(fake, "x", **limits)  # type: ignore[arg-type]
