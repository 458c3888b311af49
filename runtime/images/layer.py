"""Unpacking one layer: from a tar archive in OCI form to a directory in overlayfs form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.images.compression import Bytes
from runtime.images.idmap import IdMap
from runtime.images.split import SplitWriter
from runtime.images.tarstream import TarStream, UnpackLimits
from runtime.images.unpacker import Unpacker
from runtime.images.whiteouts import OverlayForm

__all__ = ["Unpacked", "diff_id", "unpack"]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What is known of an archive once it is unpacked."""

    diff_id: str
    """``sha256:…`` of the uncompressed archive."""
    digest: str
    """``sha256:…`` of the archive as it came."""
    size: int
    """Bytes of the uncompressed archive."""


def diff_id(archive: Path) -> str:
    """``sha256:…`` of the uncompressed archive (OCI image-spec, config.md, "Layer DiffID").

    Raises LayerRefused if it is no sound archive."""
    with archive.open("rb") as raw:
        stream = TarStream(raw, str(archive))
        for _ in stream:
            pass
    return stream.diff_id


def unpack(
    source: Bytes,
    target: Path,
    archive: str,
    *,
    form: OverlayForm = OverlayForm(),  # noqa: B008 - frozen
    idmap: IdMap | None = None,
    limits: UnpackLimits = UnpackLimits(),  # noqa: B008 - frozen
    record: SplitWriter | None = None,
    trusted: bool = False,
) -> Unpacked:
    """Unpack into the empty directory `target`, in one pass over `source`.

    `archive` is what to call it in messages. An uncompressed archive without its end marker is
    taken for a truncated one unless it is `trusted`, that is, its digest will be compared.
    Raises LayerRefused, naming the member, StoreFull or ImageError; what was unpacked until then
    stays in `target`, which the caller throws away."""
    stream = TarStream(source, archive, limits, record)
    unpacker = Unpacker(stream, target, form, idmap)
    try:
        for member in stream:
            unpacker.take(member)
        unpacker.finish()
    finally:
        unpacker.close()
    if not stream.ended and not trusted and stream.compression == "none":
        raise stream.refuse("the archive ends without its end marker: truncated?")
    return Unpacked(stream.diff_id, stream.digest, stream.size)
