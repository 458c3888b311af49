"""A driver for QEMU/KVM virtual machines that boot the distribution's kernel directly.

The way of a machine::

    kernel = ensure_kernel(cache)                       # fetched once, never installed
    initramfs = build_initramfs(kernel, "mmio", cache)  # guest init and virtio modules
    base = build_base(tree, digest, cache)              # read-only ext4 from a directory
    verdict = probe(kernel, cache)                      # KVM or TCG, whichever is faster here
    config = MachineConfig(name, kernel.image, initramfs, state_dir, job=Job(argv), disk=base)
    with Machine.launch(config) as machine:
        machine.wait_event(deadline)                    # the workload's own first byte

Useful without the lab. `cache` is always a parameter. Names are imported when first used, so that
``import vm`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vm.accelerator import Attempt as Attempt
    from vm.accelerator import Verdict as Verdict
    from vm.accelerator import probe as probe
    from vm.channel import WorkloadExit as WorkloadExit
    from vm.command import command as command
    from vm.config import MachineConfig as MachineConfig
    from vm.config import transport_of as transport_of
    from vm.disk import BaseDisk as BaseDisk
    from vm.disk import allocated as allocated
    from vm.disk import build_base as build_base
    from vm.errors import ConfigError as ConfigError
    from vm.errors import DiskError as DiskError
    from vm.errors import GuestError as GuestError
    from vm.errors import GuestPanic as GuestPanic
    from vm.errors import InitramfsError as InitramfsError
    from vm.errors import KernelError as KernelError
    from vm.errors import LaunchError as LaunchError
    from vm.errors import MachineError as MachineError
    from vm.errors import NotReady as NotReady
    from vm.errors import QmpError as QmpError
    from vm.errors import StillAlive as StillAlive
    from vm.errors import ToolMissing as ToolMissing
    from vm.errors import Unsupported as Unsupported
    from vm.errors import VmError as VmError
    from vm.initramfs import build_initramfs as build_initramfs
    from vm.job import Job as Job
    from vm.kernel import Kernel as Kernel
    from vm.kernel import cached_kernels as cached_kernels
    from vm.kernel import ensure_kernel as ensure_kernel
    from vm.kernel import fetch_kernel as fetch_kernel
    from vm.machine import Machine as Machine
    from vm.process import Process as Process
    from vm.process import Spawn as Spawn
    from vm.qmp import Qmp as Qmp
    from vm.tsc import host_tsc_khz as host_tsc_khz

_MODULES = {
    "vm.accelerator": ("Attempt", "Verdict", "probe"),
    "vm.channel": ("WorkloadExit",),
    "vm.command": ("command",),
    "vm.config": ("MachineConfig", "transport_of"),
    "vm.disk": ("BaseDisk", "allocated", "build_base"),
    "vm.errors": (
        "ConfigError",
        "DiskError",
        "GuestError",
        "GuestPanic",
        "InitramfsError",
        "KernelError",
        "LaunchError",
        "MachineError",
        "NotReady",
        "QmpError",
        "StillAlive",
        "ToolMissing",
        "Unsupported",
        "VmError",
    ),
    "vm.initramfs": ("build_initramfs",),
    "vm.job": ("Job",),
    "vm.kernel": ("Kernel", "cached_kernels", "ensure_kernel", "fetch_kernel"),
    "vm.machine": ("Machine",),
    "vm.process": ("Process", "Spawn"),
    "vm.qmp": ("Qmp",),
    "vm.tsc": ("host_tsc_khz",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (a list of strings, all the same)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
