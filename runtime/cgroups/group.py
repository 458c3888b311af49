"""One cgroup: a directory of the same path in each hierarchy that it needs."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from runtime.cgroups.layout import CgroupLayout
from runtime.errors import CgroupError, ControllerMissing, SpecError

__all__ = ["Cgroup"]

_PERIOD_US = 100_000
"""The CFS period: the kernel's own default (Documentation/scheduler/sched-bwc.rst)."""

_WANTED = ("cpu", "memory", "pids")
_IN_USE = (errno.EBUSY, errno.ENOTEMPTY)


class Cgroup:
    """Made by `create` or `child`, ended by `remove`.

    Whoever makes many of them under one parent makes the parent first, as an object of its own,
    and the children by its `child`: a cgroup removes just the directories that it made itself.
    """

    def __init__(
        self,
        layout: CgroupLayout,
        path: str,
        directories: tuple[str, ...],
        made: tuple[str, ...],
        unenforced: tuple[str, ...],
    ) -> None:
        self.layout = layout
        self.path = path
        """Relative to each hierarchy's root: ``lab/<run>/<instance>``."""
        self.directories = directories
        """Its directories, the unified hierarchy's first if there is one."""
        self.unenforced = unenforced
        """Limits that were asked for and that nothing here enforces; only with strict=False."""
        self._made = made
        self._v2 = directories[0] if layout.v2 is not None and directories else None

    def __repr__(self) -> str:
        return f"<Cgroup {self.path} in {len(self.directories)} hierarchies>"

    @classmethod
    def create(
        cls,
        layout: CgroupLayout,
        path: str,
        *,
        cpus: float | None = None,
        memory: int | None = None,
        pids: int | None = None,
        strict: bool = True,
    ) -> Cgroup:
        """Make it, parents included, and set its limits: CPUs, bytes, tasks.

        Raises ControllerMissing for a limit whose controller is nowhere (with `strict`; else it
        stands in `unenforced`), CgroupError if the kernel refuses, FileExistsError's CgroupError
        if the cgroup is there already: two users would share its limits."""
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") for part in parts):
            raise SpecError(f"cgroup path {path!r}: give a relative path such as lab/run/name")
        limits = _limits(cpus, memory, pids)
        missing = tuple(name for name in limits if layout.where(name) is None)
        if missing and strict:
            raise ControllerMissing(missing, layout.describe())
        made: list[str] = []
        directories = tuple(f"{root}/{path}" for root in _roots(layout))
        try:
            for root in _roots(layout):
                _make(layout, root, parts, made)
            group = cls(layout, path, directories, tuple(made), missing)
            group._write_limits(group.limit_files(cpus=cpus, memory=memory, pids=pids))
        except OSError as error:
            for directory in reversed(made):
                Path(directory).rmdir()
            raise _refused(path, error) from error
        return group

    def child(
        self,
        name: str,
        *,
        cpus: float | None = None,
        memory: int | None = None,
        pids: int | None = None,
        strict: bool = True,
    ) -> Cgroup:
        """A cgroup below this one; see `create` for limits and errors."""
        path = f"{self.path}/{name}"
        return self.create(self.layout, path, cpus=cpus, memory=memory, pids=pids, strict=strict)

    @property
    def into(self) -> str | None:
        """The directory for clone3's CLONE_INTO_CGROUP, or None without a unified hierarchy."""
        return self._v2

    @property
    def join(self) -> tuple[str, ...]:
        """The directories that a process enters by writing itself to cgroup.procs."""
        return self.directories[1:] if self._v2 else self.directories

    def memory_current(self) -> int | None:
        """Bytes charged to it now, descendants included; None without a memory controller."""
        directory = self._directory("memory")
        if directory is None:
            return None
        name = "memory.current" if directory == self._v2 else "memory.usage_in_bytes"
        return int(Path(directory, name).read_text())

    def processes(self) -> tuple[int, ...]:
        """Ids of the processes in it and below it, ascending; zombies may be among them."""
        found: set[int] = set()
        for directory in self.directories:
            for folder, _, _ in os.walk(directory):
                try:
                    found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
                except (FileNotFoundError, OSError) as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):
                        raise  # those two: the cgroup went away under our feet
        found.discard(0)  # a process outside our PID namespace
        return tuple(sorted(found))

    def freeze(self, frozen: bool = True) -> None:
        """Stop all its processes, or let them go on. Asynchronous, as the kernel's is.

        Raises CgroupError where there is neither a v2 tree nor the v1 freezer."""
        if self._v2:
            self._control(self._v2, "cgroup.freeze", str(int(frozen)))
        elif (directory := self._directory("freezer")) is not None:
            self._control(directory, "freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            raise ControllerMissing(["freezer"], self.layout.describe())

    def kill(self, timeout: float = 5.0) -> None:
        """SIGKILL to every process in it and below it, until there is none.

        One write where the kernel has cgroup.kill (Linux 5.14), which no fork can outrun; else a
        loop. Raises CgroupError naming the processes that are left after `timeout` seconds."""
        if self._v2 and Path(self._v2, "cgroup.kill").exists():
            self._control(self._v2, "cgroup.kill", "1")
        deadline = time.monotonic() + timeout
        while left := _living(self.processes()):
            if time.monotonic() > deadline:
                raise CgroupError(
                    f"cgroup {self.path}: {len(left)} processes still alive {timeout:g} s after "
                    f"SIGKILL: {left[:10]}; look at /proc/PID/stack"
                )
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.001)

    def remove(self, timeout: float = 5.0) -> None:
        """Remove its directories, then the parents that it made and nobody else uses. Idempotent.

        Raises CgroupError, naming the processes, if it is still in use after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        for directory in self.directories:
            _remove(directory, self.path, deadline, self.processes)
        parents = (directory for directory in self._made if directory not in self.directories)
        for directory in sorted(parents, key=len, reverse=True):
            try:
                Path(directory).rmdir()
            except OSError as error:
                if error.errno not in (*_IN_USE, errno.ENOENT):
                    raise _refused(self.path, error) from error

    def _directory(self, controller: str) -> str | None:
        root = self.layout.where(controller)
        directory = f"{root}/{self.path}"
        return directory if root is not None and directory in self.directories else None

    def _control(self, directory: str, name: str, value: str) -> None:
        try:
            _write(f"{directory}/{name}", value)
        except OSError as error:
            raise _refused(self.path, error) from error

    @classmethod
    def adopt(cls, layout: CgroupLayout, path: str) -> Cgroup:
        """The handle of a cgroup that another process makes or has made; `remove` then removes
        its directories, but no parents."""
        directories = tuple(f"{root}/{path}" for root in _roots(layout))
        return cls(layout, path, directories, (), ())

    def limit_files(
        self, *, cpus: float | None = None, memory: int | None = None, pids: int | None = None
    ) -> Iterable[tuple[str, str]]:
        """Paths and texts of the control files that set these limits here."""
        for name, value in _limits(cpus, memory, pids).items():
            directory = self._directory(name)
            if directory is not None:
                files = _v2_files if directory == self._v2 else _v1_files
                for file, text in files(name, value):
                    yield f"{directory}/{file}", text

    def _write_limits(self, files: Iterable[tuple[str, str]]) -> None:
        for path, text in files:
            try:
                _write(path, text)
            except OSError:
                # A kernel without swap accounting lacks these two; there is no swap to limit.
                if not path.endswith(("/memory.swap.max", "/memory.memsw.limit_in_bytes")):
                    raise


def _limits(cpus: float | None, memory: int | None, pids: int | None) -> dict[str, float]:
    """The limits that were given, by controller. Raises SpecError for impossible ones."""
    if cpus is not None and cpus * _PERIOD_US < 1000:
        raise SpecError(f"cpus: {cpus:g} is less than 0.01, the least that the scheduler takes")
    for name, value in (("memory", memory), ("pids", pids)):
        if value is not None and value < 1:
            raise SpecError(f"{name}: {value} is not positive")
    given = zip(_WANTED, (cpus, memory, pids), strict=True)
    return {name: value for name, value in given if value is not None}


def _v2_files(controller: str, value: float) -> Iterable[tuple[str, str]]:
    """Documentation/admin-guide/cgroup-v2.rst."""
    if controller == "cpu":
        yield "cpu.max", f"{round(value * _PERIOD_US)} {_PERIOD_US}"
    elif controller == "memory":
        yield "memory.max", str(int(value))
        yield "memory.swap.max", "0"
    else:
        yield "pids.max", str(int(value))


def _v1_files(controller: str, value: float) -> Iterable[tuple[str, str]]:
    """Documentation/admin-guide/cgroup-v1/. memsw counts memory and swap together: the same
    value means no swap, and it may not be below the memory limit, so it comes second."""
    if controller == "cpu":
        yield "cpu.cfs_quota_us", str(round(value * _PERIOD_US))
    elif controller == "memory":
        yield "memory.limit_in_bytes", str(int(value))
        yield "memory.memsw.limit_in_bytes", str(int(value))
    else:
        yield "pids.max", str(int(value))


def _roots(layout: CgroupLayout) -> tuple[str, ...]:
    """The hierarchies that a cgroup has a directory in, the unified one first: it brings
    clone3's CLONE_INTO_CGROUP and cgroup.kill even where its controllers are elsewhere. Without
    it the v1 freezer is taken along."""
    names = _WANTED if layout.v2 is not None else (*_WANTED, "freezer")
    paths = [layout.v2, *(layout.where(name) for name in names)]
    return tuple(dict.fromkeys(str(path) for path in paths if path is not None))


def _make(layout: CgroupLayout, root: str, parts: list[str], made: list[str]) -> None:
    """mkdir -p; on v2, each level first hands the controllers down to the next (cgroups(7),
    "Cgroups v2 subtree control"). The last level must be new."""
    wanted = layout.v2_controllers.intersection(_WANTED) if root == str(layout.v2) else frozenset()
    directory = root
    for depth, part in enumerate(parts, 1):
        if wanted:
            _delegate(directory, wanted)
        directory = f"{directory}/{part}"
        try:
            os.mkdir(directory)  # noqa: PTH102 - in the timed path of every launch
        except FileExistsError:
            if depth == len(parts):
                raise
        else:
            made.append(directory)


def _delegate(directory: str, wanted: frozenset[str]) -> None:
    path = f"{directory}/cgroup.subtree_control"
    with open(path) as file:
        missing = wanted.difference(file.read().split())
    if missing:
        _write(path, " ".join(f"+{name}" for name in sorted(missing)))


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    except OSError as error:  # os.write does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def _remove(directory: str, name: str, deadline: float, processes: object) -> None:
    """rmdir, again while the last process is still on its way out."""
    pause = 0.0005
    while True:
        try:
            Path(directory).rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _IN_USE:
                raise _refused(name, error) from error
            if time.monotonic() > deadline:
                left = processes() if callable(processes) else ()
                raise CgroupError(
                    f"cannot remove cgroup {directory}: still in use by processes {left}, or it "
                    "has cgroups below it"
                ) from error
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        else:
            return


def _living(pids: Iterable[int]) -> list[int]:
    """Those that are not zombies: a zombie is for its parent to reap, and holds nothing."""
    living = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            living.append(pid)
    return living


def _refused(path: str, error: OSError) -> CgroupError:
    hints = {
        errno.EBUSY: "a v2 cgroup with processes cannot hand controllers down: in a container, "
        "move its processes from the cgroup root into a leaf first",
        errno.EROFS: "the cgroup file system is read-only: run privileged, or remount it",
        errno.EACCES: "needs root or a delegated cgroup",
        errno.EEXIST: "another instance of that name is there: remove it, or take another name",
    }
    advice = hints.get(error.errno or 0, "see dmesg and cgroups(7)")
    return CgroupError(f"cgroup {path}: {error.filename}: {error.strerror}; {advice}")
