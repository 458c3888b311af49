"""The child's side: do the steps of a plan, tell the parent, execute.

The child talks to whoever wants the container (the process that called `Spawner.start` or
`launch.start`) over its report socket, one marshalled message a packet:

    b"P" + pid                              from the one who cloned, after the clone
    b"M" + {phase: nanoseconds}             just before the exec
    b"H" + name                             a meeting point is reached: the child waits for b"+"
    b"X" + error number, four bytes         from the shield: the exec failed
    b"E" + (where, number, errno, path[, step])  what failed: where is "outside", "clone", "maps"
                                            or "inside", number that of the step

and then its end: closed by the exec, or by the death of everyone who held it.
"""

from __future__ import annotations

import errno
import os
import stat
import time

# The C halves of `socket` and `signal`: their Python halves bring enum and selectors, and with
# them a megabyte of memory that every fork would have to share out.
from _signal import SIGKILL  # type: ignore[import-not-found]  # typeshed knows the Python half
from _socket import MSG_NOSIGNAL, socket
from fcntl import F_DUPFD_CLOEXEC, fcntl
from marshal import dumps
from select import POLLIN, poll

from runtime import syscalls
from runtime.engine.constants import PR_SET_PDEATHSIG
from runtime.engine.steps import STEPS

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from runtime.engine.steps import Step

    Pipe = tuple[int, int]

__all__ = ["do", "is_gone", "passed", "prepare", "run", "sent", "tell"]

_MAX_STEP = 1 << 15
"""Bytes of a step that a report may carry."""


class _Here:
    """What the steps of this one child have in common."""

    report = -1
    parent = -1
    fds: Sequence[int] = ()
    pipe = (-1, -1)
    marks: dict[str, int]


_here = _Here()


def tell(fd: int, kind: bytes, what: Any) -> None:
    """Send one message, unless nobody listens any more."""
    report = socket(fileno=fd)
    try:
        report.send(kind + dumps(what), MSG_NOSIGNAL)
    except OSError:
        # The other end is closed: this launch was given up, and the child is killed by pidfd or
        # by its cgroup. There is nobody left to tell.
        pass
    finally:
        report.detach()


def is_gone(pidfd: int) -> bool:
    """Whether that process has ended. getppid cannot tell in a new PID namespace: it is 0."""
    poller = poll()
    poller.register(pidfd, POLLIN)
    return bool(poller.poll(0))


def run(steps: Sequence[Step], report: int, fds: Sequence[int], parent: int, pipe: Pipe) -> None:
    """Everything between clone and exec. Never returns: this is a copy of the parent.

    `fds` are the descriptors that the step "descriptors" passes on, and after them those that
    steps ask for by `passed`; `parent` is a pidfd of the process whose death is this one's, or -1;
    `pipe` brings the "+" of "wait_for_parent"."""
    _here.marks = {"clone": time.monotonic_ns()}
    _here.report, _here.fds, _here.parent, _here.pipe = report, fds, parent, pipe
    status = 127
    try:
        if do(steps, "inside", report):
            status = 0  # a plan without a program
    finally:  # whatever happens, this copy must not go on as its parent
        os._exit(status)


def do(steps: Sequence[Step], where: str, report: int) -> bool:
    """Do all steps in this process; False if one failed, which has then been told."""
    table, number, _here.report = STEPS, 0, report
    step: Step = ()
    try:
        for number, step in enumerate(steps):  # noqa: B007 - the except clauses use it
            name = step[0]
            table[name](*step[1:])
    except OSError as error:
        what = (where, number, error.errno, error.filename, _brief(step))
        tell(_here.report, b"E", what)
    except BaseException as error:
        what = (where, number, 0, f"{type(error).__name__}: {error}", _brief(step))
        tell(_here.report, b"E", what)
    else:
        return True
    return False


def _brief(step: Step) -> Step | None:
    """The step, for a listener that has no plan to look it up in (`wait_at`), and without what
    could be too much for a packet."""
    if step[0].startswith("execute"):
        return ("execute", (), step[-2][:1], {})
    return step if len(dumps(step)) < _MAX_STEP else None


def prepare(steps: Sequence[Step]) -> None:
    """Load the modules of the rare steps among these. To be done before the clone: the child
    cannot import once it has left the host's root."""
    if any(step[0] not in STEPS or (step[0] == "mount_at" and step[-1]) for step in steps):
        from runtime.engine import idmap, rare, streams

        for module in (rare, streams, idmap):
            STEPS.update(module.STEPS)


