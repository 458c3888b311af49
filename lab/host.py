"""Facts about the host, for the header of every run; docs/reference/host-facts.md names each.

Everything is read from /proc, /sys and files that every Linux host has; what is not there is null.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from lab.paths import cache_dir

__all__ = ["facts", "file_system_of", "meminfo", "noise"]

_QEMU = "qemu-system-x86_64"


def facts(root: Path = Path("/")) -> dict[str, Any]:
    """A JSON-ready dict, flat but for `noise_before`. Sizes in bytes, times in seconds.

    `root` stands for / in every file that is read, for tests."""
    cpu = _cpuinfo(_read(root / "proc/cpuinfo") or "")
    memory = _read(root / "proc/meminfo") or ""
    virtualized = "hypervisor" in cpu.get("flags", "").split()
    kind, controllers = _cgroups(root)
    return {
        "hostname": platform.node() or "localhost",
        "os": _os_name(root),
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        # What follows "--" is for init, not for the kernel.
        "kernel_command_line": (_read(root / "proc/cmdline") or "").split(" -- ")[0],
        "architecture": platform.machine(),
        "cpu_model": cpu.get("model name"),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "smt": _read(root / "sys/devices/system/cpu/smt/active"),
        "governor": _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "mitigations": _mitigations(root),
        "virtualized": virtualized,
        "hypervisor": _hypervisor(root) if virtualized else None,
        "memory_bytes": meminfo(memory, "MemTotal"),
        "swap_bytes": meminfo(memory, "SwapTotal"),
        "transparent_hugepages": _chosen(
            _read(root / "sys/kernel/mm/transparent_hugepage/enabled")
        ),
        "ksm_run": _read(root / "sys/kernel/mm/ksm/run"),
        "cgroup_layout": kind,
        "cgroup_controllers": controllers,
        "cache_file_system": file_system_of(cache_dir(), root),
        "boot_id": _read(root / "proc/sys/kernel/random/boot_id"),
        "qemu": _first_line(_QEMU, "--version"),
        "python": platform.python_version(),
        "lab": _lab_version(),
        "lab_commit": _lab_commit(),
        "noise_before": noise(root),
    }


def noise(root: Path = Path("/")) -> dict[str, Any]:
    """How busy the host is: load averages, stolen CPU time since boot, and pressure of the last ten
    seconds (PSI, per cent of time in which some task waited; kernel doc accounting/psi.rst).

    A few small files: call it before and after. Of `steal_s` the difference counts."""
    loads = (_read(root / "proc/loadavg") or "").split()
    return {
        "load_1min": float(loads[0]) if loads else None,
        "steal_s": _steal(_read(root / "proc/stat") or ""),
        **{
            f"pressure_{what}_avg10": _pressure(_read(root / "proc/pressure" / what) or "")
            for what in ("cpu", "memory", "io")
        },
    }


def meminfo(text: str, name: str) -> int | None:
    """Bytes of one line of /proc/meminfo (proc_meminfo(5), in kB)."""
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def file_system_of(path: Path, root: Path = Path("/")) -> str | None:
    """Type of the file system that `path` is on, or would be if it were made: ``ext4``."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return _file_system(_read(root / "proc/self/mountinfo") or "", path.resolve())


def _file_system(mountinfo: str, path: Path) -> str | None:
    """From proc_pid_mountinfo(5): the longest mount point above `path`, the last of several on one
    (it covers the others)."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        escaped = left.split(" ")[4]
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), escaped))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), right.split(" ")[0]
    return best[1] if best else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _os_name(root: Path) -> str | None:
    """PRETTY_NAME of os-release(5)."""
    text = _read(root / "etc/os-release") or _read(root / "usr/lib/os-release") or ""
    found = re.search(r"""^PRETTY_NAME=["']?(.*?)["']?$""", text, re.MULTILINE)
    return found[1] if found else None


def _cpuinfo(text: str) -> dict[str, str]:
    """Of the first CPU."""
    pairs = (line.partition(":") for line in text.split("\n\n", maxsplit=1)[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _chosen(text: str | None) -> str | None:
    """``always`` of ``[always] madvise never``."""
    if text is None or "[" not in text:
        return text
    return text[text.index("[") + 1 : text.index("]")]


def _mitigations(root: Path) -> str:
    folder = root / "sys/devices/system/cpu/vulnerabilities"
    if not folder.is_dir():
        return "unknown"
    states = {path.name: _read(path) or "" for path in sorted(folder.iterdir())}
    bare = [name for name, state in states.items() if state.startswith("Vulnerable")]
    return f"vulnerable: {', '.join(bare)}" if bare else "all mitigated or not affected"


def _hypervisor(root: Path) -> str | None:
    """What the firmware calls the machine, as systemd-detect-virt(1) looks at it, or Xen's file.
    A hypervisor without DMI tables stays unnamed."""
    dmi = [_read(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(filter(None, dmi)) or _read(root / "sys/hypervisor/type")


def _cgroups(root: Path) -> tuple[str | None, str | None]:
    """The layout's kind, and which controllers are where."""
    # Only the doctor's and the backends' modules may import the runtime.
    from lab.doctor.layout import cgroup_facts

    text = _read(root / "proc/self/mountinfo")
    return cgroup_facts(text) if text else (None, None)


def _steal(stat: str) -> float | None:
    """proc_stat(5): the eighth number of the first line, in clock ticks."""
    line = stat.split("\n", 1)[0].split()
    return int(line[8]) / os.sysconf("SC_CLK_TCK") if len(line) > 8 else None


def _pressure(text: str) -> float | None:
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            return float(dict(pair.split("=") for pair in pairs)["avg10"])
    return None


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.splitlines()[0] if done.stdout else None


def _lab_version() -> str:
    from lab import __version__

    return __version__


def _lab_commit() -> str | None:
    """The commit of the checkout that the lab runs from, with ``-dirty`` if it was changed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() or None
