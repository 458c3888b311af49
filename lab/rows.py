"""Rows of tables: which records are in one, what it is called, where its time went."""

from __future__ import annotations

from collections.abc import Sequence

from lab.record import Record
from lab.series import backends_of, phase_marks, used
from lab.table import Who

__all__ = ["durations", "rows_of", "who"]


def who(backend: str, records: Sequence[Record]) -> Who:
    """With the machine and the accelerator; all of them, should they differ."""
    on = []
    for key in ("machine", "accelerator"):
        found = dict.fromkeys(str(r.factors[key]) for r in records if key in r.factors)
        if found:
            on.append(" and ".join(found))
    return Who(backend, tuple(on))


def rows_of(records: Sequence[Record], metric: str) -> list[tuple[str, list[Record]]]:
    """Each backend with those of its records that have the metric, if any."""
    rows = [
        (name, [r for r in used(records, name) if metric in r.metrics])
        for name in backends_of(records)
    ]
    return [(name, mine) for name, mine in rows if mine]


def durations(records: Sequence[Record]) -> dict[str, float]:
    """Each phase and the seconds since the one before, by `phase_marks`."""
    found, before = {}, 0.0
    for name, at in phase_marks(records):
        found[name], before = at - before, at
    return found
