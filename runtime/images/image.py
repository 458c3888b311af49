"""An image: an ordered list of layers and a configuration, known by the digest of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["HistoryEntry", "Image", "canonical", "digest", "history", "image_config", "platform"]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step of how an image came to be."""

    created: str
    """RFC 3339, or "" if the image does not say."""
    created_by: str
    comment: str
    diff_id: str | None
    """The layer that it made; None if it changed the configuration only."""
    size: int
    """Bytes of file content in that layer; 0 without one."""


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
    def execution(self) -> Mapping[str, Any]:
        """The part of the configuration that says how to run it (config.md, "config")."""
        found: Mapping[str, Any] = self.config.get("config") or {}
        return found

    @property
    def env(self) -> Mapping[str, str]:
        """Default environment."""
        pairs = (entry.partition("=") for entry in self.execution.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def cwd(self) -> str:
        """Default working directory."""
        return str(self.execution.get("WorkingDir") or "/")

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """What always begins the argument vector."""
        return tuple(self.execution.get("Entrypoint") or ())

    @property
    def cmd(self) -> tuple[str, ...]:
        """What follows it unless the user gives arguments."""
        return tuple(self.execution.get("Cmd") or ())

    @property
    def argv(self) -> tuple[str, ...]:
        """What runs by default; empty if the image does not say."""
        return (*self.entrypoint, *self.cmd)

    @property
    def user(self) -> str:
        """``user[:group]`` by name or number; "" is root."""
        return str(self.execution.get("User") or "")

    @property
    def volumes(self) -> tuple[str, ...]:
        """Directories that are to be volumes, sorted."""
        return tuple(sorted(self.execution.get("Volumes") or ()))

    @property
    def exposed_ports(self) -> tuple[str, ...]:
        """Ports that it serves, such as ``80/tcp``, sorted."""
        return tuple(sorted(self.execution.get("ExposedPorts") or ()))

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels, by name."""
        return dict(self.execution.get("Labels") or {})

    @property
    def stop_signal(self) -> str | None:
        """The signal, by name or number, that asks it to stop; None for the usual one."""
        return self.execution.get("StopSignal") or None

    @property
    def platform(self) -> str:
        """``os/architecture[/variant]``, in the names that Go has for them."""
        names = (self.config.get(key) for key in ("os", "architecture", "variant"))
        return "/".join(str(name) for name in names if name)


def history(image: Image, size: Callable[[str], int]) -> tuple[HistoryEntry, ...]:
    """How the image came to be, first step first; `size` tells that of a layer (diff id)."""
    diff_ids = iter(image.diff_ids)
    entries = []
    for step in image.config.get("history") or []:
        layer = None if step.get("empty_layer") else next(diff_ids, None)
        created, by, comment = (
            str(step.get(key) or "") for key in ("created", "created_by", "comment")
        )
        entries.append(HistoryEntry(created, by, comment, layer, size(layer) if layer else 0))
    rest = (HistoryEntry("", "", "", layer, size(layer)) for layer in diff_ids)
    return (*entries, *rest)  # an image need not tell its history, or not all of it


def platform(machine: str) -> str:
    """The architecture of uname(2) by the name that images have for it (config.md, from Go)."""
    return {
        "x86_64": "amd64",
        "i686": "386",
        "aarch64": "arm64",
        "armv7l": "arm",
        "armv6l": "arm",
        "loongarch64": "loong64",
    }.get(machine, machine)


def image_config(
    diff_ids: Sequence[str], env: Mapping[str, str], cwd: str, history: Sequence[str], machine: str
) -> bytes:
    """The OCI image configuration as canonical JSON: same content, same bytes, same digest."""
    return canonical(
        {
            "architecture": platform(machine),
            "os": "linux",
            "config": {
                "Env": [f"{name}={value}" for name, value in sorted(env.items())],
                "WorkingDir": cwd,
            },
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": words} for words in history],
        }
    )


def canonical(content: Any) -> bytes:
    """JSON of which the same content gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    """``sha256:…`` of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
