"""A store in a temporary directory, and images made of small archives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import Image, ImageStore
from tests.tars import Member, make_tar


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
def make_image(store: ImageStore, tmp_path: Path) -> Callable[..., Image]:
    """An image of a name and of layers, each a list of members."""

    def make(name: str, *layers: list[Member]) -> Image:
        folder = tmp_path / f"tars-{name.replace('/', '-')}"
        folder.mkdir(exist_ok=True)
        paths = [make_tar(folder / f"{n}.tar", *members) for n, members in enumerate(layers)]
        return store.add(name, paths, env={"PATH": "/bin"}, history=[f"step {n}" for n in layers])

    return make


def contents(store: ImageStore) -> dict[str, list[str]]:
    """What a store holds, for comparing before and after."""
    return {
        folder: sorted(path.name for path in (store.root / folder).iterdir())
        for folder in ("layers/sha256", "archives/sha256", "images/sha256", "names", "tmp", "pins")
    }


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())
