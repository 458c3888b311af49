"""What is kept of a container: a directory, `<root>/containers/<id>/`.

    container.json    what it is to be: written once, when it is created
    state.json        what became of it: written by its monitor, replaced whole
    monitor.lock      held by its monitor (flock(2)) for as long as there is one
    bundle/           config.json and rootfs/, for the OCI runtime
    upper/, work/     its own layer, and what overlayfs needs
    output.log        what it wrote (`runtime.client.log`)
    attach.sock       where its terminal or its input can be reached while it runs

A name is a symbolic link in `<root>/names/`: making it is taking it, for any number of processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.client.errors import ContainerNotFound, NameTaken
from runtime.errors import SpecError

__all__ = ["Draft", "Record", "Records", "State", "now"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SHORTEST = 4
"""Characters of an id's beginning that are taken for the id."""

_LEFT = ("brave", "calm", "eager", "fond", "keen", "lucid", "quick", "quiet", "stoic", "wry")
_RIGHT = (
    "babbage",
    "dijkstra",
    "engelbart",
    "goldberg",
    "hopper",
    "kernighan",
    "lamport",
    "liskov",
)


def now() -> str:
    """UTC, RFC 3339 with nanoseconds' place as Docker writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class State:
    """What became of a container."""

    status: str = "created"
    """`created`, `running`, `exited`, or `dead`: its monitor ended before it."""
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    """Why it could not be started."""
    started_at: str = ""
    finished_at: str = ""
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a network → address, gateway, mac, ports."""


class Record:
    """One container's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self.directory.name

    @property
    def bundle(self) -> Path:
        """The OCI bundle."""
        return self.directory / "bundle"

    @property
    def upper(self) -> Path:
        """What it has written."""
        return self.directory / "upper"

    @property
    def log(self) -> Path:
        """Its output."""
        return self.directory / "output.log"

    @property
    def socket(self) -> Path:
        """Where its monitor listens."""
        return self.directory / "attach.sock"

    def description(self) -> dict[str, Any]:
        """`container.json`. Raises ContainerNotFound if it has been removed."""
        try:
            found: dict[str, Any] = json.loads((self.directory / "container.json").read_text())
        except FileNotFoundError:
            raise ContainerNotFound(self.id, ()) from None
        return found

    def state(self) -> State:
        """`state.json`, put right if its monitor was killed."""
        try:
            state = State(**json.loads((self.directory / "state.json").read_text()))
        except FileNotFoundError:
            return State()
        if state.status == "running" and not self.monitored():
            # Written once more before it let the lock go, or never: then it was killed.
            state = State(**json.loads((self.directory / "state.json").read_text()))
            if state.status == "running":
                return replace(state, status="dead", exit_code=137, error="its monitor was killed")
        return state

    def write_state(self, state: State) -> None:
        """Replace it whole."""
        fresh = self.directory / f".state.{os.getpid()}"
        fresh.write_text(json.dumps(asdict(state)))
        fresh.rename(self.directory / "state.json")

    def monitored(self) -> bool:
        """Whether its monitor lives."""
        try:
            with (self.directory / "monitor.lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


@dataclass(frozen=True, slots=True)
class Draft:
    """A container that is being described: its name is taken, its directory not yet in place."""

    record: Record
    """As it will be."""
    fresh: Path
    name: str

    def write(self, description: dict[str, Any]) -> Record:
        """Describe it, and put it in place."""
        about = {"id": self.record.id, "name": self.name, "created": now(), **description}
        (self.fresh / "container.json").write_text(json.dumps(about))
        self.fresh.rename(self.record.directory)
        return self.record


class Records:
    """All containers of one root directory; any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self._containers = root / "containers"
        self._names = root / "names"

    @contextlib.contextmanager
    def draft(self, name: str | None) -> Iterator[Draft]:
        """A new container, which is there when its draft has been written, or not at all.

        Raises NameTaken, SpecError for a name that cannot be."""
        if name is not None and not _NAME.fullmatch(name):
            raise SpecError(f"name: {name!r} must be letters, digits, _ . -, at most 128")
        container_id = secrets.token_hex(32)
        self._containers.mkdir(parents=True, exist_ok=True)
        self._names.mkdir(parents=True, exist_ok=True)
        fresh = self._containers / f".{container_id}"
        fresh.mkdir(mode=0o711)
        taken = ""
        try:
            for part in ("upper", "work", "bundle/rootfs"):
                (fresh / part).mkdir(parents=True, mode=0o755)
            taken = self._take(name, container_id)
            yield Draft(Record(self._containers / container_id), fresh, taken)
        except BaseException:
            if taken:
                (self._names / taken).unlink(missing_ok=True)
            shutil.rmtree(fresh)
            raise

    def _take(self, name: str | None, container_id: str) -> str:
        tries = 0
        while True:
            wanted = name
            if wanted is None:
                wanted = f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}"
                wanted += f"_{secrets.randbelow(10**tries)}" if tries else ""
            link = self._names / wanted
            try:
                link.symlink_to(Path("..", "containers", container_id))
            except FileExistsError:
                holder = link.readlink().name
                if not (self._containers / holder).exists() and (
                    not (self._containers / f".{holder}").exists()
                ):
                    link.unlink(missing_ok=True)  # its container was killed while it was made
                    continue
                if name is not None:
                    raise NameTaken(name, holder) from None
                tries += 1
            else:
                return wanted

    def find(self, name: str) -> Record:
        """By name, id or the beginning of one. Raises ContainerNotFound, with the choices."""
        link = self._names / name
        if _NAME.fullmatch(name) and link.is_symlink():
            record = Record(self._containers / link.readlink().name)
            if record.directory.is_dir():
                return record
        ids = [record.id for record in self.all() if record.id.startswith(name)]
        if len(ids) == 1 and len(name) >= _SHORTEST:
            return Record(self._containers / ids[0])
        raise ContainerNotFound(name, self.names())

    def names(self) -> list[str]:
        """Names of all containers, sorted."""
        return sorted(record.description()["name"] for record in self.all())

    def all(self) -> Iterator[Record]:
        """Every container, the newest first."""
        if not self._containers.is_dir():
            return
        paths = [path for path in self._containers.iterdir() if not path.name.startswith(".")]
        for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
            if (path / "container.json").exists():
                yield Record(path)

    def remove(self, record: Record) -> None:
        """Forget it, with all its files."""
        name = record.description()["name"]
        doomed = self._containers / f".{record.id}"
        record.directory.rename(doomed)
        (self._names / name).unlink(missing_ok=True)
        shutil.rmtree(doomed)
