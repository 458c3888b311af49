import json
import os
from pathlib import Path

import pytest

from vm import kernel
from vm.errors import KernelError, Unsupported

FACTS = {"package": "p", "package_version": "1", "release": "6.1", "sha256": "00"}


def put(cache: Path, release: str, mtime: int) -> None:
    directory = cache / "kernels" / release
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps({**FACTS, "release": release}))
    os.utime(directory / "kernel.json", (mtime, mtime))


def test_the_latest_fetched_is_taken_without_asking_apt(tmp_path: Path) -> None:
    put(tmp_path, "6.2", 100)
    put(tmp_path, "6.1", 200)
    assert [one.release for one in kernel.cached_kernels(tmp_path)] == ["6.1", "6.2"]
    assert kernel.ensure_kernel(tmp_path).release == "6.1"


def test_vmlinux_is_preferred_where_there_is_one(tmp_path: Path) -> None:
    put(tmp_path, "6.1", 1)
    one = kernel.ensure_kernel(tmp_path)
    assert one.image == one.vmlinuz
    (one.directory / "vmlinux").touch()
    assert one.image == one.directory / "vmlinux"


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / "kernel.json").write_text("{")
    with pytest.raises(KernelError, match=str(tmp_path)):
        kernel.Kernel.load(tmp_path)


def test_arm_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(Unsupported, match="not supported on aarch64"):
        kernel.fetch_kernel(tmp_path)
