"""Images: content-addressed layers, names, and how they get in and out.

`ImageStore` has a method for each thing that people do with images. Each module below is about one
step of the way from an archive to a directory that overlayfs stacks, and back.
"""

from __future__ import annotations

from runtime.images.changes import Change, Hidden, LayerSize
from runtime.images.idmap import IdMap, IdRange
from runtime.images.image import HistoryEntry, Image
from runtime.images.pins import Pin
from runtime.images.recipes import RECIPES, Recipe
from runtime.images.runner import Runner, RunStep
from runtime.images.shelf import Pruned
from runtime.images.store import ImageStore
from runtime.images.tarstream import UnpackLimits
from runtime.images.whiteouts import OverlayForm

__all__ = [
    "RECIPES",
    "Change",
    "Hidden",
    "HistoryEntry",
    "IdMap",
    "IdRange",
    "Image",
    "ImageStore",
    "LayerSize",
    "OverlayForm",
    "Pin",
    "Pruned",
    "Recipe",
    "RunStep",
    "Runner",
    "UnpackLimits",
]
