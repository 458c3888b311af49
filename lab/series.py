"""From records to the numbers that statistics and figures take: which records count, in which
order backends stand, what a slope is fitted to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from lab.record import Record
from lab.statistics import Slope, slope

__all__ = [
    "MEASURES",
    "ORDER",
    "backends_of",
    "phase_marks",
    "points",
    "slope_of",
    "used",
    "values",
]

ORDER = ("native", "container", "floor-container", "vm", "floor-vm")
"""The baseline first, then by what is compared; others follow by name."""

MEASURES = {
    "pss_bytes": "PSS",
    "cgroup_bytes": "cgroup",
    "host_bytes": "host",
}
"""The three measures of memory, in the order of tables and figures."""


def used(records: Iterable[Record], backend: str | None = None) -> list[Record]:
    """The records that count: ok, no warm-up, of this backend if one is named."""
    return [
        r
        for r in records
        if r.status == "ok" and not r.trial.warmup and backend in (None, r.trial.backend)
    ]


def backends_of(records: Iterable[Record]) -> list[str]:
    """The backends in these records, in the order of `ORDER`."""
    names = {r.trial.backend for r in records}
    return [*(name for name in ORDER if name in names), *sorted(names - set(ORDER))]


def values(records: Iterable[Record], metric: str) -> list[float]:
    """One number for each record that has the metric."""
    return [r.metrics[metric] for r in records if metric in r.metrics]


def phase_marks(records: Iterable[Record]) -> list[tuple[str, float]]:
    """Each phase and the median of the seconds from t0 to it, earliest first.

    Differences of neighbours are what each step takes, and they add up to the median of the last
    one, as medians of differences would not. A phase that some records lack is the median of those
    that have it."""
    times: dict[str, list[float]] = {}
    for record in records:
        for name, seconds in record.phases.items():
            times.setdefault(name, []).append(seconds)
    marks = [(name, median(seconds)) for name, seconds in times.items()]
    return sorted(marks, key=lambda mark: mark[1])


def points(
    records: Iterable[Record], metric: str, minus: str | None = None
) -> tuple[list[float], list[float]]:
    """n and the metric of each record that has both; with `minus`, the difference of two metrics
    of the same trial."""
    xs, ys = [], []
    for record in records:
        n, value = record.trial.factors.get("n"), record.metrics.get(metric)
        less = 0.0 if minus is None else record.metrics.get(minus)
        if isinstance(n, int | float) and value is not None and less is not None:
            xs.append(float(n))
            ys.append(value - less)
    return xs, ys


def slope_of(records: Sequence[Record], metric: str, minus: str | None = None) -> Slope | None:
    """The slope over n of `points`, or None where there are not two levels of n.

    The slope of a difference is the difference of the slopes, and its interval is the narrower for
    what both metrics of one trial have in common."""
    xs, ys = points(records, metric, minus)
    return slope(xs, ys) if len(set(xs)) > 1 else None
