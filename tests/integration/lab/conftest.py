"""A real run's shared things, on this host; everything made here is gone after each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends import find_backend
from lab.backends.base import Backend, Workload
from lab.backends.context import Context, Shared
from lab.errors import BackendError
from lab.ownership import new_run_id, own_run
from tests.integration.lab.bench_process import Lab

REAL = ("native", "container", "vm")


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: cgroups, mounts and namespaces")


@pytest.fixture(scope="session")
def cache() -> Path:
    return Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))


@pytest.fixture(scope="session")
def warm(cache: Path) -> Path:
    """The cache with all that the three backends need; fetched and made where it is not there."""
    run = new_run_id("test-warm")
    with own_run(cache, run) as state, Shared(run, cache, state) as shared:
        for name in REAL:
            backend = find_backend(name)(Context(shared, {}))
            try:
                backend.prepare(Workload(argv=("/bin/true",)))
            except BackendError as error:
                pytest.skip(f"{name} cannot be prepared here: {error}")
            finally:
                backend.close()
    return cache


@pytest.fixture
def lab(warm: Path, tmp_path: Path) -> Iterator[Lab]:
    """`lab` with a copy of the cache, beside the cache so that hard links do."""
    copy = Path(tempfile.mkdtemp(prefix="isolation-lab-test-", dir=warm.parent))
    for name in ("kernels", "images", "disks", "initramfs", "init", "accelerator.json"):
        subprocess.run(["cp", "-al", warm / name, copy], check=True)
    (copy / "runs").mkdir()
    yield Lab(tmp_path, copy)
    shutil.rmtree(copy)


@pytest.fixture
def shared(cache: Path) -> Iterator[Shared]:
    run = new_run_id("test")
    with own_run(cache, run) as state, Shared(run, cache, state) as shared:
        yield shared


@pytest.fixture
def backend(request: pytest.FixtureRequest, shared: Shared) -> Iterator[Backend]:
    """Parametrise it indirectly with a name."""
    backend = find_backend(request.param)(Context(shared, {}))
    if reason := backend.capabilities().missing.get("available"):
        pytest.skip(f"{request.param}: {reason}")
    yield backend
    backend.close()
