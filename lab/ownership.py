"""Who owns a run's scratch directory and cgroup: so that what a killed run left can be told from
what is alive.

A run's state directory is ``<cache>/runs/<run id>/``; the file ``owner.lock`` in it names the lab
process by pid and is there before anything else is made. The run holds a flock(2) on it to its end,
and on the directory of its cgroup, which runs of all caches share; the kernel gives both back
however the process dies: a lock that can be taken means the owner is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lab.errors import RunBusy

__all__ = [
    "OWNER",
    "RUN_ID",
    "abandoned",
    "claimed",
    "held",
    "locked",
    "new_run_id",
    "own_run",
    "runs_dir",
]

OWNER = "owner.lock"

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[A-Za-z0-9][A-Za-z0-9_-]*-[0-9a-f]{4}|doctor-[0-9]+")
"""What `new_run_id` makes, and the doctor. Nothing of another name is ever touched."""


def new_run_id(suite: str) -> str:
    """``20261124T131502-quick-3fa9``: sorts by time, says what, and does not collide."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return f"{now}-{suite}-{secrets.token_hex(2)}"


def runs_dir(cache: Path) -> Path:
    """Where state directories are."""
    return cache / "runs"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold flock(2) on a file or directory that is there. With `wait=False` raises
    BlockingIOError if somebody else has it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def own_run(cache: Path, run: str) -> Iterator[Path]:
    """The run's state directory, held for the length of the context and removed after it.

    Raises `RunBusy` if another process has it, OSError if the cache cannot be written."""
    runs = runs_dir(cache)
    runs.mkdir(parents=True, exist_ok=True)
    state = runs / run
    with contextlib.ExitStack() as stack:
        # Under the parent's lock, so that nobody finds the directory before it is locked.
        with locked(runs):
            state.mkdir(exist_ok=True)
            owner = state / OWNER
            owner.touch(0o600)
            try:
                stack.enter_context(locked(owner, wait=False))
            except BlockingIOError as error:
                raise RunBusy(
                    f"run {run} belongs to process {_owner(owner)}, which is alive: wait for it, "
                    "or stop it"
                ) from error
        stack.callback(shutil.rmtree, state)
        owner.write_text(json.dumps({"pid": os.getpid()}))
        yield state


def _owner(owner: Path) -> str:
    try:
        return str(json.loads(owner.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return "?"  # it has the lock and has not written yet


def abandoned(cache: Path) -> list[str]:
    """Ids of runs whose state directory is there and whose owner is not."""
    runs = runs_dir(cache)
    if not runs.is_dir():
        return []
    with locked(runs):
        return [
            state.name
            for state in sorted(runs.iterdir())
            if RUN_ID.fullmatch(state.name) and state.is_dir() and not held(state / OWNER)
        ]


def held(path: Path) -> bool:
    """Whether a living process has this file or directory locked."""
    with claimed(path) as mine:
        return not mine


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether nobody owns it; then it is ours for the length of the context. What is not there is
    nobody's."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=False))
        except FileNotFoundError:
            pass
        except BlockingIOError:
            yield False
            return
        yield True
