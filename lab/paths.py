"""Where the lab keeps things."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir", "results_dir", "state_dir"]

NAME = "isolation-lab"


def cache_dir() -> Path:
    """Kernels, images, verdicts and the scratch of runs.

    $LAB_CACHE_DIR, else /var/cache/isolation-lab as root, else $XDG_CACHE_HOME/isolation-lab (XDG
    Base Directory Specification)."""
    if given := os.environ.get("LAB_CACHE_DIR"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache") / NAME
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / NAME


def state_dir() -> Path:
    """The scratch of live runs, one directory each: overlays, sockets. In the cache, so that it is
    on the file system of the images: an overlay or a reflink across two of them cannot be."""
    return cache_dir() / "runs"


def results_dir() -> Path:
    """Run folders: $LAB_RESULTS, else ./results."""
    return Path(os.environ.get("LAB_RESULTS") or "results").absolute()
