"""Sizes and times: as people write them, ``64M``, ``250ms``, and read them, ``1.93 ms``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

__all__ = ["format_numbers", "parse_seconds", "parse_size"]

_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_SIZE = re.compile(_NUMBER + r"([kKmMgGtT]?)(?:i?[bB])?\s*")
_TIME = re.compile(_NUMBER + r"(us|µs|ms|s|min|h)?\s*")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def parse_size(value: object) -> int:
    """Bytes of ``"64M"`` (binary multiples, as QEMU, Docker and cgroups mean it) or of a number.

    Raises ValueError with an example."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size is a number of bytes or text such as 64M or 1G")
    return int(float(match[1]) * 1024 ** _POWER[match[2].lower()])


def parse_seconds(value: object) -> float:
    """Seconds of ``"250ms"`` or of a number. Raises ValueError with an example."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a time is a number of seconds or text such as 250ms or 2s")
    return float(match[1]) * _SECONDS[match[2] or "s"]


_TIME_STEPS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))
_SIZE_STEPS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (0.0, "B"))
_DIVISOR = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "B": 1.0, "×": 1.0}


def format_numbers(unit: str, values: Sequence[float]) -> tuple[list[str], str]:
    """Values in one common prefix and one common number of decimals, and the unit's name.

    `unit` is ``s``, ``B``, ``×`` (a ratio) or any other, which gets no prefix. The first value, the
    estimate, gets three significant digits; the others follow it: ``(["1.93", "1.88", "2.01"],
    "ms")``. nan stands for no value.
    """
    size = abs(values[0]) if not math.isnan(values[0]) else 0.0
    divisor, name = 1.0, unit
    if unit in {"s", "B"}:
        steps = _TIME_STEPS if unit == "s" else _SIZE_STEPS
        floor, name = next(step for step in steps if size >= step[0])
        divisor = _DIVISOR.get(name, floor)
    scaled = size / divisor
    decimals = 2 if scaled == 0 else max(0, 2 - math.floor(math.log10(scaled)))
    decimals = min(decimals, 0 if name == "B" else 9)
    return ["?" if math.isnan(v) else f"{v / divisor:.{decimals}f}" for v in values], name
