"""The settings of one virtual machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vm.disk import BaseDisk
from vm.errors import ConfigError
from vm.initramfs import Transport
from vm.job import Job

__all__ = ["Accelerator", "MachineConfig", "MachineType", "transport_of"]

MachineType = Literal["microvm", "q35"]
Accelerator = Literal["tcg", "kvm"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def transport_of(machine: MachineType) -> Transport:
    """Return how the machine type attaches virtio devices, for `build_initramfs`."""
    return "mmio" if machine == "microvm" else "pci"


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """Everything that says what the machine is. Raises ConfigError for what cannot be."""

    name: str
    """QEMU shows it in its process title; unique among the caller's machines."""
    kernel: Path
    """A bzImage, or an ELF kernel with a PVH entry (`Kernel.image` is the faster of the two)."""
    initramfs: Path
    """Made by `build_initramfs` for this kernel and for `transport_of(machine)`."""
    state_dir: Path
    """Made at launch and removed at the end, with all that the machine has on disk."""
    job: Job | None = None
    """None: the guest stops at init and waits."""
    disk: BaseDisk | None = None
    """The guest's /dev/vda: an own copy-on-write overlay over this base."""
    machine: MachineType = "microvm"
    accel: Accelerator = "tcg"
    cpu: str | None = None
    """QEMU's -cpu; None: `vm.command.CPUS`."""
    vcpus: int = 1
    memory: int = 128 * 2**20
    """Bytes."""
    stdin: bool = False
    """Give the workload an input port; otherwise its standard input is /dev/null."""
    console: bool = True
    """Keep the guest's serial console: phase ``kernel``, and the text of a panic."""
    tsc_khz: int | None = None
    """Rate of the guest's time stamp counter under TCG (`vm.tsc.host_tsc_khz`); None lets the
    guest calibrate it, which is slower and fails on a busy host."""
    append: tuple[str, ...] = ()
    """More kernel parameters, after the driver's own."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"not a machine name (letters, digits, . _ -): {self.name!r}")
        if self.vcpus < 1:
            raise ConfigError(f"a machine needs at least one vCPU, not {self.vcpus}")
        if self.memory < 64 * 2**20:
            raise ConfigError(
                f"{self.memory} bytes of memory: the distribution's kernel needs 64 MiB at least"
            )
        if self.job and self.job.root and self.disk is None:
            raise ConfigError(f"the job's root is {self.job.root}, but the machine has no disk")
        for parameter in self.append:
            if not parameter or any(character.isspace() for character in parameter):
                raise ConfigError(f"not one kernel parameter: {parameter!r}")

    @property
    def overlay(self) -> Path:
        """Where the machine's own disk blocks are."""
        return self.state_dir / "disk.qcow2"

    @property
    def log(self) -> Path:
        """QEMU's standard error."""
        return self.state_dir / "qemu.log"
