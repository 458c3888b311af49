"""cgroups of this host's own layout: made, limited, changed, emptied, removed.

Whatever the layout is: here and in a guest with cgroup v2 alone the same tests run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, CgroupError, CgroupLayout, ControllerMissing
from tests.integration.runtime.cgroup_helpers import MIB, PATIENCE_S, SLEEP, needs, run, running

pytestmark = pytest.mark.root


def has(group: Cgroup, name: str) -> str:
    """The text of a control file, wherever it is; the test is skipped without it."""
    for directory in group.directories:
        path = Path(directory, name)
        if path.exists():
            return path.read_text().strip()
    pytest.skip(f"this kernel has no {name}")


def is_v2(group: Cgroup, controller: str) -> bool:
    return group.layout.where(controller) == group.layout.v2


def test_limits_are_written_where_the_controllers_are(group: Cgroup, layout: CgroupLayout) -> None:
    child = group.child("x", cpus=0.5, memory=64 * MIB, pids=33)
    for path, text in child.limit_files(cpus=0.5, memory=64 * MIB, pids=33):
        if Path(path).exists():
            assert Path(path).read_text().strip() == text
    assert child.memory_current() is not None
    assert child.unenforced == ()
    child.remove()
    child.remove()
    assert not any(Path(path).exists() for path in child.directories)


def test_all_controllers_that_there_are(group: Cgroup, layout: CgroupLayout) -> None:
    child = group.child("x", controllers=layout.controllers)
    with running(child, SLEEP):
        for name in layout.controllers:
            assert f"{layout.where(name)}/{child.path}" in child.directories
    child.remove()


@pytest.mark.parametrize(
    ("resources", "v2", "v1"),
    [
        ({"cpu": {"shares": 1024}}, ("cpu.weight", "100"), ("cpu.shares", "1024")),
        ({"cpu": {"shares": 2}}, ("cpu.weight", "1"), ("cpu.shares", "2")),
        (
            {"cpu": {"quota": 20_000, "period": 50_000}},
            ("cpu.max", "20000 50000"),
            ("cpu.cfs_period_us", "50000"),
        ),
        ({"cpu": {"idle": 1}}, ("cpu.idle", "1"), ("cpu.idle", "1")),
        (
            {"cpu": {"quota": 20_000, "burst": 10_000}},
            ("cpu.max.burst", "10000"),
            ("cpu.cfs_burst_us", "10000"),
        ),
        ({"cpu": {"cpus": "0"}}, ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        ({"cpu": {"mems": "0"}}, ("cpuset.mems", "0"), ("cpuset.mems", "0")),
        (
            {"memory": {"reservation": 16 * MIB}},
            ("memory.low", str(16 * MIB)),
            ("memory.soft_limit_in_bytes", str(16 * MIB)),
        ),
        (
            {"memory": {"limit": 32 * MIB, "swap": 48 * MIB}},
            ("memory.swap.max", str(16 * MIB)),
            ("memory.memsw.limit_in_bytes", str(48 * MIB)),
        ),
        ({"memory": {"limit": -1}}, ("memory.max", "max"), ("memory.limit_in_bytes", None)),
        ({"pids": {"limit": -1}}, ("pids.max", "max"), ("pids.max", "max")),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]},
            ("hugetlb.2MB.max", str(4 * MIB)),
            ("hugetlb.2MB.limit_in_bytes", str(4 * MIB)),
        ),
        (
            {"unified": {"cpu.weight": "10000"}},
            ("cpu.weight", "10000"),
            ("cpu.shares", "262144"),
        ),
    ],
    ids=str,
)
def test_the_kernel_takes_what_oci_says(
    group: Cgroup,
    layout: CgroupLayout,
    resources: dict[str, Any],
    v2: tuple[str, str],
    v1: tuple[str, str | None],
) -> None:
    controller = v2[0].partition(".")[0]
    needs(layout, controller)
    child = group.child("x", resources=resources, strict=False)
    try:
        name, text = v2 if is_v2(child, controller) else v1
        found = has(child, name)
        assert text is None or found == text
        assert child.unenforced == ()
        # The process of whoever has just these limits can be in it.
        assert run(child, "print('in')") == (0, "in\n")
    finally:
        child.kill()
        child.remove()


def test_io_limits(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "io")
    disks = [path for path in Path("/sys/block").iterdir() if int((path / "size").read_text())]
    if not disks:
        pytest.skip("no block device with a size")
    device = (disks[0] / "dev").read_text().strip()
    child = group.child("x", io_max={device: {"rbps": 10**6, "wiops": 100}})
    if is_v2(child, "io"):
        assert f"{device} rbps=1000000 wbps=max riops=max wiops=100" in has(child, "io.max")
    else:
        assert f"{device} 1000000" in has(child, "blkio.throttle.read_bps_device")
        assert f"{device} 100" in has(child, "blkio.throttle.write_iops_device")
    child.remove()
    weighted = group.child("y", io_weight=500, strict=False)
    if not weighted.unenforced:
        files = ("io.bfq.weight", "io.weight", "blkio.weight", "blkio.bfq.weight")
        texts = [
            path.read_text()
            for directory in weighted.directories
            for name in files
            if (path := Path(directory, name)).exists()
        ]
        assert any("500" in text or "4950" in text for text in texts)
    weighted.remove()


def test_a_limit_without_a_file_is_refused_or_told(group: Cgroup, layout: CgroupLayout) -> None:
    v2 = layout.where("memory") == layout.v2
    given: dict[str, Any] = {"memory": {"swappiness": 10}} if v2 else {}
    limit = "memory.swappiness" if v2 else "memory.high"
    keywords: dict[str, Any] = {} if v2 else {"memory_high": MIB}
    with pytest.raises(ControllerMissing, match=limit):
        group.child("x", resources=given, **keywords)
    child = group.child("x", resources=given, strict=False, **keywords)
    assert child.unenforced == (limit,)
    child.remove()


def test_what_the_kernel_refuses_names_file_and_value(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "cpuset")
    with pytest.raises(CgroupError, match=r"cannot write '4000' to .*/x/cpuset\.cpus"):
        group.child("x", cpuset="4000")
    group.child("x").remove()  # nothing was left of it


def test_a_cgroup_that_is_there_is_not_taken(group: Cgroup) -> None:
    first = group.child("x")
    with pytest.raises(CgroupError, match="another instance"):
        group.child("x")
    assert all(Path(path).exists() for path in first.directories)
    with running(first, SLEEP) as process, pytest.raises(CgroupError, match=str(process.pid)):
        group.child("x", exist_ok=True)
    second = group.child("x", exist_ok=True, pids=5)
    assert has(second, "pids.max") == "5"
    first.remove()


def test_limits_are_raised_and_lowered_together(group: Cgroup) -> None:
    child = group.child("x", memory=32 * MIB, cpus=0.5)
    with running(child, SLEEP):
        for size in (64, 16, 128):
            child.update(memory=size * MIB, swap=size * MIB, cpus=size / 100)
            usage = child.usage()
            assert usage.memory is not None
            assert usage.memory.limit == size * MIB
            assert usage.memory.swap_limit in (None, size * MIB)
        child.update({"memory": {"limit": -1, "swap": -1}})
        usage = child.usage()
        assert usage.memory is not None
        assert usage.memory.limit is None
        child.update({"cpu": {"period": 20_000}})
        child.update({"cpu": {"quota": 10_000}})
        child.update({"cpu": {"quota": 5_000, "burst": 5_000}})
        child.update({"cpu": {"quota": 1_000, "period": 1_000, "burst": 0}})
        name = "cpu.max" if is_v2(child, "cpu") else "cpu.cfs_quota_us"
        assert has(child, name).startswith("1000")
        child.update(pids=7)
        assert has(child, "pids.max") == "7"
    child.remove()


def test_checking_before_an_update_protects_the_container(group: Cgroup) -> None:
    child = group.child("x", memory=64 * MIB)
    code = f"x = b'x' * {16 * MIB}; print('ready', flush=True); import signal; signal.pause()"
    with running(child, code) as process:
        with pytest.raises(CgroupError, match="bytes in use"):
            child.update({"memory": {"limit": MIB, "swap": MIB, "checkBeforeUpdate": True}})
        assert process.poll() is None
    child.remove()


def test_kill_takes_processes_below_too(group: Cgroup) -> None:
    outer = group.child("outer")
    inner = outer.child("inner")
    with running(inner, SLEEP) as process:
        assert outer.processes() == (process.pid,)
        outer.kill()
        assert process.wait(PATIENCE_S) == -9
    assert outer.wait_empty(PATIENCE_S)
    outer.remove()  # and what is below it
    assert not any(Path(path).exists() for path in inner.directories)


FORKS = """
import os
print('ready', flush=True)
while True:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
    else:
        os.wait()
