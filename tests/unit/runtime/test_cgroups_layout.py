"""Layouts from the mountinfo of several hosts, and where in them one may make cgroups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout, SpecError
from runtime.cgroups import layout as layouts
from runtime.cgroups.layout import own_path
from runtime.cgroups.placing import absolute, of_container

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = """\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
35 31 0:32 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
"""
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
OTHER = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"


def test_pure_v2() -> None:
    layout = CgroupLayout.parse(OTHER + V2, "cpu io memory pids\n")
    assert layout.kind == "v2"
    assert layout.where("memory") == "/sys/fs/cgroup"
    assert layout.where("devices") is None
    assert layout.roots == ("/sys/fs/cgroup",)
    assert layout.controllers == ("cpu", "io", "memory", "pids")


def test_v1_with_controllers_mounted_together() -> None:
    layout = CgroupLayout.parse(OTHER + V1)
    assert layout.kind == "v1"
    assert layout.where("cpu") == layout.where("cpuacct") == "/sys/fs/cgroup/cpu,cpuacct"
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


def test_block_io_goes_by_both_its_names() -> None:
    hybrid = CgroupLayout.parse(HYBRID, "hugetlb")
    assert hybrid.where("io") == hybrid.where("blkio") == "/sys/fs/cgroup/blkio"
    pure = CgroupLayout.parse(V2, "io")
    assert pure.where("io") == pure.where("blkio") == "/sys/fs/cgroup"


def test_nothing_mounted() -> None:
    layout = CgroupLayout.parse(OTHER)
    assert layout.kind == "none"
    assert "nothing mounted" in layout.describe()


@pytest.mark.parametrize(
    ("escaped", "plain"), [(r"my\040cgroups", "my cgroups"), (r"a\134040b", r"a\040b")]
)
def test_escaped_mount_points(escaped: str, plain: str) -> None:
    text = V2.replace("/sys/fs/cgroup", f"/mnt/{escaped}")
    assert CgroupLayout.parse(text, "").v2 == f"/mnt/{plain}"


def test_a_record_brings_the_layout_and_the_group_back() -> None:
    layout = CgroupLayout.parse(HYBRID, "hugetlb")
    group = Cgroup(layout, "lab/x", ("/a/lab/x", "/b/lab/x"), ("/a/lab",), ("memory.swap",))
    again = Cgroup.from_record(json.loads(json.dumps(group.record())))
    assert again.record() == group.record()
    assert again.directories == group.directories
    assert again.layout.where("memory") == layout.where("memory")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/user.slice/run-1.scope\n", "user.slice/run-1.scope"),
        ("9:name=systemd:/\n4:memory:/x\n0::/\n", ""),
        ("0::/../../other\n", ""),
        ("4:memory:/x\n", ""),
    ],
)
def test_own_path(text: str, path: str) -> None:
    assert own_path(text) == path


@pytest.mark.parametrize("own", ["user.slice/run-1.scope", "user.slice/run-1.scope/supervisor"])
def test_an_ordinary_user_is_at_home_in_the_delegated_cgroup(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "user.slice/run-1.scope"
    home.mkdir(parents=True)
    (home / "cgroup.controllers").write_text("memory pids\n")
    monkeypatch.setattr(layouts.os, "access", lambda path, _: "run-1.scope" in str(path))
    real = layouts._read
    monkeypatch.setattr(
        layouts, "_read", lambda path: f"0::/{own}\n" if path == "/proc/self/cgroup" else real(path)
    )
    layout = CgroupLayout(tmp_path, frozenset({"cpu", "memory", "pids"}), {"devices": "/d"})
    layout._at_home()
    assert layout.home == "user.slice/run-1.scope"
    assert layout.roots == (str(home),)
    assert layout.v2_controllers == {"memory", "pids"}
    assert layout.where("devices") is None  # v1 cannot be delegated
    assert "v1 is root's alone (devices)" in layout.describe()
    assert absolute(layout, "lab/x") == "user.slice/run-1.scope/lab/x"
    assert absolute(layout, "/lab/x") == "lab/x"


def test_who_has_been_given_nothing_stays_at_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts.os, "access", lambda _, __: False)
    layout = CgroupLayout(tmp_path, frozenset({"cpu"}))
    assert layout._at_home().home == ""


@pytest.mark.parametrize("path", ["", "/", "a/../b", "a//b", "a/", "./a"])
def test_a_path_that_leaves_the_tree_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="cgroup path"):
        absolute(CgroupLayout(), path)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (None, "isolation-lab/c1"),
        ("", "isolation-lab/c1"),
        ("/docker/c1", "/docker/c1"),
        ("/docker//./c1/", "/docker/c1"),
        ("/../../etc", "/etc"),
        ("mine/c1", "mine/c1"),
        ("../../up", "up"),
        ("system.slice:docker:c1", "system.slice:docker:c1"),
    ],
)
def test_cgroups_path(given: str | None, path: str) -> None:
    assert of_container(given, "c1") == path


@pytest.mark.parametrize("given", ["/", "/..", "."])
def test_the_root_is_no_containers_cgroup(given: str) -> None:
    with pytest.raises(SpecError, match="cgroupsPath"):
        of_container(given, "c1")
