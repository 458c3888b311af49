"""Which cgroup hierarchies there are, and real cgroups in them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from lab.backends.context import cgroup_of, run_cgroup
from lab.doctor.child import die_with_parent
from lab.doctor.layout import describe
from lab.doctor.probe import Host, Outcome, limited, missing, ok, probe
from runtime import CgroupError
from runtime.cgroups import Cgroup, CgroupLayout
from runtime.syscalls import clone3

__all__ = ["LIMITED", "PROBES", "judge_layout", "judge_pressure"]

LIMITED = ("cpu", "memory", "pids")
"""Controllers whose limits every instance has."""

_ALL = ("native", "container", "vm")
_PIDFD_S = 5.0
_WALL = 0x40000000  # include/uapi/linux/wait.h: also a child that sends no signal when it ends


@probe(
    "cgroup layout",
    group="cgroups",
    tried="read /proc/self/mountinfo and the root's cgroup.controllers",
    needed_for=_ALL,
)
def layout(_: Host) -> Outcome:
    """v1, v2 or hybrid."""
    return judge_layout(CgroupLayout.detect())


def judge_layout(layout: CgroupLayout) -> Outcome:
    """What the lab can do with it."""
    found = f"{layout.kind}: {describe(layout)}"
    absent = [name for name in LIMITED if layout.where(name) is None]
    if absent:
        return missing(
            f"{found}; nothing limits {', '.join(absent)}",
            "mount cgroup2 at /sys/fs/cgroup; on the kernel's command line, no cgroup_disable=",
        )
    if layout.kind == "v2":
        return ok(found)
    return limited(
        f"{found}: limits work, but v1 counts memory in its own way",
        "compare only with runs of the same layout; systemd.unified_cgroup_hierarchy=1 on the "
        "kernel's command line gives v2",
    )


def _tidy(host: Host) -> None:
    group = Cgroup.adopt(CgroupLayout.detect(), cgroup_of(host.run))
    group.kill()
    group.remove()


@probe(
    "cgroup",
    group="cgroups",
    tried="made with limits of CPU, memory and processes, which are read back; removed",
    advice="run as root (sudo lab doctor); inside a container, mount /sys/fs/cgroup writable",
    needed_for=_ALL,
    after=("cgroup layout",),
    tidy=_tidy,
)
def cgroup(host: Host) -> Outcome:
    """What every instance gets."""
    limits = {"cpus": 0.5, "memory": 64 * 2**20, "pids": 32}
    with run_cgroup(host.run, **limits) as group:  # type: ignore[arg-type]
        wrong, read = [], 0
        for file, text in group.limit_files(**limits):  # type: ignore[arg-type]
            if Path(file).exists():  # a kernel that accounts for no swap lacks its files
                read += 1
                if (back := Path(file).read_text().strip()) != text:
                    wrong.append(f"{file} is {back}, not {text}")
    return limited("; ".join(wrong)) if wrong else ok(f"{read} limits as written")


@probe(
    "CLONE_INTO_CGROUP",
    group="cgroups",
    tried="clone3 straight into a new cgroup of the v2 hierarchy",
    advice="needs Linux 5.7 and a v2 hierarchy; without, a child joins after it is made: slower",
    needed_for=["clone-into-cgroup"],
    after=("cgroup",),
    tidy=_tidy,
)
def into_cgroup(host: Host) -> Outcome:
    """The child is asked where it found itself."""
    with run_cgroup(host.run) as group:
        if group.into is None:
            return missing("no v2 hierarchy is mounted")
        where = _child_path(group.into)
    right = where.endswith(group.path)
    return ok(f"the child was born in {where}") if right else missing(f"it was born in {where}")


def _child_path(directory: str) -> str:
    """A new child's own path in the v2 hierarchy."""
    reader, writer = os.pipe()
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    pid = clone3(0, target)
    if pid == 0:
        try:
            die_with_parent()
            os.write(writer, Path("/proc/self/cgroup").read_bytes())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, _WALL)
    lines = os.read(reader, 65536).decode().splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "no v2 cgroup")


@probe(
    "pidfd",
    group="cgroups",
    tried="pidfd_open of a child, SIGKILL through it, and its end awaited by it",
    advice="needs Linux 5.4; inside a container, a seccomp profile that allows pidfd_open",
    needed_for=_ALL,
)
def pidfd(_: Host) -> Outcome:
    """How every process is watched and ended: its number cannot come to mean another."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        signal.pause()
        os._exit(0)
    fd = os.pidfd_open(child)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    if not select.select([fd], [], [], _PIDFD_S)[0]:
        return missing(f"the end of a killed child was not seen within {_PIDFD_S:g} s")
    end = os.waitid(os.P_PIDFD, fd, os.WEXITED)
    killed = end is not None and end.si_status == signal.SIGKILL
    return ok("opened, signalled, waited for") if killed else missing(f"it ended with {end}")


@probe(
    "PSI",
    group="cgroups",
    tried="read /proc/pressure, and memory.pressure of a new cgroup",
    advice="psi=1 on the kernel's command line (CONFIG_PSI); until then no run tells its noise",
    needed_for=["pressure"],
    tidy=_tidy,
)
def psi(host: Host) -> Outcome:
    """Pressure stall information (Documentation/accounting/psi.rst)."""
    texts = {what: Path("/proc/pressure", what).read_text() for what in ("cpu", "memory", "io")}
    in_groups = False
    with contextlib.suppress(CgroupError), run_cgroup(host.run) as group:
        in_groups = group.into is not None and Path(group.into, "memory.pressure").exists()
    return judge_pressure(texts, in_groups)


def judge_pressure(texts: dict[str, str], in_groups: bool) -> Outcome:
    """From the texts of /proc/pressure/*, and whether cgroups have such files too."""
    parts = []
    for what, text in texts.items():
        some = next((line for line in text.splitlines() if line.startswith("some ")), "")
        average = dict(pair.split("=") for pair in some.split()[1:]).get("avg10", "?")
        parts.append(f"{what} {average} %")
    where = "host and each cgroup" if in_groups else "host only"
    return ok(f"{where}; now {', '.join(parts)}")


PROBES = (layout, cgroup, into_cgroup, pidfd, psi)
