"""What instances made of host processes have in common: native processes and containers."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lab.backends.base import Capabilities, Exit
from lab.backends.channel import Pipes
from lab.errors import BackendError, StillAlive

if TYPE_CHECKING:
    from runtime.spawn import Process

__all__ = ["ProcessGroup", "ProcessInstance", "root_needed", "translated"]


def root_needed() -> Capabilities:
    """Available to root only, and it says so."""
    import os

    if os.geteuid() == 0:
        return Capabilities()
    return Capabilities(False, {"available": "needs root (cgroups, mounts): run with sudo"})


@contextmanager
def translated() -> Iterator[None]:
    """The runtime's errors as the lab's."""
    from runtime import errors

    try:
        yield
    except errors.StillAlive as error:
        raise StillAlive(str(error)) from error
    except errors.ContainerError as error:
        raise BackendError(str(error)) from error


class ProcessGroup(Protocol):
    """A cgroup, whoever makes it."""

    def processes(self) -> tuple[int, ...]:
        """All in it and below it."""

    def memory_current(self) -> int | None:
        """Bytes that it is charged; None if nobody counts."""

    def kill(self, timeout: float) -> None:
        """SIGKILL to all, until there is none."""

    def remove(self) -> None:
        """All of it. Idempotent."""


class ProcessInstance:
    """An instance whose workload is a child of the lab, in a cgroup, with pipes."""

    def __init__(self, name: str, process: Process, cgroup: ProcessGroup, pipes: Pipes) -> None:
        self.name = name
        self.argv: Sequence[str] = process.argv
        self._process = process
        self._cgroup = cgroup
        self._pipes = pipes
        self._stopped = False

    def fileno(self) -> int:
        """The epoll instance over all its pipes."""
        return self._pipes.fileno()

    def read_events(self) -> bytes | None:
        """See `Pipes.read`."""
        return self._pipes.read()

    def phases(self) -> Mapping[str, int]:
        """What the spawner's child reported."""
        with translated():
            return self._process.phases

    def write_stdin(self, data: bytes) -> None:
        """See `Pipes.write`."""
        self._pipes.write(data)

    def output(self) -> tuple[bytes, bytes]:
        """See `Pipes.output`."""
        return self._pipes.output()

    def pids(self) -> Sequence[int]:
        """Everything in its cgroup."""
        return self._cgroup.processes()

    def cgroup_memory(self) -> int | None:
        """What its memory cgroup is charged, bytes."""
        return self._cgroup.memory_current()

    def disk_paths(self) -> Sequence[Path]:
        """Nothing of its own."""
        return ()

    def wait(self, timeout: float) -> Exit | None:
        """Wait for the workload's end. Raises `BackendError` if it never began."""
        deadline = time.monotonic() + timeout
        with translated():
            while (status := self._process.poll()) is None:
                if not self._woken(deadline):
                    return None
        self._pipes.pump()
        used = self._process.rusage
        if used is None:
            return Exit(status)
        return Exit(status, used.ru_utime, used.ru_stime, used.ru_maxrss * 1024)

    def _woken(self, deadline: float) -> bool:
        """Wait for the process's end or for output, and take that: a full pipe would keep a
        workload from ever ending."""
        poller = select.poll()
        poller.register(self._process, select.POLLIN)
        for output in self._pipes.outputs:
            poller.register(output, select.POLLIN)
        ready = [fd for fd, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)]
        self._pipes.pump()
        if self._process.fileno() in ready:
            self._process.wait(0)
        return bool(ready)

    def stop(self) -> None:
        """Kill, wait, remove. Idempotent."""
        if self._stopped:
            return
        with translated():
            self._remove()
        self._pipes.close()
        self._stopped = True

    def _remove(self) -> None:
        raise NotImplementedError
