"""Questions that are not about containers, passed on to the host's resolvers."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable

__all__ = ["forward"]

_PATIENCE = 3.0
"""Seconds for each server. A resolver's own is five (resolv.conf(5)): the second gets a chance."""
_AT_ONCE = 256
"""Questions under way; more wait. Each has a socket of its own, so a port that is hard to guess."""

_room = asyncio.Semaphore(_AT_ONCE)


async def forward(data: bytes, servers: Iterable[str], *, udp: bool) -> bytes | None:
    """The answer of the first server that gives one, or None.

    It goes out with a new id and comes back with the old one: our clients' ids are not for the
    world to see, nor theirs to collide."""
    number = secrets.token_bytes(2)
    async with _room:
        for server in servers:
            try:
                async with asyncio.timeout(_PATIENCE):
                    ask = _ask_udp if udp else _ask_tcp
                    answer = await ask(number + data[2:], server)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            return data[:2] + answer[2:]
    return None


async def _ask_udp(data: bytes, server: str) -> bytes:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((server, 53))  # the kernel then drops what others send
        await loop.sock_sendall(sock, data)
        while True:
            answer = await loop.sock_recv(sock, 65535)
            if len(answer) >= 12 and answer[:2] == data[:2]:
                return answer


async def _ask_tcp(data: bytes, server: str) -> bytes:
    reader, writer = await asyncio.open_connection(server, 53)
    try:
        writer.write(len(data).to_bytes(2, "big") + data)
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    finally:
        writer.close()
