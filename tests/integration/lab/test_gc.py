"""Killed by SIGKILL, the lab cannot clean up: `lab gc` does, and leaves the living alone."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.context import cgroup_of
from lab.gc import collect_run
from lab.ownership import new_run_id
from runtime.cgroups import Cgroup, CgroupLayout
from tests.integration.lab.bench_process import (
    Bench,
    Lab,
    cgroups,
    gone,
    mounts_of,
    namespaces,
    nothing_left,
    processes_of,
)

pytestmark = [pytest.mark.root, pytest.mark.qemu]

DENSITY = """\
name = "killed"
seed = 2

[[experiment]]
kind = "density"
backends = ["container", "vm"]
trials = 1
warmup = 0
levels = { container = [12], vm = [2] }
settle = "1s"
"""


def start(lab: Lab) -> Bench:
    return lab.start(lab.experiment("killed", DENSITY))


@pytest.fixture
def swept(lab: Lab) -> Iterator[list[str]]:
    """Runs to be removed even if `lab gc` fails."""
    runs: list[str] = []
    yield runs
    for run in runs:
        list(collect_run(lab.cache, run))


def gc(lab: Lab, *runs: str) -> subprocess.CompletedProcess[str]:
    """`lab gc`, once it has said with --dry-run that it would take nothing that is not ours: a run
    by an older lab, which did not lock its cgroup, looks dead to this one."""
    dry = lab("gc", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    of_runs = [line for line in dry.stdout.splitlines() if "/lab-" in line]
    foreign = [line for line in of_runs if not any(run in line for run in runs)]
    if foreign:
        pytest.skip(f"this host has what another run left, or an older lab runs: {foreign[0]}")
    return lab("gc")


def removed(lab: Lab, *runs: str) -> list[str]:
    """What it says that it has removed."""
    done = gc(lab, *runs)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("backend", "least"), [("container", 8), ("vm", 2)])
def test_killed_in_a_density_run(lab: Lab, swept: list[str], backend: str, least: int) -> None:
    before = lab.files(), mounts_of(str(lab.cache)), namespaces_of_host()
    with start(lab) as bench:
        pids = bench.await_instances("density", backend, least)
        run = bench.run
        swept.append(run)
        assert bench.signal(signal.SIGKILL) == -signal.SIGKILL
    assert gone(pids), "a child outlived the lab"
    assert cgroups(run), "nothing is left for lab gc to do: this test tests nothing"
    assert (lab.cache / "runs" / run).is_dir()
    said = removed(lab, run)
    assert f"removed directory {lab.cache / 'runs' / run}" in said
    assert any(line.endswith(f"/lab-{run}") for line in said)
    assert nothing_left(lab, run)
    assert (lab.files(), mounts_of(str(lab.cache))) == before[:2]
    assert not (namespaces_of_host() - before[2]) & namespaces(pids)
    assert removed(lab, run) == ["nothing was left behind"]


def namespaces_of_host() -> set[str]:
    """Named network namespaces, which nobody's end removes (ip-netns(8))."""
    folder = Path("/run/netns")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_a_killed_run_can_be_gone_on_with_before_any_gc(lab: Lab, swept: list[str]) -> None:
    with start(lab) as bench:
        bench.await_instances("density", "container", 4)
        run = bench.run
        swept.append(run)
        bench.signal(signal.SIGKILL)
    done = lab.bench("--resume", run)
    assert done.returncode == 0, done.stderr
    assert {record["status"] for record in lab.records("density")} == {"ok"}
    assert len(lab.records("density")) == 2
    assert nothing_left(lab, run)


def test_a_live_run_is_left_alone_from_whatever_cache(
    lab: Lab, swept: list[str], tmp_path: Path
) -> None:
    other = Lab(tmp_path, tmp_path / "another-cache")
    other.cache.mkdir()
    with start(lab) as bench:
        pids = bench.await_instances("density", "container", 8)
        run = bench.run
        swept.append(run)
        for one in (lab, other):
            said = one("gc", "--dry-run").stdout
            assert run not in said
            assert not [pid for pid in pids if f"process {pid} " in said]
        for cache in (lab.cache, other.cache):
            assert list(collect_run(cache, run)) == []
        assert bench.process.wait(120) == 0, bench.output
    assert {record["status"] for record in lab.records("density")} == {"ok"}
    assert nothing_left(lab, run)


def test_a_run_that_is_alive_is_not_begun_a_second_time(lab: Lab, swept: list[str]) -> None:
    with start(lab) as bench:
        bench.await_instances("density", "container")
        run = bench.run
        swept.append(run)
        done = lab.bench("--resume", run)
        assert done.returncode == 1
        assert f"run {run} belongs to process {bench.process.pid}, which is alive" in done.stderr
        assert bench.process.wait(120) == 0, bench.output
    assert nothing_left(lab, run)


def test_processes_and_mounts_go_too(lab: Lab, swept: list[str]) -> None:
    """What no killed run is known to leave, made by hand: a process that is nobody's child any
    more, in a cgroup below the run's, and a mount in the run's directory."""
    run = new_run_id("left")
    swept.append(run)
    layout = CgroupLayout.detect()
    top = Cgroup.create(layout, cgroup_of(run))
    inner = top.child("instance").child("deeper")
    state = lab.cache / "runs" / run
    (state / "instance").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "lab-test", state / "instance"], check=True)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for directory in inner.directories:
                Path(directory, "cgroup.procs").write_text(str(process.pid))
            said = removed(lab, run)
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()
    assert f"removed process {process.pid} (sleep)" in said
    assert f"removed mount {state / 'instance'}" in said
    assert said.index(f"removed process {process.pid} (sleep)") < said.index(
        f"removed directory {state}"
    )
    assert nothing_left(lab, run)


def test_half_made_entries_of_the_cache_go(lab: Lab, swept: list[str]) -> None:
    """Killed while a probe boots a guest: its scratch is in the cache, beside the runs'."""
    before = lab.files()
    (lab.cache / "accelerator.json").unlink()
    with lab.start("boot", "--backends", "vm", "--trials", "1") as bench:
        for _ in bench.meanwhile("a machine of the probe"):
            if list(lab.cache.glob(".tmp-*/machine/*")):
                break
        run = bench.run
        swept.append(run)
        bench.signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while processes_of(str(lab.cache)) and time.monotonic() < deadline:
        time.sleep(0.01)
    said = removed(lab, run)
    assert [line for line in said if "/.tmp-" in line]
    assert nothing_left(lab, run)
    assert lab.files() | {"accelerator.json"} == before


def test_what_cannot_be_removed_is_named_and_the_rest_goes(lab: Lab, swept: list[str]) -> None:
    runs = sorted(new_run_id("stuck") for _ in range(2))
    swept += runs
    for run in runs:
        (lab.cache / "runs" / run / "instance").mkdir(parents=True)
    stuck = lab.cache / "runs" / runs[0] / "instance"
    subprocess.run(["chattr", "+i", stuck.parent], check=True)
    try:
        done = gc(lab, *runs)
    finally:
        subprocess.run(["chattr", "-i", stuck.parent], check=True)
    assert done.returncode == 1
    assert f"{runs[0]}" in done.stderr
    assert "Operation not permitted" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"removed directory {lab.cache / 'runs' / runs[1]}" in done.stdout
    assert not (lab.cache / "runs" / runs[1]).exists()
