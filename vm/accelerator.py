"""Which accelerator is the faster one here, found by booting a guest with each.

A ``/dev/kvm`` that opens proves nothing: inside a virtual machine without hardware nesting it can
open, create a VM, and still run a guest kernel a hundred times slower than QEMU's own emulator. So
the lab's real guest kernel is booted to its init under TCG, then under KVM with a time limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vm.cache import scratch
from vm.command import CPUS, QEMU
from vm.config import Accelerator, MachineConfig
from vm.errors import MachineError, NotReady, ToolMissing
from vm.initramfs import build_initramfs
from vm.kernel import Kernel
from vm.machine import Machine
from vm.process import Spawn, spawn
from vm.tsc import host_tsc_khz

__all__ = ["KVM_CPUS", "Attempt", "Verdict", "decide", "kvm_limit", "probe"]

KVM_CPUS = ("host", "host,arch-capabilities=off")
"""CPU models to try under KVM, in order. Some nested hosts offer MSR_IA32_ARCH_CAPABILITIES and
then refuse to set it, which ends QEMU at once (an assertion in kvm_buf_set_msrs)."""

_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TCG_LIMIT_S = 60.0
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One boot. `seconds` from launch to the guest's init; None: it did not come that far."""

    accel: Accelerator
    cpu: str
    seconds: float | None
    outcome: str
    """In words fit for a record."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The accelerator to use, and why. Times in seconds."""

    accel: Accelerator
    cpu: str
    tcg_s: float
    kvm_s: float | None
    attempts: tuple[Attempt, ...]

    @property
    def reason(self) -> str:
        """One sentence for people."""
        return "; ".join(f"{one.accel} ({one.cpu}): {one.outcome}" for one in self.attempts)


def kvm_limit(tcg_s: float) -> float:
    """Return the seconds that KVM gets before it is not worth waiting for."""
    return 1.5 * tcg_s + 1.0


def decide(attempts: Sequence[Attempt]) -> Verdict:
    """Choose from what was tried: the fastest that got to init. ValueError: TCG did not."""
    done = [one for one in attempts if one.seconds is not None]
    tcg_s = next((one.seconds for one in done if one.accel == "tcg"), None)
    kvm_s = next((one.seconds for one in done if one.accel == "kvm"), None)
    if tcg_s is None:
        raise ValueError("no attempt under TCG came to init: nothing to compare with")
    best = min(done, key=lambda one: one.seconds or 0.0)
    return Verdict(best.accel, best.cpu, tcg_s, kvm_s, tuple(attempts))


def probe(kernel: Kernel, cache: Path, *, refresh: bool = False, spawn: Spawn = spawn) -> Verdict:
    """Return the verdict for this host, from the cache if it was found since the host's boot.

    Takes the time of two to three guest boots otherwise. Raises what a boot under TCG raises:
    without that there is no VM here at all.
    """
    key = _key(kernel)
    stored = cache / "accelerator.json"
    if not refresh and (known := _load(stored, key)):
        return known
    tcg = _boot(kernel, cache, "tcg", CPUS["tcg"], _TCG_LIMIT_S, spawn)
    attempts = [Attempt("tcg", CPUS["tcg"], tcg, f"init after {tcg:.2f} s")]
    attempts += _try_kvm(kernel, cache, kvm_limit(tcg), spawn)
    verdict = decide(attempts)
    _store(stored, key, verdict)
    return verdict


def _try_kvm(kernel: Kernel, cache: Path, limit: float, spawn: Spawn) -> list[Attempt]:
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return [Attempt("kvm", KVM_CPUS[0], None, f"cannot open {_KVM}: {error.strerror}")]
    attempts = []
    for cpu in KVM_CPUS:
        try:
            seconds = _boot(kernel, cache, "kvm", cpu, limit, spawn)
        except NotReady:
            # It runs, and crawls: another CPU model would not change that.
            attempts.append(Attempt("kvm", cpu, None, f"no init within {limit:.1f} s"))
            break
        except MachineError as error:
            words = error.output.strip().splitlines() or [str(error.args[0])]
            attempts.append(Attempt("kvm", cpu, None, f"QEMU ended: {words[-1]}"))
            continue
        attempts.append(Attempt("kvm", cpu, seconds, f"init after {seconds:.2f} s"))
        break
    return attempts


def _boot(
    kernel: Kernel, cache: Path, accel: Accelerator, cpu: str, limit: float, spawn: Spawn
) -> float:
    """Return the seconds from launch to the guest's init. MachineError: it did not come."""
    with scratch(cache) as directory:
        config = MachineConfig(
            name=f"probe-{accel}",
            kernel=kernel.image,
            initramfs=build_initramfs(kernel, "mmio", cache),
            state_dir=directory / "machine",
            accel=accel,
            cpu=cpu,
            tsc_khz=host_tsc_khz(),
        )
        start = time.monotonic_ns()
        machine = Machine.launch(config, spawn=spawn)
        try:
            return (machine.wait_phase("init", time.monotonic() + limit) - start) / 1e9
        finally:
            machine.kill()


def _key(kernel: Kernel) -> dict[str, str | int]:
    try:
        version = subprocess.run(
            [QEMU, "--version"], check=True, capture_output=True, text=True
        ).stdout.splitlines()[0]
    except FileNotFoundError as error:
        raise ToolMissing(f"{QEMU} is not here; install qemu-system-x86") from error
    return {
        "format": _FORMAT,
        "boot_id": _BOOT_ID.read_text().strip(),
        "qemu": version,
        "kernel": kernel.sha256,
    }


def _load(path: Path, key: dict[str, str | int]) -> Verdict | None:
    try:
        stored = json.loads(path.read_text())
        if stored["key"] != key:
            return None
        return decide([Attempt(**one) for one in stored["attempts"]])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # cut short or of another version: a cache is made again, not repaired


def _store(path: Path, key: dict[str, str | int], verdict: Verdict) -> None:
    text = json.dumps({"key": key, "attempts": [asdict(one) for one in verdict.attempts]}, indent=1)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n")
    temporary.replace(path)
