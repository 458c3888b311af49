"""Sizes and times as people write them: ``64M``, ``1.5GiB``, ``250ms``, ``2 s``."""

from __future__ import annotations

import re

__all__ = ["parse_seconds", "parse_size"]

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
