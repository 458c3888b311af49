"""`create`: everything of a container but its program, which `start` lets go."""

from __future__ import annotations

from runtime.oci.creation import Creation
from runtime.oci.options import FLAG, NUMBER, TEXT, Option, Parsed

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main"]

OPTIONS: tuple[Option, ...] = (
    ("bundle", "b", TEXT, "directory of config.json (default: the current one)"),
    ("console-socket", "", TEXT, "socket to send the terminal's master through"),
    ("pid-file", "", TEXT, "file to write the process id to"),
    ("no-pivot", "", FLAG, "move the root instead of pivoting, as an initramfs needs"),
    ("no-new-keyring", "", FLAG, "tolerated: no session keyring is made"),
    ("preserve-fds", "", NUMBER, "so many descriptors after 2 are passed on"),
)
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """Create the container and return; its process waits for `start`."""
    with Creation(context, options, detach=True) as creation:
        creation.begin(gate=True)
        creation.finish()
    return 0
