"""Samplers: read what the kernel says, in bytes, without changing what they read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["allocated", "mem_available", "proportional_set_size"]


def mem_available() -> int:
    """The host's MemAvailable, bytes (proc_meminfo(5))."""
    return _field(Path("/proc/meminfo"), b"MemAvailable:")


def proportional_set_size(pid: int) -> int:
    """PSS of one process, bytes (proc_pid_smaps_rollup(5)): its private pages and its share of the
    others. Raises ProcessLookupError if the process is gone: a vanished instance is not zero
    bytes."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), b"Pss:")


def _field(path: Path, name: bytes) -> int:
    with path.open("rb") as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    raise ValueError(f"{path}: has no line {name.decode()}")


def allocated(paths: Iterable[Path]) -> int:
    """Bytes of blocks allocated to files and whole trees (stat(2): st_blocks × 512).

    A file with several names counts once. Trees on other file systems mounted below are not
    entered."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for path in paths:
        status = path.lstat()
        stack = [(os.fspath(path), status)]
        while stack:
            name, entry = stack.pop()
            if (entry.st_dev, entry.st_ino) in seen:
                continue
            seen.add((entry.st_dev, entry.st_ino))
            total += entry.st_blocks * 512
            if stat.S_ISDIR(entry.st_mode) and entry.st_dev == status.st_dev:
                with os.scandir(name) as children:
                    stack.extend((c.path, c.stat(follow_symlinks=False)) for c in children)
    return total
