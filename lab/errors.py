"""The lab's errors.

    LabError
    ├── UsageError            what the user asked for cannot be: exit status 2, nothing was created
    │   ├── ExperimentError   an experiment file or option names something that does not exist
    │   └── RunNotFound       no run, or several, answer to that name
    ├── BackendError          a backend could not do what its capabilities promised
    │   ├── NotReady          the workload did not send its ready byte in time, or died before it
    │   └── StillAlive        an instance outlived the whole ladder of stops
    ├── StoreError            a run folder that cannot be read or written
    │   └── FormatTooNew      a run made by a newer version of the lab
    ├── RunBusy               another process runs that run now
    └── HostError             the host lacks what the command needs; the message says what to do

A message says what was tried, on which object, what came back and what the user can do.
Libraries raise; only the command line prints and exits.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "ExperimentError",
    "FormatTooNew",
    "HostError",
    "LabError",
    "NotReady",
    "RunBusy",
    "RunNotFound",
    "StillAlive",
    "StoreError",
    "UsageError",
]


class LabError(Exception):
    """Root of every error that `lab` raises on purpose."""


class UsageError(LabError):
    """The request itself is wrong. One sentence; exit status 2; nothing was created."""


class ExperimentError(UsageError):
    """An experiment file, or an option that stands for a key of it, is not valid."""


class RunNotFound(UsageError):
    """No run, or more than one, is called that."""


class BackendError(LabError):
    """A backend failed. `argv` and `log_tail` go into the trial's record."""

    def __init__(self, message: str, *, argv: tuple[str, ...] = (), log_tail: str = "") -> None:
        super().__init__(message)
        self.argv = argv
        self.log_tail = log_tail


class NotReady(BackendError):
    """The workload's ready byte did not come: too late, or the workload died first."""


class StillAlive(BackendError):
    """Asked, waited, killed, and something is still there. The message names it."""


class StoreError(LabError):
    """A run folder is missing a part, is damaged, or cannot be written."""


class FormatTooNew(StoreError):
    """The run was written by a newer version of the lab, which this one will not guess at."""


class RunBusy(LabError):
    """Another process, which the message names, runs that run now."""


class HostError(LabError):
    """This host lacks something. The message names it and the command that brings it."""
