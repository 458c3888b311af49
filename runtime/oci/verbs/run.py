"""`run`: create, start, wait, delete."""

from __future__ import annotations

from runtime.errors import NoSuchContainer
from runtime.oci.creation import Creation
from runtime.oci.options import FLAG, Option, Parsed
from runtime.oci.state import Container
from runtime.oci.verbs import create

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
        creation.begin(gate=False)
        # These are for later, and there is time now: another process mounts.
        from runtime.oci.destroy import destroy
        from runtime.oci.foreground import Signals, wait
        from runtime.oci.verbs.start import poststart

        signals = None if detach else Signals()
        creation.finish()
        assert creation.launch is not None
        creation.launch.until(None)
        container = creation.container
        poststart(container)
        if signals is None:
            return 0
        container.unlock()
        status = wait(container.pid, creation.console, signals)
    if not options["keep"]:
        try:
            with Container.locked(context.root, container.id) as ended:
                destroy(ended, context.log)
        except NoSuchContainer:
            return status  # somebody was faster
    return status
