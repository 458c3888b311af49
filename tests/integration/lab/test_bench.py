"""`lab bench` end to end: a small suite on real processes, containers and guests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from typing import Any

import pandas as pd
import pytest

from lab.turns import turn
from tests.integration.lab.bench_process import Lab, nothing_left
from tests.integration.lab.conftest import REAL

pytestmark = [pytest.mark.root, pytest.mark.qemu]

SUITE = """\
name = "small"
seed = 11

[[experiment]]
kind = "boot"
trials = { native = 6, container = 6, vm = 2 }
warmup = 1

[[experiment]]
kind = "density"
trials = 1
warmup = 0
levels = { native = [1, 3], container = [1, 3], vm = [1, 2] }
settle = "50ms"

[[experiment]]
kind = "disk"
trials = 1
warmup = 0
levels = [1, 2]
write = "64k"
"""

PHASES = {
    "native": ["cgroup", "clone", "exec", "ready"],
    "container": ["cgroup", "clone", "mounts", "exec", "ready"],
    "vm": ["process", "kernel", "init", "ready"],
}


def test_a_small_suite_gives_complete_records(lab: Lab) -> None:
    done = lab.bench(lab.experiment("small", SUITE))
    assert done.returncode == 0, done.stderr
    run = lab.run_folder("boot").name
    assert nothing_left(lab, run)
    assert [path.name for path in (lab.cache / "runs").iterdir()] == []
    for experiment in ("boot", "density", "disk"):
        folder = lab.run_folder(experiment)
        assert folder.name == run
        records = lab.records(experiment)
        plan = json.loads((folder / "plan.json").read_text())["trials"]
        assert [record["trial"] for record in records] == plan, (
            "not all, or not in the plan's order"
        )
        assert {(record["status"], record["cause"]) for record in records} == {("ok", None)}
        assert len(pd.read_parquet(folder / "records.parquet")) == len(records)
        check(records)
    boot(lab.records("boot"))
    density(lab.records("density"))
    disk(lab.records("disk"))
    for words in ("boot:", "density:", "disk:", "/ native", str(lab.run_folder("disk"))):
        assert words in done.stdout


def check(records: list[dict[str, Any]]) -> None:
    """What holds for every record, whatever was measured."""
    digests, works = set(), set()
    for record in records:
        work, factors = record["workload"], record["factors"]
        digests.add(work["image_digest"])
        works.add(json.dumps(work, sort_keys=True))
        assert factors["kernel"] and factors["disk"] and factors["network"]
        if record["trial"]["backend"] == "vm":
            assert factors["accelerator"] in {"kvm", "tcg"}
            assert factors["machine"] == "microvm"
            assert factors["cpu_model"]
        else:
            assert factors["kernel"] == os.uname().release
    assert len(digests) == 1
    assert digests.pop().startswith("sha256:")
    assert len(works) == 1, "the work was not the same on all backends"
    order = [record["trial"]["backend"] for record in records]
    assert set(order) == set(REAL)
    assert order != sorted(order, key=order.index), "backends were run one after the other"
    starts = [record["t0_ns"] for record in records]
    assert starts == sorted(starts)


def boot(records: list[dict[str, Any]]) -> None:
    counted = Counter((r["trial"]["backend"], r["trial"]["warmup"]) for r in records)
    assert counted == {
        **{(name, True): 1 for name in REAL},
        ("native", False): 6,
        ("container", False): 6,
        ("vm", False): 2,
    }
    for record in records:
        phases, metrics = record["phases"], record["metrics"]
        backend = record["trial"]["backend"]
        assert list(phases) == PHASES[backend]
        assert list(phases.values()) == sorted(phases.values())
        assert metrics["boot_s"] == pytest.approx(phases["ready"], abs=1e-8)
        assert metrics["boot_s"] > 0
        assert metrics["stop_s"] > 0


def density(records: list[dict[str, Any]]) -> None:
    pss: dict[tuple[str, int], float] = {}
    for record in records:
        trial, metrics, samples = record["trial"], record["metrics"], record["samples"]
        n = trial["factors"]["n"]
        assert [sample["n"] for sample in samples] == [n] * 3
        assert metrics["pss_bytes"] > 0
        assert metrics["cgroup_bytes"] > 0
        assert "host_bytes" in metrics
        pss[trial["backend"], n] = metrics["pss_bytes"]
    assert pss["vm", 1] > 10 * pss["container", 1], "a guest's memory was not counted"
    assert pss["vm", 2] > 1.5 * pss["vm", 1]


def disk(records: list[dict[str, Any]]) -> None:
    for record in records:
        trial, metrics = record["trial"], record["metrics"]
        n = trial["factors"]["n"]
        grown = metrics["after_bytes"] - metrics["before_bytes"]
        assert metrics["written_bytes"] == 65536
        assert grown >= n * 65536
        assert metrics["image_bytes"] > 2**20
        if trial["backend"] == "native":
            assert metrics["before_bytes"] > n * 2**20, "a copy of the tree each"


def test_a_backend_that_cannot_be_prepared_fails_and_the_others_go_on(lab: Lab) -> None:
    """Without a kernel in the cache, and without the tools to fetch one."""
    shutil.rmtree(lab.cache / "kernels")
    tools = lab.folder / "bin"
    tools.mkdir()
    for name in ("qemu-system-x86_64", "cp", "sleep", "git"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    done = lab.bench("boot", "--backends", "native,vm", "--trials", "2", PATH=str(tools))
    assert done.returncode == 0, done.stderr
    assert "boot: vm could not be prepared: apt-cache is not here" in done.stdout
    assert "Traceback" not in done.stderr
    counted = Counter((r["trial"]["backend"], r["status"]) for r in lab.records("boot"))
    assert counted == {("native", "ok"): 3, ("vm", "failed"): 3}
    run = lab.run_folder("boot").name
    assert nothing_left(lab, run)
    # The cause mended, the run is completed by what failed.
    again = lab.bench("--resume", run, "--dry-run")
    assert again.returncode == 0


def test_a_workload_that_is_never_ready_is_a_record_with_its_log(lab: Lab) -> None:
    """A time that no emulated guest comes up in, and a container on a busy host does."""
    text = SUITE.split("[[experiment]]", maxsplit=1)[0] + (
        '[[experiment]]\nkind = "boot"\nbackends = ["container", "vm"]\n'
        'trials = 1\nwarmup = 0\ntimeout = "500ms"\noptions.vm = { accel = "tcg" }\n'
    )
    done = lab.bench(lab.experiment("hasty", text))
    assert done.returncode == 0, done.stderr
    by_backend = {r["trial"]["backend"]: r for r in lab.records("boot")}
    assert by_backend["container"]["status"] == "ok"
    late = by_backend["vm"]
    assert late["status"] == "failed"
    assert "did not send 'r' within 0.5 s" in str(late["cause"])
    assert late["argv"][0] == "qemu-system-x86_64"
    assert next(iter(late["phases"])) == "process"
    assert nothing_left(lab, lab.run_folder("boot").name)


def test_a_run_goes_on_only_with_the_image_that_it_began_with(lab: Lab) -> None:
    words = ("boot", "--backends", "native", "--trials", "2")
    assert lab.bench(*words).returncode == 0
    folder = lab.run_folder("boot")
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    other = lines[0].replace("sha256:", "sha256:0000")
    path.write_text(other)
    done = lab.bench("--resume", folder.name)
    assert done.returncode == 2
    assert "image busybox was sha256:0000" in done.stderr
    assert path.read_text() == other
    assert nothing_left(lab, folder.name)


@pytest.mark.parametrize("name", ["floor-container", "floor-vm"])
def test_the_references_boot_the_same_work(lab: Lab, name: str) -> None:
    if name == "floor-container" and not shutil.which("cc"):
        pytest.skip("no C compiler: the floor is made from its source")
    done = lab.bench("boot", "--backends", name, "--trials", "1")
    assert done.returncode == 0, done.stderr
    for record in lab.records("boot"):
        assert (record["status"], record["cause"]) == ("ok", None)
    assert nothing_left(lab, lab.run_folder("boot").name)


def test_records_appear_while_the_run_goes_on(lab: Lab) -> None:
    with lab.start("boot", "--backends", "native", "--trials", "2000") as bench:
        bench.await_output("boot: preparing native")
        for _ in bench.meanwhile("records"):
            found = list(lab.results.glob("*/boot/*/records.jsonl"))
            if found and found[0].read_bytes().count(b"\n") > 3:
                break
        assert not (found[0].parent / "records.parquet").exists()
    assert nothing_left(lab, found[0].parent.name)


def test_a_full_disk_is_told_and_what_was_measured_is_kept(lab: Lab) -> None:
    """A real one: a tmpfs that holds a few records."""
    lab.results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "lab-test", lab.results], check=True)
    try:
        done = lab.bench("boot", "--backends", "native", "--trials", "300")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        run = lab.run_folder("boot").name
        assert f"lab bench --resume {run}" in done.stderr
        assert "Traceback" not in done.stderr
        kept = lab.records("boot")
        assert 0 < len(kept) < 300
        assert nothing_left(lab, run)
        subprocess.run(["mount", "-o", "remount,size=16m", lab.results], check=True)
        again = lab.bench("--resume", run)
        assert again.returncode == 0, again.stderr
        assert lab.records("boot")[: len(kept)] == kept
        assert len(lab.records("boot")) == 301
    finally:
        subprocess.run(["umount", lab.results], check=True)


def test_the_second_of_two_waits_and_gives_up_on_ctrl_c(lab: Lab) -> None:
    with (
        turn("the-test", lambda _: None),
        lab.start("boot", "--backends", "native", alongside=False) as bench,
    ):
        bench.await_output("waiting for run the-test")
        assert "--alongside measures all the same" in " ".join(bench.output.split())
        assert bench.signal(signal.SIGINT) == 130
        assert "nothing had been measured" in bench.output
    assert not lab.results.exists()
    assert list((lab.cache / "runs").iterdir()) == []
