"""The outer end of a container's terminal."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios

from runtime.errors import SpawnError

__all__ = ["Terminal"]


class Terminal:
    """What is written here is typed in the container, and what it prints is read here (pty(7)).

    The container makes the terminal in its own devpts and sends this end over: the descriptor is
    there once the container has come that far.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection: socket.socket | None = connection
        self._fd = -1

    def fileno(self) -> int:
        """Its descriptor; the first call waits for it. Raises SpawnError if the container ended
        before it had a terminal."""
        if self._connection is not None:
            with self._connection as connection:
                self._connection = None
                _, fds, _, _ = socket.recv_fds(connection, 64, 1)
            if not fds:
                raise SpawnError("the container ended before it had made its terminal")
            self._fd = fds[0]
        return self._fd

    def read(self, size: int = 65536) -> bytes:
        """What the container prints, at least a byte; b"" when nobody has the other end open."""
        try:
            return os.read(self.fileno(), size)
        except OSError as error:
            if error.errno == 5:  # EIO: the last one closed it
                return b""
            raise

    def write(self, data: bytes) -> int:
        """Type; how many bytes the terminal took."""
        return os.write(self.fileno(), data)

    def resize(self, rows: int, columns: int) -> None:
        """Change its size; the foreground processes get SIGWINCH (ioctl_tty(2))."""
        fcntl.ioctl(self.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Hang up: SIGHUP to the session inside. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
