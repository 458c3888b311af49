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

__all__ = ["Signals", "wait"]

_FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT)


class Signals:
    """What this process gets, for the one that it stands in front of. Made before that one runs:
    a signal that comes before `send_to` waits for it."""

    def __init__(self) -> None:
        self._early: list[int] = []
        self._pidfd = -1
        for number in _FORWARDED:
            signal(number, self._take)

    def _take(self, number: int, _: object) -> None:
        if self._pidfd < 0:
            self._early.append(number)
            return
        try:
            pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass  # it has just ended

    def send_to(self, pidfd: int) -> None:
        """From now on, and what has come before."""
        self._pidfd = pidfd
        for number in self._early:
            self._take(number, None)


def wait(pid: int, console: Console, signals: Signals) -> int:
    """Wait for the end of a child, passing on the signals that this process gets and, where there
    is a terminal between the two, what is typed and printed. Its exit code, or 128+n after
    signal n."""
    pidfd = os.pidfd_open(pid)
    signals.send_to(pidfd)
    if console.is_ours:
        from runtime.oci.terminal import relay

        relay(console.take_master(), pidfd)
    else:
        signal(SIGWINCH, lambda number, _: pidfd_send_signal(pidfd, number))
    poller = poll()
    poller.register(pidfd, POLLIN)
    poller.poll()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code
