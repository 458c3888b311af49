"""An instance whose container another program has made: that program is a child of the lab, the
workload is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.backends.base import Exit
from lab.backends.channel import Pipes
from lab.backends.context import cgroup_folders, remove_cgroup_folders
from lab.backends.process import ProcessGroup, ProcessInstance
from lab.errors import BackendError

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup, CgroupLayout
    from runtime.spawn import Process

__all__ = ["Group", "PeerInstance", "make_folder"]

_PATIENCE_S = 10.0
_AGAIN_S = 0.05
"""How soon a program that does not end is looked at again: its container may have come to be."""


@dataclass(frozen=True)
class Group:
    """A cgroup that another program makes and removes, by its path from the mount points."""

    layout: CgroupLayout
    path: str

    def processes(self) -> tuple[int, ...]:
        """All in it and below it."""
        return self._found().processes()

    def memory_current(self) -> int | None:
        """Bytes that it is charged, or None while it is not there."""
        try:
            return self._found().memory_current()
        except OSError:
            return None

    def kill(self, timeout: float) -> None:
        """SIGKILL to all."""
        if cgroup_folders(self.path):
            self._found().kill(timeout)

    def remove(self) -> None:
        """What its maker has left of it."""
        remove_cgroup_folders(self.path)

    def _found(self) -> Cgroup:
        from runtime.cgroups import Cgroup

        # Each time anew: which hierarchies it is in shows when it has been made.
        return Cgroup.adopt(self.layout, f"/{self.path}")


class PeerInstance(ProcessInstance):
    """The program that was called, the cgroup in which it puts the container, and the folders of
    the two: the first is the instance's own, a program that was killed may have left the others.

    `failure` is given the program's exit status and standard error, and says why it could not do
    its work: nothing, if the workload ran and the status is its own."""

    def __init__(
        self,
        name: str,
        process: Process,
        group: ProcessGroup,
        pipes: Pipes,
        *,
        folders: Sequence[Path],
        marks: Mapping[str, int],
        failure: Callable[[int, bytes], str],
    ) -> None:
        super().__init__(name, process, group, pipes)
        self._folders = folders
        self._marks = marks
        self._failure = failure

    def phases(self) -> Mapping[str, int]:
        """What the backend did itself, and `process`: just before the program's execve(2)."""
        marks = super().phases()
        return {**self._marks, **({"process": marks["exec"]} if "exec" in marks else {})}

    def pids(self) -> Sequence[int]:
        """The container's, and the program that stays with it."""
        own = () if self._process.poll() is not None else (self._process.pid,)
        return tuple(sorted({*own, *super().pids()}))

    def disk_paths(self) -> Sequence[Path]:
        """What the backend has made for it."""
        return self._folders[:1]

    def wait(self, timeout: float) -> Exit | None:
        """Wait for the program's end. Raises `BackendError` if it could not start the workload."""
        end = super().wait(timeout)
        if end is not None and end.status and not self._stopped:
            err = self._pipes.output()[1]
            if said := self._failure(end.status, err):
                raise BackendError(
                    f"{self.name}: {said}",
                    argv=tuple(self.argv),
                    log_tail=err.decode(errors="replace"),
                )
        return end

    def _remove(self) -> None:
        from runtime.errors import SpawnError

        with contextlib.suppress(SpawnError):  # who waited for it has been told
            self._end()
        self._cgroup.kill(_PATIENCE_S)
        self._process.close()
        self._cgroup.remove()
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def _end(self) -> None:
        """Kill the container and not the program, which then ends by itself, having waited for its
        child and cleaned up. Again and again, for it may not have come to make the container; and
        at last the program itself."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None:
            for pid in self._cgroup.processes():
                if pid != self._process.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            try:
                self._process.wait(_AGAIN_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    self._process.kill()
                    self._process.wait(_PATIENCE_S)


def make_folder(folder: Path) -> None:
    """An instance's own. Raises `BackendError` if another one has it."""
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise BackendError(f"{folder}: is there already: an instance of that name") from error
