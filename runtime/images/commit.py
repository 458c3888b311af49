"""What a container wrote, as a layer on its image."""

from __future__ import annotations

import copy
import itertools
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runtime.errors import SpecError
from runtime.images.compression import ChunkReader
from runtime.images.idmap import IdMap
from runtime.images.image import Image, canonical
from runtime.images.pack import END, pack
from runtime.images.pins import Pin
from runtime.images.shelf import LayerShelf, LayerSource
from runtime.images.whiteouts import OverlayForm

__all__ = ["commit", "extend", "now", "pack_layer"]


def commit(
    shelf: LayerShelf,
    pin: Pin,
    upper: Path,
    base: Image,
    form: OverlayForm,
    idmap: IdMap | None,
    *,
    config: Mapping[str, Any],
    author: str,
    message: str,
    created_by: str,
) -> bytes:
    """The configuration of the new image, its layer stored and pinned. See `ImageStore.commit`."""
    pin.add(base.diff_ids)
    layer = pack_layer(shelf, pin, upper, form, idmap)
    content = extend(base.config, layer, created_by or f"commit of {upper.name}", now(), message)
    if author:
        content["author"] = author
    execution = {**(content.get("config") or {}), **config}
    content["config"] = {key: value for key, value in execution.items() if value is not None}
    return canonical(content)


def pack_layer(
    shelf: LayerShelf, pin: Pin, upper: Path, form: OverlayForm, idmap: IdMap | None = None
) -> str | None:
    """Store what is in an upper directory as a layer; its diff id, None if there is nothing.

    The archive is made and unpacked in one go, and never lies on the disk."""
    pieces = pack(upper, form, idmap)
    first = next(pieces)
    if first == END:
        return None

    archive = ChunkReader(itertools.chain([first], pieces))
    return shelf.add(LayerSource(lambda: nullcontext(archive), str(upper)), pin)


def extend(
    base: Mapping[str, Any], layer: str | None, created_by: str, created: str, comment: str = ""
) -> dict[str, Any]:
    """A copy of an image's configuration with one more step, and its layer if it made one."""
    content = copy.deepcopy(dict(base))
    content["created"] = created
    content.pop("container", None)  # of Docker's own, about the build before
    content.pop("container_config", None)
    step: dict[str, Any] = {"created": created, "created_by": created_by}
    if comment:
        step["comment"] = comment
    if layer is None:
        step["empty_layer"] = True
    else:
        content["rootfs"]["diff_ids"] = [*content["rootfs"]["diff_ids"], layer]
    content["history"] = [*(content.get("history") or []), step]
    return content


def now() -> str:
    """The time as RFC 3339 has it, to the second; that of SOURCE_DATE_EPOCH if it is set
    (reproducible-builds.org), so that the same input gives the same image."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = time.time() if text is None else int(text)
    except ValueError as error:
        raise SpecError(f"SOURCE_DATE_EPOCH={text!r} is no number of seconds") from error
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
