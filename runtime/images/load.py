"""Images from elsewhere: OCI layouts (image-layout.md) and what `docker save` writes.

Newer `docker save` archives are both at once: an OCI layout in a tar, with a manifest.json for
older readers beside it. The layout counts then, since it carries a digest of everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import ArchiveRefused, DigestMismatch, SpecError
from runtime.images.image import Image, digest
from runtime.images.manifest import INDEXES, check_config, check_manifest, choose, is_attestation
from runtime.images.names import short_name
from runtime.images.pins import Pin
from runtime.images.shelf import LayerSource
from runtime.images.source import Source, blob_name, open_source, read_blob, read_json, read_member

if TYPE_CHECKING:
    from runtime.images.store import ImageStore

__all__ = ["Found", "find_images", "load", "take"]

_DEPTH = 4
"""Indexes in indexes."""
_HEX = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True)
class Found:
    """An image in an archive or layout."""

    names: tuple[str, ...]
    config: bytes
    diff_ids: tuple[str, ...]
    layers: tuple[tuple[str, str | None], ...]
    """Member and, where it is known, digest of each layer as it is packed there."""


def load(store: ImageStore, pin: Pin, path: Path, name: str | None) -> tuple[Image, ...]:
    """See `ImageStore.load`. No image is named before the last one is whole."""
    with open_source(path, store.files, store.shelf.limits.max_bytes) as source:
        found = find_images(source)
        if name is not None and len(found) != 1:
            raise SpecError(f"{path} has {len(found)} images, and {name!r} can be only one of them")
        for each in found:
            take(store, pin, source, each)
    return tuple(store.put(each.config, each.names if name is None else [name]) for each in found)


def take(store: ImageStore, pin: Pin, source: Source, found: Found) -> None:
    """Have the image's layers in the store, held by `pin`; those that are there are not read."""
    for diff_id, (member, value) in zip(found.diff_ids, found.layers, strict=True):
        opened = partial(source.open, member)
        store.shelf.add(LayerSource(opened, source.where, member, diff_id, value), pin)


def find_images(source: Source) -> list[Found]:
    """The images for this host in an archive or layout, their documents checked.

    Raises ArchiveRefused or DigestMismatch, naming the member."""
    if source.has("index.json") and source.has("oci-layout"):
        layout = read_json(source, "oci-layout")
        version = layout.get("imageLayoutVersion") if isinstance(layout, dict) else None
        if version != "1.0.0":
            raise ArchiveRefused(source.where, "oci-layout", f"version {version!r}, not 1.0.0")
        return _oci(source)
    if source.has("manifest.json"):
        return _docker(source)
    raise ArchiveRefused(
        source.where,
        "index.json",
        "is not there, nor manifest.json: neither an OCI layout nor a docker save archive",
    )


def _oci(source: Source) -> list[Found]:
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for each in _descriptors(source, read_json(source, "index.json"), "index.json"):
        if not is_attestation(each):
            groups.setdefault(_name(each), []).append(each)
    by_digest: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name, group in groups.items():
        different = {str(each.get("digest")): each for each in group}
        if len(different) > 1 and (name or any(each.get("platform") for each in group)):
            chosen = choose(list(different.values()), source.where, "index.json")
            different = {str(chosen["digest"]): dict(chosen)}
        for value, each in different.items():
            by_digest.setdefault(value, (each, []))[1].extend([name] if name else [])
    if not by_digest:
        raise ArchiveRefused(source.where, "index.json", "names no image")
    return [_manifest(source, each, "index.json", names, 0) for each, names in by_digest.values()]


def _manifest(
    source: Source, descriptor: Mapping[str, Any], about: str, names: Sequence[str], depth: int
) -> Found:
    manifest, _ = read_blob(source, descriptor, about)
    member = blob_name(source, descriptor, about)
    if descriptor.get("mediaType") in INDEXES or (
        isinstance(manifest, dict) and manifest.get("mediaType") in INDEXES
    ):
        if depth == _DEPTH:
            raise ArchiveRefused(source.where, member, f"more than {_DEPTH} indexes in each other")
        below = _descriptors(source, manifest, member)
        return _manifest(source, choose(below, source.where, member), member, names, depth + 1)
    check_manifest(manifest, source.where, member)
    config, data = read_blob(source, manifest["config"], member)
    layers = [(blob_name(source, each, member), str(each["digest"])) for each in manifest["layers"]]
    return _found(
        source, config, data, blob_name(source, manifest["config"], member), names, layers
    )


def _docker(source: Source) -> list[Found]:
    entries = read_json(source, "manifest.json")
    if not isinstance(entries, list) or not entries:
        raise ArchiveRefused(source.where, "manifest.json", "is no list of images")
    return [_docker_image(source, each) for each in entries]


def _docker_image(source: Source, entry: Any) -> Found:
    fields = entry if isinstance(entry, dict) else {}
    member, layers, tags = (fields.get(key) for key in ("Config", "Layers", "RepoTags"))
    texts = [member, *(layers or []), *(tags or [])] if isinstance(layers, list | None) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ArchiveRefused(source.where, "manifest.json", "needs Config, Layers and RepoTags")
    data = read_member(source, str(member))
    if (match := _HEX.fullmatch(str(member))) and digest(data) != f"sha256:{match[1]}":
        raise DigestMismatch(source.where, str(member), f"sha256:{match[1]}", digest(data))
    config = read_json(source, str(member))
    names = []
    for tag in tags or []:
        with suppress(SpecError):  # "<none>:<none>"
            names.append(short_name(tag))
    return _found(source, config, data, str(member), names, [(each, None) for each in layers or []])


def _found(
    source: Source,
    config: Any,
    data: bytes,
    member: str,
    names: Sequence[str],
    layers: Sequence[tuple[str, str | None]],
) -> Found:
    diff_ids = check_config(config, source.where, member)
    if len(diff_ids) != len(layers):
        raise ArchiveRefused(
            source.where, member, f"has {len(diff_ids)} diff ids for {len(layers)} layers"
        )
    return Found(tuple(dict.fromkeys(names)), data, tuple(diff_ids), tuple(layers))


def _descriptors(source: Source, index: Any, member: str) -> list[dict[str, Any]]:
    found = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ArchiveRefused(source.where, member, "is no index: manifests is no list of objects")
    return found


def _name(descriptor: Mapping[str, Any]) -> str | None:
    """The name of an image in a layout: containerd's annotation has all of it, the OCI's may be
    a tag alone, which names nothing (annotations.md, "org.opencontainers.image.ref.name")."""
    notes = descriptor.get("annotations")
    if not isinstance(notes, dict):
        return None
    for key in ("io.containerd.image.name", "org.opencontainers.image.ref.name"):
        if isinstance(text := notes.get(key), str):
            with suppress(SpecError):
                return short_name(text)
    return None
