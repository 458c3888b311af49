"""The helper process: small, single-threaded, and the only one that clones.

Run by path (`python -I -S helper.py CONTROL_FD PARENT_PIDFD`), so that it imports this file, the
steps and the system calls, and nothing else: the less memory it has, the faster it forks. One
message on the control socket is one launch:

    marshal((clone flags, cgroup directory or "", targets of the descriptors, steps, exec))

with the launch's report socket and then the descriptors attached (a message too big for a packet
is ``b"memfd"``, and the first descriptor holds it). On the report socket go

    b"P" + marshal(pid)                        from the helper, after clone3
    b"M" + marshal({phase: nanoseconds})       from the child, just before its exec
    b"E" + marshal((step number, errno, path)) from whoever failed; a number of -1 is the clone,
                                               -2 the descriptors, that of all steps the exec

and then its end: closed by the exec, or by the death of everyone who held it. The children are
made with CLONE_PARENT, so they are the *lab process's* own children: it waits for them itself,
and this helper never has anything to reap.
"""

from __future__ import annotations

import gc
import os
import sys
import time

# The C halves of `socket` and `signal`: their Python halves bring enum and selectors, and with
# them a megabyte of memory that every fork would have to share out.
from _signal import (  # type: ignore[import-not-found]  # typeshed knows only the Python half
    SIG_DFL,
    SIGKILL,
    SIGPIPE,
    SIGXFSZ,
    signal,
)
from _socket import MSG_CMSG_CLOEXEC, MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET, socket
from fcntl import F_DUPFD_CLOEXEC, fcntl
from marshal import dumps, loads
from select import POLLIN, poll

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Table = dict[str, Callable[..., object]]

_RESERVED = 32
"""Descriptors below this are held here, so that those received never collide with a target."""

_CLONE_PARENT = 0x8000  # of runtime.syscalls, which this file can import only in `main`
_MAX_FDS = 64
_MAX_MESSAGE = 1 << 18


def main(control_fd: int, parent_pidfd: int) -> None:
    """Serve launches until the control socket ends."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))  # noqa: PTH120
    from runtime import steps, syscalls

    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, SIGKILL)
    if _is_gone(parent_pidfd):
        return
    # Python ignores these two, and ignored signals stay ignored across an exec (signal(7)).
    signal(SIGPIPE, SIG_DFL)
    signal(SIGXFSZ, SIG_DFL)
    control_fd = fcntl(control_fd, F_DUPFD_CLOEXEC, _RESERVED)
    parent_pidfd = fcntl(parent_pidfd, F_DUPFD_CLOEXEC, _RESERVED)
    # A traceback of this helper goes where the lab's do; its children get /dev/null unless told.
    sys.stderr = open(fcntl(2, F_DUPFD_CLOEXEC, _RESERVED), "w", buffering=1)  # noqa: SIM115
    os.dup2(0, 2)
    for fd in range(3, _RESERVED):
        os.dup2(0, fd, inheritable=False)
    control = socket(fileno=control_fd)
    gc.disable()
    gc.freeze()
    control.send(b"ready")
    while True:
        message, ancillary, _, _ = control.recvmsg(
            _MAX_MESSAGE, _MAX_FDS * 4 + 32, MSG_CMSG_CLOEXEC
        )
        if not message:
            return
        fds = [
            int.from_bytes(data[offset : offset + 4], sys.byteorder)
            for level, kind, data in ancillary
            if level == SOL_SOCKET and kind == SCM_RIGHTS
            for offset in range(0, len(data), 4)
        ]
        if message == b"memfd":
            fd = fds.pop(0)
            message = os.pread(fd, os.fstat(fd).st_size, 0)
            os.close(fd)
        _launch(loads(message), fds, parent_pidfd, steps.STEPS, syscalls.clone3)
        for fd in fds:
            os.close(fd)


def _is_gone(pidfd: int) -> bool:
    """Whether that process has ended. getppid cannot tell in a new PID namespace: it is 0."""
    poller = poll()
    poller.register(pidfd, POLLIN)
    return bool(poller.poll(0))


def _report(fd: int, kind: bytes, what: Any) -> None:
    """Tell the lab, unless it has stopped listening."""
    report = socket(fileno=fd)
    try:
        report.send(kind + dumps(what), MSG_NOSIGNAL)
    except OSError:
        # The lab has closed its end: it gave this launch up, and the child is killed by pidfd or
        # by its cgroup. There is nobody left to tell.
        pass
    finally:
        report.detach()


def _launch(
    request: Any, fds: list[int], parent_pidfd: int, table: Table, clone3: Callable[..., int]
) -> None:
    flags, cgroup, targets, steps, execution = request
    cgroup_fd = -1
    try:
        if cgroup:
            cgroup_fd = os.open(cgroup, os.O_PATH | os.O_CLOEXEC)
        pid = clone3(flags | _CLONE_PARENT, cgroup_fd)
    except OSError as error:
        _report(fds[0], b"E", (-1, error.errno, error.filename))
        return
    finally:
        if cgroup_fd >= 0:
            os.close(cgroup_fd)
    if pid:
        _report(fds[0], b"P", pid)
    else:
        _child(fds, targets, steps, execution, parent_pidfd, table)


def _child(
    fds: list[int],
    targets: tuple[int, ...],
    steps: list[Any],
    execution: Any,
    parent_pidfd: int,
    table: Table,
) -> None:
    """Everything between clone and exec. Never returns: this is a copy of the helper."""
    marks = {"clone": time.monotonic_ns()}
    report, number = fds[0], 0
    try:
        for number, step in enumerate(steps):  # noqa: B007 - the except clauses use it
            name = step[0]
            if name == "mark":
                marks[step[1]] = time.monotonic_ns()
            elif name == "die_with_parent":
                table["prctl"](1, step[1])
                if _is_gone(parent_pidfd):
                    os._exit(128 + SIGKILL)
            else:
                table[name](*step[1:])
        number = -2
        if targets and max(targets) >= _RESERVED:
            # QEMU's sockets keep the caller's numbers, which can be any: make way for them.
            fds = [_clear_of(fd, targets) for fd in fds]
            report = fds[0]
        for source, target in zip(fds[1:], targets, strict=True):
            os.dup2(source, target)
        number = len(steps)
        _execute(report, marks, *execution)
    except OSError as error:
        _report(report, b"E", (number, error.errno, error.filename))
    except BaseException as error:
        _report(report, b"E", (number, 0, f"{type(error).__name__}: {error}"))
    os._exit(127)


def _clear_of(fd: int, targets: tuple[int, ...]) -> int:
    """The descriptor, or a copy of it at a number that no target will overwrite."""
    while fd in targets:
        fd = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1)
    return fd


def _execute(
    report: int,
    marks: dict[str, int],
    candidates: tuple[str, ...],
    argv: tuple[str, ...],
    env: dict[str, str],
) -> None:
    """Try the places where the program may be, as execvp(3) does: a missing one is passed over,
    any other failure counts, and among failures EACCES says more than ENOENT."""
    marks["exec"] = time.monotonic_ns()
    _report(report, b"M", marks)
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


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
