"""Who owns a run's scratch directory: so that what a killed run left can be told from what is
alive.

A run's state directory is ``<cache>/runs/<run id>/``; the file ``owner.lock`` in it names the lab
process by pid and is there before anything else is made. The run holds a flock(2) on it to its end,
and the kernel gives it back however the process dies: a lock that can be taken means the owner is
gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

__all__ = ["OWNER", "abandoned", "held", "own_run", "runs_dir"]

OWNER = "owner.lock"


def runs_dir(cache: Path) -> Path:
    """Where state directories are."""
    return cache / "runs"


@contextlib.contextmanager
def own_run(cache: Path, run: str) -> Iterator[Path]:
    """The run's state directory, held for the length of the context and removed after it.

    Raises FileExistsError if another process runs the same run now."""
    state = runs_dir(cache) / run
    state.mkdir(parents=True, exist_ok=True)
    lock = os.open(state / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileExistsError(f"run {run} is being run by another process now") from error
        os.truncate(lock, 0)
        os.write(lock, json.dumps({"pid": os.getpid()}).encode())
        try:
            yield state
        finally:
            shutil.rmtree(state)
    finally:
        os.close(lock)


def abandoned(cache: Path) -> list[str]:
    """Ids of runs whose state directory is there and whose owner is not."""
    if not runs_dir(cache).is_dir():
        return []
    return [state.name for state in sorted(runs_dir(cache).iterdir()) if not held(state)]


def held(state: Path) -> bool:
    """Whether a living process owns this state directory."""
    try:
        lock = os.open(state / OWNER, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
