"""An image: an ordered list of layers and a configuration, known by the digest of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Image", "digest", "image_config"]


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image."""

    name: str
    digest: str
    """``sha256:…`` of the configuration, which has the layers' digests in it (OCI image-spec,
    config.md, "ImageID")."""
    layers: tuple[Path, ...]
    """Unpacked layers, lowest first."""
    config: Mapping[str, Any]
    """The OCI image configuration."""

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the uncompressed layer archives, lowest first."""
        return tuple(self.config["rootfs"]["diff_ids"])

    @property
    def env(self) -> Mapping[str, str]:
        """Default environment."""
        pairs = (entry.partition("=") for entry in self.config["config"].get("Env", ()))
        return {name: value for name, _, value in pairs}

    @property
    def cwd(self) -> str:
        """Default working directory."""
        return str(self.config["config"].get("WorkingDir") or "/")


def image_config(
    diff_ids: Sequence[str], env: Mapping[str, str], cwd: str, history: Sequence[str], machine: str
) -> bytes:
    """The OCI image configuration as canonical JSON: same content, same bytes, same digest."""
    architectures = {"x86_64": "amd64", "aarch64": "arm64"}
    content = {
        "architecture": architectures.get(machine, machine),
        "os": "linux",
        "config": {
            "Env": [f"{name}={value}" for name, value in sorted(env.items())],
            "WorkingDir": cwd,
        },
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created_by": words} for words in history],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    """``sha256:…`` of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
