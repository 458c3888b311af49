"""Directories of a cgroup: made with what their parents must hand down, removed from the leaves."""

from __future__ import annotations

import errno
import os
import select
import time

from runtime.cgroups.control import GONE, read, read_if_there, refused, wait_event, write
from runtime.cgroups.layout import SUPERVISOR, own_path
from runtime.errors import CgroupError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["hand_down", "inherit_cpuset", "make", "remove", "remove_if_unused", "vacate"]

_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)


def make(root: str, path: str, made: list[str], prepare: Callable[[str], None] | None) -> bool:
    """mkdir -p of `path` below `root`; whether the last level is new. Appends to `made` what is,
    and has each new directory prepared.

    The last level is tried first: it is nearly always all that is missing."""
    leaf = f"{root}/{path}"
    while True:
        try:
            os.mkdir(leaf)  # noqa: PTH102 - in the timed path of every launch
        except FileExistsError:
            return False
        except FileNotFoundError:
            parent = path.rpartition("/")[0]
            if not parent:
                raise  # the root itself is not there
            make(root, parent, made, prepare)
            continue  # and again, should somebody remove the parent right now
        made.append(leaf)
        if prepare is not None:
            prepare(leaf)
        return True


def inherit_cpuset(directory: str) -> None:
    """A new v1 cpuset is empty, and takes no process before it has CPUs and memory nodes: it gets
    its parent's (cpusets.rst, section 2). cgroup.clone_children would do it, but is the host's."""
    parent = directory.rpartition("/")[0]
    for name in ("cpus", "mems"):
        for file in (f"cpuset.{name}", name):  # the second if mounted with noprefix
            text = read_if_there(f"{parent}/{file}")
            if text is not None:
                write(f"{directory}/{file}", text.strip())
                break


def hand_down(root: str, path: str, wanted: frozenset[str]) -> None:
    """Make these v2 controllers available in the cgroup `path`: each level above hands them to the
    next (cgroups(7), "Cgroups v2 subtree control").

    The parent's list tells enough: what is in it has come all the way down. A level that holds
    the caller itself is vacated (see there) if the kernel demands it."""
    parent = path.rpartition("/")[0]
    directory = f"{root}/{parent}" if parent else root
    missing = wanted.difference(read(f"{directory}/cgroup.subtree_control").split())
    if not missing:
        return
    if parent:
        hand_down(root, parent, missing)
    text = " ".join(f"+{name}" for name in sorted(missing))
    try:
        write(f"{directory}/cgroup.subtree_control", text)
    except OSError as error:
        if error.errno != errno.EBUSY or not vacate(root, parent):
            raise
        write(f"{directory}/cgroup.subtree_control", text)


def vacate(root: str, path: str) -> bool:
    """Move the processes of the cgroup that the caller is in into a leaf of it, `SUPERVISOR`, so
    that it may hand controllers down: only the root may do so and have processes too (cgroups(7),
    "Cgroups v2 no internal processes rule"). False if the caller is elsewhere.

    That is what a delegated unit has to do (systemd, CGROUP_DELEGATION.md), and a container with
    a cgroup namespace, whose root is not the real one."""
    if own_path(read("/proc/self/cgroup")) != path:
        return False
    directory = f"{root}/{path}" if path else root
    leaf = f"{directory}/{SUPERVISOR}"
    make(directory, SUPERVISOR, [], None)
    # Until there is none: another may have been forked meanwhile. 0 stands for a process that is
    # outside our PID namespace and cannot be moved from here.
    while pids := [pid for pid in read(f"{directory}/cgroup.procs").split() if pid != "0"]:
        for pid in pids:
            try:
                write(f"{leaf}/cgroup.procs", pid)
            except ProcessLookupError:
                continue
    return True


def remove(directory: str, name: str, deadline: float, processes: Callable[[], object]) -> None:
    """rmdir, children first, and again once the last process is out.

    Raises CgroupError, naming the processes, at `deadline` (monotonic seconds)."""
    pause = 0.0
    while True:
        try:
            os.rmdir(directory)  # noqa: PTH106 - in the timed path of every stop
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _IN_USE:
                raise refused(name, error) from error
            busy = error
        for child in _children(directory):
            remove(f"{directory}/{child}", name, deadline, processes)
        left = deadline - time.monotonic()
        if left <= 0:
            raise CgroupError(
                f"cannot remove cgroup {directory}: still in use by processes {processes()}, or by "
                "one that this PID namespace does not see"
            ) from busy
        pause = _await_end(directory, left, pause)


def remove_if_unused(directory: str) -> None:
    """rmdir, unless somebody has made a cgroup in it or put a process there."""
    try:
        os.rmdir(directory)  # noqa: PTH106
    except OSError as error:
        if error.errno not in (*_IN_USE, errno.ENOENT):
            raise


def _children(directory: str) -> list[str]:
    try:
        if os.stat(directory).st_nlink == 2:  # noqa: PTH116
            return []  # "." and the name: kernfs counts a link for each directory below
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        if error.errno not in GONE:
            raise
        return []


def _await_end(directory: str, left: float, pause: float) -> float:
    """Until a process of it ends, or `left` seconds; the pause to make next time, if that was not
    what it waited for: 0 at first, as the event mostly is."""
    if read_if_there(f"{directory}/cgroup.events") is not None:
        wait_event(directory, "populated", 0, left)
    else:
        # v1 has no such event: the end of one of its processes is the nearest thing.
        for pid in (read_if_there(f"{directory}/cgroup.procs") or "").split():
            if _await_process(int(pid), left):
                break
    time.sleep(min(pause, left))
    return min(max(pause * 2, 0.0005), 0.05)


def _await_process(pid: int, left: float) -> bool:
    """Whether it was there to be waited for."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False  # ended by now, or 0: one outside our PID namespace
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(left * 1000)
    finally:
        os.close(fd)
    return True