"""


def test_kill_is_faster_than_what_forks(group: Cgroup) -> None:
    """Each process leaves a grandchild and its session behind, again and again."""
    child = group.child("x", pids=100)
    with running(child, FORKS):
        child.kill(PATIENCE_S)
        assert not [pid for pid in child.processes() if Path(f"/proc/{pid}/exe").exists()]
    child.remove(PATIENCE_S)


def test_frozen_means_that_nothing_runs(group: Cgroup) -> None:
    child = group.child("x")
    code = """
import os
print('ready', flush=True)
while os.read(0, 1):
    os.write(1, b'.\\n')
"""
    with running(child, code) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert not child.frozen()
        child.freeze()
        assert child.frozen()
        stat = Path(f"/proc/{process.pid}/stat")
        before = stat.read_text().split()[13:15]
        process.stdin.write("x")
        process.stdin.flush()
        child.freeze()  # again is no error
        assert stat.read_text().split()[13:15] == before
        child.freeze(False)
        assert not child.frozen()
        assert process.stdout.readline() == ".\n"
        child.freeze()
        child.kill(PATIENCE_S)  # SIGKILL reaches the frozen
        assert process.wait(PATIENCE_S) == -9
    child.freeze(False)
    child.remove()


def test_a_thaw_below_a_frozen_cgroup_is_told(group: Cgroup) -> None:
    outer = group.child("outer")
    inner = outer.child("inner")
    with running(inner, SLEEP):
        outer.freeze()
        with pytest.raises(CgroupError, match="is a cgroup above it frozen"):
            inner.freeze(False, timeout=0.05)
        assert inner.frozen()
        outer.freeze(False)
        inner.freeze(False)
    outer.remove()


def test_removing_one_in_use_names_the_process(group: Cgroup) -> None:
    busy = group.child("busy")
    with running(busy, SLEEP) as process:
        with pytest.raises(CgroupError, match=str(process.pid)):
            busy.remove(timeout=0.05)
        busy.kill()
    busy.remove()


def test_removing_waits_for_the_last_process(group: Cgroup) -> None:
    child = group.child("x")
    with running(child, "import os; print('ready', flush=True); os.read(0, 1)") as process:
        assert process.stdin is not None
        assert not child.wait_empty(0.01)
        process.stdin.write("x")
        process.stdin.flush()
        child.remove(PATIENCE_S)
        assert not any(Path(path).exists() for path in child.directories)
        assert process.wait(PATIENCE_S) == 0


def test_parents_that_it_made_go_with_it(layout: CgroupLayout) -> None:
    name = f"isolation-lab-test-{os.getpid()}-parents"
    deep = Cgroup.create(layout, f"{name}/a/b")
    deep.remove()
    for directory in deep.directories:
        assert not Path(directory).parents[1].exists()


def test_another_process_finds_it_by_its_record(group: Cgroup) -> None:
    child = group.child("x", pids=9, controllers=group.layout.controllers)
    again = Cgroup.from_record(json.loads(json.dumps(child.record())))
    with running(child, SLEEP) as process:
        assert again.processes() == (process.pid,)
        again.freeze()
        assert child.frozen()
        again.kill(PATIENCE_S)
        assert process.wait(PATIENCE_S) == -9
    again.remove()
    assert not any(Path(path).exists() for path in child.directories)


DELEGATE = """
import os
os.setgroups([]); os.setgid(12345); os.setuid(12345)
home = sys.argv[2]
def attempt(path, text):
    try:
        with open(home + path, "w") as file:
            file.write(text)
    except OSError as error:
        return type(error).__name__
    return "done"
os.mkdir(home + "/mine")
print(attempt("/mine/cgroup.procs", "0"))
print(open("/proc/self/cgroup").read().split("0::")[1].strip().rpartition("/")[2])
print(attempt("/cgroup.subtree_control", "+pids"))
print(attempt("/cgroup.max.depth", "9"))
print(attempt("/pids.max", "9"))
"""


def test_a_delegate_may_make_cgroups_and_set_no_limits(group: Cgroup, layout: CgroupLayout) -> None:
    """As an ordinary user in the cgroup that was handed over."""
    if layout.v2 is None:
        pytest.skip("v1 cannot be delegated")
    home = group.child("home", pids=20)
    home.delegate(12345, 12345)
    status, out = run(home, DELEGATE.replace("sys.argv[2]", repr(home.into)))
    handed, depth, limit = out.split()[2:]
    assert out.split()[:2] == ["done", "mine"]
    assert status == 0
    # Without the controller in v2 there is nothing to hand down, and no file.
    assert handed == ("done" if is_v2(home, "pids") else "FileNotFoundError")
    assert depth == "PermissionError"
    assert limit in ("PermissionError", "FileNotFoundError")
    home.remove()
