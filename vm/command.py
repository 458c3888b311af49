"""From a machine configuration to QEMU's argument vector; pure, so that tests need no QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vm.config import Accelerator, MachineConfig, transport_of

__all__ = ["CPUS", "QEMU", "channels", "command", "escape", "kernel_parameters", "ports"]

QEMU = "qemu-system-x86_64"

CPUS: dict[Accelerator, str] = {"tcg": "max,erms=off", "kvm": "host"}
"""The -cpu for each accelerator, unless the configuration names one.

Without ERMS under TCG: with it the kernel clears and copies memory by ``rep stosb``/``rep movsb``,
which TCG does a byte at a time. −0.15 s (1.47 → 1.32, fastest of 9 each, interleaved)."""

_PORTS = ("events", "stdout", "stderr")


def ports(config: MachineConfig) -> tuple[str, ...]:
    """Return the guest's virtio-serial ports in port order; control is last (see init.c)."""
    return (*_PORTS, *(("stdin",) if config.stdin else ()), "control")


def channels(config: MachineConfig) -> tuple[str, ...]:
    """Return every channel between this process and QEMU: each needs a descriptor."""
    return ("qmp", *(("console",) if config.console else ()), *ports(config))


def command(config: MachineConfig, fds: Mapping[str, int]) -> list[str]:
    """Return QEMU's argument vector. `fds` maps each of `channels(config)` to the descriptor of
    QEMU's end, as numbered in QEMU: of a socket pair, or for ``console`` of a pipe to write to.
    """
    argv = [
        QEMU,
        *("-name", config.name),
        # Nothing that we did not ask for: no default devices, no files of the user's.
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        # A guest that resets (init's way to end it, and a panic's) ends QEMU.
        "-no-reboot",
        *("-machine", _machine(config)),
        *("-accel", config.accel),
        *("-cpu", config.cpu or CPUS[config.accel]),
        *("-smp", str(config.vcpus)),
        *("-m", f"{config.memory}B"),
        *("-kernel", str(config.kernel)),
        *("-initrd", str(config.initramfs)),
        *("-append", " ".join(kernel_parameters(config))),
        *_socket("qmp", fds),
        *("-mon", "chardev=qmp,mode=control"),
    ]
    if config.console:
        argv += [
            # A pipe, passed as a file (vm.machine says why no socket); append=on, because QEMU
            # would truncate it otherwise, which a pipe refuses.
            *("-add-fd", f"fd={fds['console']},set=1"),
            *("-chardev", "file,id=console,path=/dev/fdset/1,append=on"),
            *("-serial", "chardev:console"),
        ]
    if config.disk is not None:
        argv += _disk(config)
    return argv + _serial(config, fds)


def escape(text: str | Path) -> str:
    """Return `text` as a value inside a QEMU option: a comma is doubled (qemu(1), "-drive")."""
    return str(text).replace(",", ",,")


def kernel_parameters(config: MachineConfig) -> list[str]:
    """Return the guest kernel's command line.

    Figures: seconds of a boot to ready, Debian 6.1 cloud kernel, microvm, TCG;
    `tests/integration/vm/measure.py` takes them again. Tried and left out, because they changed
    nothing that could be measured: lsm=, audit=0, no_timer_check, 8250.nr_uarts, expedited RCU,
    init_on_alloc=0 (and that one would weaken the guest).
    """
    parameters = [
        # A panic resets at once, and -no-reboot makes that QEMU's end; by triple fault, because
        # microvm has no keyboard controller to ask.
        "panic=-1",
        "reboot=t",
        # The crypto API tests each algorithm against known answers when it is registered: −0.33 s.
        # Those are checks of the kernel's build, not a mitigation.
        "cryptomgr.notests=1",
    ]
    if config.accel == "tcg" and config.tsc_khz is not None:
        # The guest's TSC is the host's. Its own calibration busy-waits on the PIT, and fails when
        # the host preempts QEMU meanwhile; a microvm has no other reference, and then hangs
        # ("tsc: Unable to calibrate against PIT"; 5 boots of 100 on a busy host).
        parameters += [f"tsc_early_khz={config.tsc_khz}", "tsc=reliable"]
    if config.console:
        # `keep`: the polled early console stays, so that a panic is told, without the cost of a
        # full tty console. Costs nothing that could be measured (under 2 %).
        parameters += ["earlyprintk=ttyS0,keep", "quiet"]
    else:
        parameters += ["quiet"]
    return [*parameters, *config.append]


def _machine(config: MachineConfig) -> str:
    if config.machine == "q35":
        return "q35"
    # docs/system/i386/microvm.rst. ACPI stays on: Debian's kernel has no virtio-mmio parameters
    # (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES), ACPI is how it finds the devices. The RTC stays on: a
    # kernel that probes for a missing one loses 2.1 s.
    timers = "on" if config.accel == "tcg" and config.tsc_khz is None else "off"
    serial = "on" if config.console else "off"
    return f"microvm,acpi=on,rtc=on,pit={timers},pic={timers},x-option-roms=off,isa-serial={serial}"


def _device(config: MachineConfig, name: str) -> str:
    return f"{name}-device" if transport_of(config.machine) == "mmio" else f"{name}-pci"


def _socket(name: str, fds: Mapping[str, int]) -> list[str]:
    return ["-chardev", f"socket,id={name},fd={fds[name]}"]


def _disk(config: MachineConfig) -> list[str]:
    return [
        "-blockdev",
        f"driver=qcow2,node-name=root,file.driver=file,file.filename={escape(config.overlay)}",
        "-device",
        f"{_device(config, 'virtio-blk')},drive=root",
    ]


def _serial(config: MachineConfig, fds: Mapping[str, int]) -> list[str]:
    names = ports(config)
    # Port 0 is reserved for a console (virtio 1.2, 5.3.1).
    argv = ["-device", f"{_device(config, 'virtio-serial')},max_ports={len(names) + 1}"]
    if transport_of(config.machine) == "mmio":
        # Virtio 1 instead of the legacy interface, which is virtio-mmio's default.
        argv = ["-global", "virtio-mmio.force-legacy=false", *argv]
    for number, name in enumerate(names, start=1):
        argv += _socket(name, fds)
        argv += ["-device", f"virtserialport,chardev={name},name=lab.{name},nr={number}"]
    return argv
