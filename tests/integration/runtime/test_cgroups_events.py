"""Usage that grows as it should, events as they happen, documents as runc has them."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, CgroupLayout
from runtime.cgroups.stats import engine_document, runc_document, system_cpu_ns
from runtime.cgroups.watch import Event, Watch
from tests.integration.runtime.cgroup_helpers import (
    MIB,
    PATIENCE_S,
    SLEEP,
    SPIN,
    needs,
    run,
    running,
)

pytestmark = pytest.mark.root


def until(watch: Watch, kind: str) -> list[Event]:
    """All events up to the first of this kind."""
    seen: list[Event] = []
    while kind not in {event.kind for event in seen}:
        events = watch.wait(PATIENCE_S)
        assert events, f"no {kind} within {PATIENCE_S} s; so far {seen}"
        seen += events
    return seen


def test_usage_counts_what_was_done(group: Cgroup, layout: CgroupLayout) -> None:
    child = group.child("x", controllers=layout.controllers, memory=128 * MIB, pids=50)
    code = f"""
import os
hoard = b"x" * {20 * MIB}
for _ in range(10**6): pass
os.write(1, b"ready\\n")
os.read(0, 1)
"""
    with running(child, code):
        usage = child.usage()
        assert usage.cpu is not None
        assert usage.cpu.usage_ns > 0
        assert usage.memory is not None
        assert 20 * MIB <= usage.memory.anon <= usage.memory.current <= 128 * MIB
        assert usage.memory.peak is None or usage.memory.peak >= usage.memory.anon
        assert usage.memory.limit == 128 * MIB
        assert usage.memory.kernel is None or usage.memory.kernel > 0
        assert usage.memory.working_set <= usage.memory.current
        assert child.memory_current() is not None
        assert usage.pids is not None
        assert (usage.pids.current, usage.pids.limit) == (1, 50)
        if layout.where("cpuset"):
            assert usage.cpus
    after = child.usage()
    assert after.cpu is not None
    assert after.cpu.usage_ns >= usage.cpu.usage_ns
    assert after.time_ns > usage.time_ns
    assert after.pids is not None
    assert after.pids.current == 0
    child.remove()


def test_io_is_counted_by_device(group: Cgroup, layout: CgroupLayout) -> None:
    needs(layout, "io")
    child = group.child("x", controllers=["io"])
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        code = f"""
import mmap, os
buffer = mmap.mmap(-1, 1 << 20)
fd = os.open({file.name!r}, os.O_WRONLY | os.O_DIRECT)
os.write(fd, buffer)
os.fsync(fd)
"""
        status, out = run(child, code)
        device = Path(file.name).stat().st_dev
    if status:
        pytest.skip(f"no direct I/O on /var/tmp: {out.splitlines()[-1]}")
    used = child.usage().io
    child.remove()
    if not used:
        pytest.skip(f"/var/tmp is on no block device that is accounted for ({device:#x})")
    if layout.where("io") != layout.v2 and not any(each.write_ops for each in used):
        pytest.skip("this kernel counts I/O in v1 only for cgroups that are throttled")
    assert sum(each.write_bytes for each in used) >= MIB
    assert sum(each.write_ops for each in used) >= 1


def test_pressure_is_counted_where_there_is_psi(group: Cgroup) -> None:
    child = group.child("x", cpus=0.1)
    if not child.pressure():
        pytest.skip("no PSI for cgroups here: a v2 tree and psi=1 are needed")
    assert {"cpu", "memory", "io"} <= set(child.pressure())
    some = child.pressure()["cpu"].some
    assert some is not None
    assert some.total_us >= 0
    child.remove()


def test_a_pressure_trigger_fires(group: Cgroup) -> None:
    """Two that want the CPU, and one CPU between them."""
    child = group.child("x")
    if not child.pressure():
        pytest.skip("no PSI for cgroups here: a v2 tree and psi=1 are needed")
    code = "import os; os.sched_setaffinity(0, {0}); os.fork();" + SPIN
    with child.watch() as watch:
        watch.add_pressure("cpu", stall=0.1, window=2.0)
        with running(child, code):
            event = next(event for event in until(watch, "pressure") if event.kind == "pressure")
            assert event.resource == "cpu"
            child.kill(PATIENCE_S)
    child.remove()


def test_emptiness_is_told_not_asked_for(group: Cgroup, layout: CgroupLayout) -> None:
    if layout.v2 is None:
        pytest.skip("v1 has no such event")
    child = group.child("x")
    with child.watch() as watch:
        assert watch.read() == []
        with running(child, SLEEP):
            assert until(watch, "populated") == [Event("populated")]
            child.freeze()
            assert until(watch, "frozen") == [Event("frozen")]
            child.freeze(False)
            assert until(watch, "thawed") == [Event("thawed")]
            child.kill(PATIENCE_S)
            assert Event("empty") in until(watch, "empty")
        poller = select.poll()
        poller.register(watch, select.POLLIN)
        assert poller.poll(0) == []
    child.remove()


def test_the_end_of_the_cgroup_is_the_last_event(group: Cgroup) -> None:
    child = group.child("x", memory=32 * MIB)
    with child.watch() as watch:
        child.remove()
        assert Event("gone") in watch.read()
        assert watch.read() == []


def test_a_watch_costs_no_descriptor_in_the_end(group: Cgroup) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    child = group.child("x")
    for _ in range(3):
        with child.watch() as watch:
            watch.read()
            watch.close()
    child.remove()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_the_document_of_docker_engine_grows(group: Cgroup) -> None:
    child = group.child("x", memory=64 * MIB)
    with running(child, SPIN):
        first, second = (engine_document(child.usage(), system_cpu_ns(), 1) for _ in range(2))
        while _total(second) == _total(first):  # it spins: this ends
            second = engine_document(child.usage(), system_cpu_ns(), 1)
    cpu = [each["cpu_stats"] for each in (first, second)]
    assert cpu[1]["system_cpu_usage"] >= cpu[0]["system_cpu_usage"] > 0
    assert second["memory_stats"]["limit"] == 64 * MIB
    child.remove()


def _total(document: Mapping[str, Any]) -> int:
    return int(document["cpu_stats"]["cpu_usage"]["total_usage"])


@pytest.fixture
def runc(tmp_path: Path) -> Callable[..., str]:
    """`runc` with a state directory of its own."""
    program = shutil.which("runc")
    if program is None:
        pytest.skip("runc is not here (package runc)")

    def call(*arguments: str) -> str:
        command = [program, "--root", str(tmp_path / "state"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def shape(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Its keys, with the types of their values; numbers by name (``raw``) are one."""
    found: dict[str, str] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and key not in ("raw", "hugetlb"):
            found |= shape(value, f"{name}.")
        else:
            found[name] = type(value).__name__
    return found


