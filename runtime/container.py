"""The life of a container: launch, look at it, stop."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from runtime.capabilities import permitted
from runtime.cgroups import Cgroup, CgroupLayout
from runtime.engine.plan import Plan, container_plan
from runtime.errors import CgroupError, ContainerError, SpawnError, SpecError, StillAlive
from runtime.security.seccomp import compile_profile
from runtime.spawn import Process, Spawner
from runtime.spec import ContainerSpec

__all__ = ["Container"]


class Container:
    """A running container, made by `launch`, ended by `stop` or by leaving it as a context.

    Its mounts live in its own mount namespace and its processes in its own PID namespace: the
    death of its PID 1 takes both along. What remains to be removed are its cgroup and its state
    directory, both named after it.
    """

    def __init__(
        self, spec: ContainerSpec, process: Process, cgroup: Cgroup | None, made_at: int
    ) -> None:
        self.spec = spec
        self.process = process
        """PID 1 inside, a child of this process outside."""
        self.cgroup = cgroup
        self._made_at = made_at
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
    ) -> Container:
        """Start it, and return as soon as the request is on its way.

        Its cgroup is made below `parent`, or at the root of `layout` under "isolation-lab", and
        removed at stop; without either there is none, and no limit may be asked for. A failure
        in the child is raised by `process.started`, `process.wait` and the like; what is made
        before raises SpecError, CgroupError or ContainerError here, and leaves nothing."""
        limits = {
            "cpus": spec.limits.cpus,
            "memory": spec.limits.memory,
            "pids": spec.limits.pids,
        }
        cgroup: Cgroup | None = None
        if parent is not None:
            cgroup = parent.child(spec.name, **limits)  # type: ignore[arg-type]
        elif layout is not None:
            cgroup = Cgroup.create(layout, f"isolation-lab/{spec.name}", **limits)  # type: ignore[arg-type]
        elif any(limit is not None for limit in limits.values()):
            raise SpecError("limits: need a cgroup, pass layout or parent")
        made_at = time.monotonic_ns()
        try:
            _make_state(spec)
            try:
                process = spawner.start(cls.plan(spec, cgroup), spec.fds)
            except BaseException:
                shutil.rmtree(spec.state_dir)
                raise
        except BaseException:
            if cgroup is not None:
                cgroup.remove()
            raise
        return cls(spec, process, cgroup, made_at)

    @staticmethod
    def plan(spec: ContainerSpec, cgroup: Cgroup | None = None) -> Plan:
        """What a launch would do; `runtime.engine.describe.listing` prints it."""
        overlay = (
            [str(layer) for layer in spec.layers],
            str(spec.upper_dir),
            str(spec.work_dir),
        )
        config = spec.config()
        profile = config["linux"].get("seccomp")
        return container_plan(
            config,
            str(spec.rootfs),
            filter_=compile_profile(profile)[:2] if profile else None,
            overlay=overlay,
            cgroup=cgroup,
            fds=tuple(spec.fds),
            available=_permitted(),
            loopback=spec.loopback,
            die_with_parent=signal.SIGKILL,
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
        (pid_namespaces(7))."""
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
            left += _remove_tree(self.spec.state_dir)
        if left:
            raise StillAlive(self.spec.name, left)
        self._stopped = True

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


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


def _remove_tree(path: Path) -> list[str]:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"directory {path}: {error}"]
    return []


_permitted = lru_cache(maxsize=1)(permitted)
"""What this process itself may use: it does not change."""
