"""The lab's guest init: a static C program, compiled once per source and compiler."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vm.cache import make_once
from vm.errors import InitramfsError, ToolMissing

__all__ = ["SOURCE", "build_init"]

SOURCE = Path(__file__).with_name("init.c")

_FLAGS = ("-std=gnu11", "-static", "-Os", "-s", "-Wall", "-Wextra")


def build_init(cache: Path, compiler: str = "cc") -> Path:
    """Compile the guest init into the cache and return the program's path.

    ToolMissing: no compiler, or no static C library. InitramfsError: it does not compile.
    """
    path = shutil.which(compiler)
    if path is None:
        raise ToolMissing(
            f"no C compiler {compiler!r} to build the guest init; install gcc and libc6-dev"
        )
    version = _run([path, "--version"]).splitlines()[0]
    key = hashlib.sha256(
        b"\0".join([SOURCE.read_bytes(), version.encode(), " ".join(_FLAGS).encode()])
    ).hexdigest()[:16]

    def make(target: Path) -> None:
        _run([path, *_FLAGS, "-o", str(target / "init"), str(SOURCE)])

    return make_once(cache / "init" / key, make) / "init"


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode == 0:
        return done.stdout
    if "cannot find -lc" in done.stderr or "stdio.h: No such file" in done.stderr:
        raise ToolMissing(
            f"{argv[0]} finds no static C library; install libc6-dev: {done.stderr.strip()}"
        )
    raise InitramfsError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
