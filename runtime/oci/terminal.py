"""Between two terminals: the person's, which is this process's standard input and output, and
the container's, of which it holds the master."""

from __future__ import annotations

import os
import termios
import tty
from _signal import SIGWINCH, signal  # type: ignore[import-not-found]  # no enum
from fcntl import ioctl
from select import POLLIN, poll

__all__ = ["relay"]

_READ = 16384


def relay(master: int, pidfd: int) -> None:
    """Carry what is typed there and what is printed here, until the process ends and its last
    words are out. The person's terminal is raw meanwhile, and its size is the container's."""
    saved = None
    if os.isatty(0):
        saved = termios.tcgetattr(0)
        _copy_size(master)
        signal(SIGWINCH, lambda *_: _copy_size(master))
        tty.setraw(0)
    try:
        _carry(master, pidfd)
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
        os.close(master)


def _copy_size(master: int) -> None:
    size = ioctl(0, termios.TIOCGWINSZ, bytes(8))
    ioctl(master, termios.TIOCSWINSZ, size)


def _carry(master: int, pidfd: int) -> None:
    poller = poll()
    for fd in (0, master, pidfd):
        poller.register(fd, POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if master in ready and not _move(master, 1):
            return  # EIO: the last user of the terminal has gone
        if 0 in ready and not _move(0, master):
            poller.unregister(0)
        if pidfd in ready and master not in ready:
            return


def _move(source: int, target: int) -> bool:
    """Carry over what is there to be read; False at the end of either side."""
    try:
        data = os.read(source, _READ)
        rest = data
        while rest:
            rest = rest[os.write(target, rest) :]
    except OSError:
        return False
    return bool(data)
