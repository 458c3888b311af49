"""Running a program of the host and hearing what it said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab.doctor.probe import Failed
from runtime.images.recipes import PATH

__all__ = ["find", "first_line", "run"]


def find(name: str) -> str | None:
    """Where it is: on PATH, or where a login of root's would look."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")


def run(argv: Sequence[str | Path], input: str = "") -> str:
    """Its standard output. `Failed`, in its own words, if it is not there or fails."""
    path = find(str(argv[0]))
    if path is None:
        raise Failed(f"{argv[0]} is not on PATH")
    done = subprocess.run(
        [path, *argv[1:]], input=input, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"{path} ended with {done.returncode}: {first_line(done.stderr)}")
    return done.stdout


def first_line(text: str) -> str:
    """The first line that has something on it, or an empty text."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
