"""Reading a config, or a part of one, from a file."""

from __future__ import annotations

import os

from runtime.errors import ConfigError
from runtime.oci.config.check import Invalid
from runtime.oci.lightjson import JsonError, loads
from runtime.oci.paths import real_directory

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.config.check import Check

__all__ = ["load", "load_process", "load_resources", "parse"]

_MOST = 64 << 20
"""Bytes. No config comes near; a file that does is no config, and would fill the memory."""


def load(bundle: str) -> dict[str, Any]:
    """The bundle's config, with the real path of its root.

    Raises ConfigError for a file that cannot be read, is no JSON, or is no valid config."""
    config = parse(_read(f"{bundle}/config.json"))
    root = config["root"]["path"]
    path = root if root.startswith("/") else f"{bundle}/{root}"
    try:
        config["root"]["path"] = real_directory(path)
    except OSError as error:
        raise ConfigError("$.root.path", f"no directory {path}: {error.strerror}") from None
    return config


def parse(data: bytes) -> dict[str, Any]:
    """A config from the bytes of its file. Raises ConfigError."""
    from runtime.oci.config.root import CONFIG

    return _checked(data, CONFIG, "config.json")


def load_process(path: str) -> dict[str, Any]:
    """What `exec --process` names: a file with the config's `process` object alone."""
    from runtime.oci.config.process import PROCESS

    return _checked(_read(path), PROCESS, path)


def load_resources(path: str) -> dict[str, Any]:
    """What `update --resources` names: a file, or "-", with `linux.resources` alone."""
    from runtime.oci.config.resources import RESOURCES

    if path != "-":
        return _checked(_read(path), RESOURCES, path)
    with open(0, "rb", closefd=False) as file:
        return _checked(file.read(_MOST), RESOURCES, "standard input")


def _checked(data: bytes, check: Check, name: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = loads(data.decode())
        check(value)
    except UnicodeDecodeError as error:
        raise ConfigError("", f"is no UTF-8 at byte {error.start}", name) from None
    except JsonError as error:
        raise ConfigError("", f"is no JSON: {error}", name) from None
    except Invalid as error:
        path = "".join(reversed(error.path))
        raise ConfigError(f"${path}", error.reason, name) from None
    return value


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}", path) from None
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size > _MOST:
            raise ConfigError("", f"has more than {_MOST >> 20} MiB", path)
        return file.readall()
