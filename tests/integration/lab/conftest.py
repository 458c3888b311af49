"""A real run's shared things, on this host; everything made here is gone after each test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends import find_backend
from lab.backends.base import Backend
from lab.backends.context import Context, Shared
from lab.ownership import own_run

REAL = ("native", "container", "vm")

PATIENCE_S = 60.0
"""Only there to end a hang."""


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: cgroups, mounts and namespaces")


@pytest.fixture(scope="session")
def cache() -> Path:
    return Path(os.environ.get("LAB_CACHE_DIR", "/var/cache/isolation-lab"))


@pytest.fixture
def shared(cache: Path) -> Iterator[Shared]:
    run = f"test-{os.getpid()}-{secrets.token_hex(2)}"
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
