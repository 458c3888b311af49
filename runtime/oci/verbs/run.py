"""`run`: create, start, wait, delete."""

from __future__ import annotations

from runtime.oci.creation import Creation
from runtime.oci.destroy import destroy
from runtime.oci.foreground import wait
from runtime.oci.options import FLAG, Option, Parsed
from runtime.oci.state import Container
from runtime.oci.verbs import create
from runtime.oci.verbs.start import poststart

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (
    *create.OPTIONS,
    ("detach", "d", FLAG, "return when the program runs"),
    ("keep", "", FLAG, "do not delete the container at its end"),
    ("no-subreaper", "", FLAG, "tolerated: this process is none"),
)
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """The program's exit status, 128+n after signal n; with --detach, 0."""
    detach = options["detach"]
    with Creation(context, options, detach=detach) as creation:
        container = creation.container
        creation.make(gate=False)
        creation.release()
        assert creation.launch is not None
        creation.launch.until(None)
        poststart(container)
        if detach:
            return 0
        container.unlock()
        status = wait(container.pid, creation.console)
    if not options["keep"]:
        with Container.locked(context.root, container.id) as ended:
            destroy(ended, context.log)
    return status
