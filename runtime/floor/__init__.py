"""The C floor: what the launch of a container costs at the very least.

floor.c makes the same system calls as this runtime. `Floor` keeps it resident, launches on
request as the spawn helper does, and gives a `Container`, so that a benchmark can run both,
interleaved, through one interface.
"""

from __future__ import annotations

import array
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from runtime.cgroups import Cgroup
from runtime.compiled import compiled
from runtime.container import Container
from runtime.engine.plan import Plan
from runtime.engine.process import candidates
from runtime.errors import FloorError, SpecError
from runtime.namespaces import Namespace
from runtime.spawn import Process
from runtime.spec import ContainerSpec

__all__ = ["Floor", "build"]

_SOURCE = Path(__file__).with_name("floor.c")
_FLAGS = ("-O2", "-Wall")


def build(cache: Path) -> Path:
    """Compile floor.c into `cache`, once per source and flags; the path of the binary.

    Raises CompileFailed if there is no C compiler, or with what it said."""
    return compiled(_SOURCE, cache, _FLAGS)


class Floor:
    """A resident floor. Used as a context, in the main thread, like a `Spawner`."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Floor:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [self._binary, "serve", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._control = ours
        if ours.recv(16) != b"ready":
            self.__exit__(None, None, None)
            raise FloorError(f"{self._binary} serve did not come up; see standard error")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
            self._control = self._process = None

    def launch(self, spec: ContainerSpec, parent: Cgroup) -> Container:
        """As `Container.launch`, by the floor. It is simpler: the default namespaces and
        capabilities only, descriptor 3 only, and a failure is on the floor's standard error."""
        if spec.namespaces != Namespace.CONTAINER or set(spec.fds) != {3}:
            raise SpecError("the floor knows the default namespaces and descriptor 3 only")
        if self._control is None:
            raise FloorError("this Floor is not open: use it as a context")
        cgroup = Cgroup.adopt(parent.layout, f"{parent.path}/{spec.name}")
        message = b"\0".join(word.encode() for pair in _tokens(spec, cgroup) for word in pair)
        made_at = time.monotonic_ns()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = array.array("i", [theirs.fileno(), spec.fds[3]])
            self._control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        return Container(spec, Process(Plan(spec.argv), ours), cgroup, made_at)


def _tokens(spec: ContainerSpec, cgroup: Cgroup) -> Iterator[tuple[str, ...]]:
    """The launch in floor.c's words."""
    for directory in cgroup.directories:
        yield "mkdir", directory
    limits = spec.limits
    for path, text in cgroup.limit_files(cpus=limits.cpus, memory=limits.memory, pids=limits.pids):
        if os.path.basename(path) != "memory.swap.max":  # noqa: PTH119 - not on every kernel
            yield "write", path, text
    for made in (spec.state_dir, spec.upper_dir, spec.work_dir, spec.rootfs):
        yield "mkdir", str(made)
    if cgroup.into:
        yield "into", cgroup.into
    for directory in cgroup.join:
        yield "join", f"{directory}/tasks"  # as runtime/engine/plan.py does, and why
    yield "lower", ":".join(str(layer) for layer in reversed(spec.layers))
    yield "state", str(spec.state_dir)
    yield "hostname", spec.hostname or spec.name
    yield "cwd", spec.cwd
    yield "uid", str(spec.uid)
    yield "gid", str(spec.gid)
    for name, value in spec.env.items():
        yield "env", f"{name}={value}"
    program = candidates(spec.argv[0], dict(spec.env))
    for word in (_found(spec, program), *spec.argv[1:]):
        yield "arg", word


def _found(spec: ContainerSpec, candidates: tuple[str, ...]) -> str:
    """The first candidate that a layer has: the floor does not search PATH."""
    for path in candidates:
        if any(os.path.lexists(f"{layer}{path}") for layer in spec.layers):
            return path
    return candidates[0]
