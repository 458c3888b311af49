"""Starting and ending a network's name server."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import select
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from runtime.errors import KernelRefused, NetworkError
from runtime.network.config import NetworkConfig
from runtime.network.state import held

__all__ = ["running", "start", "stop"]

_SERVER = "runtime.network.dns.server"
_PROJECT = Path(__file__).parents[3]
_PORT = 53
_PATIENCE = 10.0


def start(root: Path, config: NetworkConfig) -> None:
    """Start it, with its sockets bound. The bridge has its address already.

    It is a child of this process, and `stop` reaps it if it still is. Raises NetworkError if
    dnslib is missing, KernelRefused if the port is taken."""
    library = importlib.util.find_spec("dnslib")
    if library is None or library.origin is None:
        raise NetworkError(
            f"the name server of network {config.name!r} needs the Python package dnslib: install "
            "it, or make the network with dns=False"
        )
    directory = root / "networks" / config.name
    with ExitStack() as stack:
        # Bound here and not there: see the server's docstring.
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT
        for sock in (udp, tcp):
            _bind(sock, config)
        tcp.listen()
        # The lock goes along with the descriptor: there is no time at which nobody holds it.
        lock = os.open(directory / "dns.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        log = stack.enter_context(open(directory / "dns.log", "ab"))
        # -s, -P: nothing of the user's, nor of where this is called, but what is found here.
        command = [sys.executable, "-s", "-P", "-m", _SERVER, str(root), config.name]
        if config.owner is not None:
            command.append(config.owner)
        path = (_PROJECT, Path(library.origin).parents[1])
        env = {
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, path)),
        }
        pid = _spawn(command, env, log.fileno(), (udp.fileno(), tcp.fileno(), lock))
        os.truncate(lock, 0)
        os.pwrite(lock, f"{pid}\n".encode(), 0)


def _spawn(command: list[str], env: dict[str, str], log: int, fds: tuple[int, ...]) -> int:
    """Start a process that has these descriptors from 3 on, and no others. Not by subprocess: its
    Popen would have to be kept by whoever started it, and anybody can end this one."""
    with ExitStack() as stack:
        # Out of the way first: a source must not be a target of another.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
        for fd in high:
            stack.callback(os.close, fd)
        return os.posix_spawn(
            command[0],
            command,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(high, 3)),
            ],
            setsid=True,  # a terminal's Ctrl-C is its owner's to handle
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )


def _bind(sock: socket.socket, config: NetworkConfig) -> None:
    try:
        sock.bind((str(config.gateway), _PORT))
    except OSError as error:
        raise KernelRefused(
            f"bind the name server of network {config.name!r} to {config.gateway}:{_PORT}",
            error.errno or 0,
            "if a name server of the host listens on all addresses, bind it to its own, or make "
            "the network with dns=False",
        ) from error


def running(directory: Path) -> int | None:
    """The pid of a network's name server, or None if there is none."""
    lock = directory / "dns.lock"
    if not held(lock):
        return None
    with suppress(ValueError):
        return int(lock.read_text())
    return None


def stop(directory: Path) -> int | None:
    """End it and wait for that; its pid, or None if there was none. Raises NetworkError."""
    pid = running(directory)
    if pid is None:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # Asked again: now that the descriptor names a process, is it still the one with the lock?
        if running(directory) != pid:
            return None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(_PATIENCE * 1000):
            raise NetworkError(
                f"the name server of {directory.name!r} (pid {pid}) did not end within "
                f"{_PATIENCE:g} s of SIGKILL; look at /proc/{pid}/stack, then remove it again"
            )
        with suppress(ChildProcessError):  # another process's
            os.waitpid(pid, 0)
    finally:
        os.close(pidfd)
    return pid
