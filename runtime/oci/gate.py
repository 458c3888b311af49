"""The gate between `create` and `start`: a socket in the container's directory.

The container's process waits at it in accept(2). Whoever connects becomes the one that it reports
to, as its parent was before: a failure comes as a message, and the end of the connection without
one is the proof that the program runs. So `start` can say why a program did not.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from runtime.errors import StateError

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.oci.state import Container

__all__ = ["make_gate", "pass_gate"]

_NAME = "gate"


def make_gate(container: Container) -> int:
    """The listening end, a descriptor for the container's process."""
    gate = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    gate.bind(_short(container))
    gate.listen(1)
    return int(gate.detach())


def pass_gate(container: Container) -> None:
    """Let the process go on, and wait until its program runs. Raises what the process reports."""
    gate = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        try:
            gate.connect(_short(container))
        except ConnectionRefusedError:
            raise StateError(
                f"cannot start container {container.id!r}: its process has gone"
            ) from None
        os.unlink(f"{container.directory}/{_NAME}")
        while message := gate.recv(1 << 16):
            if message[:1] in (b"E", b"X"):
                _explain(message, container.record["program"])
    finally:
        gate.close()


def _explain(message: bytes, program: str) -> NoReturn:
    """Raise the failure. `runtime.engine.report` has the same, for who has also made the process;
    it would load what it takes to make one."""
    from marshal import loads

    from runtime.engine.describe import explain

    if message[:1] == b"E":
        raise explain(None, *loads(message[1:]))
    number = int.from_bytes(message[1:], sys.byteorder)  # from the shield: the exec itself
    raise explain(None, "inside", 0, number, None, ("execute", (), (program,), {}))


def _short(container: Container) -> str:
    """A path of the gate that fits into the 107 bytes that the kernel takes (unix(7)), however
    deep the directory is."""
    return f"/proc/self/fd/{container.lock_fd}/{_NAME}"
