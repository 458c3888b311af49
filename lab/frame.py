"""Records as a table: one row a trial, flat columns, types that keep what was measured.

docs/reference/record-format.md names the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lab.record import FORMAT, Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "flatten", "to_frame"]

COLUMNS = (
    "run",
    "host",
    "experiment",
    "backend",
    "index",
    "repeat",
    "warmup",
    "status",
    "cause",
    "started_at",
    "t0_ns",
    "duration_s",
    "image",
    "image_digest",
    "cpus",
    "memory_bytes",
)
"""The columns that every run has. Levels of the cell (``n``) and ``factor.*``, ``phase.*`` and
``metric.*`` follow."""


def flatten(record: Record, host: str) -> dict[str, Any]:
    """One record as one flat row. A level that is called like a column is ``level.<name>``."""
    trial, work = record.trial, record.workload
    values = (
        record.run,
        host,
        trial.experiment,
        trial.backend,
        trial.index,
        trial.repeat,
        trial.warmup,
        record.status,
        record.cause,
        record.started_at,
        record.t0_ns,
        record.duration_s,
        work.image if work else None,
        work.image_digest if work else None,
        work.cpus if work else None,
        work.memory_bytes if work else None,
    )
    row: dict[str, Any] = dict(zip(COLUMNS, values, strict=True))
    row |= {f"level.{k}" if k in COLUMNS else k: v for k, v in trial.factors.items()}
    row |= {f"factor.{key}": value for key, value in record.factors.items()}
    row |= {f"phase.{key}": value for key, value in record.phases.items()}
    row |= {f"metric.{key}": value for key, value in record.metrics.items()}
    return row


def to_frame(records: Sequence[Record], host: str) -> pd.DataFrame:
    """All records as a DataFrame. Its `attrs` hold the format version, which Parquet keeps.

    Whole numbers that not every row has are Int64: as floats, nanoseconds since the boot of a host
    that is up for 105 days would lose their last digits."""
    import pandas as pd

    rows = [flatten(record, host) for record in records]
    columns = {name: [row.get(name) for row in rows] for name in _all_columns(rows)}
    frame = pd.DataFrame({name: _series(name, values) for name, values in columns.items()})
    frame.attrs["format"] = FORMAT
    return frame


def _series(name: str, values: list[Any]) -> pd.Series[Any]:
    import pandas as pd

    if name == "started_at":
        return pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc=True)
    present = [value for value in values if value is not None]
    if present and all(type(value) is int for value in present):
        return pd.Series(values, dtype="int64" if len(present) == len(values) else "Int64")
    if len({isinstance(value, str) for value in present}) > 1:
        # A factor that is a number on one backend and a word on another: Parquet has one type a
        # column.
        return pd.Series([None if value is None else str(value) for value in values], dtype=object)
    return pd.Series(values, dtype=None if present else object)


def _all_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """`COLUMNS`, then levels, factors, phases and metrics, each in the order of their coming."""
    kinds = ("factor.", "phase.", "metric.")
    more = dict.fromkeys(name for row in rows for name in row if name not in COLUMNS)
    place = {
        name: next((i for i, k in enumerate(kinds, 1) if name.startswith(k)), 0) for name in more
    }
    return [*COLUMNS, *sorted(more, key=place.__getitem__)]
