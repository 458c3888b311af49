"""A signal in the middle of a trial: what was started is gone, what was measured is kept."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.lab.bench_process import Bench, Lab, gone, namespaces, nothing_left

pytestmark = [pytest.mark.root, pytest.mark.qemu]

# Long enough alive to be met there: a guest takes its time to come up, the others are held by the
# settling of the density experiment, or by writing much.
EXPERIMENT = """\
name = "signalled"
seed = 5

[[experiment]]
kind = "{kind}"
backends = {backends}
trials = {trials}
warmup = 0
levels = [2]
settle = "500ms"
write = "8M"
"""


def start(lab: Lab, kind: str, backend: str) -> Bench:
    """Two trials in all."""
    backends = ["native"] if backend == "native" else ["native", backend]
    text = EXPERIMENT.format(kind=kind, backends=backends, trials=2 // len(backends))
    return lab.start(lab.experiment("signalled", text))


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("boot", "vm"),
        ("density", "native"),
        ("density", "container"),
        ("density", "vm"),
        ("disk", "native"),
        ("disk", "container"),
        ("disk", "vm"),
    ],
)
def test_ctrl_c_in_a_trial(lab: Lab, kind: str, backend: str) -> None:
    before = lab.files()
    with start(lab, kind, backend) as bench:
        pids = bench.await_instances(kind, backend)
        spaces = namespaces(pids)
        assert bench.signal(signal.SIGINT) == 130, bench.output
        run, output = bench.run, bench.output
    assert "Traceback" not in output
    assert gone(pids)
    assert nothing_left(lab, run)
    assert lab.files() == before
    assert not namespaces([pid for pid in pids if Path(f"/proc/{pid}").exists()]) & spaces

    folder = lab.run_folder(kind)
    kept = (folder / "records.jsonl").read_bytes()
    trials = kept.count(b"\n")
    assert trials < 2
    assert f"lab bench --resume {run}" in output
    assert f"{trials} trial" in output
    assert not (folder / "records.parquet").exists()

    done = lab.bench("--resume", run)
    assert done.returncode == 0, done.stderr
    assert (folder / "records.jsonl").read_bytes().startswith(kept), "what was kept was touched"
    plan = json.loads((folder / "plan.json").read_text())["trials"]
    assert [record["trial"] for record in lab.records(kind)] == plan
    assert {record["status"] for record in lab.records(kind)} == {"ok"}
    assert (folder / "records.parquet").exists()
    assert nothing_left(lab, run)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_it_too(lab: Lab, number: signal.Signals, status: int) -> None:
    with start(lab, "density", "container") as bench:
        pids = bench.await_instances("density", "container", 2)
        assert bench.signal(number) == status
        run = bench.run
        assert number.name in bench.output
    assert gone(pids)
    assert nothing_left(lab, run)


def test_impatience_does_not_disturb_the_cleaning(lab: Lab) -> None:
    with start(lab, "density", "vm") as bench:
        pids = bench.await_instances("density", "vm", 2)
        for _ in range(5):
            bench.process.send_signal(signal.SIGINT)
        assert bench.signal(signal.SIGTERM) in (130, 143)
        run = bench.run
        assert "Traceback" not in bench.output
    assert gone(pids)
    assert nothing_left(lab, run)


def test_ctrl_c_while_a_backend_is_prepared(lab: Lab) -> None:
    """A probe boots guests then, outside of any trial."""
    (lab.cache / "accelerator.json").unlink()
    with lab.start("boot", "--backends", "vm", "--trials", "1") as bench:
        bench.await_output("boot: preparing vm")
        for _ in bench.meanwhile("a machine of the probe"):
            if list(lab.cache.glob(".tmp-*/machine")):
                break
        assert bench.signal(signal.SIGINT) == 130
        run = bench.run
        assert "0 trials are measured" in bench.output
        assert "Traceback" not in bench.output
    assert nothing_left(lab, run)
    assert not list(lab.cache.glob(".tmp-*"))
