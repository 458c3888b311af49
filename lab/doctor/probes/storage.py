"""Overlay file systems as root and rootless, shared blocks, and room."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from lab.doctor.probe import Failed, Host, Outcome, in_words, limited, missing, ok, probe
from lab.doctor.rights import NOBODY, become_nobody, map_user, user_namespace_advice
from lab.doctor.words import size
from lab.host import file_system_of
from runtime.namespaces import Namespace
from runtime.syscalls import MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC, mount, umount2, unshare

__all__ = ["PROBES", "judge_room"]

_FICLONE = 0x40049409  # include/uapi/linux/fs.h

_ELSEWHERE = "put the cache on another file system: LAB_CACHE_DIR=/path"

_CACHE_LEAST, _CACHE_GOOD = 2**30, 4 * 2**30
"""Guest kernel 160 MB, the debian image as layer, tree and disk 600 MB; overlays of a run."""

_RESULTS_LEAST, _RESULTS_GOOD = 64 * 2**20, 2**30
"""A run of the quick suite with its report takes a few MB."""


def _private_mounts() -> None:
    unshare(Namespace.MOUNT)
    mount(None, "/", None, MS_REC | MS_PRIVATE, None)


def _write_through(options: str = "") -> None:
    """Mount an overlay in the working directory, change and remove a file of its lower layer.

    OSError: the kernel refused. `Failed`: it is not as an overlay should be. Names are relative: a
    comma or a colon in the cache's path would need escapes."""
    for name in ("lower", "upper", "work", "merged"):
        Path(name).mkdir()
    for name in ("changed", "removed"):
        Path("lower", name).write_text("lower")
    where = "lowerdir=lower,upperdir=upper,workdir=work"
    mount("overlay", "merged", "overlay", 0, where + options)
    try:
        Path("merged/changed").write_text("upper")
        Path("merged/removed").unlink()
        listed = [path.name for path in Path("merged").iterdir()]
    finally:
        umount2("merged", MNT_DETACH)
    found = Path("upper/changed").read_text(), Path("lower/changed").read_text(), listed
    if found != ("upper", "lower", ["changed"]):
        raise Failed(f"upper, lower and merged are not as they should be: {found}")


@probe(
    "overlay as root",
    group="storage",
    tried="overlay on the cache's file system; a lower file changed and another removed through it",
    advice=f"needs overlayfs, and no overlay or network below it; {_ELSEWHERE}",
    needed_for=["container"],
)
def overlay(host: Host) -> Outcome:
    """As the container backend mounts it."""
    _private_mounts()
    os.chdir(host.room("overlay"))
    _write_through()
    return ok(f"copy-up and whiteout on {file_system_of(host.cache)}")


@probe(
    "rootless overlay",
    group="storage",
    tried="the same as uid nobody in a user namespace, with userxattr",
    advice=f"needs Linux 5.11 and user xattrs; {_ELSEWHERE}",
    needed_for=["rootless"],
    after=("rootless user namespace",),
)
def rootless(host: Host) -> Outcome:
    """userxattr: its marks are in user.overlay.*, which need no rights (overlayfs.rst)."""
    room = host.room("rootless")
    if os.geteuid() == 0:
        # Bound to where anyone may go: the cache can be below a directory that is root's alone.
        _private_mounts()
        os.chown(room, NOBODY, NOBODY)
        public = tempfile.gettempdir()
        mount(str(room), public, None, MS_BIND, None)
        room = Path(public)
    os.chdir(room)
    become_nobody()
    try:
        map_user(Namespace.MOUNT)
    except OSError as error:
        return missing(in_words(error), user_namespace_advice())
    _write_through(",userxattr")
    shutil.rmtree("work")  # inside, where its owner may: the kernel made its content mode 0
    return ok(f"copy-up and whiteout on {file_system_of(host.cache)}")


@probe(
    "reflink",
    group="storage",
    tried="ioctl(FICLONE) between two unnamed files in the cache",
    needed_for=["reflink"],
)
def reflink(host: Host) -> Outcome:
    """Files that share blocks until one is written (ioctl_ficlone(2))."""
    kind, room = file_system_of(host.cache), host.room("reflink")
    with (
        tempfile.TemporaryFile(dir=room) as source,
        tempfile.TemporaryFile(dir=room) as target,
    ):
        source.write(b"x" * 65536)
        source.flush()
        try:
            fcntl.ioctl(target, _FICLONE, source.fileno())
        except OSError as error:
            words = f"{kind}: {in_words(error)}"
            return missing(words, "for reflinked disks, have the cache on XFS or Btrfs")
        target.seek(0)
        same = target.read() == b"x" * 65536
    return ok(f"{kind} shares blocks") if same else missing(f"{kind}: the copy is not the same")


@probe(
    "room in the cache",
    group="storage",
    tried="a file written there, then statvfs",
    advice="make room, or LAB_CACHE_DIR=/path on a larger disk",
    needed_for=["native", "container", "vm"],
)
def cache(host: Host) -> Outcome:
    """Kernels, images, disks, overlays."""
    with tempfile.TemporaryFile(dir=host.room("written")) as file:
        file.write(b"x" * 4096)
    return judge_room(host.cache, _free(host.cache), _CACHE_LEAST, _CACHE_GOOD)


@probe(
    "room in results",
    group="storage",
    tried="a file written there (or where it would be made), then statvfs",
    advice="make room, or LAB_RESULTS=/path where there is some",
    needed_for=["native", "container", "vm"],
)
def results(host: Host) -> Outcome:
    """Records and reports."""
    place = next(path for path in (host.results, *host.results.parents) if path.is_dir())
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(b"x" * 4096)
    return judge_room(host.results, _free(place), _RESULTS_LEAST, _RESULTS_GOOD)


def _free(path: Path) -> int:
    """Bytes for one without privileges (statvfs(3))."""
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def judge_room(path: Path, free: int, least: int, good: int) -> Outcome:
    """Sizes in bytes."""
    if free < least:
        return missing(f"{size(free)} free at {path}, {size(least)} are needed")
    if free < good:
        return limited(f"{size(free)} free at {path}, {size(good)} are comfortable")
    return ok(f"{size(free)} free at {path}")


PROBES = (overlay, rootless, reflink, cache, results)
