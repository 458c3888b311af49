"""What an upper directory changes, and what of lower layers nobody sees any more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.images.merged import MergedView
from runtime.images.whiteouts import OverlayForm, is_whiteout

__all__ = ["Change", "Hidden", "LayerSize", "changes", "hidden", "layer_sizes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One line of `docker diff`."""

    kind: Literal["A", "C", "D"]
    """Added, changed, deleted."""
    path: str
    """In the container, from "/"."""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


@dataclass(frozen=True, slots=True)
class Hidden:
    """A file of a lower layer whose bytes are stored and not seen."""

    path: str
    """In the image, from "/"."""
    size: int
    """Bytes."""
    layer: int
    """Which layer has it, 0 being the lowest."""
    by: int
    """Which layer hides it."""
    how: Literal["deleted", "replaced"]
    """"deleted" by a whiteout or an opaque directory above it or above one of its directories."""


@dataclass(frozen=True, slots=True)
class LayerSize:
    """What one layer holds."""

    files: int
    """Regular files; hard links count once."""
    size: int
    """Bytes in them."""
    hidden_files: int
    hidden: int
    """Bytes of them that higher layers hide."""


def changes(upper: Path, layers: Sequence[Path], form: OverlayForm) -> list[Change]:
    """What a container wrote, in path order: its upper directory against its image's layers.

    As `docker diff` has it, a directory in which something changed is changed itself. An entry
    that was written and is as before counts as changed: contents are not compared."""
    view = MergedView(layers, form)
    found: list[Change] = []
    for path, real, info in _walk(upper):
        below = view.look(path)
        if is_whiteout(info):
            if below is not None:
                found.append(Change("D", f"/{path}"))
            continue
        found.append(Change("A" if below is None else "C", f"/{path}"))
        if below is not None and below.is_directory:
            replaced = not stat.S_ISDIR(info.st_mode) or form.is_opaque(real)
            if replaced:
                gone = (each for each in view.children(below) if not _lexists(upper / each.path))
                found += [Change("D", f"/{each.path}") for each in gone]
    return sorted(found, key=lambda change: os.fsencode(change.path))


def hidden(layers: Sequence[Path], form: OverlayForm) -> list[Hidden]:
    """The files of `layers` (lowest first) that the layers above them hide, lowest layer first."""
    return sorted(_hidden(layers, form)[1], key=lambda each: (each.layer, os.fsencode(each.path)))


def layer_sizes(layers: Sequence[Path], form: OverlayForm) -> list[LayerSize]:
    """What each layer holds, lowest first."""
    totals, gone = _hidden(layers, form)
    return [
        LayerSize(
            files=count,
            size=size,
            hidden_files=sum(each.layer == number for each in gone),
            hidden=sum(each.size for each in gone if each.layer == number),
        )
        for number, (count, size) in enumerate(totals)
    ]


@dataclass(slots=True)
class _Seen:
    """What the layers looked at so far, from the top, say about a path."""

    by: int
    kind: Literal["directory", "file", "whiteout"]
    closed: bool
    """Nothing below is seen through it."""


def _hidden(
    layers: Sequence[Path], form: OverlayForm
) -> tuple[list[tuple[int, int]], list[Hidden]]:
    seen: dict[str, _Seen] = {}
    totals: list[tuple[int, int]] = []
    gone: list[Hidden] = []
    for number in reversed(range(len(layers))):
        count = size = 0
        fresh: dict[str, _Seen] = {}
        visible: set[tuple[int, int]] = set()
        covered: dict[tuple[int, int], Hidden] = {}
        for path, real, info in _walk(layers[number]):
            cover = _cover(seen, path, info)
            if stat.S_ISREG(info.st_mode):
                inode = (info.st_dev, info.st_ino)
                if inode not in visible and inode not in covered:
                    count, size = count + 1, size + info.st_size
                if cover is None:
                    visible.add(inode)
                elif inode not in covered:
                    covers_itself = cover.kind == "directory" and cover is seen.get(path)
                    replaced = cover.kind == "file" or covers_itself
                    how: Literal["deleted", "replaced"] = "replaced" if replaced else "deleted"
                    covered[inode] = Hidden(f"/{path}", info.st_size, number, cover.by, how)
            fresh[path] = _note(seen, path, real, info, number, form)
        seen.update(fresh)
        totals.append((count, size))
        # A hard link of it that is still seen keeps the bytes in use.
        gone += [each for inode, each in covered.items() if inode not in visible]
    return totals[::-1], gone


def _cover(seen: dict[str, _Seen], path: str, info: os.stat_result) -> _Seen | None:
    """What hides this entry, if anything does: of several the lowest, which did it first."""
    parts = path.split("/")
    above = (seen.get("/".join(parts[:depth])) for depth in range(1, len(parts)))
    found = [each for each in above if each is not None and each.closed]
    own = seen.get(path)
    if own is not None and (own.kind != "directory" or not stat.S_ISDIR(info.st_mode)):
        found.append(own)
    return min(found, key=lambda each: each.by, default=None)


def _note(
    seen: dict[str, _Seen],
    path: str,
    real: Path,
    info: os.stat_result,
    number: int,
    form: OverlayForm,
) -> _Seen:
    """What is to be known of a path by the layers below."""
    if not stat.S_ISDIR(info.st_mode):
        return _Seen(number, "whiteout" if is_whiteout(info) else "file", True)
    if form.is_opaque(real):
        return _Seen(number, "directory", True)
    return seen.get(path) or _Seen(number, "directory", False)


def _walk(tree: Path, path: str = "") -> Iterator[tuple[str, Path, os.stat_result]]:
    """All entries below a directory: path from it, real path, status."""
    with os.scandir(tree / path) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        info = entry.stat(follow_symlinks=False)
        where = f"{path}/{entry.name}" if path else entry.name
        yield where, Path(entry.path), info
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(tree, where)


def _lexists(path: Path) -> bool:
    return os.path.lexists(path)
