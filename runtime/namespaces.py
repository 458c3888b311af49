"""The kinds of namespaces, with the flags that clone(2) and unshare(2) take."""

from __future__ import annotations

import enum

__all__ = ["Namespace"]


class Namespace(enum.IntFlag):
    """namespaces(7). Values are those of include/uapi/linux/sched.h."""

    NONE = 0
    TIME = 0x00000080
    MOUNT = 0x00020000
    CGROUP = 0x02000000
    UTS = 0x04000000
    IPC = 0x08000000
    USER = 0x10000000
    PID = 0x20000000
    NET = 0x40000000

    CONTAINER = MOUNT | CGROUP | UTS | IPC | PID | NET
    """What a container has by default."""
