"""Seconds of a boot to ready, for variants of the machine, interleaved in random order.

    python -m tests.integration.vm.measure [REPEATS [VARIANT ...]]

Not a test: it asserts nothing. The figures in the comments of `vm.command` come from here.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from vm import Job, Machine, MachineConfig, build_base, build_initramfs, ensure_kernel, host_tsc_khz

CACHE = Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))


def variants() -> dict[str, dict[str, object]]:
    kernel = ensure_kernel(CACHE)
    return {
        "default": {},
        "bzimage": {"kernel": kernel.vmlinuz},
        "q35": {"machine": "q35", "initramfs": build_initramfs(kernel, "pci", CACHE)},
        "no console": {"console": False},
        "cpu max": {"cpu": "max"},
        "cpu qemu64": {"cpu": "qemu64"},
        "crypto tests": {"append": ("cryptomgr.notests=0",)},
        "expedited RCU": {"append": ("rcupdate.rcu_expedited=1",)},
        "few LSMs": {"append": ("lsm=capability", "audit=0")},
    }


def boot(scratch: Path, **changes: object) -> float:
    kernel = ensure_kernel(CACHE)
    settings: dict[str, object] = {
        "name": "measure",
        "kernel": kernel.image,
        "initramfs": build_initramfs(kernel, "mmio", CACHE),
        "state_dir": scratch / "machine",
        "disk": build_base(scratch / "tree", "sha256:measure", scratch),
        "job": Job(("/bin/busybox", "sh", "-c", "printf r >&3; sleep 1000")),
        "tsc_khz": host_tsc_khz(),
        **changes,
    }
    config = MachineConfig(**settings)  # type: ignore[arg-type]
    start = time.monotonic_ns()
    machine = Machine.launch(config)
    try:
        machine.wait_event(time.monotonic() + 60)
        return (time.monotonic_ns() - start) / 1e9
    finally:
        machine.kill()


def main(repeats: int, names: list[str]) -> None:
    chosen = {name: one for name, one in variants().items() if not names or name in names}
    times: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        (scratch / "tree/bin").mkdir(parents=True)
        (scratch / "tree/bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
        (scratch / "tree/bin/busybox").chmod(0o755)
        for _ in range(repeats):
            for name in random.sample(list(chosen), len(chosen)):
                times[name].append(boot(scratch, **chosen[name]))
    for name, values in times.items():
        print(f"{name:16} median {statistics.median(values):.3f}  fastest {min(values):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:])
