"""What a person sees: the time left, learnt from the trials that ran, and the lines and bars."""

import io

import pytest
from rich.console import Console

from lab.bench import PlannedExperiment, plan_suite
from lab.experiment import parse_suite
from lab.progress import TerminalProgress, TimeLeft
from lab.record import Record, TrialId
from lab.trial import not_run


def trial(backend: str, n: int = 1) -> TrialId:
    return TrialId(
        index=0, experiment="density", backend=backend, repeat=0, warmup=False, factors={"n": n}
    )


def test_nothing_is_said_about_a_backend_that_has_not_been_seen() -> None:
    time = TimeLeft()
    time.learn(trial("container"), 0.01)
    assert time.estimate([trial("vm")]) is None
    assert time.estimate([]) == 0


def test_a_cell_that_was_seen_is_worth_its_mean_and_another_is_scaled() -> None:
    time = TimeLeft()
    time.learn(trial("vm", 2), 4.0)
    time.learn(trial("vm", 2), 6.0)
    assert time.estimate([trial("vm", 2)]) == pytest.approx(5)
    assert time.estimate([trial("vm", 4), trial("vm", 1)]) == pytest.approx(12.5)


def suite() -> list[PlannedExperiment]:
    document = {
        "name": "two",
        "seed": 1,
        "experiment": [
            {"kind": "boot", "backends": ["fake", "vm"], "trials": 5, "warmup": 0},
            {"kind": "density", "backends": ["fake"], "trials": 1, "warmup": 0, "levels": [1, 2]},
        ],
    }
    return plan_suite(parse_suite(document, source="two"))


def ended(one: TrialId, *, cause: str | None = None) -> Record:
    return Record(
        run="r",
        trial=one,
        status="failed" if cause else "ok",
        cause=cause,
        started_at="2026-11-24T12:00:00.000+00:00",
        duration_s=60.0,
        workload={  # type: ignore[arg-type]
            "image": "busybox",
            "image_digest": "fake",
            "argv": [],
            "env": {},
            "cwd": "/",
            "uid": 0,
            "gid": 0,
            "cpus": 1,
            "memory_bytes": 1,
        },
    )


def watched(*, terminal: bool, causes: dict[int, str]) -> str:
    """All that is shown of a run whose second experiment is interrupted after one trial."""
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=terminal, highlight=False)
    first, second = suite()
    with TerminalProgress(console, "20261124T120000-two-abcd") as progress:
        progress.begin([first, second], {("boot", "vm"): "no QEMU"})
        progress.experiment(first, frozenset({0}))
        progress.preparing("fake")
        for one in first.plan.trials[1:]:
            progress.trial(one)
            if one.backend == "vm":
                progress.record(not_run("r", one, "skipped", "vm: no QEMU"))
            else:
                progress.record(ended(one, cause=causes.get(one.index)))
        progress.experiment(second, frozenset())
        progress.trial(second.plan.trials[0])
        progress.record(ended(second.plan.trials[0]))
        progress.trial(second.plan.trials[1])
    return file.getvalue()


def test_without_a_terminal_it_is_lines_and_no_control_sequences() -> None:
    text = watched(terminal=False, causes={})
    assert "\x1b" not in text and "\r" not in text
    lines = text.splitlines()
    assert lines[0] == "run 20261124T120000-two-abcd: 12 trials, seed 1"
    assert "left out: vm: no QEMU" in lines
    assert "boot: 10 trials on fake, vm, 1 of them done before" in lines
    assert "boot: preparing fake" in lines
    assert "boot: 10 of 10 trials done in 0:00" in lines
    assert "density: 1 of 2 trials done in 0:00" in lines


def test_on_a_terminal_there_is_a_bar_for_each_with_what_runs_and_how_long_still() -> None:
    text = watched(terminal=True, causes={})
    assert "10/10" in text and "1/2" in text
    for words in ("preparing fake", "fake n=2", " left", " in all"):
        assert words in text, words
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is not shown again"


def test_failures_are_told_and_then_counted() -> None:
    fakes = [one.index for one in suite()[0].plan.trials if one.backend == "fake" and one.index]
    text = watched(terminal=False, causes={index: f"cause {index}" for index in fakes})
    for index in fakes[:3]:
        assert f"boot: trial {index} failed: cause {index}" in text
    assert "further failures of fake are only counted" in text
    assert f"trial {fakes[3]} failed" not in text
    assert f"{len(fakes)} failed" in text
