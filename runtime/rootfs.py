"""The root file system of a container, as a plan: which operations, in which order, and why.

After the OCI runtime specification, config-linux.md: "Default Filesystems", "Default Devices",
"Masked Paths", "Readonly Paths"; the paths are those of Docker (moby, oci/defaults.go).
"""

from __future__ import annotations

from functools import lru_cache

from runtime.namespaces import Namespace
from runtime.operations import (
    Chdir,
    LoopbackUp,
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    Mark,
    Mask,
    Mount,
    MountOverlay,
    Operation,
    Pivot,
    PrivatePropagation,
    ReadOnly,
    Umask,
)
from runtime.spec import ContainerSpec
from runtime.syscalls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_STRICTATIME

__all__ = ["DEVICES", "MASKED", "READ_ONLY", "plan"]

_STRICT = MS_NOSUID | MS_NOEXEC | MS_NODEV

DEVICES = {
    "/dev/null": (1, 3),
    "/dev/zero": (1, 5),
    "/dev/full": (1, 7),
    "/dev/random": (1, 8),
    "/dev/urandom": (1, 9),
    "/dev/tty": (5, 0),
}
"""Path → major, minor (Documentation/admin-guide/devices.txt)."""

_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""What tells too much about the host."""

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What changes the host. /sys is mounted read-only as a whole."""


def plan(spec: ContainerSpec) -> tuple[Operation, ...]:
    """From the host's mounts, copied into a new namespace, to the container's own root.

    The pivot comes as early as it can: whatever a hostile image has at /proc or /dev, a link to
    the host's is from then on a link within the container.
    """
    return (
        PrivatePropagation(),
        MountOverlay(
            lowers=tuple(str(layer) for layer in spec.layers),
            target=str(spec.rootfs),
            upper=str(spec.upper_dir),
            work=str(spec.work_dir),
        ),
        Chdir(str(spec.rootfs)),
        Pivot(),
        *_inside(spec.namespaces, spec.loopback),
        Mark("mounts"),
    )


@lru_cache(maxsize=16)
def _inside(namespaces: Namespace, loopback: bool) -> tuple[Operation, ...]:
    """What happens after the pivot: the same for all containers, so computed once."""
    operations: list[Operation] = [
        Umask(0),  # the modes below are meant as they stand
        MakeDirectory("/proc"),
        Mount("proc", "/proc", _STRICT),
        MakeDirectory("/sys"),
        # Without a network namespace of its own it would show the host's devices, read-only too.
        Mount("sysfs", "/sys", _STRICT | MS_RDONLY),
        MakeDirectory("/dev"),
        Mount("tmpfs", "/dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"),
        *(MakeDevice(path, *numbers) for path, numbers in DEVICES.items()),
        *(MakeSymlink(path, target) for path, target in _LINKS.items()),
        MakeDirectory("/dev/pts", fresh=True),
        Mount(
            "devpts",
            "/dev/pts",
            MS_NOSUID | MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        MakeDirectory("/dev/shm", 0o1777, fresh=True),
        Mount("tmpfs", "/dev/shm", _STRICT, "mode=1777,size=65536k"),
    ]
    if namespaces & Namespace.IPC and _has_mqueue():
        operations += [
            MakeDirectory("/dev/mqueue", fresh=True),
            Mount("mqueue", "/dev/mqueue", _STRICT),
        ]
    operations += [Mask(path) for path in MASKED]
    operations += [ReadOnly(path) for path in READ_ONLY]
    if loopback:
        operations.append(LoopbackUp())
    return tuple(operations)


def _has_mqueue() -> bool:
    """Whether this kernel has POSIX message queues (CONFIG_POSIX_MQUEUE)."""
    with open("/proc/filesystems") as file:
        return any(line.split()[-1] == "mqueue" for line in file)
