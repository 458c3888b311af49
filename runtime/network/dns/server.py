"""The name server's process: `python -m runtime.network.dns.server ROOT NETWORK [OWNER_LOCK]`.

One for each network, at the gateway's address, in the host's namespace, so that it reaches the
host's resolvers, also one at 127.0.0.53. Its sockets, descriptors 3 (UDP) and 4 (TCP), are bound by
whoever starts it: an error comes at once and there, and a question that comes before it is up waits
in the socket's buffer. Descriptor 5 is the lock by which it is found. It ends
with the owner of the network: a thread waits for the owner's lock, which the kernel gives out when
the owner dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import threading
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dnslib import RCODE  # type: ignore[import-untyped]

from runtime.network.dns.answer import answer, refusal
from runtime.network.dns.forward import forward
from runtime.network.dns.zone import Zone
from runtime.network.files import host_nameservers

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = ["main"]

_UDP_FD, _TCP_FD, _LOCK_FD = 3, 4, 5
_IDLE = 10.0
"""Seconds that a TCP connection may say nothing (RFC 7766, section 6.2.3)."""


class _Server:
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._tasks: set[asyncio.Task[None]] = set()

    async def resolve(self, data: bytes, client: IPv4Address, *, udp: bool) -> bytes:
        """The answer, from here or from outside."""
        own = answer(data, client, self._zone, udp=udp)
        if own is not None:
            return own
        if self._zone.config.internal:
            # Names must not be a way out (CVE-2024-29018).
            return refusal(data, RCODE.NXDOMAIN)
        gateway = str(self._zone.config.gateway)
        servers = [server for server in host_nameservers(loopback=True) if server != gateway]
        return await forward(data, servers, udp=udp) or refusal(data, RCODE.SERVFAIL)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds a task only weakly
        task.add_done_callback(self._tasks.discard)

    async def tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; questions are answered in turn."""
        client = IPv4Address(writer.get_extra_info("peername")[0])
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                reply = await self.resolve(data, client, udp=False)
                writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it has all it wanted, or it has gone
        finally:
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own class of UDP transports is no subclass of this one before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.start(self._reply(data, addr))

    async def _reply(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = await self._server.resolve(data, IPv4Address(addr[0]), udp=True)
        if reply and self._transport is not None:
            self._transport.sendto(reply, addr)


def _die_with(lock: str) -> None:
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    os._exit(0)


async def _serve(zone: Zone, udp: socket.socket, tcp: socket.socket) -> None:
    server = _Server(zone)
    udp.setblocking(False)
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Udp(server), sock=udp)
    async with await asyncio.start_server(server.tcp, sock=tcp) as listener:
        await listener.serve_forever()


def main(root: str, network: str, owner: str | None = None) -> None:
    """Serve until the owner dies or somebody kills this process."""
    os.chdir("/")
    os.closerange(_LOCK_FD + 1, os.sysconf("SC_OPEN_MAX"))  # what the starter let be inherited
    if owner is not None:
        threading.Thread(target=_die_with, args=(owner,), daemon=True).start()
    udp, tcp = socket.socket(fileno=_UDP_FD), socket.socket(fileno=_TCP_FD)
    asyncio.run(_serve(Zone(Path(root), network), udp, tcp))


if __name__ == "__main__":
    main(*sys.argv[1:])
