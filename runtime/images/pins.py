"""Pins: what of a store is in use, so that nobody prunes it.

A pin is a file that lists an image and its layers. While its holder lives it counts: a pin of this
process is locked by it (flock(2)), which ends with the process however it ends; a pin for another
process, such as the PID 1 of a detached container, names that one by pid and start time. So a pin
is never stale, and nothing needs cleaning up after a crash.

One pin is enough for any number of containers that one process starts from an image.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

__all__ = ["LivePin", "Pin", "live_pins", "start_time"]


def start_time(pid: int) -> str | None:
    """When this process started, in clock ticks since boot (proc_pid_stat(5), field 22); with the
    pid it names one process. None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()[19]


class Pin:
    """One file in a store's pins/. A context, or ended by `release`.

    Made by `ImageStore.pin`, which holds the store's lock: between its making and its locking a
    pin must not be judged."""

    def __init__(self, folder: Path, image: str | None, pid: int | None, who: str) -> None:
        fd, name = tempfile.mkstemp(prefix=f"{os.getpid() if pid is None else pid}.", dir=folder)
        self.path = Path(name)
        self._fd = fd
        self._content: dict[str, Any] = {"image": image, "layers": [], "who": who}
        if pid is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            self._content |= {"pid": pid, "start": start_time(pid)}
        try:
            self._write()
        except BaseException:
            self.release()
            raise

    def add(self, layers: Iterable[str]) -> None:
        """Hold these layers (diff ids) too."""
        self._content["layers"] = sorted({*self._content["layers"], *layers})
        self._write()

    def release(self) -> None:
        """Let go. Idempotent."""
        self.path.unlink(missing_ok=True)
        self._close()

    def detach(self) -> None:
        """Close the file and leave the pin to the other process that it names."""
        self._close()

    def _write(self) -> None:
        data = json.dumps(self._content).encode()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Pin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class LivePin:
    """A pin whose holder lives."""

    image: str | None
    """Digest of an image."""
    layers: frozenset[str]
    """Diff ids."""
    who: str
    """The holder, in words."""


def live_pins(folder: Path) -> list[LivePin]:
    """All pins that count; the others are removed. To be called with the store locked."""
    found = []
    for path in folder.iterdir():
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            continue  # released just now
        with file:
            try:
                content = json.loads(file.read())
            except ValueError:
                content = {}  # its maker was killed in the middle, or the disk was full
            if _alive(file, content):
                layers = frozenset(content.get("layers", ()))
                found.append(LivePin(content.get("image"), layers, content.get("who", path.name)))
            else:
                path.unlink(missing_ok=True)
    return found


def _alive(file: BinaryIO, content: dict[str, Any]) -> bool:
    if content.get("start") is not None:
        return start_time(int(content["pid"])) == str(content["start"])
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
