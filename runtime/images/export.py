"""Images to elsewhere: as OCI layouts and as `docker save` archives.

Layers are put together again byte for byte (split.py), so that their digests, and the image's,
are those that they came with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from runtime.errors import ImageError, SpecError
from runtime.images.compression import CHUNK, Compression, compress
from runtime.images.image import Image, canonical
from runtime.images.manifest import CONFIG, INDEX, LAYER, MANIFEST
from runtime.images.names import DIGEST, full_name

if TYPE_CHECKING:
    from runtime.images.store import ImageStore

__all__ = ["Format", "save", "write_layout"]

Format = Literal["docker", "docker-legacy", "oci-archive", "oci"]


class _Sink(Protocol):
    """Where files go, each once."""

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> None: ...


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for piece in pieces:
                file.write(piece)


class _Tar:
    """Owners, times and order are fixed: the same images give the same archive."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._folders: set[str] = set()

    def add(self, name: str, size: int, pieces: Iterable[bytes]) -> None:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            if (folder := "/".join(parts[:depth])) not in self._folders:
                self._folders.add(folder)
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                self._file.write(info.tobuf(tarfile.PAX_FORMAT))
        info = tarfile.TarInfo(name)
        info.size = size
        self._file.write(info.tobuf(tarfile.PAX_FORMAT))
        for piece in pieces:
            self._file.write(piece)
        self._file.write(bytes(-size % 512))

    def close(self) -> None:
        self._file.write(bytes(1024))


def save(
    store: ImageStore,
    images: Sequence[Image],
    target: Path,
    format: Format,
    compression: Compression,
) -> None:
    """See `ImageStore.save`."""
    if not images:
        raise SpecError("save: name at least one image")
    if format not in ("docker", "docker-legacy", "oci-archive", "oci"):
        raise SpecError(f"save: no format {format!r}")
    if target.exists() and (format == "oci" or target.is_dir()):
        raise ImageError(f"cannot save to {target}: it is there already; name a new one")
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.absolute().parent))
    try:
        if format == "oci":
            (fresh / "layout").mkdir(mode=0o755)
            write_layout(store, images, _Directory(fresh / "layout"), compression)
            (fresh / "layout").rename(target)
            return
        with (fresh / "archive").open("xb") as file:
            sink = _Tar(file)
            if format == "docker-legacy":
                _legacy(store, images, sink)
            else:
                write_layout(store, images, sink, compression, docker=format == "docker")
            sink.close()
        (fresh / "archive").rename(target)
    except OSError as error:
        raise ImageError(f"cannot save to {target}: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh)


def write_layout(
    store: ImageStore,
    images: Sequence[Image],
    sink: _Sink,
    compression: Compression,
    *,
    docker: bool = False,
) -> None:
    """An OCI image layout; with `docker`, and the manifest.json of `docker save` in it."""
    layers: dict[str, dict[str, Any]] = {}
    written: set[str] = set()
    descriptors, entries = [], []
    for image in images:
        for diff_id in image.diff_ids:
            if diff_id not in layers:
                layers[diff_id] = _layer(store, sink, diff_id, compression)
        config = store.files.config(image.digest).read_bytes()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _blob(sink, config, CONFIG, written),
            "layers": [layers[diff_id] for diff_id in image.diff_ids],
        }
        descriptor = _blob(sink, canonical(manifest), MANIFEST, written)
        name = None if DIGEST.fullmatch(image.name) else full_name(image.name)
        if name is not None:
            descriptor["annotations"] = {
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            }
        descriptors.append(descriptor)
        paths = [_path(layers[diff_id]["digest"]) for diff_id in image.diff_ids]
        entries.append(_entry(_path(image.digest), name, paths))
    _text(sink, "oci-layout", {"imageLayoutVersion": "1.0.0"})
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}
    _text(sink, "index.json", index)
    if docker:
        _text(sink, "manifest.json", _merged(entries))


def _legacy(store: ImageStore, images: Sequence[Image], sink: _Sink) -> None:
    """What `docker save` wrote before version 25."""
    entries = []
    written: set[str] = set()
    for image in images:
        paths = [f"{diff_id.removeprefix('sha256:')}/layer.tar" for diff_id in image.diff_ids]
        for diff_id, path in zip(image.diff_ids, paths, strict=True):
            if path not in written:
                written.add(path)
                sink.add(path, store.shelf.summary(diff_id).size, store.shelf.archive(diff_id))
        member = f"{image.digest.removeprefix('sha256:')}.json"
        if member not in written:
            written.add(member)
            config = store.files.config(image.digest).read_bytes()
            sink.add(member, len(config), [config])
        name = None if DIGEST.fullmatch(image.name) else full_name(image.name)
        entries.append(_entry(member, name, paths))
    _text(sink, "manifest.json", _merged(entries))


def _layer(
    store: ImageStore, sink: _Sink, diff_id: str, compression: Compression
) -> dict[str, Any]:
    pieces = store.shelf.archive(diff_id)
    if compression == "none":
        size = store.shelf.summary(diff_id).size
        sink.add(_path(diff_id), size, pieces)
        return {"mediaType": LAYER["none"], "digest": diff_id, "size": size}
    with store.files.temporary() as folder, (folder / "layer").open("w+b") as packed:
        state = hashlib.sha256()  # size and digest are known only when it is packed
        for piece in compress(pieces, compression):
            state.update(piece)
            packed.write(piece)
        size = packed.tell()
        packed.seek(0)
        value = f"sha256:{state.hexdigest()}"
        sink.add(_path(value), size, iter(lambda: packed.read(CHUNK), b""))
    return {"mediaType": LAYER[compression], "digest": value, "size": size}


def _blob(sink: _Sink, data: bytes, media_type: str, written: set[str]) -> dict[str, Any]:
    value = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if value not in written:
        written.add(value)
        sink.add(_path(value), len(data), [data])
    return {"mediaType": media_type, "digest": value, "size": len(data)}


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _text(sink: _Sink, name: str, content: Any) -> None:
    data = json.dumps(content, indent=2).encode()
    sink.add(name, len(data), [data])


def _entry(config: str, name: str | None, layers: list[str]) -> dict[str, Any]:
    return {"Config": config, "RepoTags": [name] if name else None, "Layers": layers}


def _merged(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for an image of several names."""
    found: dict[str, dict[str, Any]] = {}
    for each in entries:
        first = found.setdefault(each["Config"], each)
        if first is not each and each["RepoTags"]:
            first["RepoTags"] = [*(first["RepoTags"] or []), *each["RepoTags"]]
    return list(found.values())