def passed(number: int) -> int:
    """The descriptor that a plan means: its number, as it is in the process that cloned; or, below
    -1, one of those that came with the plan: -2 is the last, -3 the one before it."""
    return number if number >= 0 else _here.fds[number + 1]


def sent(index: int) -> int:
    """The descriptor that will be passed on at this place of the plan's numbers."""
    return _here.fds[index]


def mark(name: str) -> None:
    """Note the time of a phase."""
    _here.marks[name] = time.monotonic_ns()


def meet(name: str) -> None:
    """Tell the parent that this point is reached, and wait until it says to go on.

    Whatever else comes, or the end of the socket, ends the child: the parent gave up."""
    tell(_here.report, b"H", name)
    report = socket(fileno=_here.report)
    answer = report.recv(16)
    report.detach()
    if answer != b"+":
        os._exit(128 + SIGKILL)


def find_program(candidates: Sequence[str], program: str) -> str:
    """See that there is a program to execute, while it can still be said to the one who makes the
    container; its path. The errors are those of `execute`."""
    failure: OSError | None = None
    for path in candidates:
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError) as error:
            failure = failure or error
            continue
        if stat.S_ISREG(mode) and os.access(path, os.X_OK):
            return path
        failure = PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    raise failure or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)


def wait_at(gate: int) -> None:
    """Wait at a listening socket, for a parent that has gone meanwhile. Who connects is told from
    then on what the parent would have been."""
    listener = socket(fileno=gate)
    connection: int = listener._accept()[0]  # type: ignore[attr-defined]  # the C half's own
    listener.close()
    os.close(_here.report)
    _here.report = connection


def wait_for_parent() -> None:
    """Wait until the parent has done what only it can: user and group maps (user_namespaces(7)),
    cgroups."""
    read, write = _here.pipe
    os.close(write)
    if os.read(read, 1) != b"+":
        os._exit(128 + SIGKILL)
    os.close(read)


def die_with_parent(signal: int) -> None:
    """Ask for this signal at the parent's death, then see that it has not happened already."""
    syscalls.prctl(PR_SET_PDEATHSIG, signal)
    if _here.parent >= 0 and is_gone(_here.parent):
        os._exit(128 + SIGKILL)


def descriptors(targets: Sequence[int]) -> None:
    """Pass each descriptor on at its number."""
    fds = _here.fds
    if targets and max(targets) >= min((_here.report, *fds)):
        # The parent's numbers can be any, and one target is another's source: make way.
        fds = [_clear_of(fd, targets) for fd in fds]
        _here.report = _clear_of(_here.report, targets)
    for source, target in zip(fds, targets, strict=False):
        os.dup2(source, target)


def _clear_of(fd: int, targets: Sequence[int]) -> int:
    """The descriptor, or a copy of it at a number that no target will overwrite."""
    while fd in targets:
        fd = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1)
    return fd


def execute_shielded(
    number: int, candidates: Sequence[str], argv: tuple[str, ...], env: dict[str, str]
) -> None:
    """Execute the program through another, which `passed` has open: `runtime.security.shield`."""
    path = find_program(candidates, argv[0])
    _here.marks["exec"] = time.monotonic_ns()
    tell(_here.report, b"M", _here.marks)
    os.set_inheritable(_here.report, True)
    os.execve(passed(number), (str(_here.report), path, *argv), env)


def execute_at(number: int, argv: tuple[str, ...], env: dict[str, str]) -> None:
    """Execute the program that a descriptor is open on (execveat(2)); see `passed`."""
    _here.marks["exec"] = time.monotonic_ns()
    tell(_here.report, b"M", _here.marks)
    os.execve(passed(number), argv, env)


def execute(candidates: Sequence[str], argv: tuple[str, ...], env: dict[str, str]) -> None:
    """Try the places where the program may be, as execvp(3) does: a missing one is passed over,
    any other failure counts, and among failures EACCES says more than ENOENT."""
    _here.marks["exec"] = time.monotonic_ns()
    tell(_here.report, b"M", _here.marks)
    failure: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError) as error:
            failure = failure or error
        except PermissionError as error:
            failure = error
    if failure:
        raise failure


STEPS.update(
    {
        "descriptors": descriptors,
        "die_with_parent": die_with_parent,
        "execute": execute,
        "execute_at": execute_at,
        "execute_shielded": execute_shielded,
        "find_program": find_program,
        "mark": mark,
        "meet": meet,
        "wait_at": wait_at,
        "wait_for_parent": wait_for_parent,
    }
)
