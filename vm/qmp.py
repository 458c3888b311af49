"""A synchronous face for the `qemu.qmp` package, over a socket that QEMU already holds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from vm.errors import QmpError

__all__ = ["Qmp"]

T = TypeVar("T")


class Qmp:
    """The monitor of one machine. Takes over `sock`; `close` gives it back to the system.

    Every method raises QmpError, which keeps what was sent and received.
    """

    def __init__(self, sock: socket.socket, *, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient()
        sock.setblocking(False)  # asyncio's streams need it so
        try:
            self._run(self._client.connect(sock), "qmp_capabilities")
        except QmpError:
            self._loop.close()
            sock.close()
            raise

    def execute(self, name: str, arguments: dict[str, object] | None = None) -> Any:
        """Run the QMP command `name` and return what QEMU answered."""
        return self._run(self._client.execute(name, arguments), name, arguments)

    def status(self) -> str:
        """Return the run state: ``running``, ``paused``, ``guest-panicked``, …"""
        return str(self.execute("query-status")["status"])

    def pause(self) -> None:
        """Stop the vCPUs."""
        self.execute("stop")

    def resume(self) -> None:
        """Let the vCPUs run."""
        self.execute("cont")

    def system_powerdown(self) -> None:
        """Press the power button."""
        self.execute("system_powerdown")

    def quit(self) -> None:
        """End QEMU. It may be gone before it has answered: that is no error."""
        try:
            self.execute("quit")
        except QmpError as error:
            if isinstance(error.__cause__, (ExecuteError, TimeoutError)):
                raise
            # Else the connection broke, which is what QEMU's end looks like from here.

    def close(self) -> None:
        """Hang up. Idempotent; raises nothing, since a broken connection is closed all the same."""
        if self._loop.is_closed():
            return
        try:
            self._loop.run_until_complete(self._client.disconnect())
        except (QMPError, OSError, EOFError):
            pass  # disconnect() reports why the connection had broken; it is closed now
        finally:
            self._loop.close()

    def _run(self, awaitable: Awaitable[T], name: str, arguments: object = None) -> T:
        sent = {"execute": name, **({"arguments": arguments} if arguments else {})}
        try:
            return self._loop.run_until_complete(asyncio.wait_for(awaitable, self._timeout))
        except ExecuteError as error:
            raise QmpError(
                f"QEMU refused {name}: {error}", sent=sent, received=str(error.error)
            ) from error
        except TimeoutError as error:
            raise QmpError(f"no answer to {name} in {self._timeout} s", sent=sent) from error
        except (QMPError, OSError, EOFError) as error:
            raise QmpError(f"the monitor did not take {name}: {error}", sent=sent) from error
