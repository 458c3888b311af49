"""`delete`: remove a container that has ended, or, with --force, any."""

from __future__ import annotations

from runtime.errors import NoSuchContainer, StateError
from runtime.oci.options import FLAG, Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (("force", "f", FLAG, "kill it if it runs; let it be gone already"),)
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """Delete it. One that was created and not started is ended without being forced, as runc and
    crun do; one that runs is an error."""
    try:
        container = Container.locked(context.root, options.rest[0])
    except NoSuchContainer:
        # A `create` that was killed before it had written anything down: the id is to be free.
        Container(context.root, options.rest[0]).remove()
        if options["force"]:
            return 0
        raise
    with container:
        status = container.status()
        if status in ("running", "paused") and not options["force"]:
            raise StateError(
                f"cannot delete container {container.id!r}: it is {status}, not stopped; kill it "
                "first, or delete it with --force"
            )
        from runtime.oci.destroy import destroy

        destroy(container, context.log, force=status != "stopped")
    return 0
