"""What is kept of a container between one verb and the next: a directory with a lock.

    <root>/<id>/state.json    what it is, and its process (`Container.record`)
    <root>/<id>/config.json   its config as it was at `create`, for `exec`
    <root>/<id>/gate          there until `start`: its process waits at it

The directory's existence is what makes an id taken. Its lock (flock(2) on the directory itself)
is held by every verb that changes something. A status is not stored but seen: whether the
process lives, whether the gate is there, whether the cgroup is frozen; so nothing that happens
between two verbs makes the record untrue.
"""

from __future__ import annotations

import fcntl
import os

from runtime.errors import ContainerError, NoSuchContainer, StateError, UsageError
from runtime.oci.lightjson import JsonError, dumps, loads
from runtime.oci.paths import exists, variable

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Container", "check_id", "default_root", "started_at"]

VERSION = "1.2.0"
"""Of the runtime specification that this runtime follows."""

_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST = 255
"""Bytes of a file name (NAME_MAX)."""


def default_root() -> str:
    """Where state is kept unless `--root` says otherwise: on a tmpfs, since no container
    survives a boot. An ordinary user, and root in a user namespace of one, has it in
    $XDG_RUNTIME_DIR."""
    own = variable("XDG_RUNTIME_DIR")
    if own and (os.geteuid() != 0 or _in_user_namespace()):
        return f"{own}/lab-oci"
    return "/run/lab-oci"


def _in_user_namespace() -> bool:
    with open("/proc/self/uid_map") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def check_id(container_id: str) -> str:
    """The id, if it can be a directory's name. Raises UsageError."""
    if (
        not container_id
        or len(container_id) > _LONGEST
        or container_id in (".", "..")
        or not _ID.issuperset(container_id)
    ):
        raise UsageError(
            f"invalid container id {container_id!r}: up to {_LONGEST} letters, digits, and _ + - ."
        )
    return container_id


def started_at(pid: int) -> int:
    """When a process began, in clock ticks since boot (proc_pid_stat(5), field 22); 0 if there
    is none, or it has ended and waits to be reaped. Pids are used again; pid and this are not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


class Container:
    """One container's directory. As a context it holds the lock."""

    def __init__(self, root: str, container_id: str, lock_fd: int = -1) -> None:
        self.root = root
        self.id = container_id
        self.directory = f"{root}/{container_id}"
        self.record: dict[str, Any] = {}
        self.lock_fd = lock_fd
        """A descriptor of the directory, which holds the lock; -1 without it."""

    @classmethod
    def make(cls, root: str, container_id: str) -> Container:
        """Take the id: a new directory, locked. Raises StateError if the id is taken."""
        check_id(container_id)
        directory = f"{root}/{container_id}"
        try:
            try:
                os.mkdir(directory, 0o711)
            except FileNotFoundError:
                os.makedirs(root, 0o711, exist_ok=True)
                os.mkdir(directory, 0o711)
        except FileExistsError:
            raise StateError(f"container id {container_id!r} already exists in {root}") from None
        except OSError as error:
            raise ContainerError(
                f"cannot make state directory {directory}: {error.strerror}; choose another --root"
            ) from None
        return cls(root, container_id, _lock(directory))

    @classmethod
    def find(cls, root: str, container_id: str) -> Container:
        """A container that is there, not locked. Raises NoSuchContainer."""
        found = cls(root, check_id(container_id))
        found.load()
        return found

    @classmethod
    def locked(cls, root: str, container_id: str) -> Container:
        """A container that is there, locked: used as a context. Raises NoSuchContainer."""
        check_id(container_id)
        while True:
            try:
                fd = _lock(f"{root}/{container_id}")
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchContainer(container_id, root) from None
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # removed while we waited for the lock: it is another one now, or none
        found = cls(root, container_id, fd)
        try:
            found.load()
        except BaseException:
            found.unlock()
            raise
        return found

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def unlock(self) -> None:
        """Let go of the lock. Idempotent. Said in so many words, because a container's process
        that waits at its gate has a copy of the descriptor, and the lock is of all copies."""
        if self.lock_fd >= 0:
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)
            os.close(self.lock_fd)
            self.lock_fd = -1

    def load(self) -> None:
        """Read the record. Raises NoSuchContainer, also where a `create` was killed before it
        had written one."""
        try:
            with open(f"{self.directory}/state.json", encoding="utf-8") as file:
                self.record = loads(file.read())
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchContainer(self.id, self.root) from None
        except (OSError, JsonError) as error:
            raise ContainerError(f"state of container {self.id!r}: {error}") from None

    def save(self) -> None:
        """Write the record, so that a reader sees the old one or the new one."""
        self.write("state.json", dumps(self.record).encode())

    def write(self, name: str, data: bytes) -> None:
        """A file of the directory, replaced as a whole."""
        path = f"{self.directory}/{name}"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)

    def config(self) -> dict[str, Any]:
        """The config as it was at `create`."""
        with open(f"{self.directory}/config.json", encoding="utf-8") as file:
            config: dict[str, Any] = loads(file.read())
            return config

    def remove(self) -> None:
        """The directory and what is in it; the id is free again. Idempotent."""
        try:
            for name in os.listdir(self.directory):
                os.unlink(f"{self.directory}/{name}")
            os.rmdir(self.directory)
        except FileNotFoundError:
            return

    @property
    def pid(self) -> int:
        """The process that `create` made, as seen from here; it may have ended."""
        return int(self.record["pid"])

    def alive(self) -> bool:
        """Whether that very process lives."""
        return self.pid > 0 and started_at(self.pid) == self.record["started"]

    def status(self) -> str:
        """`creating`, `created`, `running`, `paused` or `stopped` (runtime.md, "State")."""
        if self.record["creating"] and (self.lock_fd >= 0 or self._is_locked()):
            return "creating"
        if not self.alive():
            return "stopped"
        if exists(f"{self.directory}/gate"):
            return "created"
        return "paused" if self._frozen() else "running"

    def _frozen(self) -> bool:
        from runtime.oci.group import group_of

        group = group_of(self)
        return group is not None and group.frozen()

    def _is_locked(self) -> bool:
        """Whether the one who makes it is still at it; else it was killed in the middle."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def state(self, status: str | None = None) -> dict[str, Any]:
        """What the specification calls the state, and what `state` prints of it and hooks get."""
        status = status or self.status()
        record = self.record
        state = {
            "ociVersion": VERSION,
            "id": self.id,
            "pid": 0 if status == "stopped" else self.pid,
            "status": status,
            "bundle": record["bundle"],
        }
        if record["annotations"]:
            state["annotations"] = record["annotations"]
        return state


def _lock(directory: str) -> int:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd
