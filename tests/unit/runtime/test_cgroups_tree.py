"""Whole cgroups in trees that look like v1, v2 and the hybrid of both."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupError, CgroupLayout, ControllerMissing
from runtime.cgroups import apply, control, freezer, tree
from tests.unit.runtime.cgroupfs import FakeKernel, written

ALL_V2 = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")
SOME_V1 = ("blkio", "cpu", "cpuset", "devices", "freezer", "memory", "pids")
LIMITS = {"cpus": 0.5, "memory": 4096, "pids": 3}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return FakeKernel(tmp_path, monkeypatch)


def test_v2_hands_controllers_down_and_sets_limits(kernel: FakeKernel) -> None:
    layout = kernel.layout(ALL_V2)
    (kernel.base / "unified/cgroup.subtree_control").write_text("pids\n")
    group = Cgroup.create(layout, "lab/x", **LIMITS)  # type: ignore[arg-type]
    root = kernel.base / "unified"
    assert (root / "cgroup.subtree_control").read_text().startswith("+cpu +memory")
    assert (root / "lab/cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert written(root / "lab/x") == {
        "cpu.max": "50000 100000",
        "memory.max": "4096",
        "memory.swap.max": "0",
        "pids.max": "3",
    }
    assert group.into == str(root / "lab/x")
    assert group.join == ()
    assert group.unenforced == ()


def test_v2_hands_down_what_a_limit_or_the_caller_asks_for(kernel: FakeKernel) -> None:
    layout = kernel.layout(ALL_V2)
    Cgroup.create(layout, "x", cpuset="0", controllers=["io", "no such"])
    text = (kernel.base / "unified/cgroup.subtree_control").read_text()
    assert text == "+cpu +cpuset +io +memory +pids"


def test_the_second_child_does_not_look_again(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Cgroup.create(kernel.layout(ALL_V2), "run")
    run.child("a", memory=4096)
    monkeypatch.setattr(tree, "read", lambda path: pytest.fail(f"read {path}"))
    second = run.child("b", memory=4096)
    assert written(str(second.into)) == {"memory.max": "4096", "memory.swap.max": "0"}


def test_v1_has_a_directory_in_each_hierarchy_it_needs(kernel: FakeKernel) -> None:
    group = Cgroup.create(kernel.layout(None, SOME_V1), "lab/x", **LIMITS)  # type: ignore[arg-type]
    names = ("cpu", "memory", "pids", "freezer")
    assert group.into is None
    assert group.join == tuple(f"{kernel.base}/{name}/lab/x" for name in names)
    found = {name: written(directory) for name, directory in zip(names, group.join, strict=True)}
    assert found == {
        "cpu": {"cpu.cfs_quota_us": "50000"},
        "memory": {"memory.limit_in_bytes": "4096", "memory.memsw.limit_in_bytes": "4096"},
        "pids": {"pids.max": "3"},
        "freezer": {},
    }


def test_the_hybrid_takes_each_limit_where_its_controller_is(kernel: FakeKernel) -> None:
    layout = kernel.layout(("hugetlb",), SOME_V1)
    group = Cgroup.create(layout, "x", **LIMITS, io_weight=100, hugetlb={"2MB": 8})  # type: ignore[arg-type]
    assert group.into == f"{kernel.base}/unified/x"
    assert group.join == tuple(f"{kernel.base}/{n}/x" for n in ("cpu", "memory", "pids", "blkio"))
    assert written(group.into) == {"hugetlb.2MB.max": "8", "hugetlb.2MB.rsvd.max": "8"}
    assert written(kernel.base / "blkio/x") == {"blkio.bfq.weight": "100"}


def test_a_child_is_wherever_its_parent_is(kernel: FakeKernel) -> None:
    """Else a limit of the parent would not hold for it."""
    layout = kernel.layout(None, SOME_V1)
    parent = Cgroup.create(layout, "x", io_weight=100, resources={"devices": []})
    child = parent.child("y")
    assert child.directories == tuple(f"{directory}/y" for directory in parent.directories)
    assert f"{kernel.base}/blkio/x/y" in child.directories


def test_new_v1_cpusets_get_what_their_parents_have(kernel: FakeKernel) -> None:
    layout = kernel.layout(None, SOME_V1)
    (kernel.base / "cpuset/cpuset.cpus").write_text("0-3\n")
    (kernel.base / "cpuset/cpuset.mems").write_text("0\n")
    Cgroup.create(layout, "lab/x", cpuset="1")
    assert written(kernel.base / "cpuset/lab") == {"cpuset.cpus": "0-3", "cpuset.mems": "0"}
    assert (kernel.base / "cpuset/lab/x/cpuset.cpus").read_text().startswith("1")
    assert (kernel.base / "cpuset/lab/x/cpuset.mems").read_text() == "0"


def test_a_limit_that_nothing_enforces_is_an_error_or_on_record(kernel: FakeKernel) -> None:
    layout = kernel.layout(("pids",))
    with pytest.raises(ControllerMissing, match="cpu, memory"):
        Cgroup.create(layout, "x", **LIMITS)  # type: ignore[arg-type]
    assert not (kernel.base / "unified/x").exists()
    group = Cgroup.create(layout, "x", **LIMITS, strict=False)  # type: ignore[arg-type]
    assert group.unenforced == ("cpu", "memory")
    assert written(str(group.into)) == {"pids.max": "3"}


def test_so_is_a_field_without_a_file(kernel: FakeKernel) -> None:
    layout = kernel.layout(ALL_V2)
    memory = {"memory": {"limit": 4096, "swappiness": 10, "kernel": 5}}
    with pytest.raises(ControllerMissing, match=r"memory\.swappiness"):
        Cgroup.create(layout, "x", resources=memory)
    assert not (kernel.base / "unified/x").exists()
    group = Cgroup.create(layout, "x", resources=memory, strict=False)
    assert group.unenforced == ("memory.swappiness", "memory.kernel")


def test_v1_has_no_high_limit(kernel: FakeKernel) -> None:
    with pytest.raises(ControllerMissing, match=r"memory\.high"):
        Cgroup.create(kernel.layout(None, SOME_V1), "x", memory_high=4096)


@pytest.mark.parametrize(
    ("swaps", "told"),
    [("Filename Type\n", ()), ("Filename Type\n/dev/sda2 partition\n", ("memory.swap",))],
)
def test_swap_that_is_not_accounted_for_is_told_if_there_is_any(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, swaps: str, told: tuple[str, ...]
) -> None:
    kernel.without.add("memory.swap.max")
    monkeypatch.setattr(apply, "read_if_there", lambda path: swaps)
    layout = kernel.layout(ALL_V2)
    assert Cgroup.create(layout, "x", memory=4096).unenforced == told
    with pytest.raises(ControllerMissing, match=r"memory\.swap"):
        Cgroup.create(layout, "y", memory=4096, swap=4096)


def test_limits_that_depend_on_each_other_come_in_whichever_order_works(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As v1's kernel has it: memory+swap is never below memory."""
    group = Cgroup.create(kernel.layout(None, SOME_V1), "x", memory=4096)
    state = {"memory.limit_in_bytes": 4096, "memory.memsw.limit_in_bytes": 4096}
    order: list[str] = []

    def write(path: str, text: str) -> None:
        name = path.rpartition("/")[2]
        after = {**state, name: int(text)}
        if after["memory.memsw.limit_in_bytes"] < after["memory.limit_in_bytes"]:
            raise OSError(errno.EINVAL, "Invalid argument", path)
        state.update(after)
        order.append(name)

    monkeypatch.setattr(apply, "write", write)
    group.update(memory=8192)
    assert set(state.values()) == {8192}
    assert order == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    group.update(memory=1024)
    assert set(state.values()) == {1024}
    with pytest.raises(CgroupError, match=r"'2048' to .*limit_in_bytes: Invalid argument"):
        group.update({"memory": {"limit": 2048}})


