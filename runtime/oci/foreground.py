"""Standing in front of a container: its signals, its terminal, its exit status."""

from __future__ import annotations

import os
from _signal import (  # type: ignore[import-not-found]  # the Python half brings enum
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    pidfd_send_signal,
    signal,
)
from select import POLLIN, poll

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.oci.launch import Console

__all__ = ["wait"]

_FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT)


def wait(pid: int, console: Console) -> int:
    """Wait for the end of a child, passing on the signals that this process gets and, where there
    is a terminal between the two, what is typed and printed. Its exit code, or 128+n after
    signal n."""
    pidfd = os.pidfd_open(pid)

    def forward(number: int, _: object) -> None:
        try:
            pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass  # it has just ended

    for number in _FORWARDED:
        signal(number, forward)
    try:
        if console.is_ours:
            from runtime.oci.terminal import relay

            relay(console.take_master(), pidfd)
        else:
            signal(SIGWINCH, forward)
            poller = poll()
            poller.register(pidfd, POLLIN)
            poller.poll()
    finally:
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