def test_the_document_of_runc_has_runcs_shape(
    layout: CgroupLayout, runc: Callable[..., str], tmp_path: Path
) -> None:
    """A real container of runc's, seen by runc and by us: the same keys, types and limits."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("/bin/busybox is not here (package busybox-static)")
    bundle = tmp_path / "bundle"
    (bundle / "rootfs/bin").mkdir(parents=True)
    (bundle / "rootfs/proc").mkdir()
    (bundle / "rootfs/dev").mkdir()
    shutil.copy(busybox, bundle / "rootfs/bin/busybox")
    name = f"isolation-lab-test-runc-{tmp_path.name}"
    config = {
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/busybox", "sleep", "1000"], "user": {}, "env": []},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        ],
        "linux": {
            "cgroupsPath": f"/{name}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "resources": {
                "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
                "cpu": {"quota": 50_000, "period": 100_000},
                "pids": {"limit": 20},
            },
        },
    }
    (bundle / "config.json").write_text(json.dumps(config))
    out = (tmp_path / "out").open("w")
    with out:
        program = ["runc", "--root", str(tmp_path / "state"), "run", "-d", "-b", str(bundle), name]
        done = subprocess.run(
            program, check=False, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60
        )
    assert done.returncode == 0, (tmp_path / "out").read_text()
    try:
        theirs = json.loads(runc("events", "--stats", name))["data"]
        ours = runc_document(Cgroup.adopt(layout, f"/{name}").usage())
        missing = {
            key: kind
            for key, kind in shape(theirs).items()
            if shape(ours).get(key) != kind and not _v1_detail(key)
        }
        assert not missing
        for section, key in (("memory", "usage"), ("memory", "swap")):
            assert ours[section][key]["limit"] == theirs[section][key]["limit"]
        assert ours["pids"]["limit"] == theirs["pids"]["limit"]
        assert set(ours["memory"]["raw"]) == set(theirs["memory"]["raw"])
    finally:
        runc("delete", "--force", name)


def _v1_detail(key: str) -> bool:
    """CPU time by CPU and mode, which v1 alone has and nobody reads; zeros that may be missing."""
    return key.startswith(("cpu.usage.percpu", "cpu.throttling", "blkio", "memory.swap.max"))
