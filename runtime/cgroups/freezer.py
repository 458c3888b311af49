"""Stopping and resuming all processes of a cgroup, until it has happened."""

from __future__ import annotations

import time

from runtime.cgroups.control import read, refused, wait_event, write
from runtime.errors import CgroupError

__all__ = ["freeze_v1", "freeze_v2", "is_frozen_v1", "is_frozen_v2"]


def freeze_v2(directory: str, name: str, frozen: bool, timeout: float) -> None:
    """cgroup.freeze, and then the event (cgroup-v2.rst, "cgroup.freeze"). A freeze that does not
    come about is taken back.

    Raises CgroupError after `timeout` seconds: a process in uninterruptible sleep, or an ancestor
    that is frozen while this one is to go on."""
    try:
        write(f"{directory}/cgroup.freeze", str(int(frozen)))
    except OSError as error:
        raise refused(name, error, str(int(frozen))) from error
    if wait_event(directory, "frozen", int(frozen), timeout):
        return
    if frozen:
        write(f"{directory}/cgroup.freeze", "0")
    raise _too_slow(name, frozen, timeout)


def freeze_v1(directory: str, name: str, frozen: bool, timeout: float) -> None:
    """freezer.state, asked again until it is so: v1 tells nobody, and a process that appears in
    the middle can leave it FREEZING until it is written anew (freezer-subsystem.rst; runc's
    fs/freezer.go has the experience). As `freeze_v2` otherwise."""
    wanted = "FROZEN" if frozen else "THAWED"
    deadline = time.monotonic() + timeout
    pause = 0.0001
    try:
        write(f"{directory}/freezer.state", wanted)
        while read(f"{directory}/freezer.state").strip() != wanted:
            if time.monotonic() > deadline:
                write(f"{directory}/freezer.state", "THAWED")
                raise _too_slow(name, frozen, timeout)
            time.sleep(pause)
            pause = min(pause * 2, 0.02)
            write(f"{directory}/freezer.state", wanted)
    except OSError as error:
        raise refused(name, error, wanted) from error


def is_frozen_v2(directory: str) -> bool:
    """Whether all its processes stand still, by its own freeze or by an ancestor's."""
    return "frozen 1" in read(f"{directory}/cgroup.events").splitlines()


def is_frozen_v1(directory: str) -> bool:
    """As `is_frozen_v2`."""
    return read(f"{directory}/freezer.state").strip() == "FROZEN"


def _too_slow(name: str, frozen: bool, timeout: float) -> CgroupError:
    if frozen:
        return CgroupError(
            f"cgroup {name}: not all processes stand still {timeout:g} s after the freeze, which "
            "was taken back; one in state D, or in a vfork, comes to rest when its call does: "
            "look at /proc/PID/stack"
        )
    return CgroupError(
        f"cgroup {name}: still frozen {timeout:g} s after the thaw; is a cgroup above it frozen?"
    )
