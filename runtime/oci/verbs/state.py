"""`state`: what there is to know of one container, as JSON."""

from __future__ import annotations

from runtime.oci.lightjson import pretty
from runtime.oci.options import Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "full", "main"]

OPTIONS: tuple[Option, ...] = ()
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """Print the state."""
    print(pretty(full(Container.find(context.root, options.rest[0]))))
    return 0


def full(container: Container) -> dict[str, Any]:
    """The state of the specification, and the members that runc adds and its callers read."""
    record = container.record
    return {
        **container.state(),
        "rootfs": record["rootfs"],
        "created": record["created"],
        "owner": "",
    }
