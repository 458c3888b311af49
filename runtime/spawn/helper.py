"""The helper process: small, single-threaded, and the only one that clones for the API.

Run by path (`python -I -S helper.py CONTROL_FD PARENT_PIDFD [PROGRAM_FD]`), so that it imports
this file and the engine, and nothing else: the less memory it has, the faster it forks. One packet
on the control socket is one launch: `Plan.message()`, marshalled, with the launch's report socket
and then the descriptors for the plan's numbers attached (a message too big for a packet is
``b"memfd"``, and the first descriptor holds it).

The children are made with CLONE_PARENT, so they are the *lab process's* own children: it waits for
them itself, and this helper never has anything to reap.
"""

from __future__ import annotations

import gc
import os
import sys

# The C half of `signal`: see runtime/engine/child.py.
from _signal import (  # type: ignore[import-not-found]  # typeshed knows only the Python half
    SIG_DFL,
    SIGKILL,
    SIGPIPE,
    SIGXFSZ,
    signal,
)
from _socket import MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket
from fcntl import F_DUPFD_CLOEXEC, fcntl
from marshal import loads

_RESERVED = 32
"""Descriptors below this are held here, so that those received never collide with a target."""

_MAX_FDS = 64
_MAX_MESSAGE = 1 << 18


def main(control_fd: int, parent_pidfd: int, program_fd: int = -1) -> None:
    """Serve launches until the control socket ends."""
    if program_fd >= 0:
        os.close(program_fd)  # what this was executed from
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))  # noqa: PTH120
    from runtime import syscalls
    from runtime.engine import child, launch

    child.prepare([("fail",)])
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, SIGKILL)
    if child.is_gone(parent_pidfd):
        return
    # Python ignores these two, and ignored signals stay ignored across an exec (signal(7)).
    signal(SIGPIPE, SIG_DFL)
    signal(SIGXFSZ, SIG_DFL)
    # The numbers that were passed can be any, and what was passed is not close-on-exec.
    inherited, passed = control_fd, parent_pidfd
    control_fd = fcntl(inherited, F_DUPFD_CLOEXEC, _RESERVED)
    parent_pidfd = fcntl(passed, F_DUPFD_CLOEXEC, _RESERVED)
    os.close(inherited)
    os.close(passed)
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
        launch.start(loads(message), fds[0], fds[1:], parent=parent_pidfd, for_parent=True)
        for fd in fds:
            os.close(fd)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
