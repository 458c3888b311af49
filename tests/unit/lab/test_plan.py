"""The order of trials: seeded, complete, interleaved."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lab.experiment import ExperimentSpec
from lab.experiments import find_experiment
from lab.plan import Plan, make_plan


def plan(seed: int = 7, **keys: object) -> Plan:
    spec = ExperimentSpec.model_validate({"kind": "density", **keys})
    return make_plan(spec, find_experiment("density"), seed)


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert plan(7) == plan(7)
    assert [t.backend for t in plan(7).trials] != [t.backend for t in plan(8).trials]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.integers(0, 2**32))
def test_every_cell_has_its_repeats_and_warm_ups_come_first(
    few: int, many: int, warmup: int, seed: int
) -> None:
    trials = plan(
        seed,
        backends=["vm", "container"],
        trials={"vm": few, "container": many},
        levels=[1, 2],
        warmup=warmup,
    ).trials
    assert [t.index for t in trials] == list(range(len(trials)))
    counted = Counter((t.backend, t.factors["n"], t.warmup) for t in trials)
    for n in (1, 2):
        assert counted["vm", n, False] == few
        assert counted["container", n, False] == many
        assert counted["vm", n, True] == counted["container", n, True] == warmup
    assert [t.warmup for t in trials] == sorted((t.warmup for t in trials), reverse=True)


def test_a_rare_backend_is_spread_over_the_whole_run() -> None:
    trials = plan(
        backends=["native", "vm"], trials={"native": 90, "vm": 9}, levels=[1], warmup=0
    ).trials
    for third in range(3):
        part = trials[third * 33 : (third + 1) * 33]
        assert 2 <= sum(t.backend == "vm" for t in part) <= 4
