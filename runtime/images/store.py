"""The image store: a directory that several processes may use at once.

The class has one method for each thing that people do with images; how the directory is laid out
is told by files.py, what keeps a layer from being removed by pins.py.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import ImageError, ImageInUse, ImageNotFound, SpecError
from runtime.images.changes import Change, Hidden, LayerSize, changes, hidden, layer_sizes
from runtime.images.commit import commit
from runtime.images.compression import Compression
from runtime.images.files import StoreFiles
from runtime.images.flatten import flatten
from runtime.images.idmap import IdMap
from runtime.images.image import HistoryEntry, Image, digest, image_config
from runtime.images.merged import MergedView
from runtime.images.names import DIGEST, from_file_name, short_name
from runtime.images.pins import Pin, live_pins
from runtime.images.recipes import RECIPES, Recipe
from runtime.images.shelf import LayerShelf, LayerSource, Pruned
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm

if TYPE_CHECKING:
    from runtime.images.build import Runner
    from runtime.images.export import Format

__all__ = ["ImageStore"]

_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{6,64})")


class ImageStore:
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

    # What there is.

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

    def history(self, name: str) -> tuple[HistoryEntry, ...]:
        """How the image came to be, first step first; sizes are of what each step stored."""
        image = self.get(name)
        diff_ids = iter(image.diff_ids)
        entries = []
        for step in image.config.get("history") or []:
            layer = None if step.get("empty_layer") else next(diff_ids, None)
            entries.append(
                HistoryEntry(
                    step.get("created") or "",
                    step.get("created_by") or "",
                    step.get("comment") or "",
                    layer,
                    self.shelf.summary(layer).content if layer else 0,
                )
            )
        rest = (
            HistoryEntry("", "", "", each, self.shelf.summary(each).content) for each in diff_ids
        )
        return (*entries, *rest)  # an image need not tell its history

    def layer_sizes(self, name: str) -> Sequence[LayerSize]:
        """What each layer holds, lowest first, and how much of it higher layers hide."""
        return layer_sizes(self.get(name).layers, self.form)

    def hidden(self, name: str) -> Sequence[Hidden]:
        """The files that are stored in the image and that nobody sees: deleted or replaced in a
        higher layer. Their bytes are there all the same, for everybody who has the image."""
        return hidden(self.get(name).layers, self.form)

    def view(self, image: Image) -> MergedView:
        """What its layers show together, without mounting them."""
        return MergedView(image.layers, self.form)

    @cached_property
    def form(self) -> OverlayForm:
        """The form of whiteouts that this caller's layers have."""
        with self.files.temporary() as folder:
            return OverlayForm.probe(folder)

    # Making them.

    def add(
        self,
        name: str,
        layers: Sequence[Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        history: Sequence[str] = (),
    ) -> Image:
        """Store an image of these layer archives (tar, plain or packed), lowest first, under this
        name; a name that is taken moves to the new image.

        Raises LayerRefused for an archive that must not be unpacked; nothing of it stays."""
        short_name(name)
        if not layers:
            raise SpecError(f"image {name!r}: needs at least one layer")
        with self._working(f"adding {name}") as pin:
            diff_ids = [self._add_file(archive, pin) for archive in layers]
            content = image_config(diff_ids, env or {}, cwd, history, os.uname().machine)
            return self.put(content, [name])

    def ensure(self, name: str) -> Image:
        """The stored image of this name, or else built from its recipe, once however many
        processes ask. Raises ImageNotFound or RecipeFailed."""
        try:
            return self.get(name)
        except ImageNotFound:
            if name not in self.recipes:
                raise
        recipe = self.recipes[name]
        with self.files.lock(f"recipe-{name}"):
            try:
                return self.get(name)  # somebody else has built it while we waited
            except ImageNotFound:
                pass
            with self.files.temporary() as folder:
                archive = folder / "layer.tar"
                recipe.build(archive)
                return self.add(
                    name, [archive], env=recipe.env, cwd=recipe.cwd, history=[f"recipe {name}"]
                )

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

    def commit(
        self,
        upper: Path,
        base: Image,
        name: str | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        author: str = "",
        message: str = "",
        created_by: str = "",
        form: OverlayForm | None = None,
        idmap: IdMap | None = None,
    ) -> Image:
        """A new image: `base`, and on it one layer with what a container wrote to its upper
        directory, nothing else. Pause or stop the container first.

        `config` replaces fields of the configuration's "config" (Cmd, Env, …; None removes one).
        `form` is that of the container's overlay if it is not this store's, `idmap` the one that
        the container's owners are shifted by. Raises ImageError if the directory cannot be
        packed; the store is then as before."""
        with self._working(f"committing {upper}") as pin:
            content = commit(
                self.shelf, pin, upper, base, form or self.form, idmap,
                config=config or {}, author=author, message=message, created_by=created_by,
            )  # fmt: skip
            return self.put(content, [name] if name is not None else [])

    def diff(self, upper: Path, image: Image, form: OverlayForm | None = None) -> Sequence[Change]:
        """What a container wrote: its upper directory against its image, as `docker diff`."""
        form = form or self.form
        return changes(upper, image.layers, form)

    def flatten(self, image: Image) -> Path:
        """One directory tree with the image's content, not to be written to: the layer itself if
        there is just one; else a merged copy, made once and kept. Raises ImageError."""
        if len(image.layers) == 1:
            return image.layers[0]
        target = self.files.flat(image.digest)
        with self.files.lock(f"flat-{target.name[:2]}"):
            if not target.exists():
                with self.files.temporary() as folder:
                    fresh, view = folder / "tree", folder / "view"
                    fresh.mkdir()
                    view.mkdir()
                    try:
                        flatten(image.layers, fresh, view)
                    except OSError as error:
                        raise ImageError(f"cannot flatten image {image.name}: {error}") from error
                    fresh.rename(target)
        return target

    def shifted(self, image: Image, idmap: IdMap) -> Sequence[Path]:
        """The image's layers once more, with owners shifted by the map; made once and kept. For
        user namespaces where the kernel has no idmapped mounts."""
        return [self.shelf.shifted(each, idmap) for each in image.diff_ids]

    # Names, and the end.

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

    # To and from elsewhere.

    def load(self, source: Path, name: str | None = None) -> tuple[Image, ...]:
        """Take in all images of a `docker save` archive, an OCI archive, or an OCI layout
        directory, plain or packed. `name` is for the one image in it, instead of its own names.

        Raises ArchiveRefused, DigestMismatch or LayerRefused, naming the member."""
        from runtime.images.load import load

        with self._working(f"loading {source}") as pin:
            return load(self, pin, source, name)

    def save(
        self,
        names: Sequence[str],
        target: Path,
        *,
        format: Format = "docker",
        compression: Compression = "none",
    ) -> None:
        """Write images to a file that `docker load`, `podman load` and `skopeo` take ("docker":
        an OCI layout in a tar, with `docker save`'s manifest.json beside it; "docker-legacy":
        the latter alone; "oci-archive"), or to a new directory ("oci"). Whole or not at all."""
        from runtime.images.export import save

        save(self, [self.get(name) for name in names], target, format, compression)

    def pull(
        self,
        reference: str,
        name: str | None = None,
        *,
        tls_verify: bool = True,
        authfile: Path | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> Image:
        """Fetch an image for this host from a registry, under its own name or `name`; layers that
        are here are not fetched again.

        Raises RegistryError with skopeo's words, or what `load` raises."""
        from runtime.images.registry import Access, pull

        with self._working(f"pulling {reference}") as pin:
            access = Access(tls_verify, authfile, credentials)
            return pull(self, pin, reference, name, access)

    def push(
        self,
        name: str,
        reference: str | None = None,
        *,
        tls_verify: bool = True,
        authfile: Path | None = None,
        credentials: tuple[str, str] | None = None,
    ) -> str:
        """Send an image to a registry, by its own name or as `reference`; the manifest's digest
        there. Raises RegistryError with skopeo's words."""
        from runtime.images.registry import Access, push

        access = Access(tls_verify, authfile, credentials)
        return push(self, self.get(name), reference or name, access)

    def build(
        self,
        context: Path,
        runner: Runner,
        name: str | None = None,
        *,
        dockerfile: Path | None = None,
        args: Mapping[str, str] | None = None,
        target: str | None = None,
        network: str = "none",
        use_cache: bool = True,
    ) -> Image:
        """Build from a Dockerfile (`context`/Dockerfile unless told otherwise); see build.py.

        Raises DockerfileError or BuildStepFailed with file and line."""
        from runtime.images.build import Build

        with self._working(f"building {context}") as pin:
            build = Build(self, pin, runner, context, args or {}, network, use_cache)
            content = build.run(dockerfile or context / "Dockerfile", target)
            return self.put(content, [name] if name is not None else [])

    # Details.

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

    def _add_file(self, archive: Path, pin: Pin) -> str:
        try:
            file = archive.open("rb")
        except OSError as error:
            raise ImageError(f"cannot read layer {archive}: {error.strerror}") from error
        with file:
            return self.shelf.add(LayerSource(lambda: nullcontext(file), str(archive)), pin)
