"""The programs of the peers: whether they are there, and which version."""

from __future__ import annotations

import shutil
import subprocess

from lab.backends.base import Capabilities
from lab.errors import BackendError

__all__ = ["missing_program", "version"]


def missing_program(program: str, package: str) -> Capabilities:
    """Available if the program is on the PATH; else it says which package of Debian brings it."""
    if shutil.which(program):
        return Capabilities()
    reason = f"{program} is not installed: apt-get install {package}"
    return Capabilities(False, {"available": reason})


def version(program: str) -> str:
    """The first line of what it says of itself. Raises `BackendError` if it says nothing."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise BackendError(f"{program} --version: status {done.returncode}: {done.stderr.strip()}")
    return lines[0].strip()
