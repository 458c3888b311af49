"""What a summary's numbers do not contain, and what may make them unfair: told in notes, never
dropped in silence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lab.record import Record
from lab.series import backends_of, used

__all__ = ["caveats"]

SAME_EVERYWHERE = (
    *("image_digest", "argv", "env", "cwd", "uid", "gid"),
    *("cpus", "memory_bytes", "pids"),
)
"""Of the work: what backends that are compared must have in common."""


def caveats(records: Sequence[Record], planned: int | None = None) -> list[str]:
    """Notes on the records of one run folder; `planned` is the length of its plan."""
    notes = _mixed(used(records)) + _unfair(used(records)) + _left_out(records)
    if planned is not None and planned > len(records):
        notes.append(f"{len(records)} of {planned} planned trials are recorded")
    return notes


def _mixed(records: Sequence[Record]) -> list[str]:
    """Rows that hold what was not measured under the same conditions: a run resumed after an update
    of the kernel, say."""
    notes = []
    for backend in backends_of(records):
        mine = used(records, backend)
        facts: dict[str, Callable[[Record], Any]] = {
            **{key: _factor(key) for key in dict.fromkeys(k for r in mine for k in r.factors)},
            **{key: _work(key) for key in SAME_EVERYWHERE},
        }
        for key, read in facts.items():
            found = Counter(str(read(record)) for record in mine)
            if len(found) > 1:
                parts = ", ".join(f"{value} ({_trials(count)})" for value, count in found.items())
                notes.append(f"{backend}: one row holds records of different {key}: {parts}")
    return notes


def _unfair(records: Sequence[Record]) -> list[str]:
    """Backends that did not get the same work."""
    notes = []
    for key in SAME_EVERYWHERE:
        found: dict[str, list[str]] = {}
        for backend in backends_of(records):
            # Of a row that mixes, `_mixed` tells.
            found.setdefault(str(_work(key)(used(records, backend)[0])), []).append(backend)
        if len(found) > 1:
            parts = "; ".join(f"{', '.join(who)} {value}" for value, who in found.items())
            notes.append(f"not the same work: {key} differs: {parts}")
    return notes


def _factor(key: str) -> Callable[[Record], Any]:
    return lambda record: record.factors.get(key, "unknown")


def _work(key: str) -> Callable[[Record], Any]:
    return lambda record: "unknown" if record.workload is None else getattr(record.workload, key)


def _left_out(records: Sequence[Record]) -> list[str]:
    """Warm-ups, failures, and what could not be run here."""
    notes = []
    if warm := sum(r.trial.warmup and r.status == "ok" for r in records):
        notes.append(f"{_trials(warm)} for warm-up, recorded and not used")
    failed = Counter((r.trial.backend, _cause(r)) for r in records if r.status == "failed")
    skipped = Counter((r.trial.backend, _cause(r)) for r in records if r.status == "skipped")
    notes += [f"{b}: {_trials(count)} failed: {cause}" for (b, cause), count in failed.items()]
    notes += [f"{b}: {_trials(count)} left out: {cause}" for (b, cause), count in skipped.items()]
    return notes


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _cause(record: Record) -> str:
    """Without the names of instance and run, and the backend's in front, so that the same cause
    counts as one."""
    trial = record.trial
    name = re.escape(f"{trial.experiment}-{trial.backend}-{trial.index}") + r"(-\d+)?"
    cause = re.sub(rf"^({name}|{re.escape(trial.backend)}): ", "", record.cause or "unknown cause")
    # Anywhere else they are parts of paths: one overlay that cannot be is one cause, not sixty.
    return re.sub(name, "INSTANCE", cause.replace(record.run, "RUN"))
