"""What the overlay of some layers shows, found out by looking and without mounting it.

The rules are overlayfs's (Documentation/filesystems/overlayfs.rst, "Upper and Lower"): of each
name the highest layer that has it counts; directories of one name are one, down to the first that
is opaque; below a whiteout, or anything that is no directory, nothing is seen.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ImageError
from runtime.images.whiteouts import OverlayForm, is_whiteout

__all__ = ["Entry", "MergedView"]

_MAX_LINKS = 40
"""Symbolic links on one path (path_resolution(7))."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is seen at a path."""

    path: str
    """In the image, without a slash at either end; "" is the root."""
    real: Path
    """Where it lies: in the highest layer that has it."""
    info: os.stat_result
    """Of `real`, links not followed."""
    directories: tuple[Path, ...] = ()
    """Of a directory: all that are merged into it, highest first."""

    @property
    def is_directory(self) -> bool:
        """Whether it has entries."""
        return bool(self.directories)


class MergedView:
    """The overlay of `layers`, lowest first."""

    def __init__(self, layers: Sequence[Path], form: OverlayForm) -> None:
        self._form = form
        top_first = tuple(reversed(layers))
        self._found: dict[str, Entry | None] = {}
        """Directories only, and what is not there."""
        if top_first:
            self._found[""] = Entry("", top_first[0], top_first[0].lstat(), top_first)
        else:
            self._found[""] = None

    def look(self, path: str) -> Entry | None:
        """The entry at a path; no link is followed, neither the last nor before. None if nothing
        is there."""
        path = _clean(path)
        if path in self._found:
            return self._found[path]
        parent_path, _, name = path.rpartition("/")
        parent = self.look(parent_path)
        entry = self._child(parent, name, path) if parent is not None else None
        if entry is None or entry.is_directory:
            self._found[path] = entry
        return entry

    def children(self, directory: Entry) -> Iterator[Entry]:
        """The entries of a directory, in byte order."""
        names = {found.name for each in directory.directories for found in each.iterdir()}
        for name in sorted(names, key=os.fsencode):
            if (entry := self.look(f"{directory.path}/{name}")) is not None:
                yield entry

    def walk(self, start: Entry) -> Iterator[Entry]:
        """All that is below it, directories before their entries."""
        for entry in self.children(start):
            yield entry
            if entry.is_directory:
                yield from self.walk(entry)

    def resolve(self, path: str) -> str:
        """The path with all its links followed, the last too, as they lead inside the image: "/"
        is its root and ".." does not leave it. What is not there stays as it is named.

        Raises ImageError for too many links."""
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done[-1:] = []
                continue
            entry = self.look("/".join([*done, part]))
            if entry is None or not stat.S_ISLNK(entry.info.st_mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise ImageError(f"/{path.strip('/')}: too many links on the way")
            target = str(entry.real.readlink())
            if target.startswith("/"):
                done = []
            todo += [one for one in reversed(target.split("/")) if one not in ("", ".")]
        return "/".join(done)

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """The content of a regular file, at most `limit` bytes; None if there is none."""
        entry = self.look(self.resolve(path))
        if entry is None or not stat.S_ISREG(entry.info.st_mode):
            return None
        with entry.real.open("rb") as file:
            return file.read(limit)

    def _child(self, parent: Entry, name: str, path: str) -> Entry | None:
        merged: list[Path] = []
        info = None
        for directory in parent.directories:
            real = directory / name
            try:
                found = real.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(found.st_mode):
                if info is None and not is_whiteout(found):
                    return Entry(path, real, found)
                break
            info = info or found
            merged.append(real)
            if self._form.is_opaque(real):
                break
        return Entry(path, merged[0], info, tuple(merged)) if info is not None else None


def _clean(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))
