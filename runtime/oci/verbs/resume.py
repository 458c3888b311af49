"""`resume`: let a frozen container go on."""

from __future__ import annotations

from runtime.errors import StateError
from runtime.oci.group import needed_group
from runtime.oci.options import Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = ()
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """Return once they go on."""
    with Container.locked(context.root, options.rest[0]) as container:
        status = container.status()
        if status != "paused":
            raise StateError(
                f"cannot resume container {container.id!r}: it is {status}, not paused"
            )
        needed_group(container, "resume").freeze(False)
    return 0
