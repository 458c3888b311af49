"""`events`: what a container uses, again and again, and its OOM kills as they happen."""

from __future__ import annotations

import sys
import time

from runtime.errors import NotRunning, UsageError
from runtime.oci.group import needed_group
from runtime.oci.lightjson import dumps
from runtime.oci.options import FLAG, TEXT, Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main", "seconds"]

OPTIONS: tuple[Option, ...] = (
    ("stats", "", FLAG, "print the use of resources once, and end"),
    ("interval", "", TEXT, "time between two of them: 5s (default), 500ms, 1m"),
)
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def main(context: Context, options: Parsed) -> int:
    """Print an object on each line, in runc's form, until the container ends."""
    interval = seconds(options["interval"] or "5s")
    container = Container.find(context.root, options.rest[0])
    if container.status() == "stopped":
        raise NotRunning(f"container not running: {container.id!r} has ended")
    group = needed_group(container, "watch")
    if options["stats"]:
        _print_stats(container, group)
        return 0
    with group.watch() as watch:
        due = time.monotonic() + interval
        while container.alive():
            for event in watch.wait(max(0.0, due - time.monotonic())):
                if event.kind in ("oom", "oom_kill"):
                    _print({"type": "oom", "id": container.id})
                elif event.kind in ("empty", "gone"):
                    return 0
            if time.monotonic() >= due:
                due += interval
                _print_stats(container, group)
    return 0


def _print_stats(container: Container, group: Cgroup) -> None:
    from runtime.cgroups.stats import runc_document

    _print({"type": "stats", "id": container.id, "data": runc_document(group.usage())})


def _print(event: dict[str, object]) -> None:
    print(dumps(event))
    sys.stdout.flush()


def seconds(text: str) -> float:
    """A duration as Go writes it, in seconds: `5s`, `1m30s`, `500ms`. Raises UsageError."""
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("hmsuµn"))]
        rest = rest[len(unit) :]
        if unit not in _UNITS or not number.replace(".", "", 1).isdecimal():
            raise UsageError(f"events: --interval {text!r} is no duration such as 5s")
        total += float(number) * _UNITS[unit]
    if total <= 0:
        raise UsageError(f"events: --interval {text!r} must be more than nothing")
    return total
