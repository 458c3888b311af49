"""`lab gc`."""

from __future__ import annotations

from lab.gc import collect
from lab.paths import cache_dir

__all__ = ["run_gc"]


def run_gc(*, dry_run: bool) -> None:
    """Remove what dead runs left, and say what it was."""
    removed = collect(cache_dir(), dry_run=dry_run)
    for item in removed:
        print(f"{'would remove' if dry_run else 'removed'} {item}")
    if not removed:
        print("nothing was left behind")
