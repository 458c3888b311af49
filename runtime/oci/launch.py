"""What `create`, `run` and `exec` have in common: descriptors, terminals, pid files, signals."""

from __future__ import annotations

import os
from _signal import (  # type: ignore[import-not-found]  # the Python half brings enum
    SIG_DFL,
    SIGPIPE,
    SIGXFSZ,
    signal,
)

from runtime.errors import ContainerError, UsageError
from runtime.oci.paths import variable

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import Any

    from runtime.oci.log import Log
    from runtime.oci.options import Parsed

__all__ = ["Console", "default_signals", "passed_on", "seccomp", "write_pid_file"]


class Console:
    """Where the master of a new pseudoterminal goes, if the process is to have one: through the
    caller's socket (`--console-socket`), or to this process, which then stands between the
    container's terminal and its own."""

    def __init__(self, wanted: bool, socket_path: str, detach: bool) -> None:
        self.fd = -1
        """The socket that the child sends the master through, or -1."""
        self._ours = -1
        if not wanted:
            if socket_path:
                raise UsageError("--console-socket: the process has no terminal (process.terminal)")
            return
        if not socket_path and detach:
            raise UsageError(
                "process.terminal: a detached process needs --console-socket, or nobody would "
                "hold the other end of its terminal"
            )
        self.fd = _connect(socket_path) if socket_path else self._pair()

    def _pair(self) -> int:
        from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair

        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        self._ours = ours.detach()
        return int(theirs.detach())

    @property
    def is_ours(self) -> bool:
        """Whether this process has to be the terminal's other side."""
        return self._ours >= 0

    def take_master(self) -> int:
        """The master's descriptor, once the child has sent it."""
        from _socket import CMSG_LEN, SCM_RIGHTS, SOL_SOCKET, socket

        ours = socket(fileno=self._ours)
        try:
            _, ancillary, _, _ = ours.recvmsg(4096, CMSG_LEN(4))
        finally:
            ours.detach()
        for level, kind, data in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                return int.from_bytes(data[:4], "little")
        raise ContainerError("the container's terminal did not come: its process ended too early")

    def close(self) -> None:
        """Idempotent."""
        for fd in (self.fd, self._ours):
            if fd >= 0:
                os.close(fd)
        self.fd = self._ours = -1


def _connect(path: str) -> int:
    from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except OSError as error:
        raise ContainerError(f"--console-socket {path}: {error.strerror}") from None
    return int(connection.detach())


def default_signals() -> None:
    """Python ignores these two, and an exec keeps what is ignored (signal(7))."""
    signal(SIGPIPE, SIG_DFL)
    signal(SIGXFSZ, SIG_DFL)


def passed_on(options: Parsed) -> tuple[int, list[str]]:
    """The first descriptor that is not passed on, and what the environment tells of those that
    are: after the standard three come those of socket activation ($LISTEN_FDS,
    sd_listen_fds(3)), then `--preserve-fds` many."""
    listen = variable("LISTEN_FDS")
    activated = int(listen) if listen.isdecimal() else 0
    env = []
    if activated:
        env = [f"LISTEN_FDS={activated}", "LISTEN_PID=1"]
        if names := variable("LISTEN_FDNAMES"):
            env.append(f"LISTEN_FDNAMES={names}")
    number = 3 + activated + (options["preserve-fds"] or 0)
    for fd in range(3, number):
        try:
            os.set_inheritable(fd, True)
        except OSError:
            raise UsageError(
                f"--preserve-fds, LISTEN_FDS: descriptor {fd} is not open, {number - 3} are to be"
            ) from None
    return number, env


def seccomp(config: dict[str, Any], log: Log) -> tuple[bytes, int] | None:
    """The compiled filter of a config, and its flags; None without one."""
    profile = config["linux"].get("seccomp")
    if not profile:
        return None
    from runtime.security.seccomp import compile_profile

    program, flags, warnings = compile_profile(profile)
    for warning in warnings:
        log.debug(warning)
    return program, flags


def write_pid_file(path: str, pid: int) -> None:
    """The process id as text; whoever waits for the file finds it whole."""
    head, _, tail = path.rpartition("/")
    fresh = f"{head}/.{tail}" if head else f".{tail}"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(fresh, path)
