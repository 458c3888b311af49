"""The time left is learnt from the trials that ran."""

import pytest

from lab.progress import TimeLeft
from lab.record import TrialId


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
