"""KVM runs, whether or not it is fast: a boot sector that writes three bytes and ends QEMU."""

import os
import subprocess
from pathlib import Path

import pytest

from vm import Kernel, probe
from vm.accelerator import KVM_CPUS

pytestmark = [pytest.mark.root, pytest.mark.qemu]

# mov al,'K'; out 0xe9,al; mov al,'V'; out 0xe9,al; mov al,'M'; out 0xe9,al;
# mov al,0x10; out 0xf4,al (isa-debug-exit: QEMU ends with 0x10 << 1 | 1); hlt
_SECTOR = (
    bytes.fromhex("b04b e6e9 b056 e6e9 b04d e6e9 b010 e6f4 f4").ljust(510, b"\0") + b"\x55\xaa"
)


def test_a_boot_sector_under_kvm(tmp_path: Path) -> None:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"/dev/kvm: {error.strerror}")
    (tmp_path / "sector").write_bytes(_SECTOR)
    for cpu in ("kvm64", *KVM_CPUS):
        done = subprocess.run(
            [
                *("qemu-system-x86_64", "-accel", "kvm", "-cpu", cpu, "-machine", "pc"),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "16"),
                *("-drive", f"file={tmp_path / 'sector'},format=raw,if=ide"),
                *("-chardev", "stdio,id=out", "-device", "isa-debugcon,chardev=out,iobase=0xe9"),
                *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
            ],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        if done.returncode == 0x21:
            break
    assert done.stdout == b"KVM", done.stderr
    assert done.returncode == 0x21


def test_the_probe_gives_a_verdict_and_keeps_it(kernel: Kernel, cache: Path) -> None:
    verdict = probe(kernel, cache, refresh=True)
    assert verdict.attempts[0].accel == "tcg"
    assert verdict.attempts[-1].accel == "kvm"
    assert verdict.accel in ("tcg", "kvm")
    assert probe(kernel, cache) == verdict
