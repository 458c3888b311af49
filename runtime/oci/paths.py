"""Paths and environment variables, without `os.path` and `os.environ`: see runtime/oci/pack.py."""

from __future__ import annotations

import os
import posix

__all__ = ["absolute", "exists", "real_directory", "variable"]


def variable(name: str) -> str:
    """An environment variable, or nothing."""
    return posix.environ.get(name.encode(), b"").decode(errors="surrogateescape")


def absolute(path: str) -> str:
    """The path from the root on."""
    whole = path if path.startswith("/") else f"{os.getcwd()}/{path.removeprefix('./')}"
    whole = whole.removesuffix("/.").rstrip("/") or "/"
    if "/." in whole or "//" in whole:
        whole = "/" + os.path.normpath(whole).lstrip("/")  # POSIX would keep two at the beginning
    return whole


def exists(path: str) -> bool:
    """Whether there is something of this name, a dangling link included."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def real_directory(path: str) -> str:
    """The path of a directory with all links in it followed. Raises OSError if it is none."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
