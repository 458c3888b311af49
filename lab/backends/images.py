"""Which images there are, for the check of an experiment before anything is made."""

from __future__ import annotations

from lab.paths import cache_dir

__all__ = ["known_images"]


def known_images() -> list[str]:
    """Names of images in the store and of recipes that can be built, sorted."""
    from runtime.images import RECIPES, ImageStore

    root = cache_dir() / "images"
    stored = [image.name for image in ImageStore(root).list()] if root.is_dir() else []
    return sorted({*RECIPES, *stored})
