"""A guest kernel, an initramfs and a busybox disk, made once and kept between runs."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vm import (
    BaseDisk,
    Job,
    Kernel,
    Machine,
    MachineConfig,
    build_base,
    build_initramfs,
    ensure_kernel,
    host_tsc_khz,
    transport_of,
)

Boot = Callable[..., Machine]

LIMIT_S = 60.0
"""Far above any boot here: reached only when something hangs."""


def soon() -> float:
    return time.monotonic() + LIMIT_S


@pytest.fixture(scope="session", autouse=True)
def _host() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for program in ("qemu-system-x86_64", "qemu-img", "mke2fs", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    if platform.machine() != "x86_64":
        pytest.skip(f"no guest kernel for {platform.machine()}")


@pytest.fixture(scope="session")
def cache() -> Path:
    path = Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def kernel(cache: Path) -> Kernel:
    return ensure_kernel(cache)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("/bin/busybox is not here (package busybox-static)")
    root = tmp_path_factory.mktemp("tree")
    (root / "bin").mkdir()
    shutil.copy(busybox, root / "bin/busybox")
    names = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout
    for name in names.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture(scope="session")
def base(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseDisk:
    return build_base(tree, "sha256:busybox-for-tests", tmp_path_factory.mktemp("disks"))


@pytest.fixture
def configure(
    kernel: Kernel, base: BaseDisk, cache: Path, tmp_path: Path
) -> Callable[..., MachineConfig]:
    def make(*argv: str, job: dict[str, object] | None = None, **changes: object) -> MachineConfig:
        settings: dict[str, object] = {
            "name": "test",
            "kernel": kernel.image,
            "initramfs": build_initramfs(
                kernel,
                transport_of(changes.get("machine", "microvm")),  # type: ignore[arg-type]
                cache,
            ),
            "state_dir": tmp_path / "machine",
            "disk": base,
            "job": Job(argv=argv, **(job or {})) if argv else None,  # type: ignore[arg-type]
            "tsc_khz": host_tsc_khz(),
            **changes,
        }
        return MachineConfig(**settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def boot(configure: Callable[..., MachineConfig]) -> Iterator[Boot]:
    """Launch a machine; whatever the test leaves is killed."""
    started: list[Machine] = []

    def launch(*argv: str, **changes: object) -> Machine:
        machine = Machine.launch(configure(*argv, **changes))
        started.append(machine)
        return machine

    yield launch
    for machine in started:
        machine.kill()
