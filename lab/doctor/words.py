"""Sizes in words."""

from __future__ import annotations

from lab.units import format_numbers

__all__ = ["size"]


def size(value: float) -> str:
    """``73.9 GiB`` of bytes."""
    (number,), unit = format_numbers("B", [value])
    return f"{number} {unit}"
