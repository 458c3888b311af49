"""Control files: read one, write one, wait for one to change."""

from __future__ import annotations

import errno
import os
import select
import time

from runtime.errors import CgroupError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GONE", "keyed", "read", "read_if_there", "refused", "wait_event", "write"]

GONE = (errno.ENOENT, errno.ENODEV)
"""What opening and reading say of a cgroup that was removed under our feet."""


def read(path: str) -> str:
    """The whole file. Raises OSError with the path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError as error:  # os.read does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="surrogateescape")


def read_if_there(path: str) -> str | None:
    """The file, or None without it: another kernel, a controller that is not handed down, or a
    process that has ended.

    EOPNOTSUPP is the answer of a file whose accounting is switched off (PSI with ``psi=0``)."""
    try:
        return read(path)
    except OSError as error:
        if error.errno in (*GONE, errno.ESRCH, errno.EOPNOTSUPP):
            return None
        raise


def write(path: str, text: str) -> None:
    """One write(2), no create, no truncate. Raises OSError with the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:  # os.write does not know the path
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def keyed(text: str) -> Iterator[tuple[str, int]]:
    """A flat keyed file (cgroup-v2.rst, "Format"): ``KEY VALUE`` on each line."""
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        if key:
            yield key, int(value)


def wait_event(directory: str, key: str, wanted: int, timeout: float) -> bool:
    """Wait until a v2 cgroup's cgroup.events says so: ``populated 0``, ``frozen 1``.

    The kernel wakes the poll (cgroup-v2.rst, "cgroup.events"): nothing is asked twice in vain. A
    cgroup that is gone is neither populated nor frozen. False after `timeout` seconds."""
    try:
        fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return not wanted
    try:
        deadline = 0.0
        while dict(keyed(os.pread(fd, 4096, 0).decode())).get(key) != wanted:
            if not deadline:
                deadline = time.monotonic() + timeout
                poller = select.poll()
                poller.register(fd, select.POLLPRI)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return not wanted
    finally:
        os.close(fd)
    return True


_HINTS = {
    errno.EBUSY: "a v2 cgroup with processes cannot hand controllers down, move them into a leaf "
    "first; a v1 memory limit cannot go below what is in use",
    errno.EROFS: "the cgroup file system is read-only: run privileged, or remount it",
    errno.EACCES: "needs root or a delegated cgroup: systemd-run --user --scope -p Delegate=yes …",
    errno.EPERM: "needs root or a delegated cgroup: systemd-run --user --scope -p Delegate=yes …",
    errno.EEXIST: "another instance of that name is there: remove it, or take another name",
    errno.EINVAL: "the kernel does not take this value here: out of range, more than the parent "
    "has, or at odds with another limit (memory above memory+swap, burst above quota)",
    errno.ENODEV: "no such device",
    errno.ENOSPC: "a v1 cpuset needs cpus and mems before a process can join it",
}


def refused(path: str, error: OSError, text: str = "") -> CgroupError:
    """The kernel's answer about cgroup `path`, with what can be done about it."""
    advice = _HINTS.get(error.errno or 0, "see dmesg and cgroups(7)")
    about = f"cannot write {text!r} to {error.filename}" if text else f"{error.filename}"
    return CgroupError(f"cgroup {path}: {about}: {error.strerror}; {advice}")
