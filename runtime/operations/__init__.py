"""The vocabulary of a set-up: small frozen operations that say what they do and then do it.

`describe()` gives words that fit after "could not …", so that a plan prints and an error reads.
`step()` gives the same thing as plain data for the spawn helper (runtime/steps.py); `execute()`
does it in this process. The order of operations is tested without root by their descriptions.
"""

from __future__ import annotations

from runtime.operations.base import Mark, Operation
from runtime.operations.files import (
    Bind,
    Chdir,
    Chroot,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Mask,
    Mount,
    MountOverlay,
    Pivot,
    PrivatePropagation,
    ReadOnly,
)
from runtime.operations.process import (
    DieWithParent,
    DropBounding,
    JoinCgroup,
    LoopbackUp,
    NewSession,
    NoNewPrivileges,
    SetCapabilities,
    SetHostname,
    SetIds,
    SetLimit,
    Umask,
    Unshare,
)

__all__ = [
    "Bind",
    "Chdir",
    "Chroot",
    "DieWithParent",
    "DropBounding",
    "JoinCgroup",
    "LoopbackUp",
    "MakeDevice",
    "MakeDirectory",
    "MakeSymlink",
    "Mark",
    "Mask",
    "Mount",
    "MountOverlay",
    "NewSession",
    "NoNewPrivileges",
    "Operation",
    "Pivot",
    "PrivatePropagation",
    "ReadOnly",
    "SetCapabilities",
    "SetHostname",
    "SetIds",
    "SetLimit",
    "Umask",
    "Unshare",
]
