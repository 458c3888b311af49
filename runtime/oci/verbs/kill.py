"""`kill`: send a signal to a container's process, or to all of its processes."""

from __future__ import annotations

import os
from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]  # no enum

from runtime.errors import NotRunning, UsageError
from runtime.oci.destroy import thaw
from runtime.oci.group import group_of
from runtime.oci.options import FLAG, Option, Parsed
from runtime.oci.state import Container

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.main import Context

__all__ = ["ARGUMENTS", "OPTIONS", "USAGE", "main", "signal_number"]

OPTIONS: tuple[Option, ...] = (("all", "a", FLAG, "to every process in its cgroup"),)
USAGE = "CONTAINER-ID [SIGNAL]"
ARGUMENTS = (1, 2)

_SIGTERM = 15
_MOST = 64
"""SIGRTMAX of the kernel (signal(7))."""


def main(context: Context, options: Parsed) -> int:
    """Send it. Raises NotRunning for a container that has ended, except with --all, which is
    content with none."""
    number = signal_number(options.rest[1]) if len(options.rest) > 1 else _SIGTERM
    with Container.locked(context.root, options.rest[0]) as container:
        everyone = options["all"] or (number == SIGKILL and container.record["shared_pids"])
        if everyone and (group := group_of(container)) is not None:
            for pid in group.processes():
                _send(pid, number)
        elif not _send_to_process(container, number) and not options["all"]:
            # containerd looks for these words, and takes them as "it has ended already".
            raise NotRunning(f"container not running: {container.id!r} has ended")
        if number == SIGKILL:
            thaw(container)
    return 0


def _send_to_process(container: Container, number: int) -> bool:
    """Whether the container's very process was there to be sent it."""
    if container.pid <= 0:
        return False
    try:
        pidfd = os.pidfd_open(container.pid)
    except ProcessLookupError:
        return False
    try:
        if not container.alive():  # the pidfd pins the number: it is this one or none
            return False
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def signal_number(name: str) -> int:
    """The number of `15`, `TERM`, `SIGTERM`, `term`, `SIGRTMIN+3`. Raises UsageError."""
    if name.isdecimal():
        number = int(name)
    else:
        import _signal

        word, _, offset = name.upper().partition("+")
        word = word if word.startswith("SIG") else f"SIG{word}"
        value = getattr(_signal, word, None)
        if value is None or not word.startswith("SIG") or word.startswith("SIG_"):
            raise UsageError(f"unknown signal {name!r}")
        number = int(value) + (int(offset) if offset.isdecimal() else 0)
    if not 0 < number <= _MOST:
        raise UsageError(f"unknown signal {name!r}: they go from 1 to {_MOST}")
    return number
