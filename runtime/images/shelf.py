"""The layers of a store: taken in, given back, removed when nothing refers to them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DigestMismatch, ImageError
from runtime.images.compression import Bytes, ChunkReader
from runtime.images.files import StoreFiles, tree_size
from runtime.images.idmap import IdMap
from runtime.images.layer import unpack
from runtime.images.pins import Pin, live_pins
from runtime.images.split import SplitSummary, SplitWriter, assemble, summary
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm

__all__ = ["LayerShelf", "LayerSource", "Pruned"]


@dataclass(frozen=True, slots=True)
class LayerSource:
    """A layer's archive to be taken in."""

    open: Callable[[], AbstractContextManager[Bytes]]
    archive: str
    """What it is called in messages: a file, or the image archive that it is in."""
    member: str | None = None
    """Its name in there."""
    diff_id: str | None = None
    """What it must be, uncompressed, where that is known."""
    digest: str | None = None
    """What it must be as it comes, where that is known."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a removal took away."""

    images: tuple[str, ...]
    """Digests of images."""
    layers: tuple[str, ...]
    """Diff ids of layers."""
    freed: int
    """Bytes on the disk."""


class LayerShelf:
    """Layers below a store's root."""

    def __init__(self, files: StoreFiles, limits: UnpackLimits) -> None:
        self.files = files
        self.limits = limits

    def pin(self, image: str | None, layers: Iterable[str], pid: int | None, who: str) -> Pin:
        """Hold what is named, as of now."""
        with self.files.translated(), self.files.lock("store", shared=True):
            pin = Pin(self.files.root / "pins", image, pid, who)
            try:
                pin.add(layers)
            except BaseException:
                pin.release()
                raise
        return pin

    def add(self, source: LayerSource, pin: Pin) -> str:
        """Have the layer unpacked, and held by `pin`; its diff id.

        One that is there by its diff id is not read again. Raises LayerRefused for an archive
        that must not be unpacked, DigestMismatch for one that is not what was promised; nothing
        of it stays then."""
        with self.files.temporary() as folder:
            if source.diff_id is None:
                found = self._unpack(source, folder)
                with self._lock(found):
                    return self._place(folder, found, pin)  # unless somebody else has by now
            with self._lock(source.diff_id):  # two that need it: the second waits and finds it
                if not self.hold(source.diff_id, pin):
                    self._place(folder, self._unpack(source, folder), pin)
                return source.diff_id

    def _unpack(self, source: LayerSource, folder: Path) -> str:
        tree = folder / "layer"
        tree.mkdir(mode=0o755)
        with SplitWriter(folder / "archive") as record, source.open() as stream:
            found = unpack(
                stream,
                tree,
                f"{source.archive}:{source.member}" if source.member else source.archive,
                form=OverlayForm.probe(tree),
                limits=self.limits,
                record=record,
                trusted=source.diff_id is not None or source.digest is not None,
            )
        for promised, is_ in ((source.digest, found.digest), (source.diff_id, found.diff_id)):
            if promised is not None and promised != is_:
                member = source.member or "(the layer)"
                raise DigestMismatch(source.archive, member, promised, is_)
        return found.diff_id

    def _place(self, folder: Path, diff_id: str, pin: Pin) -> str:
        if not self.hold(diff_id, pin):
            (folder / "archive").rename(self.files.archive(diff_id))
            (folder / "layer").rename(self.files.layer(diff_id))
        return diff_id

    def _lock(self, diff_id: str) -> AbstractContextManager[None]:
        """One lock for some layers: lock files stay, so there are few."""
        return self.files.lock(f"layer-{diff_id[7:9]}")

    def hold(self, diff_id: str, pin: Pin) -> bool:
        """Pin it, and tell whether it is there: in one moment for those who prune."""
        with self.files.lock("store", shared=True):
            pin.add([diff_id])
            return self.has(diff_id)

    def has(self, diff_id: str) -> bool:
        """Whether the layer is unpacked here."""
        return self.files.layer(diff_id).is_dir()

    def summary(self, diff_id: str) -> SplitSummary:
        """The sizes of its archive."""
        try:
            return summary(self.files.archive(diff_id))
        except FileNotFoundError:
            raise ImageError(
                f"layer {diff_id} has no record of its archive: it was stored by an older version; "
                "remove its image, prune, and make it again"
            ) from None

    def archive(self, diff_id: str) -> Iterator[bytes]:
        """Its archive, byte for byte, uncompressed. Raises LayerDamaged."""
        self.summary(diff_id)
        return assemble(self.files.archive(diff_id), self.files.layer(diff_id), diff_id)

    def shifted(self, diff_id: str, idmap: IdMap) -> Path:
        """The layer unpacked once more, its owners shifted by the map; kept."""
        folder = self.files.root / "shifted" / idmap.key
        target = folder / diff_id.removeprefix("sha256:")
        with self._lock(diff_id):
            if not target.exists():
                with self.files.temporary() as fresh:
                    folder.mkdir(exist_ok=True)
                    tree = fresh / "layer"
                    tree.mkdir(mode=0o755)
                    form = OverlayForm.probe(tree)
                    source = ChunkReader(self.archive(diff_id))
                    unpack(source, tree, diff_id, form=form, idmap=idmap, trusted=True)
                    tree.rename(target)
        return target

    def collect(self, candidates: Set[str] | None = None) -> Pruned:
        """Remove images without a name or pin, and what only they referred to: all such images,
        or those of `candidates` (digests). With all go stray layers and steps of builds too.

        What goes is moved away under the lock and removed after it: others wait for moments."""
        files = self.files
        with files.temporary() as doomed:
            with files.lock("store"):
                pins = live_pins(files.root / "pins")
                named = {path.read_text() for path in (files.root / "names").iterdir()}
                named |= {pin.image for pin in pins if pin.image is not None}
                stored = {f"sha256:{path.stem}" for path in files.config("").parent.glob("*.json")}
                gone = (stored if candidates is None else stored & candidates) - named
                used = {layer for pin in pins for layer in pin.layers}
                used |= {layer for image in stored - gone for layer in self._layers(image)}
                loose = self._all() if candidates is None else set()
                loose |= {layer for image in gone for layer in self._layers(image)}
                loose -= used
                self._move(doomed, gone, loose, everything=candidates is None)
            freed = tree_size(doomed)
        return Pruned(tuple(sorted(gone)), tuple(sorted(loose)), freed)

    def _all(self) -> set[str]:
        folders = (self.files.layer(""), self.files.archive(""))
        return {f"sha256:{path.name}" for folder in folders for path in folder.iterdir()}

    def _layers(self, image: str) -> list[str]:
        diff_ids: list[str] = json.loads(self.files.config(image).read_bytes())["rootfs"][
            "diff_ids"
        ]
        return diff_ids

    def _move(self, doomed: Path, images: Set[str], layers: Set[str], everything: bool) -> None:
        """Configurations first: killed in the middle, it leaves layers too many, never too few."""
        files = self.files
        paths = [files.config(image) for image in images] + [files.flat(image) for image in images]
        shifted = list((files.root / "shifted").iterdir())
        for layer in layers:
            paths += [files.layer(layer), files.archive(layer)]
            paths += [folder / layer.removeprefix("sha256:") for folder in shifted]
        if everything:
            paths += [
                path for path in (files.root / "cache").iterdir() if self._stale(path, layers)
            ]
        for number, path in enumerate(paths):
            if os.path.lexists(path):
                path.rename(doomed / str(number))

    def _stale(self, step: Path, gone: Set[str]) -> bool:
        """Whether a step of a build made a layer, or stands on one, that is no more."""
        layers = json.loads(step.read_bytes())["layers"]
        return any(layer in gone or not self.has(layer) for layer in layers)
