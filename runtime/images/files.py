"""The directory of a store: its paths, its locks, and room for what is being made.

    layers/sha256/<hex>/       an unpacked layer, by the digest of its uncompressed archive
    archives/sha256/<hex>      what that archive had besides the files' contents (split.py)
    images/sha256/<hex>.json   a configuration, by its own digest
    names/<name>               a digest
    flat/sha256/<hex>/         a flattened image, where one was asked for
    shifted/<map>/<hex>/       a layer with shifted owners, where one was asked for
    cache/<key>                a step of a build and the layer that it made
    pins/*                     what is in use, and by whom (pins.py)
    tmp/*/                     what is being made, locked by its maker
    locks/<what>               flock(2) targets

Everything appears by rename(2), whole or not at all. A process that is killed leaves only its
directory in tmp/: the kernel has freed its lock, and the next one to open the store removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import ImageError, StoreFull
from runtime.images.names import file_name

__all__ = ["StoreFiles", "remove_tree", "tree_size"]

_FOLDERS = (
    "layers/sha256",
    "archives/sha256",
    "images/sha256",
    "flat/sha256",
    "shifted",
    "cache",
    "names",
    "pins",
    "locks",
    "tmp",
)


class StoreFiles:
    """Paths and locks below `root`, which is made if it is not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in _FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        self._sweep()

    def layer(self, diff_id: str) -> Path:
        """The unpacked layer."""
        return self.root / "layers" / "sha256" / diff_id.removeprefix("sha256:")

    def archive(self, diff_id: str) -> Path:
        """The rest of the layer's archive."""
        return self.root / "archives" / "sha256" / diff_id.removeprefix("sha256:")

    def config(self, digest: str) -> Path:
        """The image's configuration."""
        return self.root / "images" / "sha256" / f"{digest.removeprefix('sha256:')}.json"

    def flat(self, digest: str) -> Path:
        """The flattened image."""
        return self.root / "flat" / "sha256" / digest.removeprefix("sha256:")

    def name(self, name: str) -> Path:
        """The file of a name."""
        return self.root / "names" / file_name(name)

    @contextmanager
    def lock(self, what: str, *, shared: bool = False) -> Iterator[None]:
        """Held by one process or thread at a time, or by several that share it (flock(2)); the
        kernel frees it at death.

        The lock "store" is held shared, for moments, by whoever makes something referred to, and
        alone by whoever removes what nothing refers to."""
        with (self.root / "locks" / what).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A directory on the store's file system that is gone afterwards.

        OSError that comes out of the block is translated, as `translated` does."""
        with self.translated():
            with self.lock("sweep", shared=True):  # until it is locked, it looks abandoned
                folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=self.root / "tmp"))
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                remove_tree(folder)
                os.close(fd)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """OSError becomes StoreFull or ImageError: users of a store need not know that it is
        files."""
        try:
            yield
        except OSError as error:
            about = f"{error.filename}: " if error.filename else ""
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(
                    f"image store {self.root}: {about}{error.strerror}; the store is as before: "
                    "prune it, or give it another place"
                ) from error
            raise ImageError(f"image store {self.root}: {about}{error.strerror}") from error

    def write(self, path: Path, data: bytes, folder: Path) -> None:
        """Make a whole file appear, by way of a temporary directory."""
        fresh = folder / f"fresh-{path.name}"
        fresh.write_bytes(data)
        fresh.rename(path)

    def _sweep(self) -> None:
        """Remove what dead processes were making."""
        tmp = self.root / "tmp"
        if not any(tmp.iterdir()):
            return
        with self.lock("sweep"):  # two at once would trip over each other's removals
            for path in tmp.iterdir():
                with suppress(FileNotFoundError):  # its maker has just finished with it
                    _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(path)
    except BlockingIOError:
        pass  # its maker lives
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a directory with all in it, those that a layer made unwritable for its owner too."""
    if os.geteuid() != 0:
        path.chmod(0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                below = Path(folder, name)
                if not below.is_symlink():
                    below.chmod(0o700)
    shutil.rmtree(path)


def tree_size(path: Path) -> int:
    """Bytes that a file or tree takes on the disk; hard links count once."""
    seen: dict[tuple[int, int], int] = {}
    stack = [path]
    while stack:
        info = (current := stack.pop()).lstat()
        seen[info.st_dev, info.st_ino] = info.st_blocks * 512
        if current.is_dir() and not current.is_symlink():
            stack += current.iterdir()
    return sum(seen.values())
