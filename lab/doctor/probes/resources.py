"""Who runs the lab, on how much of a machine."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from lab import host as facts
from lab.doctor.probe import Host, Outcome, limited, missing, ok, probe
from lab.doctor.words import size

__all__ = ["PROBES", "judge_cpus", "judge_ksm", "judge_memory"]

_ALL = ("native", "container", "vm")
_KSM = Path("/sys/kernel/mm/ksm")

_MEMORY_LEAST, _MEMORY_GOOD = 2**30, 2 * 2**30
"""The quick suite: three guests of 128 MiB with their QEMU, pandas, and a notebook's kernel."""


@probe(
    "root",
    group="host",
    tried="looked at the effective uid",
    advice="sudo lab doctor, sudo lab bench",
    needed_for=_ALL,
)
def root(_: Host) -> Outcome:
    """Cgroups, mounts and chroot are root's."""
    uid = os.geteuid()
    return missing(f"uid {uid}") if uid else ok("uid 0")


@probe(
    "CPUs",
    group="host",
    tried="looked at the CPUs that this process may use",
    needed_for=["bench-quality"],
)
def cpus(_: Host) -> Outcome:
    """One for the workload and one for the lab that times it."""
    return judge_cpus(len(os.sched_getaffinity(0)), os.cpu_count() or 1)


def judge_cpus(usable: int, present: int) -> Outcome:
    """Numbers of CPUs."""
    found = f"{usable} of {present}"
    if usable >= 2:
        return ok(found)
    return limited(found, "give the lab two CPUs: workload and stopwatch share this one")


@probe(
    "memory",
    group="host",
    tried="read MemAvailable",
    advice="end what else runs here, or give the machine more memory",
    needed_for=_ALL,
)
def memory(_: Host) -> Outcome:
    """What can be had without swapping (proc_meminfo(5))."""
    text = Path("/proc/meminfo").read_text()
    available = facts.meminfo(text, "MemAvailable")
    total = facts.meminfo(text, "MemTotal")
    return judge_memory(available or 0, total or 0)


def judge_memory(available: int, total: int) -> Outcome:
    """Bytes."""
    found = f"{size(available)} available of {size(total)}"
    if available < _MEMORY_LEAST:
        return missing(f"{found}; {size(_MEMORY_LEAST)} are needed")
    if available < _MEMORY_GOOD:
        return limited(f"{found}; {size(_MEMORY_GOOD)} are comfortable")
    return ok(found)


@probe(
    "KSM",
    group="host",
    tried="madvise(MADV_MERGEABLE) on two pages, and read /sys/kernel/mm/ksm/run",
    advice="needs a kernel with CONFIG_KSM",
    needed_for=["ksm"],
)
def ksm(_: Host) -> Outcome:
    """Kernel samepage merging (Documentation/admin-guide/mm/ksm.rst)."""
    with mmap.mmap(-1, 2 * mmap.PAGESIZE) as pages:
        pages.madvise(mmap.MADV_MERGEABLE)
    return judge_ksm((_KSM / "run").read_text().strip(), (_KSM / "pages_sharing").read_text())


def judge_ksm(run: str, sharing: str) -> Outcome:
    """From the texts of `run` and `pages_sharing`."""
    if run == "1":
        return limited(
            f"running, {sharing.strip()} pages saved: it works while memory is measured",
            "for memory figures: echo 0 | sudo tee /sys/kernel/mm/ksm/run; they name its state",
        )
    return ok("there, and stopped" if run == "0" else "there, and unmerging (run is 2)")


PROBES = (root, cpus, memory, ksm)
