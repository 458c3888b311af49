"""`lab gc`."""

from __future__ import annotations

from lab.gc import collect
from lab.paths import cache_dir

__all__ = ["run_gc"]


def run_gc(*, dry_run: bool) -> None:
    """Remove what dead runs left, and say what it was."""
    none = True
    for item in collect(cache_dir(), dry_run=dry_run):
        print(f"{'would remove' if dry_run else 'removed'} {item}")
        none = False
    if none:
        print("nothing was left behind")
