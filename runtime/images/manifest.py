"""The JSON documents of an image: their media types, what must be in them, which of several.

OCI image-spec: image-index.md, manifest.md, config.md. Docker's own (distribution, "Image Manifest
V 2, Schema 2") have the same fields under other media types.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.errors import ArchiveRefused
from runtime.images.image import platform
from runtime.images.names import DIGEST

__all__ = [
    "CONFIG",
    "INDEX",
    "INDEXES",
    "LAYER",
    "MANIFEST",
    "check_config",
    "check_manifest",
    "choose",
    "is_attestation",
]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}

INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_CONFIGS = (CONFIG, "application/vnd.docker.container.image.v1+json")

_MAX_LAYERS = 500
"""Overlayfs stacks no more (fs/overlayfs/params.h, OVL_MAX_STACK)."""

_VARIANTS = {"amd64": ("", "v1"), "arm64": ("", "v8"), "arm": ("v7", "v6", "v5", "")}
"""Variants that this host's kind of processor runs, best first (image-index.md, "variant")."""


def choose(descriptors: Sequence[Any], where: str, member: str) -> Mapping[str, Any]:
    """The one of an index for this host: its system, its architecture, the best variant.

    Raises ArchiveRefused with the platforms that there are."""
    architecture = platform(os.uname().machine)
    variants = _VARIANTS.get(architecture, ("",))
    ranked = []
    there = set()
    for each in descriptors:
        if not isinstance(each, dict) or is_attestation(each):
            continue
        found = each.get("platform") or {}
        names = [str(found.get(key) or "") for key in ("os", "architecture", "variant")]
        there.add("/".join(name for name in names if name) or "unknown")
        if names[:2] == ["linux", architecture] and names[2] in variants:
            ranked.append((variants.index(names[2]), each))
    if not ranked:
        raise ArchiveRefused(
            where,
            member,
            f"no image for linux/{architecture}; there are: {', '.join(sorted(there)) or 'none'}",
        )
    best: Mapping[str, Any] = min(ranked, key=lambda pair: pair[0])[1]
    return best


def is_attestation(descriptor: Mapping[str, Any]) -> bool:
    """Whether it is what BuildKit keeps beside an image, about how it was built."""
    notes = descriptor.get("annotations")
    return isinstance(notes, dict) and "vnd.docker.reference.type" in notes


def check_manifest(manifest: Any, where: str, member: str) -> None:
    """Raises ArchiveRefused for what is no manifest of an image."""
    if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
        raise ArchiveRefused(where, member, "is no manifest of schema version 2")
    config, layers = manifest.get("config"), manifest.get("layers")
    if not isinstance(config, dict) or not isinstance(layers, list):
        raise ArchiveRefused(where, member, "a manifest needs config and layers")
    kind = config.get("mediaType")
    if kind not in _CONFIGS:
        raise ArchiveRefused(where, member, f"is of an artifact and no image: config is {kind!r}")


def check_config(config: Any, where: str, member: str) -> list[str]:
    """The diff ids of a configuration. Raises ArchiveRefused, with the JSON path, for what cannot
    be run here or would only fail later."""
    check = _Check(where, member)
    top = check.object(config, "the configuration")
    if (system := top.get("os")) != "linux":
        raise check.refuse("os", f"is {system!r}: images for linux only")
    diff_ids = check.texts(check.object(top.get("rootfs"), "rootfs"), "diff_ids", "rootfs.")
    if len(diff_ids) > _MAX_LAYERS:
        raise check.refuse("rootfs.diff_ids", f"has {len(diff_ids)} layers, overlayfs takes 500")
    for number, each in enumerate(diff_ids):
        if not DIGEST.fullmatch(each):
            raise check.refuse(f"rootfs.diff_ids[{number}]", f"is no sha256 digest: {each!r}")
    history = top.get("history") or []
    if not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise check.refuse("history", "is no list of objects")
    execution = check.object(top.get("config") or {}, "config")
    for key in ("Env", "Entrypoint", "Cmd"):
        check.texts(execution, key, "config.")
    for key in ("User", "WorkingDir", "StopSignal"):
        if not isinstance(execution.get(key) or "", str):
            raise check.refuse(f"config.{key}", "is no text")
    for key in ("Volumes", "ExposedPorts", "Labels"):
        check.object(execution.get(key) or {}, f"config.{key}")
    return diff_ids


class _Check:
    def __init__(self, where: str, member: str) -> None:
        self._about = (where, member)

    def refuse(self, path: str, reason: str) -> ArchiveRefused:
        return ArchiveRefused(*self._about, f"{path} {reason}")

    def object(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.refuse(path, "is no object")
        return value

    def texts(self, parent: Mapping[str, Any], key: str, path: str) -> list[str]:
        value = parent.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.refuse(f"{path}{key}", "is no list of texts")
        return value
