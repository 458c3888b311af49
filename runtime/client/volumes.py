"""`client.volumes`: directories that outlive containers, and bypass their layers."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.client.errors import VolumeInUse, VolumeNotFound
from runtime.client.record import now
from runtime.errors import SpecError
from runtime.images.merged import Entry, MergedView

if TYPE_CHECKING:
    from runtime.client.client import Client

__all__ = ["Volume", "VolumeCollection"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume. `directory` holds `_data`, which is mounted, and `volume.json`."""

    name: str
    directory: Path
    client: Client

    @property
    def path(self) -> Path:
        """What is mounted."""
        return self.directory / "_data"

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        found: dict[str, str] = json.loads((self.directory / "volume.json").read_text())["labels"]
        return found

    def fill(self, image: MergedView, target: str) -> None:
        """A new volume begins with what the image has at its place, as Docker's does."""
        entry = image.look(image.resolve(target))
        if entry is not None and entry.is_directory and not any(self.path.iterdir()):
            _copy(image, entry, self.path)

    def users(self) -> Sequence[str]:
        """Names of containers that mount it."""
        return [
            container.name
            for container in self.client.containers.list(all=True)
            for mount in container.attrs["config"]["mounts"]
            if mount.get("source") == str(self.path)
        ]

    def remove(self, *, force: bool = False) -> None:
        """Remove it with its data. Raises VolumeInUse while a container has it, running or not."""
        if not force and (users := self.users()):
            raise VolumeInUse(self.name, users)
        shutil.rmtree(self.directory)


class VolumeCollection:
    """The volumes of a client's root directory."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._root = client.root / "volumes"

    def create(self, name: str | None = None, *, labels: Mapping[str, str] | None = None) -> Volume:
        """A volume; one that is there is taken. Raises SpecError for a name that cannot be."""
        name = name or secrets.token_hex(32)
        if not _NAME.fullmatch(name):
            raise SpecError(f"volume name {name!r}: letters, digits, _ . -, at most 128")
        volume = Volume(name, self._root / name, self._client)
        volume.path.mkdir(parents=True, exist_ok=True, mode=0o755)
        record = volume.directory / "volume.json"
        if not record.exists():
            text = json.dumps({"name": name, "created": now(), "labels": dict(labels or {})})
            fresh = volume.directory / f".{secrets.token_hex(4)}"
            fresh.write_text(text)
            fresh.rename(record)
        return volume

    def get(self, name: str) -> Volume:
        """Raises VolumeNotFound."""
        volume = Volume(name, self._root / name, self._client)
        if not _NAME.fullmatch(name) or not (volume.directory / "volume.json").exists():
            raise VolumeNotFound(name, [each.name for each in self.list()])
        return volume

    def list(self) -> Sequence[Volume]:
        """All of them, by name."""
        found = sorted(self._root.glob("*/volume.json"))
        return [Volume(path.parent.name, path.parent, self._client) for path in found]

    def prune(self) -> Sequence[str]:
        """Remove those that no container has; their names."""
        gone = [volume for volume in self.list() if not volume.users()]
        for volume in gone:
            volume.remove()
        return [volume.name for volume in gone]


def _copy(image: MergedView, source: Entry, target: Path) -> None:
    """A directory of an image with all that is in it: owners, modes, links, devices, times."""
    for entry in image.walk(source):
        place = target / Path(entry.path).relative_to(source.path)
        mode = entry.info.st_mode
        if entry.is_directory:
            place.mkdir()
        elif stat.S_ISLNK(mode):
            place.symlink_to(entry.real.readlink())
        elif stat.S_ISREG(mode):
            shutil.copyfile(entry.real, place)
        else:
            os.mknod(place, mode, entry.info.st_rdev)
        _like(place, entry.info)
    _like(target, source.info)


def _like(place: Path, info: os.stat_result) -> None:
    os.lchown(place, info.st_uid, info.st_gid)
    if not stat.S_ISLNK(info.st_mode):
        place.chmod(stat.S_IMODE(info.st_mode))
        os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
