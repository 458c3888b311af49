"""Values as people write them to docker-py: sizes, ports, environments, volumes, limits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runtime.errors import SpecError

__all__ = ["bind_mounts", "environment", "ports", "rlimits", "size", "tmpfs_mounts", "words"]

_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)


def size(key: str, value: int | str | None) -> int | None:
    """Bytes of ``64m``, ``1.5g`` or a number: binary multiples, as Docker takes them."""
    if value is None or isinstance(value, int):
        number = value
    else:
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise SpecError(f"{key}: {value!r} is no size; write bytes, or 64m, 1.5g")
        number = math.floor(float(match[1]) * (1 << _UNITS[match[2].lower()]))
    if number is not None and number <= 0:
        raise SpecError(f"{key}: {value!r} is not above 0")
    return number


def words(key: str, value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """An argument vector; one text is split as a shell splits words (shlex), and nothing runs
    through a shell."""
    if value is None:
        return None
    if isinstance(value, str):
        import shlex

        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise SpecError(f"{key}: {value!r}: {error}") from error
    return tuple(str(word) for word in value)


def environment(value: Mapping[str, Any] | Iterable[str] | None) -> dict[str, str]:
    """Of a mapping, or of ``NAME=value`` texts."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {str(name): str(text) for name, text in value.items()}
    found = {}
    for entry in value:
        name, equals, text = str(entry).partition("=")
        if not name or not equals:
            raise SpecError(f"environment: {entry!r} is not NAME=value")
        found[name] = text
    return found


def ports(value: Mapping[str | int, Any] | Iterable[str] | None) -> tuple[str, ...]:
    """Docker's command-line form, ``[address:]host:container[/protocol]``, of docker-py's
    mapping: ``{"80/tcp": 8080, "53/udp": ("127.0.0.1", 53), 443: [8443, 9443], "22/tcp": None}``
    (None: any free port)."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        return tuple(str(entry) for entry in value)
    found: list[str] = []
    for inside, outside in value.items():
        every = outside if isinstance(outside, list) else [outside]
        for one in every:
            if isinstance(one, tuple):
                address, port = one
                found.append(f"{address}:{port if port is not None else 0}:{inside}")
            else:
                found.append(f"{one if one is not None else 0}:{inside}")
    return tuple(found)


def bind_mounts(
    value: Mapping[str, Mapping[str, str]] | Iterable[str] | None,
) -> list[tuple[str, str, bool]]:
    """(source, destination, read only) of docker-py's ``{source: {"bind": …, "mode": "ro"}}`` or
    ``["source:destination:ro"]``. A source without a slash is the name of a volume; of a
    destination alone, the source is empty: a new volume."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        entries = []
        for source, how in value.items():
            if "bind" not in how:
                raise SpecError(f'volumes[{source!r}]: has no "bind", the path inside')
            entries.append((str(source), how["bind"], how.get("mode", "rw")))
    else:
        entries = []
        for text in value:
            parts = str(text).split(":")
            if len(parts) > 3:
                raise SpecError(f"volumes: {text!r} is not [source:]destination[:mode]")
            source, target, mode = (("", parts[0], "rw"), (*parts, "rw"), tuple(parts))[
                len(parts) - 1
            ]
            entries.append((source, target, mode))
    found = []
    for source, target, mode in entries:
        options = set(mode.split(","))
        if unknown := options - {"ro", "rw", "z", "Z", ""}:
            raise SpecError(f"volumes: mode {', '.join(sorted(unknown))!r} is none of ro, rw")
        if not target.startswith("/"):
            raise SpecError(f"volumes: {target!r} is not an absolute path in the container")
        found.append((source, target, "ro" in options))
    return found


def tmpfs_mounts(value: Mapping[str, str] | None) -> list[dict[str, Any]]:
    """OCI mounts of ``{"/run": "size=64m,mode=755"}``."""
    found: list[dict[str, Any]] = []
    for target, options in (value or {}).items():
        if not Path(target).is_absolute():
            raise SpecError(f"tmpfs: {target!r} is not an absolute path")
        given = [option for option in options.split(",") if option]
        found.append(
            {
                "destination": target,
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "noexec", "nodev", *given],
            }
        )
    return found


def rlimits(value: Iterable[Mapping[str, Any]] | Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """OCI's rlimits of docker-py's ``[{"Name": "nofile", "Soft": 1024, "Hard": 2048}]``, or of
    ``{"nofile": 1024}``, ``{"nofile": (1024, 2048)}``."""
    if value is None:
        return []
    entries: list[tuple[str, int, int]] = []
    if isinstance(value, Mapping):
        for name, pair in value.items():
            soft, hard = pair if isinstance(pair, tuple) else (pair, pair)
            entries.append((name, int(soft), int(hard)))
    else:
        for one in value:
            lower = {key.lower(): item for key, item in one.items()}
            soft = lower.get("soft", 0)
            entries.append((str(lower.get("name", "")), int(soft), int(lower.get("hard") or soft)))
    return [
        {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
        for name, soft, hard in entries
    ]
