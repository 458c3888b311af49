"""Tables as data: cells that are numbers with intervals, shown as text, Markdown or JSON.

Whoever shows a table needs to know nothing of what is in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.statistics import Interval
from lab.units import format_numbers

__all__ = ["ABSENT", "Cell", "Estimate", "Quantity", "Steps", "Table", "Who", "format_interval"]

ABSENT = "-"


def format_interval(interval: Interval, unit: str) -> str:
    """``1.93 ms [1.88, 2.01]``, or the estimate alone where there are no bounds."""
    texts, name = format_numbers(unit, (interval.estimate, interval.low, interval.high))
    shown = f"{texts[0]}{'' if name == '×' else ' '}{name}".strip()
    return f"{shown} [{texts[1]}, {texts[2]}]" if interval.has_bounds else shown


@dataclass(frozen=True, slots=True)
class Estimate:
    """An interval in its unit: ``s``, ``B``, ``×`` or none."""

    interval: Interval
    unit: str = ""

    def __str__(self) -> str:
        return format_interval(self.interval, self.unit)

    def document(self) -> dict[str, Any]:
        """For JSON, in the base unit; null for a bound that is not there."""
        one = self.interval
        low, high = (None if math.isnan(bound) else bound for bound in (one.low, one.high))
        return {
            "estimate": one.estimate,
            "low": low,
            "high": high,
            "unit": self.unit,
            "confidence": one.confidence,
            "method": one.method,
            "n": one.n,
        }


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that was not estimated."""

    value: float
    unit: str

    def __str__(self) -> str:
        texts, name = format_numbers(self.unit, [self.value])
        return f"{texts[0]} {name}".strip()

    def document(self) -> dict[str, Any]:
        """For JSON, in the base unit."""
        return {"value": self.value, "unit": self.unit}


@dataclass(frozen=True, slots=True)
class Who:
    """``vm (microvm, tcg)``: without what it ran on, a virtual machine's time says nothing."""

    backend: str
    on: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.backend} ({', '.join(self.on)})" if self.on else self.backend

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.backend, "on": list(self.on)}


@dataclass(frozen=True, slots=True)
class Steps:
    """Named steps one after the other, and the seconds each took."""

    seconds: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {Quantity(s, 's')}" for name, s in self.seconds.items()) or ABSENT

    def document(self) -> dict[str, float]:
        """For JSON, seconds."""
        return dict(self.seconds)


Cell = str | int | Estimate | Quantity | Who | Steps | None
"""None is a number that is not there."""


@dataclass(frozen=True)
class Table:
    """Cells under named columns, with a title above and notes below. `headings` maps the key that
    programs know a column by to the words above it."""

    title: str
    headings: Mapping[str, str] = field(default_factory=dict)
    cells: list[tuple[Cell, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """The words above the columns."""
        return tuple(self.headings.values())

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells as people read them."""
        return [tuple(ABSENT if c is None else str(c) for c in row) for row in self.cells]

    def markdown(self) -> str:
        """The table as Markdown."""
        parts = [f"**{_escaped(self.title)}**"]
        if self.rows:
            lines = [self.columns, ("---",) * len(self.columns), *self.rows]
            parts.append("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines))
        if self.notes:
            parts.append("\n".join(f"- {_escaped(note)}" for note in self.notes))
        return "\n\n".join(parts) + "\n"

    def document(self) -> dict[str, Any]:
        """The table for JSON: each row an object, numbers in base units."""
        return {
            "title": self.title,
            "columns": dict(self.headings),
            "rows": [
                {key: _document(cell) for key, cell in zip(self.headings, row, strict=True)}
                for row in self.cells
            ],
            "notes": list(self.notes),
        }


def _document(cell: Cell) -> Any:
    return cell if cell is None or isinstance(cell, str | int) else cell.document()


def _escaped(text: str) -> str:
    """What a workload's last words hold must not become emphasis, code, a tag or a column."""
    return re.sub(r"([\\`*_|<>$~])", r"\\\1", " ".join(text.split()))
