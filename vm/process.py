"""Starting QEMU. The default way; a caller that also wants a cgroup passes its own `Spawn`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

__all__ = ["Process", "Spawn", "spawn"]


class Process(Protocol):
    """A running child, as `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def poll(self) -> int | None:
        """Return the exit code (−n: killed by signal n), or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises `subprocess.TimeoutExpired` after `timeout` seconds."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Spawn(Protocol):
    """Starts a program and returns at once.

    Descriptors `pass_fds` keep their numbers in the child; all others above 2 are closed there.
    Standard input and output are /dev/null, standard error is the descriptor `stderr`. The child
    should die with its parent. OSError: it cannot be started.
    """

    def __call__(self, argv: Sequence[str], *, pass_fds: Sequence[int], stderr: int) -> Process:
        """Start `argv`."""


def spawn(argv: Sequence[str], *, pass_fds: Sequence[int], stderr: int) -> Process:
    """Start `argv` under ``setpriv --pdeathsig KILL`` (util-linux), so that it dies with us.

    The kernel sends that signal when the *thread* that started the child ends
    (PR_SET_PDEATHSIG(2const)): start machines from a thread that lives as long as they do.
    """
    program = shutil.which(argv[0])
    if program is None:
        # setpriv would start and then fail, which is harder to tell from QEMU's own failures.
        raise FileNotFoundError(2, "no such program; install qemu-system-x86", argv[0])
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", program, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=pass_fds,
    )
