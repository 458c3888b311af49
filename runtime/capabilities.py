"""Capability names, masks, and the set that containers get by default (capabilities(7))."""

from __future__ import annotations

from runtime.errors import SpecError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CAPABILITIES", "DEFAULT", "bits", "last_capability", "mask", "names", "permitted"]

CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ]
)
"""All names, in the order of include/uapi/linux/capability.h: the index is the bit."""

_BIT = {name: 1 << number for number, name in enumerate(CAPABILITIES)}

DEFAULT = frozenset(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    ]
)
"""Docker's default set (moby, oci/caps/defaults.go)."""


def mask(capabilities: Iterable[str]) -> int:
    """The bit mask of these names. Raises SpecError on a name that is none."""
    result = 0
    for name in capabilities:
        if name not in _BIT:
            raise SpecError(
                f"no capability {name!r}; names are like CAP_CHOWN, see capabilities(7)"
            )
        result |= _BIT[name]
    return result


def bits(value: int) -> tuple[int, ...]:
    """The numbers of the set bits, ascending."""
    return tuple(number for number in range(value.bit_length()) if value >> number & 1)


def names(value: int) -> frozenset[str]:
    """The names of a mask's bits; one that is newer than this list is `CAP_<number>`."""
    return frozenset(
        CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}"
        for number in bits(value)
    )


def last_capability() -> int:
    """The highest capability that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def permitted() -> int:
    """The mask of what this process itself may use (proc_pid_status(5), CapPrm)."""
    with open("/proc/self/status") as file:
        return int(file.read().partition("CapPrm:")[2].split()[0], 16)
