"""`start`: let the process that `create` made run its program."""

from __future__ import annotations

from runtime.errors import ContainerError, StateError
from runtime.oci.options import Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main", "poststart"]

OPTIONS: tuple[Option, ...] = ()
USAGE = "CONTAINER-ID"
ARGUMENTS = (1, 1)


def main(context: Context, options: Parsed) -> int:
    """Return once the program runs, and its poststart hooks have. If it cannot run, or a hook
    fails, the container is stopped and destroyed (runtime.md, "Lifecycle", 7 to 12)."""
    with Container.locked(context.root, options.rest[0]) as container:
        status = container.status()
        if status != "created":
            raise StateError(
                f"cannot start container {container.id!r}: it is {status}, not created"
            )
        from runtime.oci.gate import pass_gate

        try:
            pass_gate(container)
            poststart(container)
        except ContainerError:
            from runtime.oci.destroy import destroy

            destroy(container, context.log, force=True)
            raise
    return 0


def poststart(container: Container) -> None:
    """Run the hooks that follow the program's start."""
    hooks = container.record["hooks"].get("poststart")
    if hooks:
        from runtime.oci.hooks import run_hooks

        run_hooks("poststart", hooks, container.state("running"))
