"""The guest's disk: a read-only base made from a directory tree, and one overlay per machine.

The base is a sparse raw ext4 image, named by the digest of what is in it::

    <cache>/disks/<digest>/base.raw
    <cache>/disks/<digest>/blank.qcow2    an empty overlay over base.raw, to be copied at launch

Copying the blank costs 0.1 ms where ``qemu-img create`` costs a process of 10 ms.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.cache import make_once
from vm.errors import DiskError, ToolMissing

__all__ = ["BaseDisk", "allocated", "build_base"]

_BLOCK = 4096
_ROOM = 512 * 2**20
"""Bytes that a guest can write beyond the content. Costs nothing: the image is sparse."""

_LAYOUT = "1"
"""Part of the cache key: raise it when the options of mke2fs below change."""

_NAMESPACE = uuid.UUID("6f9c35a0-2b5f-4d7e-9a57-0b1f7e0a51ab")


@dataclass(frozen=True, slots=True)
class BaseDisk:
    """A read-only base in the cache. `size` is the disk's size as the guest sees it, bytes."""

    path: Path
    blank: Path
    digest: str
    size: int

    def overlay(self, target: Path) -> None:
        """Make an empty copy-on-write overlay of this base at `target`, which must not exist.

        Holes stay holes, so that `allocated` counts what the machine really took.
        """
        data = self.blank.read_bytes()
        try:
            with target.open("xb") as out:
                for start in range(0, len(data), _BLOCK):
                    block = data[start : start + _BLOCK]
                    if block.count(0) != len(block):
                        out.seek(start)
                        out.write(block)
                out.truncate(len(data))
        except OSError as error:
            raise DiskError(f"cannot make the disk overlay {target}: {error}") from error


def allocated(path: Path) -> int:
    """Return the bytes that `path` really takes on the host's disk (stat(2): st_blocks counts 512
    bytes, whatever the file system's block size)."""
    return path.stat().st_blocks * 512


def build_base(tree: Path, digest: str, cache: Path) -> BaseDisk:
    """Make the base disk for the directory `tree`, whose content has the name `digest`.

    The same digest gives the same file system: UUID and hash seed are derived from it. Ownership
    and modes in `tree` are taken as they are, so this needs the rights to read them all.
    ToolMissing: no mke2fs or qemu-img. DiskError: what they said.
    """
    if not re.fullmatch(r"[A-Za-z0-9:._-]+", digest):
        raise DiskError(f"not a digest: {digest!r}")
    directory = cache / "disks" / f"{digest.replace(':', '-')}-{_LAYOUT}"

    def make(target: Path) -> None:
        size = _virtual_size(tree)
        _make_ext4(target / "base.raw", tree, digest, size)
        _make_blank(target / "blank.qcow2", directory / "base.raw", size)
        (target / "base.raw").chmod(0o444)

    make_once(directory, make)
    base = directory / "base.raw"
    return BaseDisk(base, directory / "blank.qcow2", digest, base.stat().st_size)


def _virtual_size(tree: Path) -> int:
    """1.2 × content for the file system's own structures, and room; a whole number of MiB."""
    content = sum(
        -(-entry.lstat().st_size // _BLOCK) * _BLOCK + _BLOCK // 2 for entry in tree.rglob("*")
    )
    return -(-int(content * 1.2 + _ROOM) // 2**20) * 2**20


def _make_ext4(image: Path, tree: Path, digest: str, size: int) -> None:
    with image.open("wb") as out:
        out.truncate(size)
    identity = uuid.uuid5(_NAMESPACE, digest)
    extended = (
        f"hash_seed={identity}",
        "root_owner=0:0",
        # Now and not by a thread of each guest, whose writes would be counted as the workload's.
        "lazy_itable_init=0",
        "nodiscard",
    )
    _run(
        [
            "mke2fs",
            "-q",
            "-F",
            *("-t", "ext4"),
            *("-b", str(_BLOCK)),
            *("-U", str(identity)),
            *("-E", ",".join(extended)),
            # No journal: an overlay lives as long as its machine, nothing is recovered from it.
            *("-O", "^has_journal"),
            *("-m", "0"),
            *("-d", str(tree)),
            str(image),
        ]
    )


def _make_blank(image: Path, base: Path, size: int) -> None:
    # -u: the base gets this name only when the whole directory is renamed into place.
    backing = ("-u", "-b", str(base), "-F", "raw")
    _run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(image), str(size)])


def _run(argv: Sequence[str]) -> None:
    path = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        package = {"mke2fs": "e2fsprogs", "qemu-img": "qemu-utils"}[argv[0]]
        raise ToolMissing(f"{argv[0]} is not here; install {package}")
    done = subprocess.run(
        [path, *argv[1:]], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise DiskError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
