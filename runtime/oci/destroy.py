"""The end of a container: its processes, its cgroup, its directory, its last hooks."""

from __future__ import annotations

import os
from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]  # no enum
from select import POLLIN, poll

from runtime.errors import CgroupError, HookFailed, StillAlive

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.cgroups import Cgroup
    from runtime.oci.log import Log
    from runtime.oci.state import Container

__all__ = ["destroy", "kill_process"]

_EXITS = 1.0
"""Seconds for the kernel to have let go of processes that are dead."""
_PATIENCE = 10.0
"""Seconds that a killed process has to end; one in state D needs its I/O to end first."""


def destroy(container: Container, log: Log, *, force: bool = False) -> None:
    """Remove what `create` made, and run the poststop hooks, whose failures are only logged
    (runtime.md, "Lifecycle", 12 and 13). With `force` a process that lives is killed first."""
    from runtime.oci.group import group_of

    if force:
        kill_process(container)
    group = group_of(container)
    if group is not None:
        _remove(group, all_are_dead=not container.record["shared_pids"])
    hooks = container.record["hooks"].get("poststop")
    state = container.state("stopped")
    container.remove()
    if hooks:
        _poststop(hooks, state, log)


def _remove(group: Cgroup, *, all_are_dead: bool) -> None:
    """Remove the cgroup, with whatever is left in it. Who had a PID namespace of his own has left
    nobody (pid_namespaces(7)); only what came in from outside, by another door, can be there."""
    if all_are_dead:
        try:
            group.remove(_EXITS)
            return
        except CgroupError:
            pass  # it is used: found out below, and said with names
    group.kill(_PATIENCE)
    group.remove(_PATIENCE)


def _poststop(hooks: list[dict[str, Any]], state: dict[str, Any], log: Log) -> None:
    from runtime.oci.hooks import run_hooks

    for hook in hooks:
        try:
            run_hooks("poststop", [hook], state)
        except HookFailed as error:
            log.warning(str(error))


def kill_process(container: Container) -> None:
    """SIGKILL to the container's process, and wait for its end. Raises StillAlive."""
    try:
        pidfd = os.pidfd_open(container.pid)
    except (ProcessLookupError, ValueError, OSError):
        return
    try:
        if not container.alive():  # looked at while the pidfd pins the number
            return
        try:
            pidfd_send_signal(pidfd, SIGKILL)
        except ProcessLookupError:
            return
        thaw(container)
        poller = poll()
        poller.register(pidfd, POLLIN)
        if not poller.poll(_PATIENCE * 1000):
            raise StillAlive(container.id, [f"process {container.pid}"])
    finally:
        os.close(pidfd)


def thaw(container: Container) -> None:
    """In a frozen v1 cgroup a SIGKILL arrives only after the thaw."""
    from runtime.oci.group import group_of

    group = group_of(container)
    if group is not None and group.frozen():
        group.freeze(False)
