"""Images: content-addressed layers, names, and recipes that make them."""

from __future__ import annotations

from runtime.images.image import Image
from runtime.images.recipes import RECIPES, Recipe
from runtime.images.store import ImageStore

__all__ = ["RECIPES", "Image", "ImageStore", "Recipe"]
