"""`list`: all containers below a root."""

from __future__ import annotations

import os

from runtime.errors import ContainerError, NoSuchContainer, UsageError
from runtime.oci.lightjson import dumps
from runtime.oci.options import FLAG, TEXT, Option, Parsed
from runtime.oci.state import Container
from runtime.oci.verbs.state import full

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (
    ("format", "f", TEXT, "table or json"),
    ("quiet", "q", FLAG, "ids only"),
)
USAGE = ""
ARGUMENTS = (0, 0)

_COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def main(context: Context, options: Parsed) -> int:
    """Print ids, a table, or a JSON array."""
    style = options["format"] or "table"
    if style not in ("table", "json"):
        raise UsageError(f"list: --format {style!r} is neither table nor json")
    found = _all(context)
    if options["quiet"]:
        for state in found:
            print(state["id"])
    elif style == "json":
        print(dumps(found))
    else:
        rows = [_COLUMNS, *([str(state[column]) for column in _COLUMNS] for state in found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        for number, row in enumerate(rows):
            line = "   ".join(map(str.ljust, row, widths)).rstrip()
            print(line if number else line.upper())
    return 0


def _all(context: Context) -> list[dict[str, Any]]:
    try:
        names = sorted(os.listdir(context.root))
    except FileNotFoundError:
        if context.root_given:
            raise
        return []  # nothing was ever created
    found = []
    for name in names:
        try:
            container = Container.find(context.root, name)
            owner = os.stat(container.directory).st_uid
            found.append({**full(container), "owner": _name(owner)})
        except NoSuchContainer:
            continue  # just deleted, or not yet written down
        except ContainerError as error:
            context.log.warning(f"left out: {error}")
    return found


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
