"""The small init that a container can have as its PID 1 (init.c says what for).

It is executed from a sealed copy in memory, never from a file of the host's: a container whose
PID 1 it is could open that by /proc/1/exe, and root in it write to it (CVE-2019-5736).
"""

from __future__ import annotations

import fcntl
import os
from functools import lru_cache
from pathlib import Path

from runtime.compiled import compiled
from runtime.security.seccomp import cache_directory

__all__ = ["build", "init_fd"]

_SOURCE = Path(__file__).with_name("init.c")
_FLAGS = ("-Os", "-Wall", "-static", "-s")


def build(cache: Path) -> Path:
    """The static binary, compiled once into `cache`. Raises CompileFailed."""
    return compiled(_SOURCE, cache, _FLAGS)


@lru_cache(maxsize=1)
def init_fd() -> int:
    """A descriptor to execute it from, the same for all containers. Raises CompileFailed."""
    binary = build(Path(cache_directory("init")))
    fd = os.memfd_create("init", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(binary.read_bytes())
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd
