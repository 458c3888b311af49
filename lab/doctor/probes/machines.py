"""QEMU, the guest kernel, and which accelerator boots it faster."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lab.doctor.probe import Host, Outcome, limited, missing, ok, probe
from lab.doctor.programs import find, first_line, run
from vm.accelerator import Verdict
from vm.accelerator import probe as accelerator
from vm.cache import scratch
from vm.command import QEMU
from vm.kernel import cached_kernels, ensure_kernel

__all__ = ["PROBES", "judge_kvm", "judge_qemu"]

_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
"""Where distributions put it: Debian 13 and Fedora, Debian 12 and Ubuntu 22.04, Arch."""

_FETCH_S = 300.0
_BOOTS_S = 240.0
"""Above all of `vm.accelerator`'s own limits together."""


@probe(
    "QEMU",
    group="machines",
    tried=f"{QEMU} -machine microvm, stopped before its first instruction, asked over QMP",
    advice="install qemu-system-x86",
    needed_for=["vm"],
    seconds=30,
)
def qemu(_: Host) -> Outcome:
    """It starts, talks, and has both machine types."""
    machine = ("-machine", "microvm", "-accel", "tcg", "-m", "32M", "-S")
    silent = ("-nodefaults", "-no-user-config", "-display", "none")
    asked = [
        {"execute": "qmp_capabilities"},
        {"execute": "query-machines"},
        {"execute": "quit"},
    ]
    talk = "".join(json.dumps(command) + "\n" for command in asked)
    return judge_qemu(run([QEMU, *machine, *silent, "-qmp", "stdio"], talk))


def judge_qemu(talk: str) -> Outcome:
    """From what it said over QMP: one JSON object a line."""
    messages = [json.loads(line) for line in talk.splitlines() if line.strip()]
    greeting = next(m["QMP"]["version"] for m in messages if "QMP" in m)
    version = ".".join(str(greeting["qemu"][part]) for part in ("major", "minor", "micro"))
    lists = [m["return"] for m in messages if isinstance(m.get("return"), list)]
    names = {m.get(key) for machines in lists for m in machines for key in ("name", "alias")}
    absent = sorted({"microvm", "q35"} - names)
    found = f"{version} {greeting['package']}".strip()
    if absent:
        return limited(f"{found}, without machine {', '.join(absent)}")
    return ok(f"{found}, machines microvm and q35")


@probe(
    "qemu-img",
    group="machines",
    tried="an empty qcow2 image made",
    advice="install qemu-utils",
    needed_for=["vm"],
)
def qemu_img(host: Host) -> Outcome:
    """Once an image: each machine gets a copy of it."""
    image = host.room("qemu-img") / "blank.qcow2"
    run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"])
    return ok(f"{image.stat().st_size // 1024} KiB")


def _sweep(directory: Path) -> None:
    """What a killed fetch or boot left, the next user of `vm.cache` removes: be that one."""
    if directory.is_dir() and os.access(directory, os.W_OK):
        with scratch(directory):
            pass


def _sweep_kernels(host: Host) -> None:
    _sweep(host.cache / "kernels")


@probe(
    "guest kernel",
    group="machines",
    tried="looked for in the cache, else fetched from the distribution and unpacked there",
    advice="needs the host's package sources once: sudo apt-get update, then sudo lab doctor",
    needed_for=["vm"],
    seconds=_FETCH_S,
    tidy=_sweep_kernels,
)
def kernel(host: Host) -> Outcome:
    """Never installed: the host's boot files stay as they are."""
    how = "in the cache" if cached_kernels(host.cache) else "fetched now"
    found = ensure_kernel(host.cache)
    return ok(f"{found.release} ({found.package_version}), {how}")


def _sweep_machines(host: Host) -> None:
    _sweep(host.cache)


@probe(
    "guest boot",
    group="machines",
    tried="the guest kernel booted to its init under TCG (verdict kept until the host boots)",
    advice="lab doctor --fresh tries again; see docs/howto/set-up.md",
    needed_for=["vm"],
    after=("QEMU", "guest kernel"),
    seconds=_BOOTS_S,
    tidy=_sweep_machines,
)
def boot(host: Host) -> Outcome:
    """The boots of the accelerator's verdict are the proof that there are virtual machines here."""
    verdict = accelerator(ensure_kernel(host.cache), host.cache, refresh=host.fresh)
    return ok(f"init after {verdict.tcg_s:.2f} s under TCG")


@probe(
    "KVM",
    group="machines",
    tried="the same kernel booted under KVM within a limit, compared with TCG",
    advice="accel=auto takes TCG; for KVM use bare metal or a host with nested virtualization",
    needed_for=["kvm"],
    after=("guest boot",),
    seconds=_BOOTS_S,
    tidy=_sweep_machines,
)
def kvm(host: Host) -> Outcome:
    """A /dev/kvm that opens proves nothing: `vm.accelerator` tells why."""
    verdict = accelerator(ensure_kernel(host.cache), host.cache)
    return judge_kvm(verdict, Path("/dev/kvm").exists())


def judge_kvm(verdict: Verdict, device: bool) -> Outcome:
    """ok only if it is the faster one."""
    tried = [one for one in verdict.attempts if one.accel == "kvm"]
    how = "; ".join(f"{one.cpu}: {one.outcome}" for one in tried)
    if verdict.accel == "kvm":
        assert verdict.kvm_s is not None
        faster = verdict.tcg_s / verdict.kvm_s
        return ok(
            f"chosen, -cpu {verdict.cpu}: init after {verdict.kvm_s:.2f} s, {faster:.1f} times "
            f"faster than TCG's {verdict.tcg_s:.2f} s"
        )
    found = f"TCG is chosen ({verdict.tcg_s:.2f} s); KVM: {how}"
    if device:
        return limited(found)
    return missing(found, "enable virtualization in the firmware and load kvm_intel or kvm_amd")


@probe(
    "virtiofsd",
    group="machines",
    tried="its --version, from PATH and from where distributions put it",
    advice="install virtiofsd (with QEMU before 8: qemu-system-common)",
    needed_for=["virtiofs"],
)
def virtiofsd(_: Host) -> Outcome:
    """The daemon behind folders that a guest shares with the host."""
    places = [find("virtiofsd"), *_VIRTIOFSD]
    path = next((p for p in places if p is not None and Path(p).is_file()), None)
    if path is None:
        return missing(f"not on PATH, nor {', '.join(_VIRTIOFSD)}")
    return ok(f"{path}: {first_line(run([path, '--version']))}")


PROBES = (qemu, qemu_img, kernel, boot, kvm, virtiofsd)
