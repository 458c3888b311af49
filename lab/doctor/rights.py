"""Giving up rights, getting them back in a user namespace, and why that may be refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lab.doctor.child import die_with_parent
from runtime.namespaces import Namespace
from runtime.syscalls import prctl, unshare

__all__ = ["NOBODY", "become_nobody", "explain", "map_user", "user_namespace_advice"]

NOBODY = 65534
_PR_SET_DUMPABLE = 4  # include/uapi/linux/prctl.h

_SYSCTLS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)


def become_nobody() -> None:
    """Be uid and gid `NOBODY` for good; one who is not root stays who he is."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # The change made /proc/self root's (proc(5), "/proc/pid"), and uid_map could not be written.
    prctl(_PR_SET_DUMPABLE, 1)
    die_with_parent()


def map_user(others: Namespace) -> None:
    """Enter a new user namespace, and `others` that belong to it, as root there
    (user_namespaces(7), "Defining user and group ID mappings")."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(Namespace.USER | others)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def user_namespace_advice() -> str:
    """What to do on this host."""
    return explain({name: _sysctl(name) for name in _SYSCTLS})


def explain(sysctls: Mapping[str, str | None]) -> str:
    """What to do, from the settings that stand in the way; None: this kernel has no such."""
    if sysctls.get("user/max_user_namespaces") == "0":
        return "sysctl user.max_user_namespaces is 0: sudo sysctl user.max_user_namespaces=10000"
    if sysctls.get("kernel/unprivileged_userns_clone") == "0":
        return "Debian's switch is off: sudo sysctl kernel.unprivileged_userns_clone=1"
    if sysctls.get("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "Ubuntu's AppArmor restricts them: run as root, or give python3 a profile with "
            "`userns,`, or sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        )
    return "needs CONFIG_USER_NS, and inside a container a seccomp profile that allows unshare"


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None
