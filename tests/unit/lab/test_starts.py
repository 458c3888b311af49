"""Tables of start, run and scale: ratios, goals, and what is said of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lab.record import Record
from lab.starts import GOALS, verdict
from lab.statistics import median_interval
from lab.summary import document, summarize
from lab.table import Estimate, Table

from . import records as made

START = {"floor-container": 2.0, "container": 3.0, "bwrap": 4.0, "crun": 10.0, "runc": 20.0}
RUN = {"lab-oci": 15.0, "crun": 8.0, "runc": 20.0, "docker": 300.0, "docker-lab": 301.0}


def compared(kind: str, times: dict[str, float], n: int = 20) -> Iterator[Record]:
    rng = random.Random(3)
    metric = {"start": "ready_s", "run": "run_s"}[kind]
    index = 0
    for _ in range(n):
        for backend, milliseconds in times.items():
            seconds = milliseconds / 1e3 * rng.lognormvariate(0, 0.02)
            yield made.record(
                index,
                kind,
                backend,
                factors={"program": f"{backend} 1.0", "root": "own overlay, after t0"},
                phases={"process": seconds / 4},
                metrics={metric: seconds},
            )
            index += 1


def scaled(n: int, **changes: float) -> Iterator[Record]:
    metrics = {
        "start_s": 6.0,
        "gone_s": 2.0,
        "first_s": 0.010,
        "last_s": 0.011,
        "host_bytes": 700.0 * 1024 * n,
        "disk_bytes": 28.0 * 1024 * n,
        "image_bytes": 2.0**30,
        **changes,
    }
    for index in range(3):
        yield made.record(index, "scale", "container", cell={"n": n}, metrics=metrics)


def estimate(table: Table, backend: str, key: str) -> float | None:
    place = list(table.headings).index(key)
    for row in table.cells:
        if str(row[0]) == backend:
            found = row[place]
            assert found is None or isinstance(found, Estimate)
            return None if found is None else found.interval.estimate
    raise AssertionError(f"no row {backend}")


def about(table: Table, begins: str) -> str:
    (note,) = [note for note in table.notes if note.startswith(begins)]
    return note


def test_start_divides_by_the_floor_and_by_our_container() -> None:
    table, steps = summarize(list(compared("start", START)))
    assert estimate(table, "container", "over_floor-container") == pytest.approx(1.5, rel=0.05)
    assert estimate(table, "crun", "over_container") == pytest.approx(10 / 3, rel=0.05)
    assert estimate(table, "container", "over_container") is None
    assert [row[1:3] for row in steps.cells if row[0] == "crun"] == [
        ("crun 1.0", "own overlay, after t0")
    ]


def test_start_is_held_to_its_goals() -> None:
    table = summarize(list(compared("start", START)))[0]
    assert about(table, "container / floor-container").endswith("goal at most 1.6×: reached")
    assert about(table, "container / bwrap").endswith("goal at most 1×: reached")
    slow = summarize(list(compared("start", START | {"container": 9.0})))[0]
    assert about(slow, "container / floor-container").endswith("goal at most 1.6×: missed")
    assert about(slow, "container / runc").endswith("reached")


def test_run_divides_docker_by_docker_alone() -> None:
    table = summarize(list(compared("run", RUN)))[0]
    assert estimate(table, "docker-lab", "over_docker") == pytest.approx(1.0, rel=0.05)
    assert estimate(table, "crun", "over_docker") is None
    assert about(table, "lab-oci / crun").endswith("goal at most 2×: reached")
    assert about(table, "docker-lab / docker").endswith("not decided by these trials")


def test_what_was_not_measured_has_no_goal_and_no_column() -> None:
    few = {name: START[name] for name in ("container", "runc")}
    table = summarize(list(compared("start", few)))[0]
    assert list(table.headings)[3:] == ["over_container"]
    assert [note for note in table.notes if "goal" in note] == [about(table, "container / runc")]


def test_every_goal_is_of_backends_that_are_known() -> None:
    from lab.backends import known_backends

    named = {
        name for goals in GOALS.values() for goal in goals for name in (goal.backend, goal.base)
    }
    assert named <= set(known_backends())


def test_scale_is_each_and_of_all() -> None:
    (table,) = summarize(list(scaled(1000)))
    assert estimate(table, "container", "start_s") == 6.0
    assert estimate(table, "container", "late") == pytest.approx(1.1)
    assert estimate(table, "container", "host_bytes") == 700 * 1024
    assert estimate(table, "container", "disk_bytes") == 28 * 1024
    assert estimate(table, "container", "image_bytes") == 2**30, "it is shared"
    assert len([note for note in table.notes if note.endswith("reached")]) == 5


def test_scale_names_the_goal_that_is_missed() -> None:
    (table,) = summarize(list(scaled(1000, gone_s=9.0)))
    missed = [note for note in table.notes if note.endswith("missed")]
    assert missed == ["container, N = 1000: all gone: 9.00 s, goal at most 8.00 s: missed"]


def test_goals_of_a_thousand_are_not_for_a_hundred() -> None:
    (table,) = summarize([*scaled(100), *scaled(50)])
    assert not [note for note in table.notes if "goal" in note]
    assert [row[1] for row in table.cells] == [50, 100]


def test_an_interval_across_the_goal_decides_nothing() -> None:
    across = median_interval([0.9, 0.95, 1.0, 1.05, 1.1, 1.15])
    assert verdict(across, 1.0, "×").endswith("not decided by these trials")
    assert verdict(median_interval([0.5]), 1.0, "×") == "0.500×, goal at most 1×: reached"


def test_they_are_there_for_programs_too(tmp_path: object) -> None:
    run = made.write(tmp_path, compared("start", START))  # type: ignore[arg-type]
    (experiment,) = document([run])["experiments"]
    row = experiment["tables"][0]["rows"][0]
    assert row["ready_s"]["unit"] == "s"
