"""One trial on the fake backend: everything above I/O, without root."""

import os
import signal
import threading
from pathlib import Path

import pytest

from lab.backends.base import Prepared, Workload
from lab.backends.context import Context, Shared
from lab.backends.fake import FakeBackend
from lab.errors import BackendError
from lab.experiment import ExperimentSpec
from lab.experiments import Factors, find_experiment
from lab.interrupt import Interrupted, Interrupts
from lab.record import Record, TrialId
from lab.trial import Trial, run_trial


class Scripted:
    """An experiment whose measure is any function."""

    kind = "scripted"
    needs: frozenset[str] = frozenset()

    def __init__(self, measure: object) -> None:
        self.measure = measure

    def cells(self, spec: ExperimentSpec, backend: str) -> list[Factors]:
        return [{}]

    def workload(self, spec: ExperimentSpec) -> Workload:
        return Workload(argv=("true",))


def run(experiment: object, *, argv: tuple[str, ...] = ("true",), **keys: object) -> Record:
    spec = ExperimentSpec.model_validate(
        {"kind": "boot", "backends": ["fake"], "settle": 0, **keys}
    )
    with (
        Shared("run", Path("/nonexistent"), Path("/nonexistent")) as shared,
        Interrupts() as signals,
    ):
        backend = FakeBackend(Context(shared, {}))
        prepared: Prepared = backend.prepare(Workload(argv=argv, stdin=True))
        trial = TrialId(index=3, experiment="boot", backend="fake", repeat=0, warmup=False)
        if isinstance(experiment, str):
            trial = trial.model_copy(update={"factors": {"n": 3}})
            experiment = find_experiment(experiment)
        return run_trial("run", trial, spec, experiment, backend, prepared, signals)  # type: ignore[arg-type]


def test_boot_records_ready_after_t0_and_every_phase_in_order() -> None:
    record = run("boot")
    assert record.status == "ok"
    assert record.metrics["boot_s"] == pytest.approx(record.phases["ready"], abs=1e-8)
    assert list(record.phases) == ["made", "ready"]
    assert 0 <= record.phases["made"] <= record.phases["ready"]
    assert record.metrics["stop_s"] >= 0
    assert record.workload is not None
    assert record.workload.argv == ["true"]


def test_density_launches_n_and_keeps_every_reading() -> None:
    record = run("density")
    assert record.status == "ok"
    assert [s["n"] for s in record.samples] == [3, 3, 3]
    assert record.metrics["pss_bytes"] == 0
    assert "cgroup_bytes" not in record.metrics, "no cgroup was there: no number may be"


def test_disk_waits_for_every_instance_to_have_written() -> None:
    record = run("disk", write="10k")
    assert record.status == "ok"
    assert record.metrics["written_bytes"] == 12288, "rounded up to blocks, and recorded as such"


def test_a_workload_that_dies_before_ready_is_a_failed_record() -> None:
    record = run("boot", argv=("fail", "x"))
    assert record.status == "failed"
    assert record.cause is not None
    assert "ended before it sent 'r'" in record.cause
    assert "status 1" in record.cause
    assert record.argv == ["fake", "fail", "x"]


def test_a_workload_that_never_gets_ready_fails_at_the_deadline() -> None:
    def measure(trial: Trial, factors: Factors) -> None:
        running = trial.launch()
        trial.await_byte([running], b"never")

    record = run(Scripted(measure), timeout=0.05)
    assert record.status == "failed"
    assert record.cause is not None
    assert "within 0.05 s" in record.cause


def test_everything_launched_is_stopped_however_the_trial_ends() -> None:
    launched = []

    def measure(trial: Trial, factors: Factors) -> None:
        launched.extend(trial.launch_many(5, at_once=2))
        raise BackendError("broken")

    record = run(Scripted(measure))
    assert record.status == "failed"
    assert len(launched) == 5
    assert all(r.instance.wait(0) is not None for r in launched)


def test_a_mistake_in_an_experiment_is_no_record() -> None:
    def measure(trial: Trial, factors: Factors) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Scripted(measure))


def test_an_interrupt_stops_what_runs_and_makes_no_record() -> None:
    launched = []

    def measure(trial: Trial, factors: Factors) -> None:
        launched.append(trial.launch())
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            trial.await_byte(launched, b"never")
        finally:
            timer.join()

    with pytest.raises(Interrupted):
        run(Scripted(measure))
    assert launched[0].instance.wait(0) is not None
