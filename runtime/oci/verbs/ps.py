"""`ps`: the processes of a container, as seen from here."""

from __future__ import annotations

import subprocess

from runtime.errors import ContainerError, StateError, UsageError
from runtime.oci.group import group_of
from runtime.oci.lightjson import dumps
from runtime.oci.options import TEXT, Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (("format", "f", TEXT, "table or json"),)
USAGE = "CONTAINER-ID [PS-OPTIONS]"
ARGUMENTS = (1, None)


def main(context: Context, options: Parsed) -> int:
    """Print ids as a JSON array, or the lines of ps(1) that are about them."""
    style = options["format"] or "table"
    if style not in ("table", "json"):
        raise UsageError(f"ps: --format {style!r} is neither table nor json")
    container = Container.find(context.root, options.rest[0])
    if container.status() == "stopped":
        raise StateError(f"container not running: {container.id!r} has ended")
    group = group_of(container)
    pids = group.processes() if group is not None else (container.pid,)
    if style == "json":
        print(dumps(list(pids)))
    else:
        _table(set(pids), options.rest[1:] or ["-ef"])
    return 0


def _table(pids: set[int], arguments: list[str]) -> None:
    try:
        done = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ContainerError(
            "ps: no program ps(1) here: install the package procps, or use --format json"
        ) from None
    if done.returncode:
        raise ContainerError(f"ps {' '.join(arguments)}: {done.stderr.strip()}")
    heading, *lines = done.stdout.splitlines()
    if "PID" not in heading.split():
        raise ContainerError(f"ps {' '.join(arguments)}: no column PID in its output")
    column = heading.split().index("PID")
    print(heading)
    for line in lines:
        if int(line.split()[column]) in pids:
            print(line)
