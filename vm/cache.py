"""Directories that are made once and then only read.

An entry appears by rename(2), so that it is there whole or not at all. Two processes that make the
same entry at once both work; the first to finish wins and the other throws its copy away. A process
killed in the middle leaves only a ``.tmp-…`` directory whose lock is free, and the next that makes
an entry here removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["make_once", "scratch", "sweep"]

_TEMPORARY = ".tmp-"


@contextlib.contextmanager
def _locked(directory: Path, flags: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold flock(2) on `directory` itself; the kernel drops it when the holder dies."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, flags)
        yield
    finally:
        os.close(fd)


def sweep(parent: Path, *, dry_run: bool = False) -> list[Path]:
    """Remove what dead makers left in `parent`, and return it."""
    with _locked(parent):
        return list(_sweep(parent, dry_run))


def _sweep(parent: Path, dry_run: bool = False) -> Iterator[Path]:
    """The caller holds the lock of `parent`."""
    for leftover in parent.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(BlockingIOError), _locked(leftover, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not dry_run:
                shutil.rmtree(leftover)
            yield leftover


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new directory in `parent` for as long as the context lasts. If this process is killed, the
    next that makes one here removes it."""
    with contextlib.ExitStack() as stack:
        # Under the parent's lock, so that no sweeper sees the new directory before it is locked.
        with _locked(parent):
            for _ in _sweep(parent):
                pass
            work = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=parent))
            stack.callback(shutil.rmtree, work, ignore_errors=True)
            stack.enter_context(_locked(work))
        yield work


def make_once(target: Path, make: Callable[[Path], None]) -> Path:
    """Return the directory `target`; if it is not there, let `make` fill a new one for it.

    `make` gets an empty directory on the same file system. What it raises goes to the caller, and
    then nothing has appeared. OSError: `target`'s parent cannot be written.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch(target.parent) as work:
        content = work / "content"
        content.mkdir()
        make(content)
        try:
            content.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise  # else another process was first, and its entry is as good as ours
    return target
