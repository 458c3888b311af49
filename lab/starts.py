"""The tables of the experiments `start`, `run` and `scale`, and what their numbers are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.record import Record
from lab.rows import durations, rows_of, who
from lab.series import values
from lab.statistics import Interval, median_interval, ratio_of_medians
from lab.table import Cell, Estimate, Quantity, Steps, Table, format_interval

__all__ = ["GOALS", "Goal", "run_tables", "scale_tables", "start_tables"]

BASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "start": {"floor-container": (), "container": ()},
    "run": {"floor-container": (), "crun": (), "runc": (), "docker": ("docker-lab",)},
}
"""By experiment: what others are divided by, a column each if it was measured; and which others, if
not all."""


@dataclass(frozen=True)
class Goal:
    """`backend` takes at most `most` times as long as `base`."""

    backend: str
    base: str
    most: float

    def line(self, ratio: Interval) -> str:
        """Both, and the verdict on them."""
        return f"{self.backend} / {self.base}: {verdict(ratio, self.most, '×')}"


GOALS = {
    "start": (
        Goal("container", "floor-container", 1.6),
        *(Goal("container", peer, 1.0) for peer in ("bwrap", "crun", "runc")),
    ),
    "run": (
        Goal("lab-oci", "runc", 1.0),
        Goal("lab-oci", "crun", 2.0),
        Goal("docker-lab", "docker", 1.0),
    ),
}
"""What this repository's runtime is meant to reach, by experiment."""

SCALE_N = 1000
"""The number of instances that these are meant for."""

SCALE_GOALS: Mapping[str, tuple[float, str]] = {
    "start_s": (8.0, "s"),
    "late": (1.3, "×"),
    "host_bytes": (800 * 1024, "B"),
    "disk_bytes": (64 * 1024, "B"),
    "gone_s": (8.0, "s"),
}
"""Column of the table → at most so much; times on two cores."""


def verdict(measured: Interval, most: float, unit: str) -> str:
    """``1.43× [1.38, 1.49], goal at most 1.6×: reached``. Without bounds the estimate decides."""
    low, high = measured.estimate, measured.estimate
    if measured.has_bounds:
        low, high = measured.low, measured.high
    word = "reached" if high <= most else "missed" if low > most else "not decided by these trials"
    limit = str(Quantity(most, unit)) if unit != "×" else f"{most:g}×"
    return f"{format_interval(measured, unit)}, goal at most {limit}: {word}"


def start_tables(records: Sequence[Record]) -> list[Table]:
    """To the workload's first instruction."""
    return _compared(
        records,
        "start",
        "ready_s",
        "start: t0 to the workload's first instruction (median, 95 % interval)",
    )


def run_tables(records: Sequence[Record]) -> list[Table]:
    """One whole run."""
    title = "run: t0 until /bin/true has ended and all of it is gone (median, 95 % interval)"
    return _compared(records, "run", "run_s", title)


def _compared(records: Sequence[Record], kind: str, metric: str, title: str) -> list[Table]:
    rows = rows_of(records, metric)
    times = {name: values(mine, metric) for name, mine in rows}
    bases = {name: whose for name, whose in BASES[kind].items() if name in times}
    table = Table(
        title,
        {"backend": "backend", "trials": "n", metric: "time"}
        | {f"over_{base}": f"/ {base}" for base in bases},
    )
    steps = Table(
        "phases: median time from t0, as the difference to the phase before",
        {"backend": "backend", "program": "program", "root": "root", "phases": "phases"},
    )
    for name, mine in rows:
        cells: list[Cell] = [Estimate(median_interval(times[name]), "s")]
        for base, whose in bases.items():
            compared = name in whose if whose else name != base
            ratio = ratio_of_medians(times[name], times[base]) if compared else None
            cells.append(None if ratio is None else Estimate(ratio, "×"))
        table.cells.append((who(name, mine), len(mine), *cells))
        steps.cells.append(
            (name, _factor(mine, "program"), _factor(mine, "root"), Steps(durations(mine)))
        )
    table.notes.extend(
        goal.line(ratio_of_medians(times[goal.backend], times[goal.base]))
        for goal in GOALS[kind]
        if {goal.backend, goal.base} <= set(times)
    )
    return [table, steps]


def _factor(records: Sequence[Record], key: str) -> str | None:
    """As all have it; a table's notes tell if they differ."""
    return next((str(r.factors[key]) for r in records if key in r.factors), None)


def scale_tables(records: Sequence[Record]) -> list[Table]:
    """A row for each backend and each N."""
    table = Table(
        "scale: N containers of one image, alive at once (median, 95 % interval)",
        {
            "backend": "backend",
            "n": "N",
            "trials": "n",
            "start_s": "all started",
            "late": "last / first",
            "host_bytes": "host, each",
            "pss_bytes": "PSS, each",
            "cgroup_bytes": "cgroup, each",
            "disk_bytes": "disk, each",
            "image_bytes": "image",
            "gone_s": "all gone",
        },
    )
    for name, mine in rows_of(records, "start_s"):
        for n in sorted({int(r.trial.factors["n"]) for r in mine}):
            found = _scaled([r for r in mine if r.trial.factors["n"] == n], n)
            count = next(iter(found.values())).n
            units = {key: "s" if key.endswith("_s") else "B" for key in found} | {"late": "×"}
            table.cells.append(
                (
                    who(name, mine),
                    n,
                    count,
                    *(
                        Estimate(found[key], units[key]) if key in found else None
                        for key in list(table.headings)[3:]
                    ),
                )
            )
            table.notes.extend(
                f"{name}, N = {n}: {table.headings[key]}: {verdict(found[key], most, unit)}"
                for key, (most, unit) in SCALE_GOALS.items()
                if n == SCALE_N and key in found
            )
    table.notes.append(
        "last / first: time from t0 to ready, of the last tenth and of the first, at most 50; "
        "host: how far MemAvailable fell"
    )
    return [table]


def _scaled(records: Sequence[Record], n: int) -> dict[str, Interval]:
    """Column → its estimate; sizes divided by n, but for the image, which all share."""
    numbers: dict[str, list[float]] = {}
    for record in records:
        for key, value in record.metrics.items():
            shared = key == "image_bytes" or not key.endswith("_bytes")
            numbers.setdefault(key, []).append(value if shared else value / n)
        if record.metrics.get("first_s"):
            late = record.metrics["last_s"] / record.metrics["first_s"]
            numbers.setdefault("late", []).append(late)
    return {key: median_interval(found) for key, found in numbers.items()}
