"""The parent's side: clone, and what has to be done from outside.

`start` is the one piece of code that makes a container, whoever calls it: the resident spawn
helper (`runtime.spawn`) on behalf of the API, or the command line in its own process. The caller
must be single-threaded, because the child is a copy of it that runs Python (`syscalls.clone3`).
"""

from __future__ import annotations

import os

from runtime import syscalls
from runtime.engine import child
from runtime.engine.constants import CLONE_PARENT
from runtime.engine.steps import write

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["start"]

_SIGCHLD = 17


def start(
    message: Any,
    report: int,
    fds: Sequence[int],
    *,
    parent: int = -1,
    for_parent: bool = False,
    private: int = -1,
) -> None:
    """Make the child that `message` (`Plan.message()`) describes, and report its pid or failure.

    `report` is this side's copy of the end of the report socket that the child will hold, `fds`
    the descriptors that go with the plan's numbers. With `for_parent` the child becomes the
    caller's parent's own; `parent` is a pidfd of the process whose death it looks out for;
    `private` is a descriptor that it must not hold, the other end of the report socket: it would
    never see the parent hang up. Returns in the caller only."""
    outside, flags, into, writes, maps, steps = message
    child.prepare(outside)
    child.prepare(steps)
    if outside:
        stage = _clone(0, "", report, for_parent)
        if stage:
            if stage > 0:
                child.tell(report, b"S", stage)
            return
        if private >= 0:
            os.close(private)
        if not child.do(outside, "outside", report):
            os._exit(127)
        # The stage has done its work with the clone; it is the same parent's child.
        _container(flags, into, writes, maps, steps, report, fds, parent, True, -1)
        os._exit(0)
    _container(flags, into, writes, maps, steps, report, fds, parent, for_parent, private)


def _clone(flags: int, into: str, report: int, for_parent: bool) -> int:
    """The child's pid, 0 in the child; -1 if there is none, which has been told."""
    cgroup = -1
    try:
        if into:
            cgroup = os.open(into, os.O_PATH | os.O_CLOEXEC)
        if for_parent:
            return syscalls.clone3(flags | CLONE_PARENT, cgroup)
        return syscalls.clone3(flags, cgroup, _SIGCHLD)
    except OSError as error:
        child.tell(report, b"E", ("clone", 0, error.errno, error.filename))
        return -1
    finally:
        if cgroup >= 0:
            os.close(cgroup)


def _container(
    flags: int,
    into: str,
    writes: Sequence[tuple[str, str]],
    maps: Any,
    steps: Any,
    report: int,
    fds: Sequence[int],
    parent: int,
    for_parent: bool,
    private: int,
) -> None:
    pipe = os.pipe2(os.O_CLOEXEC) if maps or writes else (-1, -1)
    pid = _clone(flags, into, report, for_parent)
    if pid == 0:
        if private >= 0:
            os.close(private)
        child.run(steps, report, fds, parent, pipe)
    if pid > 0:
        child.tell(report, b"P", pid)
    if maps or writes:
        if pid > 0 and _outside(pid, writes, maps, report):
            os.write(pipe[1], b"+")
        os.close(pipe[0])
        os.close(pipe[1])


def _outside(pid: int, writes: Sequence[tuple[str, str]], maps: Any, report: int) -> bool:
    """What a child in a new user namespace has no right to do itself; whether it went well."""
    number = 0
    try:
        for number, (path, text) in enumerate(writes):  # noqa: B007 - the except clause uses it
            write(path.replace("{pid}", str(pid)), text.replace("{pid}", str(pid)))
        number = len(writes)
        if maps:
            from runtime.security.maps import write_maps

            write_maps(pid, *maps)
    except OSError as error:
        child.tell(report, b"E", ("parent", number, error.errno, error.filename))
        return False
    return True
