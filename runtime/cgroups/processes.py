"""The processes of a cgroup: which there are, and the end of all of them."""

from __future__ import annotations

import errno
import os
import select
import time

from runtime.cgroups.control import GONE, read, read_if_there, wait_event, write
from runtime.errors import CgroupError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["await_empty", "kill_all", "processes"]

_SIGKILL = 9  # `signal` brings enum


def processes(directories: Iterable[str]) -> tuple[int, ...]:
    """Ids of the processes in and below these directories, ascending; zombies may be among them."""
    found: set[int] = set()
    for directory in directories:
        _collect(directory, found)
    found.discard(0)  # a process outside our PID namespace
    return tuple(sorted(found))


def _collect(directory: str, found: set[int]) -> None:
    try:
        found.update(map(int, read(f"{directory}/cgroup.procs").split()))
        if os.stat(directory).st_nlink > 2:  # noqa: PTH116 - kernfs: a link for each one below
            with os.scandir(directory) as entries:
                below = [entry.path for entry in entries if entry.is_dir()]
            for path in below:
                _collect(path, found)
    except OSError as error:
        # Gone under our feet; or threaded, and the domain above lists the process (cgroups(7)).
        if error.errno not in (*GONE, errno.EOPNOTSUPP):
            raise


def kill_all(name: str, v2: str | None, others: Sequence[str], timeout: float) -> None:
    """SIGKILL to every process in and below these directories, until there is none.

    In v2 one write to cgroup.kill, which no fork can outrun (Linux 5.14), and then the event that
    the cgroup is empty. What is in v1 directories alone, or on an older kernel, is frozen where
    that can be done, so that it forks no more, and killed one by one.
    Raises CgroupError naming the processes that are left after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    directories = others
    if v2 is not None and not _kill_v2(v2, timeout):
        directories = [v2, *others]
    if not processes(directories):
        return
    freezer = next((path for path in directories if _freeze(path, True)), None)
    try:
        waited = _signal(processes(directories))
    finally:
        if freezer is not None:
            _freeze(freezer, False)  # a v1 cgroup's SIGKILL arrives only now
    while waited:
        if not _await_ends(waited, deadline - time.monotonic()):
            raise CgroupError(
                f"cgroup {name}: {len(waited)} processes still alive {timeout:g} s after "
                f"SIGKILL: {waited[:10]}; look at /proc/PID/stack"
            )
        waited = _signal(processes(directories))


def await_empty(directories: Sequence[str], timeout: float) -> bool:
    """Wait until no process is in or below these v1 directories, zombies apart; False after
    `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while left := [pid for pid in processes(directories) if _lives(pid)]:
        if not _await_ends(left, deadline - time.monotonic()):
            return False
    return True


def _lives(pid: int) -> bool:
    """Whether it is there and no zombie: that is for its parent to reap, and holds nothing."""
    stat = read_if_there(f"/proc/{pid}/stat")
    return stat is not None and stat.rpartition(")")[2].split()[0] not in "ZX"


def _kill_v2(directory: str, timeout: float) -> bool:
    """Whether it is empty now by way of cgroup.kill."""
    try:
        write(f"{directory}/cgroup.kill", "1")
    except FileNotFoundError:
        # No such cgroup, or a kernel before 5.14.
        return not os.path.exists(directory)  # noqa: PTH110
    except OSError as error:
        if error.errno not in (*GONE, errno.EOPNOTSUPP):
            raise
        return error.errno in GONE  # else threaded: one by one
    return wait_event(directory, "populated", 0, timeout)


def _freeze(directory: str, frozen: bool) -> bool:
    """Ask for it, without waiting; whether there is a freezer here."""
    for file, words in (("cgroup.freeze", "01"), ("freezer.state", ("THAWED", "FROZEN"))):
        try:
            write(f"{directory}/{file}", words[frozen])
        except FileNotFoundError:
            continue
        return True
    return False


def _signal(pids: Iterable[int]) -> list[int]:
    """Kill those that live, and say which."""
    killed = []
    for pid in filter(_lives, pids):
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            continue
        killed.append(pid)
    return killed


def _await_ends(pids: Sequence[int], timeout: float) -> bool:
    """Wait for the end of all of them; False after `timeout` seconds."""
    waiting = select.poll()
    fds: set[int] = set()
    deadline = time.monotonic() + timeout
    try:
        for pid in pids[:256]:  # the rest will be found by the next look
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue  # it has ended
            fds.add(fd)
            waiting.register(fd, select.POLLIN)
        pending = len(fds)
        while pending:
            ended = waiting.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ended:
                return False
            for fd, _ in ended:
                waiting.unregister(fd)
            pending -= len(ended)
    finally:
        for fd in fds:
            os.close(fd)
    return True
