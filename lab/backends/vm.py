"""The `vm` backend: a virtual machine in QEMU, with the distribution's kernel booted directly.

The guest's disk is a read-only base made from the image's tree and a copy-on-write overlay for each
instance; the guest's init runs the workload and nothing else. QEMU is started by the same spawner
as processes and containers, in a cgroup that accounts for it and does not limit it: what the guest
may take is the machine's memory and vCPUs, and a cgroup in the guest limits the workload's tasks.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lab.backends.base import Capabilities, Exit, Prepared, Workload
from lab.backends.context import Context, Shared
from lab.backends.process import root_needed
from lab.backends.process import translated as runtime_translated
from lab.errors import BackendError, StillAlive

if TYPE_CHECKING:
    from runtime.cgroups import Cgroup
    from runtime.spawn import Process
    from vm import Machine, MachineConfig
    from vm.config import MachineType

__all__ = ["VmBackend", "VmPrepared", "machine_config", "prepare_machine"]


@dataclass(frozen=True)
class VmPrepared(Prepared):
    """`settings` are the `vm.MachineConfig` of every instance, but for its name and state."""

    settings: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as the lab's."""
    from vm import errors

    try:
        yield
    except errors.StillAlive as error:
        raise StillAlive(str(error)) from error
    except errors.MachineError as error:
        what = f"{error.name}: {error.args[0]}" if error.name else str(error.args[0])
        tail = f"{error.output}\n{error.console}".strip()
        raise BackendError(what, argv=error.argv, log_tail=tail[-4096:]) from error
    except errors.VmError as error:
        raise BackendError(str(error)) from error


class VmInstance:
    """A running `vm.Machine` and what it was started with."""

    def __init__(self, machine: Machine, cgroup: Cgroup, resources: ExitStack) -> None:
        self.name = machine.config.name
        self.argv: Sequence[str] = machine.argv
        self._machine = machine
        self._cgroup = cgroup
        self._resources = resources

    def fileno(self) -> int:
        """The machine's epoll instance."""
        return self._machine.fileno()

    def read_events(self) -> bytes | None:
        """Bytes of the guest's event port. Raises `BackendError` with QEMU's last words."""
        with translated():
            events = self._machine.read_events()
        if not events and self._machine.exit is not None:
            return None  # the port stays open, but whoever wrote there has ended
        return events

    def phases(self) -> Mapping[str, int]:
        """`process`, `kernel`, `init`."""
        return self._machine.phases()

    def write_stdin(self, data: bytes) -> None:
        """To the guest's input port."""
        with translated():
            self._machine.write_stdin(data)

    def output(self) -> tuple[bytes, bytes]:
        """What came through the guest's output ports."""
        return self._machine.output()

    def pids(self) -> Sequence[int]:
        """QEMU, and whatever it may have started."""
        return self._cgroup.processes()

    def cgroup_memory(self) -> int | None:
        """What QEMU's cgroup is charged, guest memory included, bytes."""
        return self._cgroup.memory_current()

    def disk_paths(self) -> Sequence[Path]:
        """The overlay."""
        return self._machine.disk_paths()

    def wait(self, timeout: float) -> Exit | None:
        """Wait for the workload's end in the guest."""
        with translated():
            end = self._machine.wait(timeout)
        if end is None:
            return None
        return Exit(end.status, end.user_s, end.system_s, end.max_rss)

    def stop(self) -> None:
        """Kill QEMU, which is how a guest that has nothing to save ends soonest. Idempotent."""
        with translated():
            self._machine.kill()
        with runtime_translated():
            self._cgroup.kill(10)
            self._resources.close()


class VmBackend:
    """See the module's text."""

    name = "vm"
    options: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {
            "machine": ("microvm", "q35"),
            "accel": ("auto", "kvm", "tcg"),
            "kernel_format": ("vmlinux", "bzimage"),
        }
    )

    def __init__(self, context: Context) -> None:
        self._shared = context.shared
        self._options = context.options

    def capabilities(self) -> Capabilities:
        """Root for the cgroup, and QEMU."""
        if shutil.which("qemu-system-x86_64") is None:
            why = "qemu-system-x86_64 is not installed (package qemu-system-x86)"
            return Capabilities(False, {"available": why})
        return root_needed()

    def prepare(self, workload: Workload) -> VmPrepared:
        """Kernel, initramfs, base disk, and which accelerator is the faster one here."""
        return prepare_machine(self._shared, self._options, workload)

    def launch(self, prepared: Prepared, name: str) -> VmInstance:
        """Make the cgroup and start QEMU in it."""
        from vm import Machine

        assert isinstance(prepared, VmPrepared)
        with ExitStack() as mine, runtime_translated(), translated():
            cgroup = self._shared.cgroup.child(name)
            mine.callback(cgroup.remove)
            config = machine_config(prepared, name, self._shared.state / name)
            machine = Machine.launch(config, spawn=_Spawn(self._shared, cgroup, mine))
            return VmInstance(machine, cgroup, mine.pop_all())

    def close(self) -> None:
        """Nothing is held."""


