"""The `native` backend: a plain process, the baseline of every comparison.

No namespace and no isolation: the image's tree is its root directory by chroot(2), so that the same
bits run as everywhere, and a cgroup holds it to the same limits. It shares the tree, with /dev,
/proc and /sys (`lab.backends.stage`), with all others; only a workload that writes to its root gets
a copy of its own, a full one, since a plain process knows no other way.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lab.backends.base import Capabilities, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.context import Context
from lab.backends.process import ProcessInstance, root_needed, translated
from lab.backends.stage import Stage, furnish
from lab.errors import BackendError

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.spawn import Process

__all__ = ["NativeBackend"]


@dataclass(frozen=True)
class NativePrepared(Prepared):
    """`tree` is the image's file system as one directory, `root` the same with what a process
    needs around it."""

    tree: Path = Path("/")
    root: str = "/"


class NativeInstance(ProcessInstance):
    """A process with another root directory."""

    def __init__(
        self,
        name: str,
        process: Process,
        cgroup: Cgroup,
        pipes: Pipes,
        marks: Mapping[str, int],
        own: Path | None,
    ) -> None:
        super().__init__(name, process, cgroup, pipes)
        self._marks = marks
        self._own = own

    def phases(self) -> Mapping[str, int]:
        """`copy` if it has a root of its own, `cgroup`, then what the child reported."""
        return {**self._marks, **super().phases()}

    def disk_paths(self) -> Sequence[Path]:
        """Its own copy of the tree, if it has one."""
        return () if self._own is None else (self._own,)

    def _remove(self) -> None:
        from runtime.errors import SpawnError

        # One that never came to run has told why already: to whoever waited for it.
        with contextlib.suppress(SpawnError):
            self._process.kill()
            self._process.wait(10)
        self._cgroup.kill(10)
        self._process.close()
        self._cgroup.remove()
        if self._own is not None:
            shutil.rmtree(self._own)


class NativeBackend:
    """See the module's text."""

    name = "native"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._shared = context.shared
        self._stages: dict[Path, Stage] = {}
        self._stack = contextlib.ExitStack()

    def capabilities(self) -> Capabilities:
        """Root only: chroot and cgroups."""
        return root_needed()

    def prepare(self, workload: Workload) -> Prepared:
        """Have the image's tree in one directory, and the stage there."""
        with translated():
            image = self._shared.images.ensure(workload.image)
            tree = self._shared.images.flatten(image)
            if tree not in self._stages:
                stage = Stage(self._shared, tree, f"{self.name}-stage-{len(self._stages)}")
                self._stages[tree] = self._stack.enter_context(stage)
        return NativePrepared(
            workload,
            image_digest=image.digest,
            factors={
                "kind": "process",
                "kernel": _kernel(),
                "disk": "full copy" if workload.writes_root else "shared tree",
                "network": "host",
            },
            shared_paths=(tree,),
            tree=tree,
            root=self._stages[tree].root,
        )

    def launch(self, prepared: Prepared, name: str) -> NativeInstance:
        """Copy if needed, make the cgroup, start."""
        assert isinstance(prepared, NativePrepared)
        from runtime.spawn import Request

        work = prepared.workload
        marks: dict[str, int] = {}
        own: Path | None = None
        with translated(), contextlib.ExitStack() as undo:
            if work.writes_root:
                own = self._shared.state / name
                _copy(prepared.tree, own)
                undo.callback(shutil.rmtree, own)
                marks["copy"] = time.monotonic_ns()
            cgroup = self._shared.cgroup.child(
                name, cpus=work.limits.cpus, memory=work.limits.memory, pids=work.limits.pids
            )
            undo.callback(cgroup.remove)
            marks["cgroup"] = time.monotonic_ns()
            pipes = Pipes(stdin=work.stdin)
            undo.callback(pipes.close)
            process = self._shared.spawner.spawn(
                Request(
                    argv=work.argv,
                    env=work.env,
                    cwd=work.cwd,
                    fds=pipes.child,
                    cgroup=cgroup,
                    before=() if own is None else furnish(own),
                    root=prepared.root if own is None else str(own),
                    uid=work.uid,
                    gid=work.gid,
                )
            )
            undo.pop_all()
        pipes.launched()
        return NativeInstance(name, process, cgroup, pipes, marks, own)

    def close(self) -> None:
        """End the stages."""
        self._stack.close()
        self._stages.clear()


def _kernel() -> str:
    import platform

    return platform.release()


def _copy(tree: Path, target: Path) -> None:
    """A full copy with owners, modes, links and devices; no reflinks, which would share blocks."""
    command = ["cp", "-a", "--reflink=never", f"{tree}/.", str(target)]
    target.mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(target)
        raise BackendError(
            f"{target}: the tree cannot be copied: {done.stderr.strip()}", argv=tuple(command)
        )
