"""The image store: a directory that several processes may use at once.

    layers/sha256/<hex>/       an unpacked layer, by the digest of its uncompressed archive
    images/sha256/<hex>.json   a configuration, by its own digest
    names/<name>               a digest
    flat/sha256/<hex>/         a flattened image, where one was asked for
    tmp/<pid>.<start>.*/       what is being made; its owner's pid and start time
    locks/<what>               flock(2) targets

Everything appears by rename(2), whole or not at all. A process that is killed leaves only its
directory in tmp/, which the next one to open the store removes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import ImageError, ImageNotFound, SpecError
from runtime.images.flatten import flatten
from runtime.images.image import Image, digest, image_config
from runtime.images.layer import diff_id, unpack
from runtime.images.recipes import RECIPES, Recipe

__all__ = ["ImageStore"]

_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*(:[A-Za-z0-9_.-]{1,128})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageStore:
    """The images below `root`, which is made if it is not there."""

    def __init__(self, root: Path, recipes: Mapping[str, Recipe] = RECIPES) -> None:
        self.root = root
        self.recipes = recipes
        for name in ("layers/sha256", "images/sha256", "flat/sha256", "names", "locks", "tmp"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self._sweep()

    def get(self, name: str) -> Image:
        """The stored image of this name or ``sha256:…``. Raises ImageNotFound with the choices."""
        if _DIGEST.fullmatch(name):
            value = name
        elif _NAME.fullmatch(name):
            try:
                value = (self.root / "names" / name).read_text()
            except FileNotFoundError:
                raise self._not_found(name) from None
        else:
            raise SpecError(f"image name {name!r}: must be like debian, my-image:1 or sha256:…")
        try:
            config = json.loads(self._config(value).read_bytes())
        except FileNotFoundError:
            raise self._not_found(name) from None
        layers = tuple(self._layer(each) for each in config["rootfs"]["diff_ids"])
        return Image(name, value, layers, config)

    def list(self) -> tuple[Image, ...]:
        """All named images, by name."""
        names = sorted(path.name for path in (self.root / "names").iterdir())
        return tuple(self.get(name) for name in names)

    def add(
        self,
        name: str,
        layers: Sequence[Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        history: Sequence[str] = (),
    ) -> Image:
        """Store an image of these layer archives (tar, or gzipped tar), lowest first, under this
        name; a name that is taken moves to the new image.

        Raises LayerRefused for an archive that must not be unpacked; nothing of it stays."""
        if not _NAME.fullmatch(name):
            raise SpecError(f"image name {name!r}: must be like debian or my-image:1")
        if not layers:
            raise SpecError(f"image {name!r}: needs at least one layer")
        diff_ids = [self._add_layer(archive) for archive in layers]
        content = image_config(diff_ids, env or {}, cwd, history, os.uname().machine)
        value = digest(content)
        with self._temporary() as folder:
            for path, data in (
                (self._config(value), content),
                (self.root / "names" / name, value.encode()),
            ):
                fresh = folder / path.name
                fresh.write_bytes(data)
                fresh.rename(path)
        return self.get(name)

    def ensure(self, name: str) -> Image:
        """The stored image of this name, or else built from its recipe, once however many
        processes ask. Raises ImageNotFound or RecipeFailed."""
        try:
            return self.get(name)
        except ImageNotFound:
            if name not in self.recipes:
                raise
        recipe = self.recipes[name]
        with self._lock(f"recipe-{name}"):
            try:
                return self.get(name)  # somebody else has built it while we waited
            except ImageNotFound:
                pass
            with self._temporary() as folder:
                archive = folder / "layer.tar"
                recipe.build(archive)
                return self.add(
                    name, [archive], env=recipe.env, cwd=recipe.cwd, history=[f"recipe {name}"]
                )

    def flatten(self, image: Image) -> Path:
        """One directory tree with the image's content, not to be written to: the layer itself if
        there is just one; else a merged copy, made once and kept. Raises ImageError."""
        if len(image.layers) == 1:
            return image.layers[0]
        target = self.root / "flat" / "sha256" / image.digest.removeprefix("sha256:")
        with self._lock(target.name):
            if not target.exists():
                with self._temporary() as folder:
                    fresh, view = folder / "tree", folder / "view"
                    fresh.mkdir()
                    view.mkdir()
                    try:
                        flatten(image.layers, fresh, view)
                    except OSError as error:
                        raise ImageError(f"cannot flatten image {image.name}: {error}") from error
                    fresh.rename(target)
        return target

    def _add_layer(self, archive: Path) -> str:
        try:
            value = diff_id(archive)
        except OSError as error:
            raise ImageError(f"cannot read layer {archive}: {error.strerror}") from error
        target = self._layer(value)
        with self._lock(target.name):
            if not target.exists():
                with self._temporary() as folder:
                    fresh = folder / "layer"
                    fresh.mkdir(mode=0o755)
                    unpack(archive, fresh)
                    fresh.rename(target)
        return value

    def _layer(self, value: str) -> Path:
        return self.root / "layers" / "sha256" / value.removeprefix("sha256:")

    def _config(self, value: str) -> Path:
        return self.root / "images" / "sha256" / f"{value.removeprefix('sha256:')}.json"

    def _not_found(self, name: str) -> ImageNotFound:
        stored = [path.name for path in (self.root / "names").iterdir()]
        return ImageNotFound(name, stored, self.recipes)

    @contextmanager
    def _lock(self, what: str) -> Iterator[None]:
        """Held by one process or thread at a time (flock(2)); the kernel frees it at death."""
        with (self.root / "locks" / what).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        """A directory on the store's file system that is gone afterwards."""
        prefix = f"{os.getpid()}.{_started(os.getpid())}."
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.root / "tmp") as folder:
            yield Path(folder)

    def _sweep(self) -> None:
        """Remove what dead processes were making."""
        with self._lock("sweep"):  # two at once would trip over each other's removals
            for path in (self.root / "tmp").iterdir():
                pid, start, _ = path.name.split(".", 2)
                if _started(int(pid)) != start:
                    shutil.rmtree(path)


def _started(pid: int) -> str | None:
    """When this process started, in clock ticks since boot (proc_pid_stat(5), field 22); with the
    pid it names one process. None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()[19]
