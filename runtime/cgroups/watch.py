"""Events of a cgroup, as they happen: OOM, its last process gone, frozen, under pressure.

The kernel wakes whoever polls a v2 file (cgroup-v2.rst, "cgroup.events" and "memory.events") or
has registered an eventfd for a v1 one (cgroup-v1/memory.rst, section 10); one epoll descriptor
stands for all of them.
"""

from __future__ import annotations

import os
import select
import time
from typing import NamedTuple

from runtime.cgroups.control import GONE, keyed, read_if_there, refused
from runtime.errors import ControllerMissing

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from types import TracebackType

    from runtime.cgroups.group import Cgroup

__all__ = ["Event", "Watch"]

_MEMORY_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")
_STATES = {"populated": ("empty", "populated"), "frozen": ("thawed", "frozen")}


class Event(NamedTuple):
    """Something has happened since the last look."""

    kind: str
    """`oom`: an allocation reached the limit and reclaim could not help. `oom_kill`: a process
    was killed for it. `low`, `high`, `max`, `oom_group_kill`: as in v2's memory.events. `empty`:
    no process is left, or `populated`: there is one again. `frozen`, `thawed`. `pressure`: a
    trigger of `add_pressure`. `gone`: the cgroup was removed; nothing will follow."""
    times: int = 1
    """How many of them since the last look."""
    resource: str = ""
    """Of `pressure`: ``cpu``, ``memory`` or ``io``."""


class Watch:
    """A context, and a descriptor to poll or select on; `read` then says what happened.

    v1 alone has no news of `empty`, `frozen` and `thawed`, and none of `oom_kill` before the next
    event of any kind: its notice comes when the limit is reached."""

    def __init__(self, group: Cgroup) -> None:
        self._name = group.path
        self._poll = select.epoll()
        self._files: dict[int, str] = {}  # descriptor → path, of files that are read again
        self._triggers: dict[int, str] = {}
        self._eventfd = self._oom_control = -1
        self._memory: dict[str, int] = {}
        self._states: dict[str, int] = {}
        self._gone = False
        self._directory = group.into or group.directories[0]
        try:
            if group.into is not None:
                self._add_file(f"{group.into}/cgroup.events")
                if group.layout.where("memory") == group.layout.v2:
                    self._add_file(f"{group.into}/memory.events")
            for directory in group.join:
                self._add_v1(directory)
            self._look()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise refused(self._name, error) from error
            raise

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when `read` has something to say."""
        return self._poll.fileno()

    def close(self) -> None:
        """Give the descriptors back. Idempotent."""
        for fd in (*self._files, *self._triggers, self._eventfd, self._oom_control):
            if fd >= 0:
                os.close(fd)
        self._files, self._triggers = {}, {}
        self._eventfd = self._oom_control = -1
        self._poll.close()

    def add_pressure(self, resource: str, stall: float, window: float, full: bool = False) -> None:
        """Have a `pressure` event whenever, within `window` seconds (0.5 to 10), tasks were stalled
        on ``cpu``, ``memory`` or ``io`` for `stall` seconds in all: some of them, or all at once
        if `full` (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds"). Without
        CAP_SYS_RESOURCE the kernel takes only multiples of 2 s for `window`.

        It is for `wait`: the kernel forgets such an event once it has answered a poll, so one that
        another poller of this descriptor was woken by is not told again.

        Raises ControllerMissing where this cgroup has no PSI, CgroupError for other numbers."""
        path = f"{self._directory}/{resource}.pressure"
        kind = "full" if full else "some"
        line = f"{kind} {round(stall * 1e6)} {round(window * 1e6)}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ControllerMissing([f"{resource}.pressure"], "no PSI: boot with psi=1") from None
        try:
            os.write(fd, line.encode() + b"\0")
        except OSError as error:
            os.close(fd)
            raise refused(self._name, OSError(error.errno, error.strerror, path), line) from error
        self._triggers[fd] = resource
        self._poll.register(fd, select.EPOLLPRI)

    def wait(self, timeout: float | None = None) -> list[Event]:
        """Wait for the next event; an empty list after `timeout` seconds."""
        found = self.read()
        deadline = time.monotonic() + (timeout or 0.0)
        while not found:
            left = None if timeout is None else max(0.0, deadline - time.monotonic())
            found = self._happened(self._poll.poll(left))  # a wake-up may be for nothing new
            if left == 0.0:
                break
        return found

    def read(self) -> list[Event]:
        """What has happened since the last call, without waiting."""
        return self._happened(self._poll.poll(0))

    def _happened(self, polled: list[tuple[int, int]]) -> list[Event]:
        ready = [fd for fd, _ in polled]
        found = [Event("pressure", 1, self._triggers[fd]) for fd in ready if fd in self._triggers]
        memory, states = self._memory, self._states
        if self._eventfd in ready:
            count = os.eventfd_read(self._eventfd)
            if os.path.exists(self._directory):  # noqa: PTH110 - its removal is an event too
                found.append(Event("oom", count))
        if not self._look():
            return [*found, *self._end()]
        found += [
            Event(kind, self._memory[kind] - memory.get(kind, 0))
            for kind in _MEMORY_EVENTS
            if self._memory.get(kind, 0) > memory.get(kind, 0)
        ]
        found += [
            Event(words[self._states[key]])
            for key, words in _STATES.items()
            if key in states and self._states.get(key) != states[key]
        ]
        return found

    def _end(self) -> list[Event]:
        """Say so once, and be silent from then on."""
        registered = [fd for fd in (*self._files, *self._triggers, self._eventfd) if fd >= 0]
        first, self._gone = not self._gone, True
        if first:
            for fd in registered:
                self._poll.unregister(fd)
        return [Event("gone")] if first else []

    def _add_file(self, path: str) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # a controller that was not handed down
        self._files[fd] = path
        self._poll.register(fd, select.EPOLLPRI)

    def _add_v1(self, directory: str) -> None:
        try:
            self._oom_control = os.open(
                f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return  # not the memory hierarchy
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, f"{self._eventfd} {self._oom_control}".encode())
        finally:
            os.close(control)
        self._poll.register(self._eventfd, select.EPOLLIN)

    def _look(self) -> bool:
        """Read all counters and states; False if the cgroup is gone."""
        memory: dict[str, int] = {}
        try:
            for fd, path in self._files.items():
                values = dict(keyed(os.pread(fd, 4096, 0).decode()))
                if path.endswith("/cgroup.events"):
                    self._states = values
                else:
                    memory.update(values)
            if self._oom_control >= 0:
                values = dict(keyed(os.pread(self._oom_control, 4096, 0).decode()))
                memory["oom_kill"] = values.get("oom_kill", 0)  # since Linux 4.13
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False
        self._memory = memory
        return read_if_there(f"{self._directory}/cgroup.procs") is not None
