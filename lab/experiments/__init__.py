"""Experiments: each a file that says what is measured, how, and what can fool it.

An experiment names its cells (the levels it crosses), the workload of a cell, and measures one
trial through `lab.trial.Trial`. They are found through the entry-point group ``lab.experiments``,
so that one outside this repository comes in through the same door.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from lab.errors import ExperimentError
from lab.mistakes import closest

if TYPE_CHECKING:
    from lab.backends.base import Workload
    from lab.experiment import ExperimentSpec
    from lab.trial import Trial

__all__ = ["Experiment", "Factors", "find_experiment", "known_experiments"]

GROUP = "lab.experiments"

Factors = Mapping[str, int | float | str]


class Experiment(Protocol):
    """One kind of experiment."""

    kind: str
    needs: frozenset[str]
    """Abilities without which a backend is left out, e.g. ``private_root``."""

    def cells(self, spec: ExperimentSpec, backend: str) -> Sequence[Factors]:
        """The combinations of levels to try on one backend."""

    def workload(self, spec: ExperimentSpec) -> Workload:
        """The work, the same on every backend."""

    def measure(self, trial: Trial, factors: Factors) -> None:
        """Run one trial: launch through `trial`, and put numbers into its metrics and samples."""


def known_experiments() -> list[str]:
    """Names of all kinds, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def find_experiment(kind: str) -> Experiment:
    """The experiment called `kind`. Raises `ExperimentError` that names the choices."""
    for entry in entry_points(group=GROUP):
        if entry.name == kind:
            experiment: Experiment = entry.load()()
            return experiment
    raise ExperimentError(
        f'kind: there is no experiment "{kind}"; {closest(kind, known_experiments())}'
    )
