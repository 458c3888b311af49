"""The command as it is installed, a root file system, and engines that use both."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.oci.install import install
from tests.integration.runtime.oci.bundles import Bundle, Runtime
from tests.integration.runtime.oci.engines import (
    Docker,
    Engine,
    Podman,
    cgroup_roots,
    missing,
)

APPLETS = [
    "cat",
    "chmod",
    "chown",
    "cut",
    "dd",
    "df",
    "echo",
    "env",
    "false",
    "free",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "nproc",
    "ping",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "sed",
    "seq",
    "sh",
    "sleep",
    "sort",
    "stat",
    "stty",
    "tail",
    "test",
    "touch",
    "tr",
    "true",
    "tty",
    "ulimit",
    "umount",
    "uname",
    "wc",
    "wget",
    "whoami",
    "yes",
]


@pytest.fixture(scope="session")
def lab_oci(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command, or another runtime to hold the tests against: LAB_TEST_OCI_RUNTIME=runc."""
    other = os.environ.get("LAB_TEST_OCI_RUNTIME")
    if other:
        found = shutil.which(other)
        assert found is not None, f"LAB_TEST_OCI_RUNTIME: no {other}"
        return found
    path = tmp_path_factory.mktemp("bin") / "lab-oci"
    install(path, sys.executable)
    return str(path)


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A root file system of busybox alone."""
    if shutil.which("busybox") is None:
        pytest.skip("not installed: busybox (package busybox-static)")
    folder = Path(tempfile.mkdtemp(prefix="lab-rootfs-", dir="/var/tmp"))
    yield make_rootfs(folder)
    shutil.rmtree(folder)


def make_rootfs(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (folder / name).mkdir()
    shutil.copy(shutil.which("busybox") or "busybox", folder / "bin/busybox")
    for name in APPLETS:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "bin/notexecutable").write_text("#!/bin/sh\n")
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n"
    )
    (folder / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return folder


@pytest.fixture(scope="session")
def docker(lab_oci: str, rootfs: Path) -> Iterator[Engine]:
    if reason := missing("dockerd", "containerd", "docker", "setsid"):
        pytest.skip(reason)
    with Docker({"lab": lab_oci}, "lab") as engine:
        engine.import_image(rootfs)
        yield engine


@pytest.fixture(scope="session")
def podman(lab_oci: str, rootfs: Path) -> Iterator[Engine]:
    if reason := missing("podman", "conmon", "setsid"):
        pytest.skip(reason)
    with Podman(lab_oci) as engine:
        engine.import_image(rootfs)
        yield engine


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def oci(lab_oci: str) -> Iterator[Runtime]:
    """The command, with containers of its own, which are gone with all they had after a test."""
    root = Path(tempfile.mkdtemp(prefix="lab-oci-", dir="/run"))
    runtime = Runtime(lab_oci, root)
    yield runtime
    for directory in root.iterdir():
        runtime("delete", "--force", directory.name, check=False)
    left = [*root.iterdir(), *_left_in_cgroups()]
    shutil.rmtree(root)
    _remove_test_cgroups()
    assert not left
    mounts = Path("/proc/self/mounts").read_text()
    assert "lab-rootfs-" not in mounts


@pytest.fixture
def bundle(tmp_path: Path, rootfs: Path) -> Bundle:
    """A bundle that runs a shell."""
    return Bundle(tmp_path, rootfs).write()


def _test_cgroups() -> list[Path]:
    return [Path(root, f"lab-oci-test-{os.getpid()}") for root in cgroup_roots()]


def _left_in_cgroups() -> list[Path]:
    parents = [path for path in _test_cgroups() if path.is_dir()]
    return [path for parent in parents for path in parent.iterdir() if path.is_dir()]


def _remove_test_cgroups() -> None:
    for path in _test_cgroups():
        if path.is_dir():
            path.rmdir()
