"""One measurement at a time on a host: two at once would disturb each other's times.

Who measures holds flock(2) on one file that all users and caches of the host share; the kernel
gives it back however the holder dies. The file itself stays: removing it would let two hold it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lab.errors import HostError

__all__ = ["turn"]

_FOLDERS = (Path("/run/lock"), Path("/tmp"))
_NAME = "isolation-lab.lock"


@contextlib.contextmanager
def turn(
    run: str, waiting: Callable[[str], None], folders: Sequence[Path] = _FOLDERS
) -> Iterator[None]:
    """Wait until nobody else measures on this host, and keep it so for the length of the context.

    `waiting` is called once, with who it is, if there is somebody. The lock is in the first of the
    `folders` that is there. Raises `HostError` if it cannot be used."""
    lock = next(folder for folder in folders if folder.is_dir()) / _NAME
    # Anybody may have made a file of that name in a folder that is everybody's: follow no link.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(lock, flags, 0o666)
    except OSError as error:
        raise HostError(
            f"{lock}: {error.strerror}: it is there that runs wait for each other; measure without "
            "that by --alongside"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(os.pread(fd, 200, 0).decode(errors="replace") or "another process")
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"run {run} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)