def test_an_update_says_what_it_cannot_do(kernel: FakeKernel) -> None:
    group = Cgroup.create(kernel.layout(None, SOME_V1), "x")
    with pytest.raises(ControllerMissing, match="io"):
        group.update(io_weight=100)  # it has no directory in that hierarchy
    group.update(io_weight=100, pids=7, strict=False)
    assert group.unenforced == ("io",)
    assert written(kernel.base / "pids/x") == {"pids.max": "7"}


def test_memory_in_use_can_stand_in_the_way(kernel: FakeKernel) -> None:
    group = Cgroup.create(kernel.layout(ALL_V2), "x")
    Path(str(group.into), "memory.current").write_text("5000\n")
    for name in ("memory.max", "memory.swap.max"):
        Path(str(group.into), name).write_text("max\n")
    with pytest.raises(CgroupError, match="5000 bytes in use"):
        group.update({"memory": {"limit": 4096, "checkBeforeUpdate": True}})
    group.update({"memory": {"limit": 4096}})


def test_a_cgroup_that_is_there_is_taken_only_if_asked_and_unused(kernel: FakeKernel) -> None:
    layout = kernel.layout(ALL_V2)
    first = Cgroup.create(layout, "x")
    with pytest.raises(CgroupError, match="another instance"):
        Cgroup.create(layout, "x")
    assert Cgroup.create(layout, "x", exist_ok=True).directories == first.directories
    Path(str(first.into), "cgroup.events").write_text("populated 0\nfrozen 1\n")
    with pytest.raises(CgroupError, match="frozen"):
        Cgroup.create(layout, "x", exist_ok=True)
    Path(str(first.into), "cgroup.procs").write_text("42\n")
    with pytest.raises(CgroupError, match="42"):
        Cgroup.create(layout, "x", exist_ok=True)


def test_a_failure_leaves_nothing(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = kernel.layout(ALL_V2, ("devices",))
    calls = iter(range(100))

    def write(path: str, text: str) -> None:
        if next(calls) == 2:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), path)

    monkeypatch.setattr(apply, "write", write)
    with pytest.raises(CgroupError, match="cannot write '0'"):
        Cgroup.create(layout, "lab/run/x", **LIMITS)  # type: ignore[arg-type]
    assert not (kernel.base / "unified/lab").exists()


