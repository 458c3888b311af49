"""The life of a container: launch, look at it, run more in it, stop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from runtime.capabilities import permitted
from runtime.cgroups import Cgroup, CgroupLayout
from runtime.engine.plan import Plan, container_plan, exec_plan, removal_plan
from runtime.errors import CgroupError, ContainerError, SpawnError, SpecError, StillAlive
from runtime.init import init_fd
from runtime.security.seccomp import compile_profile
from runtime.spawn import Process, Spawner
from runtime.spawn.request import check_process, oci_process
from runtime.spec import ContainerSpec
from runtime.terminal import Terminal

__all__ = ["Container"]


class Container:
    """A running container, made by `launch`, ended by `stop` or by leaving it as a context.

    Its mounts live in its own mount namespace and its processes in its own PID namespace: the
    death of its PID 1 takes both along. What remains to be removed are its cgroup and its state
    directory, both named after it.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        process: Process,
        cgroup: Cgroup | None,
        made_at: int,
        spawner: Spawner | None = None,
    ) -> None:
        self.spec = spec
        self.process = process
        """PID 1 inside, a child of this process outside."""
        self.cgroup = cgroup
        self.unenforced: tuple[str, ...] = () if cgroup is None else cgroup.unenforced
        """Limits that were asked for and that nothing enforces: an ordinary user may have no
        right to any cgroup."""
        self.terminal: Terminal | None = None
        """The other end of its terminal, if it has one."""
        self._made_at = made_at
        self._spawner = spawner
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Container {self.spec.name} {self.process!r}>"

    @classmethod
    def launch(
        cls,
        spec: ContainerSpec,
        spawner: Spawner,
        *,
        layout: CgroupLayout | None = None,
        parent: Cgroup | None = None,
        start: bool = True,
        plan: Plan | None = None,
    ) -> Container:
        """Start it, and return as soon as the request is on its way.

        Its cgroup is made below `parent`, or at the root of `layout` under "isolation-lab", and
        removed at stop; without either there is none, and no limit may be asked for. Without
        `start` everything is made ready, and its program waits for the method `start`. `plan`
        stands for the one that `Container.plan` makes, in tests of failure.

        A failure in the child is raised by `process.started`, `process.wait` and the like; what is
        made before raises SpecError, CgroupError or ContainerError here, and leaves nothing."""
        with ExitStack() as undo:
            cgroup, unenforced = _make_cgroup(spec, layout, parent)
            if cgroup is not None:
                undo.callback(cgroup.remove)
            made_at = time.monotonic_ns()
            _make_state(spec)
            undo.callback(shutil.rmtree, spec.state_dir)
            extra: list[int] = []
            if spec.init:
                extra.append(init_fd())
            ours: socket.socket | None = None
            if spec.terminal is not None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                undo.callback(ours.close)
                undo.enter_context(theirs)
                extra.append(theirs.fileno())
            plan = plan or cls.plan(spec, cgroup, start=start)
            process = spawner.start(plan, spec.fds, extra)
            undo.pop_all()
        container = cls(spec, process, cgroup, made_at, spawner)
        container.unenforced += unenforced
        if ours is not None:
            theirs.close()
            container.terminal = Terminal(ours)
        return container

    @staticmethod
    def plan(spec: ContainerSpec, cgroup: Cgroup | None = None, *, start: bool = True) -> Plan:
        """What a launch would do; `runtime.engine.describe.listing` prints it."""
        overlay = (
            [str(layer) for layer in spec.layers],
            str(spec.upper_dir),
            str(spec.work_dir),
        )
        config = spec.config()
        profile = config["linux"].get("seccomp")
        terminal = -1 if spec.terminal is None else -2  # the last of what is passed on
        return container_plan(
            config,
            str(spec.rootfs),
            overlay=overlay,
            cgroup=cgroup,
            fds=tuple(spec.fds),
            filter_=compile_profile(profile)[:2] if profile else None,
            available=_permitted(),
            rootless=os.geteuid() != 0,
            loopback=spec.loopback,
            wait_for_start=not start,
            die_with_parent=signal.SIGKILL,
            terminal=terminal,
            own_streams=True,
            init=terminal - 1 if spec.init else -1,
        )

    @property
    def pid(self) -> int:
        """The id that its PID 1 has outside."""
        return self.process.pid

    @property
    def phases(self) -> Mapping[str, int]:
        """CLOCK_MONOTONIC nanoseconds of the phases passed so far: `cgroup` (made, with limits),
        `clone` (first instruction inside), `mounts` (file system ready), `exec`."""
        return {"cgroup": self._made_at, **self.process.phases}

    @property
    def upper_dir(self) -> Path:
        """What it has written, the part of its root that is its own."""
        return self.spec.upper_dir

    def start(self) -> None:
        """Let the program run that was held back by `launch(start=False)`. Raises SpawnError if
        the container has failed in its set-up, or if there is nothing to start."""
        self.process.meet("start")
        self.process.go()

    def exec(
        self,
        argv: Iterable[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        groups: tuple[int, ...] = (),
        fds: Mapping[int, int] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> tuple[Process, Terminal | None]:
        """Run a further process in it: in all its namespaces and its cgroup, with its rights.

        What is not given is as in the spec. With `terminal` (rows, columns) its standard streams
        are a new terminal, whose other end comes back beside the process."""
        spec = self.spec
        if self._spawner is None:
            raise SpawnError("this container was not started by a Spawner")
        ids = (spec.uid if uid is None else uid, spec.gid if gid is None else gid, *groups)
        words, variables = tuple(argv), spec.env if env is None else env
        streams = fds or {}
        check_process(words, variables, cwd or spec.cwd, streams, *ids[:2])
        process = oci_process(
            words,
            variables,
            cwd or spec.cwd,
            ids,
            spec.rlimits,
            spec.capabilities,
            spec.no_new_privs,
        )
        if terminal is not None:
            process["consoleSize"] = {"height": terminal[0], "width": terminal[1]}
        config = spec.config()
        profile = config["linux"].get("seccomp")
        plan = exec_plan(
            config,
            process,
            self.pid,
            cgroup=self.cgroup,
            fds=tuple(streams),
            filter_=compile_profile(profile)[:2] if profile else None,
            available=_permitted(),
            rootless=os.geteuid() != 0,
            die_with_parent=signal.SIGKILL,
            terminal=-1 if terminal is None else -2,
            own_streams=True,
        )
        if terminal is None:
            return self._spawner.start(plan, streams), None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            return self._spawner.start(plan, streams, [theirs.fileno()]), Terminal(ours)

    def processes(self) -> tuple[int, ...]:
        """The ids, outside, of all its processes."""
        if self.cgroup is not None:
            return self.cgroup.processes()
        return () if self.process.poll() is not None else (self.pid,)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of its PID 1; see `Process.wait`."""
        return self.process.wait(timeout)

    def kill(self, sig: int) -> None:
        """Send a signal to its PID 1. Only SIGKILL and SIGSTOP arrive without a handler there
        (pid_namespaces(7)), unless that is the small init, which passes all on."""
        self.process.kill(sig)

    def stop(self, timeout: float = 10.0) -> None:
        """End it now and remove everything it had. Idempotent.

        A ladder: SIGKILL to PID 1, on which the kernel kills the rest of its PID namespace; then
        its cgroup, for a process that joined from outside; then the directories. Each rung has
        what is left of `timeout` seconds. Raises StillAlive naming what was left; stopping again
        goes on from there."""
        if self._stopped:
            return
        deadline = time.monotonic() + timeout
        left: list[str] = []
        try:
            self.process.kill()
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            left.append(f"process {self.process.pid}")
        except SpawnError:
            pass  # it never came to run: whoever launched it has been told, or will be by `wait`
        if self.cgroup is not None:
            try:
                self.cgroup.kill(max(0.1, deadline - time.monotonic()))
                self.cgroup.remove(max(0.1, deadline - time.monotonic()))
            except CgroupError as error:
                left.append(str(error))
        if not left:
            self.process.close()
            left += self._remove_state()
        if left:
            raise StillAlive(self.spec.name, left)
        if self.terminal is not None:
            self.terminal.close()
        self._stopped = True

    @staticmethod
    def stop_all(containers: Iterable[Container], timeout: float = 10.0) -> None:
        """Stop many: all are killed before the first is waited for, so that the kernel takes them
        down side by side. Raises StillAlive for all that is left, after trying each."""
        every = [container for container in containers if not container._stopped]
        for container in every:
            try:
                container.process.kill()
            except SpawnError:
                continue  # see `stop`
        left: list[str] = []
        deadline = time.monotonic() + timeout
        for container in every:
            try:
                container.stop(max(0.1, deadline - time.monotonic()))
            except StillAlive as error:
                left += error.left
        if left:
            raise StillAlive(f"{len(every)} containers", left)

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _remove_state(self) -> list[str]:
        spec = self.spec
        try:
            shutil.rmtree(spec.state_dir)
        except FileNotFoundError:
            return []
        except OSError as error:
            if not spec.uid_map or self._spawner is None:
                return [f"directory {spec.state_dir}: {error}"]
        else:
            return []
        # What the container's users own, only its root may remove.
        path = str(spec.state_dir)
        plan = removal_plan(path, spec.uid_map, spec.gid_map, rootless=os.geteuid() != 0)
        try:
            with self._spawner.start(plan, {}) as process:
                process.started()
        except SpawnError as error:
            return [f"directory {path}: {error}"]
        return []


def _make_cgroup(
    spec: ContainerSpec, layout: CgroupLayout | None, parent: Cgroup | None
) -> tuple[Cgroup | None, tuple[str, ...]]:
    """The cgroup, and the limits that nothing enforces because there is none."""
    resources = spec.all_resources()
    limits = tuple(name for name in resources if name != "devices")
    try:
        if parent is not None:
            return parent.child(spec.name, resources=resources), ()
        if layout is not None:
            return Cgroup.create(layout, f"isolation-lab/{spec.name}", resources=resources), ()
    except CgroupError:
        if os.geteuid() == 0:
            raise
        return None, limits  # an ordinary user to whom nothing was delegated
    if limits and os.geteuid() == 0:
        raise SpecError("limits: need a cgroup, pass layout or parent")
    return None, limits


def _make_state(spec: ContainerSpec) -> None:
    try:
        spec.state_dir.mkdir(mode=0o711)
    except FileExistsError as error:
        raise ContainerError(
            f"state directory {spec.state_dir} is there already: another container of that name "
            "runs, or was killed with its parent; remove it or take another name"
        ) from error
    except OSError as error:
        raise ContainerError(f"cannot make state directory {spec.state_dir}: {error}") from error
    for path in (spec.upper_dir, spec.work_dir, spec.rootfs):
        path.mkdir(mode=0o755)


_permitted = lru_cache(maxsize=1)(permitted)
"""What this process itself may use: it does not change."""
