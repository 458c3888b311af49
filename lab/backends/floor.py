"""The references of `lab bench figures`: the same start, made by hand.

`floor-container` is a C program that makes the same system calls as the runtime (`runtime/floor`),
resident like the spawner, launching on request. `floor-vm` is QEMU started from its command line
with the same kernel, initramfs, disk and job: no cgroup, no spawner, no console, nobody watching
phases. They are for the boot experiment only.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab.backends.base import Capabilities, Exit, Prepared, Workload
from lab.backends.channel import Pipes
from lab.backends.container import (
    ContainerBackend,
    ContainerInstance,
    ContainerPrepared,
    container_spec,
)
from lab.backends.context import Context
from lab.backends.process import translated
from lab.backends.vm import VmBackend, VmPrepared, machine_config, prepare_machine
from lab.backends.vm import translated as vm_translated
from lab.errors import BackendError

if TYPE_CHECKING:
    from runtime.floor import Floor
    from vm.process import Process

__all__ = ["FloorContainerBackend", "FloorVmBackend"]

ONLY_BOOT = "a reference for the boot experiment only"


class FloorContainerBackend(ContainerBackend):
    """The C program in the place of the runtime's spawner."""

    name = "floor-container"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._stack = contextlib.ExitStack()

    @cached_property
    def _floor(self) -> Floor:
        from runtime.floor import Floor, build

        return self._stack.enter_context(Floor(build(self._shared.cache / "floor")))

    def capabilities(self) -> Capabilities:
        """Root, and no root file system that a workload could write to."""
        can = super().capabilities()
        return Capabilities(can.available, {**can.missing, "private_root": ONLY_BOOT})

    def prepare(self, workload: Workload) -> ContainerPrepared:
        """As the container, with the program built and running."""
        prepared = super().prepare(workload)
        with translated():
            _ = self._floor
        return prepared

    def launch(self, prepared: Prepared, name: str) -> ContainerInstance:
        """The same spec, to the floor."""
        assert isinstance(prepared, ContainerPrepared)
        with translated(), contextlib.ExitStack() as undo:
            pipes = Pipes(stdin=False, outputs=False)
            undo.callback(pipes.close)
            spec = container_spec(prepared, name, self._shared.state / name, pipes.child)
            container = self._floor.launch(spec, self._shared.cgroup)
            undo.pop_all()
        pipes.launched()
        return ContainerInstance(container, pipes)

    def close(self) -> None:
        """End the program."""
        self._stack.close()


class BareMachine:
    """QEMU as a shell would start it, and the host's end of its event port."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        process: Process,
        links: Mapping[str, socket.socket],
        resources: contextlib.ExitStack,
    ) -> None:
        self.name = name
        self.argv = argv
        self._process = process
        self._resources = resources
        self._events = links["events"]
        self._events.setblocking(False)

    def fileno(self) -> int:
        """The event port's socket."""
        return self._events.fileno()

    def read_events(self) -> bytes | None:
        """What has come."""
        try:
            return self._events.recv(4096) or None
        except BlockingIOError:
            return b""

    def phases(self) -> Mapping[str, int]:
        """Nobody watches."""
        return {}

    def write_stdin(self, data: bytes) -> None:
        """Refused."""
        raise BackendError(f"{self.name}: {ONLY_BOOT}")

    def output(self) -> tuple[bytes, bytes]:
        """Not kept."""
        return b"", b""

    def pids(self) -> Sequence[int]:
        """QEMU."""
        return (self._process.pid,)

    def cgroup_memory(self) -> int | None:
        """It has no cgroup."""
        return None

    def disk_paths(self) -> Sequence[Path]:
        """Not told: the experiment that would ask leaves it out."""
        return ()

    def wait(self, timeout: float) -> Exit | None:
        """The end of QEMU."""
        try:
            return Exit(self._process.wait(timeout))
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Kill it and remove its overlay. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._resources.close()


class FloorVmBackend(VmBackend):
    """See the module's text."""

    name = "floor-vm"

    def capabilities(self) -> Capabilities:
        """As the VM, for boot only."""
        can = super().capabilities()
        return Capabilities(can.available, {**can.missing, "private_root": ONLY_BOOT})

    def prepare(self, workload: Workload) -> VmPrepared:
        """Exactly what the VM has."""
        return prepare_machine(self._shared, self._options, workload)

    def launch(self, prepared: Prepared, name: str) -> BareMachine:  # type: ignore[override]
        """Sockets, overlay, QEMU."""
        from dataclasses import replace

        from vm.command import channels, command
        from vm.job import encode
        from vm.process import spawn

        assert isinstance(prepared, VmPrepared)
        state = self._shared.state / name
        config = replace(machine_config(prepared, name, state), console=False)
        assert config.disk is not None
        assert config.job is not None
        with vm_translated(), contextlib.ExitStack() as mine:
            state.mkdir()
            mine.callback(shutil.rmtree, state)
            config.disk.overlay(config.overlay)
            links: dict[str, socket.socket] = {}
            fds: dict[str, int] = {}
            with contextlib.ExitStack() as qemus:
                for channel in channels(config):
                    ours, its = socket.socketpair()
                    links[channel] = mine.enter_context(ours)
                    fds[channel] = qemus.enter_context(its).fileno()
                links["control"].sendall(encode(config.job))
                argv = command(config, fds)
                # Under setpriv(1), a millisecond: without it, QEMU would outlive a killed lab, and
                # it has no cgroup in which `lab gc` could find it.
                process = spawn(argv, pass_fds=tuple(fds.values()), stderr=subprocess.DEVNULL)
            return BareMachine(name, argv, process, links, mine.pop_all())