class _Spawn:
    """`vm.process.Spawn` through the lab's spawner, into a cgroup. `resources` closes the process:
    the driver, which takes any process, cannot know that this one has descriptors."""

    def __init__(self, shared: Shared, cgroup: Cgroup, resources: ExitStack) -> None:
        self._shared = shared
        self._cgroup = cgroup
        self._resources = resources

    def __call__(self, argv: Sequence[str], *, pass_fds: Sequence[int], stderr: int) -> Process:
        from runtime.spawn import Request

        request = Request(
            argv=tuple(argv),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            fds={**{fd: fd for fd in pass_fds}, 2: stderr},
            cgroup=self._cgroup,
        )
        process = self._shared.spawner.spawn(request)
        self._resources.callback(process.close)
        return process


def machine_config(prepared: VmPrepared, name: str, state: Path) -> MachineConfig:
    """The configuration of one instance."""
    from vm import Job, MachineConfig

    work = prepared.workload
    job = Job(
        argv=work.argv,
        env=work.env,
        cwd=work.cwd,
        uid=work.uid,
        gid=work.gid,
        hostname=name,
        tasks=work.limits.pids,
    )
    return MachineConfig(name=name, state_dir=state, job=job, stdin=work.stdin, **prepared.settings)


def prepare_machine(shared: Shared, options: Mapping[str, str], workload: Workload) -> VmPrepared:
    """Everything of a machine that is made once: shared with the bare-QEMU reference."""
    import vm
    from vm.tsc import host_tsc_khz

    machine: MachineType = "q35" if options.get("machine") == "q35" else "microvm"
    with runtime_translated():
        image = shared.images.ensure(workload.image)
        tree = shared.images.flatten(image)
        _ = shared.spawner, shared.cgroup
    with translated():
        kernel = vm.ensure_kernel(shared.cache)
        base = vm.build_base(tree, image.digest, shared.cache)
        initramfs = vm.build_initramfs(kernel, vm.transport_of(machine), shared.cache)
        accel, cpu = _accelerator(options.get("accel", "auto"), kernel, shared.cache)
    kernel_file = kernel.vmlinuz if options.get("kernel_format") == "bzimage" else kernel.image
    vcpus = math.ceil(workload.limits.cpus)
    return VmPrepared(
        workload,
        image_digest=image.digest,
        factors={
            "kind": "vm",
            "kernel": kernel.release,
            "kernel_format": kernel_file.name,
            "accelerator": accel,
            "cpu_model": cpu,
            "machine": machine,
            "vcpus": vcpus,
            "disk": "virtio-blk, qcow2 over raw ext4",
            "network": "none",
        },
        limits=replace(workload.limits, cpus=vcpus),
        shared_paths=(base.path,),
        settings={
            "kernel": kernel_file,
            "initramfs": initramfs,
            "disk": base,
            "machine": machine,
            "accel": accel,
            "cpu": cpu,
            "vcpus": vcpus,
            "memory": workload.limits.memory,
            "tsc_khz": host_tsc_khz(),
        },
    )


def _accelerator(wanted: str, kernel: Any, cache: Path) -> tuple[str, str]:
    """The accelerator and CPU model: the faster ones by measurement, or those asked for."""
    from vm import probe
    from vm.accelerator import KVM_CPUS

    if wanted == "tcg":
        return "tcg", "max"
    verdict = probe(kernel, cache)
    if wanted in {"auto", verdict.accel}:
        return verdict.accel, verdict.cpu
    working = [a.cpu for a in verdict.attempts if a.accel == "kvm" and a.seconds is not None]
    return "kvm", (working or list(KVM_CPUS))[0]
