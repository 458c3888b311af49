"""The `container` backend: the runtime's own container, from namespaces and an overlay root."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lab.backends.base import Capabilities, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.context import Context
from lab.backends.process import ProcessInstance, root_needed, translated

if TYPE_CHECKING:
    from runtime import Container, ContainerSpec

__all__ = ["ContainerBackend", "ContainerInstance", "ContainerPrepared", "container_spec"]


@dataclass(frozen=True)
class ContainerPrepared(Prepared):
    """`layers` are the image's layer directories, lowest first."""

    layers: tuple[Path, ...] = ()


class ContainerInstance(ProcessInstance):
    """A running `runtime.Container`."""

    def __init__(self, container: Container, pipes: Pipes) -> None:
        assert container.cgroup is not None
        super().__init__(container.spec.name, container.process, container.cgroup, pipes)
        self._container = container

    def phases(self) -> Mapping[str, int]:
        """`cgroup`, `clone`, `mounts`, `exec`."""
        with translated():
            return self._container.phases

    def disk_paths(self) -> Sequence[Path]:
        """Its state directory: the overlay's upper and work directories."""
        return (self._container.spec.state_dir,)

    def _remove(self) -> None:
        self._container.stop()


class ContainerBackend:
    """See the module's text."""

    name = "container"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def __init__(self, context: Context) -> None:
        self._shared = context.shared

    def capabilities(self) -> Capabilities:
        """Root only, for now: mounts and cgroups."""
        return root_needed()

    def prepare(self, workload: Workload) -> ContainerPrepared:
        """Have the image's layers unpacked, and the spawner and the run's cgroup there."""
        with translated():
            image = self._shared.images.ensure(workload.image)
            _ = self._shared.spawner, self._shared.cgroup
        return ContainerPrepared(
            workload,
            image_digest=image.digest,
            factors={
                "kind": "container",
                "kernel": platform.release(),
                "disk": "overlayfs",
                "root": "own overlay, after t0",
                "network": "own namespace",
            },
            shared_paths=tuple(image.layers),
            layers=tuple(image.layers),
        )

    def launch(self, prepared: Prepared, name: str) -> ContainerInstance:
        """Make the pipes, hand the spec to the runtime."""
        from runtime import Container

        assert isinstance(prepared, ContainerPrepared)
        with translated(), contextlib.ExitStack() as undo:
            pipes = Pipes(stdin=prepared.workload.stdin)
            undo.callback(pipes.close)
            spec = container_spec(prepared, name, self._shared.state / name, pipes.child)
            container = Container.launch(spec, self._shared.spawner, parent=self._shared.cgroup)
            undo.pop_all()
        pipes.launched()
        return ContainerInstance(container, pipes)

    def close(self) -> None:
        """Nothing is held."""


def container_spec(
    prepared: ContainerPrepared, name: str, state: Path, fds: Mapping[int, int]
) -> ContainerSpec:
    """The workload in the runtime's words."""
    from runtime import ContainerSpec
    from runtime.spec import Limits

    work = prepared.workload
    return ContainerSpec(
        name=name,
        layers=prepared.layers,
        argv=work.argv,
        env=work.env,
        cwd=work.cwd,
        uid=work.uid,
        gid=work.gid,
        state_dir=state,
        fds=fds,
        limits=Limits(work.limits.cpus, work.limits.memory, work.limits.pids),
    )
