"""cgroups and processes in them, for the tests of cgroups: none of them needs an image, a spawner
or a further package, so that they run on any host with Python, a small guest included."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import Cgroup, CgroupLayout

PATIENCE_S = 60.0
"""Far above anything here: reached only when something hangs."""

MIB = 2**20

_JOIN = """
import os, sys
for directory in sys.argv[1].split(":"):
    with open(directory + "/cgroup.procs", "w") as file:
        file.write("0")
"""


_numbers = itertools.count()


@pytest.fixture
def layout() -> CgroupLayout:
    return CgroupLayout.detect()


@pytest.fixture
def group(layout: CgroupLayout) -> Iterator[Cgroup]:
    group = Cgroup.create(layout, f"isolation-lab-test-{os.getpid()}-{next(_numbers)}")
    yield group
    group.remove()
    assert not [path for path in group.directories if Path(path).exists()]


def start(group: Cgroup, code: str, **options: object) -> subprocess.Popen[str]:
    """A Python program that has joined the cgroup before its first line."""
    command = [sys.executable, "-I", "-S", "-c", _JOIN + code, ":".join(group.directories)]
    return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload, no-any-return]


def run(group: Cgroup, code: str) -> tuple[int, str]:
    """Such a program to its end: status, and what it said."""
    process = start(group, code, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out


@contextmanager
def running(group: Cgroup, code: str) -> Iterator[subprocess.Popen[str]]:
    """Such a program while it says so: it prints a line first, and is killed in the end."""
    process = start(group, code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        group.kill(PATIENCE_S)  # what it has forked too
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


SLEEP = "import signal; print('ready', flush=True); signal.pause()"
SPIN = "print('ready', flush=True)\nwhile True: pass"


def needs(layout: CgroupLayout, *controllers: str) -> None:
    """Skip where one of them is not here."""
    for name in controllers:
        if layout.where(name) is None:
            pytest.skip(f"no {name} controller here: {layout.describe()}")


def until_ended(pid: int) -> bool:
    """Wait for a process that is not our child."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE_S)[0])
    finally:
        os.close(fd)