def test_removing_takes_what_is_below_and_the_parents_it_made(kernel: FakeKernel) -> None:
    layout = kernel.layout(("pids",), ("memory",))
    group = Cgroup.create(layout, "lab/run/x")
    for directory in group.directories:
        Path(directory, "init.scope").mkdir()
        Path(directory, "init.scope/deep").mkdir()
    other = Cgroup.create(layout, "lab/other")
    group.remove()
    group.remove()
    assert not (kernel.base / "unified/lab/run").exists()
    assert (kernel.base / "unified/lab/other").exists()
    other.remove()
    assert (kernel.base / "unified/lab").exists()  # the first one's to remove
    group.remove()
    assert not (kernel.base / "unified/lab").exists()


def test_one_that_is_adopted_includes_hierarchies_it_has_been_found_in(kernel: FakeKernel) -> None:
    layout = kernel.layout(("hugetlb",), SOME_V1)
    made = Cgroup.create(layout, "x", controllers=["blkio", "cpuset"])
    assert set(Cgroup.adopt(layout, "x").directories) == set(made.directories)
    assert len(Cgroup.adopt(layout, "y").directories) == 4


def test_limit_files_are_those_that_would_be_written(kernel: FakeKernel) -> None:
    group = Cgroup.adopt(kernel.layout(None, SOME_V1), "x")
    assert dict(group.limit_files(cpus=1.5, memory=1000)) == {
        f"{kernel.base}/cpu/x/cpu.cfs_quota_us": "150000",
        f"{kernel.base}/memory/x/memory.limit_in_bytes": "1000",
        f"{kernel.base}/memory/x/memory.memsw.limit_in_bytes": "1000",
    }


def test_the_caller_makes_way_for_its_children(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a delegated cgroup: EBUSY while the caller is in it (no internal processes)."""
    layout = kernel.layout(ALL_V2)
    home = kernel.base / "unified/user.scope"
    home.mkdir()
    (kernel.base / "unified/cgroup.subtree_control").write_text("cpu memory pids\n")
    (home / "cgroup.procs").write_text("0\n12\n13\n")
    layout = CgroupLayout(layout.v2, frozenset({"memory", "pids"}), home="user.scope")
    moved: list[tuple[str, str]] = []

    def read(path: str) -> str:
        return "0::/user.scope\n" if path == "/proc/self/cgroup" else control.read(path)

    def write(path: str, text: str) -> None:
        if path.endswith("subtree_control") and "12" in (home / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "busy", path)
        if path.endswith("cgroup.procs"):
            moved.append((path, text))
            left = (home / "cgroup.procs").read_text().replace(f"{text}\n", "")
            (home / "cgroup.procs").write_text(left)
            return
        control.write(path, text)

    monkeypatch.setattr(tree, "read", read)
    monkeypatch.setattr(tree, "write", write)
    group = Cgroup.create(layout, "x", memory=4096)
    assert group.path == "user.scope/x"
    assert moved == [(f"{home}/supervisor/cgroup.procs", pid) for pid in ("12", "13")]
    assert (home / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_nobody_elses_processes_are_moved(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = kernel.layout(ALL_V2)
    (kernel.base / "unified/system.slice").mkdir()

    def write(path: str, text: str) -> None:
        if "system.slice" in path:
            raise OSError(errno.EBUSY, "busy", path)
        control.write(path, text)

    monkeypatch.setattr(tree, "write", write)
    with pytest.raises(CgroupError, match="move them into a leaf"):
        Cgroup.create(layout, "/system.slice/x")
    assert not (kernel.base / "unified/system.slice/supervisor").exists()
    assert not (kernel.base / "unified/system.slice/x").exists()


def test_a_delegate_owns_the_list_of_the_kernel_and_no_limit(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Cgroup.create(kernel.layout(ALL_V2), "x")
    owned: list[str] = []

    def chown(path: str, uid: int, gid: int) -> None:
        assert (uid, gid) == (1000, -1)
        if not Path(path).exists():
            raise FileNotFoundError(errno.ENOENT, "missing", path)
        owned.append(Path(path).name)

    monkeypatch.setattr(os, "chown", chown)
    group.delegate(1000)
    assert owned[0] == "x"
    assert {"cgroup.procs", "cgroup.subtree_control"} <= set(owned)
    assert not {"memory.max", "pids.max", "cpu.max"} & set(owned)


def test_a_freeze_that_does_not_come_about_is_taken_back(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers here: cgroup.events stays as it is."""
    group = Cgroup.create(kernel.layout(ALL_V2), "x")
    with pytest.raises(CgroupError, match="taken back"):
        group.freeze(timeout=0.01)
    assert Path(str(group.into), "cgroup.freeze").read_text().startswith("0")
    old = Cgroup.create(kernel.layout(None, ("freezer",)), "x")
    state = Path(old.join[0], "freezer.state")
    monkeypatch.setattr(freezer, "read", lambda path: "FREEZING\n")
    with pytest.raises(CgroupError, match="taken back"):
        old.freeze(timeout=0.01)
    assert state.read_text().startswith("THAWED")
