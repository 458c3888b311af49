"""COPY and ADD: from a context or another stage to a layer, without mounting anything.

Where things go is decided on what the image shows (merged.py): links in the image are followed
inside it, directories that are there keep their owner and mode. What comes of it is a layer's
archive: the same files at the same places are the same layer.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runtime.errors import ImageError
from runtime.images.merged import Entry, MergedView
from runtime.images.pack import END, describe, emit, header
from runtime.images.tarstream import XATTR

__all__ = ["Copy", "Placed", "archive", "checksum", "directory", "plan", "select"]

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Copy:
    """What to copy, and as whose."""

    view: MergedView
    """Where from."""
    paths: tuple[str, ...]
    """What, in there: of a directory its content, of a file itself."""
    owner: tuple[int, int] | None = None
    """None keeps the owners."""
    mode: int | None = None
    """Of files and directories alike; None keeps them."""
    attributes: bool = True
    """Whether extended attributes come along."""
    ignored: Callable[[str], bool] = lambda path: False


@dataclass(frozen=True, slots=True)
class Placed:
    """One entry of the layer to be."""

    source: Entry | None
    """None is a new, empty directory."""
    owner: tuple[int, int] | None = None
    mode: int | None = None
    attributes: bool = True


def select(copy: Copy, pattern: str) -> list[str]:
    """The paths that a pattern of COPY means, as filepath.Match of Go reads it; in byte order."""
    found = [""]
    for part in (part for part in pattern.split("/") if part not in ("", ".")):
        if part == "..":
            found = [path.rpartition("/")[0] for path in found]
        elif re.search(r"[*?[]", part):
            match = re.compile(fnmatch.translate(part.replace("[^", "[!"))).fullmatch
            folders = [copy.view.look(copy.view.resolve(path)) for path in found]
            found = [
                child.path
                for folder in folders
                if folder is not None and folder.is_directory
                for child in copy.view.children(folder)
                if match(child.path.rpartition("/")[2])
            ]
        else:
            found = [f"{path}/{part}".lstrip("/") for path in found]
    there = []
    for path in dict.fromkeys(found):
        entry = copy.view.look(copy.view.resolve(path))
        if entry is None or (path and not entry.is_directory and copy.ignored(path)):
            continue
        there.append(path)
    return there


def plan(image: MergedView, copies: Sequence[Copy], target: str) -> dict[str, Placed]:
    """What goes where, by path in the image. `target` is absolute; with a "/" at its end it is a
    directory. Raises ImageError."""
    placed: dict[str, Placed] = {}
    for copy in copies:
        for path in copy.paths:
            entry = copy.view.look(copy.view.resolve(path))
            if entry is None:
                raise ImageError(f"/{path} is not there")
            place = image.resolve(target)
            found = image.look(place)
            if entry.is_directory:
                if found is not None and not found.is_directory:
                    raise ImageError(f"/{path} is a directory, and {target} a file of the image")
                _tree(image, copy, entry, place, placed)
                continue
            if target.endswith("/") or (found is not None and found.is_directory) or not place:
                place = f"{place}/{path.rpartition('/')[2]}".lstrip("/")
            placed[place] = Placed(entry, copy.owner, copy.mode, copy.attributes)
    for path in list(placed):
        _parents(image, path, placed, copies[0].owner)
    return placed


def directory(image: MergedView, path: str) -> dict[str, Placed]:
    """What makes a directory, for WORKDIR; nothing if it is there. Raises ImageError."""
    place = image.resolve(path)
    found = image.look(place)
    if found is not None:
        if not found.is_directory:
            raise ImageError(f"{path} is a file of the image")
        return {}
    placed = {place: Placed(None)}
    _parents(image, place, placed, None)
    return placed


def _tree(image: MergedView, copy: Copy, top: Entry, place: str, placed: dict[str, Placed]) -> None:
    """The content of a directory, into a directory."""
    if image.look(place) is None and place:
        placed[place] = Placed(top, copy.owner, copy.mode, copy.attributes)
    targets = {top.path: place}
    for entry in copy.view.walk(top):
        if stat.S_ISSOCK(entry.info.st_mode):
            continue
        parent, _, name = entry.path.rpartition("/")
        where = f"{targets.get(parent, place)}/{name}".lstrip("/")
        if entry.is_directory:
            there = image.look(image.resolve(where))
            if there is not None and there.is_directory:
                where = there.path  # a link to a directory stays one: /bin → usr/bin
            targets[entry.path] = where
        if not copy.ignored(entry.path):
            placed[where] = Placed(entry, copy.owner, copy.mode, copy.attributes)


def _parents(
    image: MergedView, path: str, placed: dict[str, Placed], owner: tuple[int, int] | None
) -> None:
    """The directories above: as the image has them, or new. A layer that left them out would be
    unpacked with new ones, which hide owner and mode of the image's."""
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        above = "/".join(parts[:depth])
        if above not in placed:
            found = image.look(above)
            if found is not None and found.is_directory:
                placed[above] = Placed(found)
            else:
                placed[above] = Placed(None, owner)


def checksum(placed: dict[str, Placed]) -> str:
    """Hex digest of what is copied where; times do not count, as with Docker: a fresh checkout
    has new ones."""
    state = hashlib.sha256()
    for path, member, entry in _members(placed):
        xattrs = sorted((k, v) for k, v in member.pax_headers.items() if k.startswith(XATTR))
        fields = (path, member.type, member.mode, member.uid, member.gid, member.size)
        state.update(repr((*fields, member.linkname, member.devmajor, xattrs)).encode())
        if entry is not None and member.isreg():
            with entry.real.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()


def archive(placed: dict[str, Placed]) -> Iterator[bytes]:
    """The layer's archive."""
    for _, member, entry in _members(placed):
        if entry is None:
            yield header(member)
            continue
        fd = os.open(entry.real.parent, _OPEN_DIR)
        try:
            yield from emit(member, fd, entry.real.name)
        finally:
            os.close(fd)
    yield END


def _members(
    placed: dict[str, Placed],
) -> Iterator[tuple[str, tarfile.TarInfo, Entry | None]]:
    for path in sorted(placed, key=lambda path: [os.fsencode(part) for part in path.split("/")]):
        item = placed[path]
        if item.source is None:
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
        else:
            real = item.source.real
            fd = os.open(real.parent, _OPEN_DIR)
            try:
                member = describe(fd, real.name, item.source.info, path)
            finally:
                os.close(fd)
        if item.owner is not None:
            member.uid, member.gid = item.owner
        if item.mode is not None and not member.issym():
            member.mode = item.mode
        if not item.attributes:
            fields = member.pax_headers.items()
            member.pax_headers = {k: v for k, v in fields if not k.startswith(XATTR)}
        yield path, member, item.source
