"""`pause`: freeze all processes of a container."""

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
    """Return once they stand still."""
    with Container.locked(context.root, options.rest[0]) as container:
        status = container.status()
        if status not in ("created", "running"):
            raise StateError(
                f"cannot pause container {container.id!r}: it is {status}, not created or running"
            )
        needed_group(container, "pause").freeze()
    return 0
