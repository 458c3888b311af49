"""Facts about the host, for the header of every run; docs/reference/host-facts.md names each.

Everything is read from /proc, /sys and files that every Linux host has; what is not there is null.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["facts", "noise"]


def facts() -> dict[str, Any]:
    """A flat, JSON-ready dict. Sizes in bytes, times in seconds."""
    cpu = _cpuinfo()
    return {
        "hostname": platform.node() or "localhost",
        "os": _os_release().get("PRETTY_NAME"),
        "kernel": platform.release(),
        "kernel_version": platform.version(),
        # What follows "--" is for init, not for the kernel.
        "kernel_command_line": (_read("/proc/cmdline") or "").split(" -- ")[0],
        "architecture": platform.machine(),
        "cpu_model": cpu.get("model name"),
        "cpus": os.cpu_count(),
        "smt": _read("/sys/devices/system/cpu/smt/active"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "mitigations": _mitigations(),
        "virtualized": "hypervisor" in cpu.get("flags", "").split(),
        "memory_bytes": _meminfo("MemTotal"),
        "swap_bytes": _meminfo("SwapTotal"),
        "transparent_hugepages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "ksm_run": _read("/sys/kernel/mm/ksm/run"),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "qemu": _first_line("qemu-system-x86_64", "--version"),
        "python": platform.python_version(),
        "lab": _lab_version(),
        "lab_commit": _lab_commit(),
        "noise_before": noise(),
    }


def noise() -> dict[str, Any]:
    """How busy the host is: load averages, stolen CPU time since boot, and pressure of the last ten
    seconds (PSI, per cent of time in which some task waited; kernel doc accounting/psi.rst)."""
    return {
        "load_1min": os.getloadavg()[0],
        "steal_s": _steal(),
        **{f"pressure_{what}_avg10": _pressure(what) for what in ("cpu", "memory", "io")},
    }


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _cpuinfo() -> dict[str, str]:
    first = (_read("/proc/cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _meminfo(name: str) -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _chosen(text: str | None) -> str | None:
    """``always`` of ``[always] madvise never``."""
    if text is None or "[" not in text:
        return text
    return text[text.index("[") + 1 : text.index("]")]


def _mitigations() -> str:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    if not folder.is_dir():
        return "unknown"
    states = {path.name: _read(str(path)) or "" for path in sorted(folder.iterdir())}
    bare = [name for name, state in states.items() if state.startswith("Vulnerable")]
    return f"vulnerable: {', '.join(bare)}" if bare else "all mitigated or not affected"


def _steal() -> float | None:
    """proc_stat(5): the eighth number of the first line, in clock ticks."""
    line = (_read("/proc/stat") or "").split("\n", 1)[0].split()
    return int(line[8]) / os.sysconf("SC_CLK_TCK") if len(line) > 8 else None


def _pressure(what: str) -> float | None:
    for line in (_read(f"/proc/pressure/{what}") or "").splitlines():
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
