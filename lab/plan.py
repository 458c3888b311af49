"""The plan: which trials, in which order.

Trials of all backends are interleaved in a seeded random order, so that drift of the machine (heat,
page cache, a neighbour) hits all of them alike. Where backends have different numbers of repeats,
a plain shuffle could still bunch the rarer ones; so the run is cut, for each cell, into as many
equal stretches as it has repeats, and repeat *i* falls at a random point of stretch *i* (stratified
sampling). Warm-ups of every cell come first.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from lab.experiment import ExperimentSpec
from lab.experiments import Experiment
from lab.record import TrialId

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Trials in order of execution. `trials[i].index == i`."""

    seed: int
    trials: tuple[TrialId, ...]


def make_plan(spec: ExperimentSpec, experiment: Experiment, seed: int) -> Plan:
    """The same spec and seed give the same plan, on any machine (Mersenne Twister, `random`)."""
    rng = random.Random(f"{seed}/{spec.kind}")
    placed: list[tuple[float, str, Mapping[str, int | float | str], int, bool]] = []
    for backend in spec.backends:
        for factors in experiment.cells(spec, backend):
            placed.extend(
                (rng.random() - 1.0, backend, factors, i, True) for i in range(spec.warmup)
            )
            repeats = spec.trials_of(backend)
            placed.extend(
                ((i + rng.random()) / repeats, backend, factors, i, False) for i in range(repeats)
            )
    placed.sort(key=lambda item: item[0])
    return Plan(
        seed,
        tuple(
            TrialId(
                index=index,
                experiment=spec.kind,
                backend=backend,
                repeat=repeat,
                warmup=warmup,
                factors=dict(factors),
            )
            for index, (_, backend, factors, repeat, warmup) in enumerate(placed)
        ),
    )
