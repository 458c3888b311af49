"""The image store: a directory that several processes may use at once.

The class has one method for each thing that people do with images (those about names are in its
base, index.py); how the directory is laid out is told by files.py, what keeps a layer from being
removed by pins.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import ImageError, ImageNotFound, SpecError
from runtime.images.changes import Change, Hidden, LayerSize, changes, hidden, layer_sizes
from runtime.images.commit import commit
from runtime.images.compression import Compression
from runtime.images.flatten import flatten
from runtime.images.idmap import IdMap
from runtime.images.image import HistoryEntry, Image, history, image_config
from runtime.images.index import ImageIndex
from runtime.images.merged import MergedView
from runtime.images.names import short_name
from runtime.images.pins import Pin
from runtime.images.shelf import LayerSource
from runtime.images.whiteouts import OverlayForm

if TYPE_CHECKING:
    from runtime.images.export import Format
    from runtime.images.runner import Network, Runner

__all__ = ["ImageStore"]


class ImageStore(ImageIndex):
    """The images below `root`, which is made if it is not there: how they get in and out."""

    def history(self, name: str) -> tuple[HistoryEntry, ...]:
        """How the image came to be, first step first; sizes are of what each step stored."""
        return history(self.get(name), lambda layer: self.shelf.summary(layer).content)

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
        name = name.removesuffix(":latest")
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
        network: Network = "none",
        use_cache: bool = True,
        output: int | None = None,
    ) -> Image:
        """Build from a Dockerfile (`context`/Dockerfile unless told otherwise); see build.py.

        `runner` runs the commands, `output` is a descriptor for what they write, `args` are
        values for ARG, `target` is the stage that becomes the image.
        Raises DockerfileError or BuildStepFailed with file and line."""
        from runtime.images.build import Build

        with self._working(f"building {context}") as pin:
            build = Build(self, pin, runner, context, args or {}, network, use_cache, output)
            content = build.run(dockerfile or context / "Dockerfile", target)
            return self.put(content, [name] if name is not None else [])

    def _add_file(self, archive: Path, pin: Pin) -> str:
        try:
            file = archive.open("rb")
        except OSError as error:
            raise ImageError(f"cannot read layer {archive}: {error.strerror}") from error
        with file:
            return self.shelf.add(LayerSource(lambda: nullcontext(file), str(archive)), pin)
