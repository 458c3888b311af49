"""The store's directory: locks, records, and who owns what.

    <root>/
      lock                          flock(2) held while a network is made or removed
      owners/<id>                   flock held by a living owner; its pid inside
      networks/<name>/
        network.json                the network; written before, removed after all else of it
        lock                        flock held while leases and names change; inside, the address
                                    that was given out last
        leases/<address>            JSON: one endpoint
        names/<name>                symbolic link to the address
        aliases/<alias>/<address>   empty: several endpoints can share an alias
        dns.lock                    flock held by the name server; its pid inside
        dns.log                     what it had to complain of
      members/<namespace>/<network> symbolic link to the address: the networks of one container
      ports/<address>:<port>-<protocol>  symbolic link to <network>/<address>: a published port
      namespaces/<owner>/.owner     symbolic link to the owner's lock
      namespaces/<owner>/<name>     bind mount of a network namespace

Each thing is a file of its own: an allocation costs the same with a thousand others there, two
processes can work at once, and the name server answers by looking. `ls` shows the state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Owner", "held", "here", "locked", "namespace_alive", "namespace_locked", "write"]


@contextlib.contextmanager
def locked(path: Path, *, create: bool = True) -> Iterator[int]:
    """Hold an exclusive flock(2) on a file for the length of the context, between processes and
    between threads alike; its descriptor. Raises FileNotFoundError if it is not there and not to
    be made."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    lock = os.open(path, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def namespace_locked() -> Iterator[None]:
    """Hold a lock on the network namespace that this thread is in, against every other store: two
    of them must not choose one subnet. (nsfs files take flock(2); the inode is the namespace.)"""
    lock = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def here() -> str:
    """The network namespace that this thread is in, as `NetworkNamespace.id` has it."""
    status = Path("/proc/thread-self/ns/net").stat()
    return f"{status.st_dev}-{status.st_ino}"


def namespace_alive(namespace: str) -> bool:
    """Whether a process is in that network namespace, or a mount here keeps it (nsfs)."""
    inode = namespace.partition("-")[2]
    for process in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            status = process.stat()
            if f"{status.st_dev}-{status.st_ino}" == namespace:
                return True
    return f" net:[{inode}] " in Path("/proc/self/mountinfo").read_text()


def write(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, and never a part."""
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        scratch.write_text(text)
        scratch.rename(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def held(lock: Path) -> bool:
    """Whether a process holds this lock. A shared one is tried, so that two who look at once do
    not take each other for the owner."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class Owner:
    """A living process, as the records name it: the path of a lock file that it holds, which the
    kernel lets go of however the process ends."""

    def __init__(self, lock: Path, fd: int) -> None:
        self.lock = lock
        self._fd = fd

    @classmethod
    def become(cls, owners: Path) -> Owner:
        """Make a lock file in this directory and hold it."""
        owners.mkdir(parents=True, exist_ok=True)
        lock = owners / secrets.token_hex(4)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, f"{os.getpid()}\n".encode())
        return cls(lock, fd)

    def retire(self) -> None:
        """Let go and remove the file."""
        self.lock.unlink(missing_ok=True)
        os.close(self._fd)
