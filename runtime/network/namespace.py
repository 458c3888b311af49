"""Network namespaces, made before the process that will live in them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from runtime.errors import KernelRefused, NetworkError
from runtime.namespaces import Namespace
from runtime.syscalls import MNT_DETACH, MS_BIND, interface_up, mount, setns, umount2, unshare

__all__ = ["NetworkNamespace", "unbind"]

_Result = TypeVar("_Result")
_HERE = "/proc/thread-self/ns/net"


class NetworkNamespace:
    """A network namespace (network_namespaces(7)), held by a descriptor; a context.

    Whoever joins it does so by `path` (or `fd`) and setns(2); an OCI configuration names it as
    ``{"type": "network", "path": …}``. It lives as long as the descriptor, a process inside or a
    bind mount of it does. By default there is no mount: a mount for each container would be
    copied into each new container's mount namespace, and starting the 1,000th would cost more
    than the first; and nothing can be left behind by a crash.
    """

    def __init__(self, fd: int, bound: Path | None = None) -> None:
        self._fd = fd
        self._bound = bound
        self._route: socket.socket | None = None
        status = os.fstat(fd)
        self.id = f"{status.st_dev}-{status.st_ino}"
        """Device and inode: the same for all that name this namespace while it lives."""

    def __repr__(self) -> str:
        return f"<NetworkNamespace {self.id} fd={self._fd}>"

    @classmethod
    def create(cls, path: Path | None = None) -> NetworkNamespace:
        """A new one with `lo` up and no other interface: what "none" means.

        With `path`, a file that is made, it is bound there (mount(2)) for others to join when this
        process has gone; `remove` unbinds it. Raises KernelRefused, NetworkError."""

        try:
            fd, route = _in_thread(lambda: _make(path))
        except FileExistsError as error:
            raise NetworkError(
                f"cannot bind a network namespace at {path}: it is there already"
            ) from error
        except OSError as error:
            raise KernelRefused(
                "make a network namespace", error.errno or 0, str(error.filename or "")
            ) from error
        namespace = cls(fd, path)
        namespace._route = route
        return namespace

    @classmethod
    def open(cls, path: Path | str | int) -> NetworkNamespace:
        """One that is there: a path (a bind mount, ``/proc/PID/ns/net``), or a process id.

        Raises NetworkError."""
        where = Path(f"/proc/{path}/ns/net") if isinstance(path, int) else Path(path)
        try:
            fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkError(f"cannot open the network namespace {where}: {error}") from error
        try:
            # Also right for a file that is no namespace: setns refuses it.
            _in_thread(lambda: setns(fd, Namespace.NET))
        except OSError as error:
            os.close(fd)
            raise NetworkError(f"{where} cannot be joined as a network namespace: {error}") from (
                error
            )
        return cls(fd)

    @property
    def fd(self) -> int:
        """The descriptor. Raises NetworkError once it is closed."""
        if self._fd < 0:
            raise NetworkError(f"network namespace {self.id} has been closed here")
        return self._fd

    @property
    def path(self) -> Path:
        """Where it can be joined: the bind mount, or this process's descriptor in /proc."""
        return self._bound or Path(f"/proc/{os.getpid()}/fd/{self.fd}")

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Call `work` in a thread that is inside, and return or raise what it does.

        A thread, since one that cannot come back is just ended: the caller never finds itself in
        the wrong namespace."""

        def inside() -> _Result:
            setns(self.fd, Namespace.NET)
            return work()

        return _in_thread(inside)

    def open_route(self) -> tuple[socket.socket, bool]:
        """A NETLINK_ROUTE socket of this namespace, the caller's to close (it holds the namespace),
        and whether nothing but `lo` has been made in here yet.

        The first one was opened by the thread that made the namespace; any other costs one more
        thread."""
        if self._route is not None:
            route, self._route = self._route, None
            return route, True
        return self.run(_open_route), False

    def close(self) -> None:
        """Let go of it. What is inside goes on; else the kernel takes it apart, in the background,
        with its interfaces and their other ends. Idempotent."""
        if self._route is not None:
            self._route.close()
            self._route = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Unbind it, if it was bound, and close it. Idempotent."""
        if self._bound is not None:
            unbind(self._bound)
            self._bound = None
        self.close()

    def __enter__(self) -> NetworkNamespace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()


def unbind(path: Path) -> None:
    """Undo the bind mount of a namespace and remove its file; no error if either is not there."""
    with suppress(OSError):
        umount2(str(path), MNT_DETACH)
    path.unlink(missing_ok=True)


def _make(path: Path | None) -> tuple[int, socket.socket]:
    """Move this thread into a new namespace: a descriptor of that, and a socket in it."""
    unshare(Namespace.NET)
    with ExitStack() as undo:
        fd = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, fd)
        route = undo.enter_context(_open_route())
        interface_up(route.fileno(), "lo")
        if path is not None:
            _bind(path)
        undo.pop_all()
    return fd, route


def _open_route() -> socket.socket:
    return socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )


def _bind(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        mount(_HERE, str(path), None, MS_BIND, None)
    except BaseException:
        path.unlink()
        raise


def _in_thread(work: Callable[[], _Result]) -> _Result:
    """Run in a thread of its own and wait for it; its exception is raised here."""
    results: list[_Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=body, name="network-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
