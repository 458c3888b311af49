"""Images by name: those in the store, the runtime's recipes, and the lab's own.

`gigabyte` is busybox with a file of 1 GiB, for the scale experiment: what a thousand instances
share. Its content is pseudo-random, so that no file system packs it, and the same on every host.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lab.paths import cache_dir

if TYPE_CHECKING:
    from runtime.images import ImageStore, Recipe

__all__ = ["image_store", "known_images"]

_MIB = 2**20
_DATA_MIB = 1024
_SEED = 20_040_229


def image_store(root: Path) -> ImageStore:
    """The store in this directory, with all recipes."""
    from runtime.images import ImageStore

    return ImageStore(root, _recipes())


def known_images() -> list[str]:
    """Names of images in the store and of recipes that can be built, sorted."""
    root = cache_dir() / "images"
    stored = [image.name for image in image_store(root).list()] if root.is_dir() else []
    return sorted({*_recipes(), *stored})


def _recipes() -> Mapping[str, Recipe]:
    from runtime.images import RECIPES, Recipe

    gigabyte = Recipe(
        "gigabyte", "busybox and a file of 1 GiB, for the scale experiment", _gigabyte
    )
    return {**RECIPES, gigabyte.name: gigabyte}


def _gigabyte(archive: Path) -> None:
    from runtime.images import RECIPES

    RECIPES["busybox"].build(archive)
    with tarfile.open(archive, "a", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("var/data")
        info.size, info.mode = _DATA_MIB * _MIB, 0o644
        tar.addfile(info, io.BufferedReader(_Noise(_DATA_MIB), _MIB))


class _Noise(io.RawIOBase):
    """So many MiB of it, made as they are read."""

    def __init__(self, blocks: int) -> None:
        self._left = blocks
        self._random = random.Random(_SEED)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """One block; BufferedReader asks for no less."""
        if not self._left:
            return 0
        self._left -= 1
        buffer[:_MIB] = self._random.randbytes(_MIB)
        return _MIB
