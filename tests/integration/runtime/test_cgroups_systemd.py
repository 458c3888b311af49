"""Scopes of a real systemd. Where none runs, all but one of these are skipped."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout, SystemdError
from runtime.cgroups.systemd import SystemdCgroup
from tests.integration.runtime.cgroup_helpers import MIB, PATIENCE_S, SLEEP, running

pytestmark = pytest.mark.root

RUNS = Path("/run/systemd/system").is_dir()


def show(unit: str, *names: str) -> dict[str, str]:
    """What systemd itself says of a unit."""
    command = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_without_systemd_it_says_so(layout: CgroupLayout) -> None:
    if RUNS:
        pytest.skip("systemd runs here")
    with pytest.raises(SystemdError, match="not what this host was booted with"):
        SystemdCgroup.start(layout, "system.slice:x:y", "y")


@pytest.fixture
def scope(layout: CgroupLayout) -> Iterator[SystemdCgroup]:
    if not RUNS:
        pytest.skip("systemd does not run here")
    if layout.kind != "v2":
        pytest.skip("needs cgroup v2 alone")
    name = f"c{os.getpid()}"
    made = SystemdCgroup.start(
        layout,
        f"test-isolation.slice:isolation:{name}",
        name,
        resources={"cpu": {"shares": 2048}, "devices": [{"allow": False, "access": "rwm"}]},
        annotations={"org.systemd.property.TimeoutStopSec": "uint64 7"},
        cpus=1.5,
        memory=64 * MIB,
        memory_high=48 * MIB,
        pids=33,
        cpuset="0",
        controllers=("hugetlb",),
    )
    yield made
    made.kill(PATIENCE_S)
    made.remove(PATIENCE_S)
    assert not Path(str(made.into)).exists()
    assert show(made.unit, "LoadState") == {"LoadState": "not-found"}


def test_a_scope_in_its_slice_with_its_limits(scope: SystemdCgroup) -> None:
    name = f"c{os.getpid()}"
    assert scope.path == f"test.slice/test-isolation.slice/isolation-{name}.scope"
    shown = show(
        scope.unit,
        *("ActiveState", "Delegate", "Slice", "CPUWeight", "CPUQuotaPerSecUSec", "MemoryMax"),
        *("MemoryHigh", "MemorySwapMax", "TasksMax", "AllowedCPUs", "TimeoutStopUSec"),
    )
    assert shown == {
        "ActiveState": "active",
        "Delegate": "yes",
        "Slice": "test-isolation.slice",
        "CPUWeight": "174",
        "CPUQuotaPerSecUSec": "1.500000s",
        "MemoryMax": str(64 * MIB),
        "MemoryHigh": str(48 * MIB),
        "MemorySwapMax": "0",
        "TasksMax": "33",
        "AllowedCPUs": "0",
        "TimeoutStopUSec": "7s",
    }
    files = {name: Path(str(scope.into), name).read_text().strip() for name in FILES}
    assert files == FILES
    assert Path(str(scope.into), "hugetlb.2MB.max").exists()


FILES = {
    "cpu.weight": "174",
    "cpu.max": "150000 100000",
    "memory.max": str(64 * MIB),
    "memory.high": str(48 * MIB),
    "pids.max": "33",
    "cpuset.cpus": "0",
}


def test_it_lives_with_its_processes_and_is_found_by_its_record(scope: SystemdCgroup) -> None:
    with running(scope, SLEEP) as process:
        scope.settle()
        assert scope.processes() == (process.pid,)
        again = Cgroup.from_record(json.loads(json.dumps(scope.record())))
        assert isinstance(again, SystemdCgroup)
        again.update(memory=32 * MIB, pids=9, cpus=0.255)
        shown = show(again.unit, "MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")
        assert shown == {
            "MemoryMax": str(32 * MIB),
            "TasksMax": "9",
            "CPUQuotaPerSecUSec": "260ms",
        }
        assert Path(str(scope.into), "memory.max").read_text().strip() == str(32 * MIB)
        assert Path(str(scope.into), "cpu.max").read_text().split()[0] == "25500"
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        assert Path(str(scope.into), "memory.max").read_text().strip() == str(32 * MIB)
        assert Path(str(scope.into), "pids.max").read_text().strip() == "9"
        assert process.poll() is None
        again.freeze()
        assert scope.frozen()
        again.freeze(False)


def test_a_name_is_taken_once(scope: SystemdCgroup, layout: CgroupLayout) -> None:
    name = f"c{os.getpid()}"
    with pytest.raises(SystemdError) as caught:
        SystemdCgroup.start(layout, f"test-isolation.slice:isolation:{name}", name)
    assert caught.value.name == "org.freedesktop.systemd1.UnitExists"
    assert show(scope.unit, "ActiveState") == {"ActiveState": "active"}


def test_a_property_that_systemd_does_not_know_is_named(layout: CgroupLayout) -> None:
    if not RUNS or layout.kind != "v2":
        pytest.skip("needs systemd and cgroup v2 alone")
    with pytest.raises(SystemdError, match="NoSuchProperty"):
        SystemdCgroup.start(
            layout,
            None,
            f"d{os.getpid()}",
            annotations={"org.systemd.property.NoSuchProperty": "1"},
        )


def test_who_dies_before_settling_leaves_no_scope(scope: SystemdCgroup) -> None:
    """The placeholder ends when nobody holds its pipe any more; here by `remove`."""
    assert len(scope.processes()) == 1
    scope.remove(PATIENCE_S)
    assert show(scope.unit, "LoadState") == {"LoadState": "not-found"}
