"""Each kind of namespace (namespaces(7)), made and used in a child."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

from lab.doctor.child import nested
from lab.doctor.probe import Failed, Host, Outcome, in_words, limited, missing, ok, probe
from lab.doctor.rights import become_nobody, map_user, user_namespace_advice
from runtime.namespaces import Namespace
from runtime.syscalls import (
    MS_PRIVATE,
    MS_REC,
    interface_up,
    mount,
    sethostname,
    unshare,
)

__all__ = ["PROBES"]

_KERNEL = "run as root (sudo lab doctor); inside a container, give it CAP_SYS_ADMIN"
_JUMP_S = 1000


def _changed(kind: str, flag: Namespace) -> str:
    """Enter a new namespace and return its name, as /proc has it. `Failed`: it is the old one."""
    link = Path("/proc/self/ns", kind)
    old = link.readlink()
    unshare(flag)
    if (new := link.readlink()) == old:
        raise Failed(f"unshare succeeded and the namespace is still {old}")
    return str(new)


@probe(
    "pid namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWPID), then a fork that looks at its own number",
    advice=_KERNEL,
    needed_for=["container"],
)
def pid(_: Host) -> Outcome:
    """The first child inside is number 1."""
    unshare(Namespace.PID)
    number = nested(os.getpid)
    return ok("the first process is 1") if number == 1 else missing(f"the first is {number}")


@probe(
    "mount namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWNS), then a tmpfs that the host must not see",
    advice=_KERNEL,
    needed_for=["container"],
)
def mnt(_: Host) -> Outcome:
    """A mount inside stays inside."""
    host = Path(f"/proc/{os.getppid()}/mountinfo")
    unshare(Namespace.MOUNT)
    mount(None, "/", None, MS_REC | MS_PRIVATE, None)
    mount("lab-doctor", tempfile.gettempdir(), "tmpfs", 0, "size=64k")
    inside = Path("/proc/self/mountinfo").read_text()
    if "lab-doctor" not in inside:
        return missing("the mount is not where it was made")
    if "lab-doctor" in host.read_text():
        return missing("the mount is seen on the host")
    return ok("the mount is inside only")


@probe(
    "uts namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWUTS), then another host name",
    advice=_KERNEL,
    needed_for=["container"],
)
def uts(_: Host) -> Outcome:
    """It has a host name of its own."""
    new = _changed("uts", Namespace.UTS)
    sethostname("lab-doctor")
    return ok(new) if os.uname().nodename == "lab-doctor" else missing("the name did not change")


@probe(
    "ipc namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWIPC)",
    advice=_KERNEL,
    needed_for=["container"],
)
def ipc(_: Host) -> Outcome:
    """It has System V objects of its own."""
    new = _changed("ipc", Namespace.IPC)
    # The header alone (proc_sysvipc(5)): no segment of the host's is here.
    lines = len(Path("/proc/sysvipc/shm").read_text().splitlines())
    return ok(new) if lines == 1 else missing(f"{lines - 1} segments of the host are inside")


@probe(
    "net namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWNET), then its loopback set up",
    advice=_KERNEL,
    needed_for=["container"],
)
def net(_: Host) -> Outcome:
    """It begins with no interface of the host's."""
    _changed("net", Namespace.NET)
    names = [name for _, name in socket.if_nameindex()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        interface_up(link.fileno(), "lo")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
    return ok(f"interfaces: {', '.join(names)}; a connection over lo")


@probe(
    "cgroup namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWCGROUP), then its own path in each hierarchy",
    advice=_KERNEL,
    needed_for=["container"],
)
def cgroup(_: Host) -> Outcome:
    """The process's own cgroup is the root, in every hierarchy."""
    new = _changed("cgroup", Namespace.CGROUP)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    other = [line for line in lines if line.split(":", 2)[2] != "/"]
    return ok(new) if not other else missing(f"not the root: {other[0]}")


@probe(
    "time namespace",
    group="namespaces",
    tried=f"unshare(CLONE_NEWTIME) with CLOCK_MONOTONIC {_JUMP_S} s ahead",
    advice="needs Linux 5.6 with CONFIG_TIME_NS; the lab works without",
    needed_for=["time-namespace"],
)
def timens(_: Host) -> Outcome:
    """Children of the process see the offset (time_namespaces(7))."""
    unshare(Namespace.TIME)
    Path("/proc/self/timens_offsets").write_text(f"monotonic {_JUMP_S} 0\n")
    ahead = nested(time.monotonic) - time.monotonic()
    right = _JUMP_S - 1 < ahead <= _JUMP_S
    return ok("the clock jumped") if right else missing(f"the clock is {ahead:.1f} s ahead")


@probe(
    "user namespace",
    group="namespaces",
    tried="unshare(CLONE_NEWUSER), the caller mapped to root inside",
    needed_for=["rootless"],
)
def user(_: Host) -> Outcome:
    """As whoever runs the doctor."""
    try:
        map_user(Namespace.NONE)
    except OSError as error:
        return missing(in_words(error), user_namespace_advice())
    return ok(f"uid {os.getuid()} inside")


@probe(
    "rootless user namespace",
    group="namespaces",
    tried="as uid nobody: unshare(CLONE_NEWUSER), then set the host name inside",
    needed_for=["rootless"],
)
def unprivileged(_: Host) -> Outcome:
    """Made by one who has no rights, and then rights are used in it: where AppArmor restricts
    them, the namespace is made and is worth nothing."""
    become_nobody()
    uid = os.geteuid()
    try:
        map_user(Namespace.UTS)
    except OSError as error:
        return missing(in_words(error), user_namespace_advice())
    try:
        sethostname("lab-doctor")
    except OSError as error:
        return limited(f"made, but it gives no rights: {in_words(error)}", user_namespace_advice())
    return ok(f"uid {uid} is root inside")


PROBES = (pid, mnt, uts, ipc, net, cgroup, timens, user, unprivileged)
