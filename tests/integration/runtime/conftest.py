"""Real spawner, real store, real cgroups; everything made here is gone after each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import Cgroup, Container, ContainerSpec, Image, ImageStore, Spawner
from tests.integration.runtime.cgroup_helpers import group, layout

__all__ = ["group", "layout"]  # fixtures

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups")


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    with Spawner() as spawner:
        yield spawner


@pytest.fixture(scope="session")
def store() -> ImageStore:
    cache = Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))
    return ImageStore(cache / "images")


@pytest.fixture
def busybox(store: ImageStore) -> Image:
    return store.ensure("busybox")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory on a disk: overlayfs takes no upper layer on another overlay."""
    path = Path(tempfile.mkdtemp(prefix="isolation-lab-test-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


class Result:
    """What a container said and how it ended."""

    def __init__(self, status: int, out: str, container: Container) -> None:
        self.status = status
        self.out = out
        self.container = container


Run = Callable[..., Result]


@pytest.fixture
def make_spec(busybox: Image, folder: Path) -> Callable[..., ContainerSpec]:
    def make(*argv: str, **changes: Any) -> ContainerSpec:
        name = changes.pop("name", f"test{next(_numbers)}")
        values: dict[str, Any] = {
            "name": name,
            "layers": busybox.layers,
            "argv": argv,
            "state_dir": folder / name,
            "env": busybox.env,
        }
        return ContainerSpec(**{**values, **changes})

    return make


@pytest.fixture
def run(spawner: Spawner, group: Cgroup, make_spec: Callable[..., ContainerSpec]) -> Run:
    """Run a shell script, or an argument vector, to its end in a container, and stop it."""

    def run(script: str | tuple[str, ...], **changes: Any) -> Result:
        with tempfile.TemporaryFile() as out:
            fds = {1: out.fileno(), 2: out.fileno(), **changes.pop("fds", {})}
            argv = ("/bin/sh", "-c", script) if isinstance(script, str) else script
            spec = make_spec(*argv, fds=fds, **changes)
            with Container.launch(spec, spawner, parent=group) as container:
                status = container.process.started().wait(30)
            out.seek(0)
            return Result(status, out.read().decode(), container)

    return run
