"""Which images a store has, and by which names; the end of those that nobody needs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from runtime.errors import ImageInUse, ImageNotFound
from runtime.images.files import StoreFiles
from runtime.images.image import Image, digest
from runtime.images.names import DIGEST, from_file_name, short_name
from runtime.images.pins import Pin, live_pins
from runtime.images.recipes import RECIPES, Recipe
from runtime.images.shelf import LayerShelf, Pruned
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm

__all__ = ["ImageIndex"]

_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


class ImageIndex:
    """The images below `root`, which is made if it is not there.

    `limits` are what an archive may ask for before it is refused as a bomb."""

    def __init__(
        self,
        root: Path,
        recipes: Mapping[str, Recipe] = RECIPES,
        *,
        limits: UnpackLimits | None = None,
    ) -> None:
        self.root = root
        self.recipes = recipes
        self.files = StoreFiles(root)
        """Paths and locks."""
        self.shelf = LayerShelf(self.files, limits or UnpackLimits())
        """The layers."""

    def get(self, name: str) -> Image:
        """The stored image of this name, ``sha256:…``, or the beginning of its hex digits (6 at
        least). Raises ImageNotFound with the choices."""
        known, value = self._find(name)
        try:
            config = json.loads(self.files.config(value).read_bytes())
        except FileNotFoundError:
            raise self._not_found(name) from None
        layers = tuple(self.files.layer(each) for each in config["rootfs"]["diff_ids"])
        return Image(known, value, layers, config)

    def list(self) -> tuple[Image, ...]:
        """All named images, by name."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except ImageNotFound:
                continue  # removed by somebody else meanwhile
        return tuple(found)

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        paths = (self.root / "names").iterdir()
        return sorted(from_file_name(path.name) for path in paths)

    @cached_property
    def form(self) -> OverlayForm:
        """The form of whiteouts that this caller's layers have."""
        with self.files.temporary() as folder:
            return OverlayForm.probe(folder)

    def put(self, config: bytes, names: Iterable[str] = ()) -> Image:
        """Store the configuration of an image whose layers are there and pinned by the caller,
        and let these names mean it."""
        value = digest(config)
        short = [short_name(name) for name in names]
        with self.files.temporary() as folder, self.files.lock("store", shared=True):
            self.files.write(self.files.config(value), config, folder)
            for name in short:
                self.files.write(self.files.name(name), value.encode(), folder)
        return self.get(short[0] if short else value)

    def tag(self, image: str, name: str) -> Image:
        """Let `name` mean the image too; a name that is taken moves."""
        found, short = self.get(image), short_name(name)
        with self.files.temporary() as folder, self.files.lock("store", shared=True):
            if not self.files.config(found.digest).exists():
                raise self._not_found(image)  # removed since
            self.files.write(self.files.name(short), found.digest.encode(), folder)
        return self.get(short)

    def remove(self, name: str, *, force: bool = False) -> Pruned:
        """Take this name away, and with its last name the image, with the layers that no other
        image has. A digest stands for all its names.

        Raises ImageInUse if it is the last name and something that runs holds the image; `force`
        takes the name only, and what is held goes with a later `prune`."""
        known, value = self._find(name)
        with self.files.lock("store"):
            names = [each for each in self.names() if self.files.name(each).read_text() == value]
            going = names if known not in names else [known]
            if going == names and not force:
                pins = live_pins(self.root / "pins")
                if holders := [pin.who for pin in pins if pin.image == value]:
                    raise ImageInUse(name, holders)
            for each in going:
                self.files.name(each).unlink()
        return self.shelf.collect({value})

    def prune(self) -> Pruned:
        """Remove every image without a name that nothing running holds, every layer that is then
        of no image, and the steps of builds that stood on one."""
        return self.shelf.collect()

    def pin(self, image: Image, *, pid: int | None = None, who: str | None = None) -> Pin:
        """Keep the image while something runs from it: until `Pin.release`, or the end of this
        process, or of the process `pid`, for a container that outlives its starter (then call
        `Pin.detach`). One pin does for any number of containers of one process."""
        owner = os.getpid() if pid is None else pid
        pin = self.shelf.pin(image.digest, image.diff_ids, pid, who or f"process {owner}")
        if not self.files.config(image.digest).exists():
            pin.release()
            raise self._not_found(image.name)
        return pin

    def _find(self, name: str) -> tuple[str, str]:
        """The name as it is stored, or as it was given for a digest; the digest."""
        if DIGEST.fullmatch(name):
            return name, name
        short = short_name(name)
        try:
            return short, self.files.name(short).read_text()
        except FileNotFoundError:
            pass
        if match := _SHORT_ID.fullmatch(name):
            folder = self.files.config("").parent
            if len(found := list(folder.glob(f"{match[1]}*.json"))) == 1:
                return name, f"sha256:{found[0].stem}"
        raise self._not_found(name)

    def _not_found(self, name: str) -> ImageNotFound:
        return ImageNotFound(name, self.names(), self.recipes)

    def _working(self, what: str) -> Pin:
        """What is taken in meanwhile is held until it is referred to."""
        return self.shelf.pin(None, (), None, what)
