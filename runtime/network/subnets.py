"""Choosing a subnet that overlaps nothing: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from runtime.errors import NetworkError, SubnetInUse

__all__ = ["check_subnet", "choose_subnet"]

_POOLS = (
    (IPv4Network("10.208.0.0/12"), 20),
    (IPv4Network("172.16.0.0/12"), 20),
    (IPv4Network("192.168.0.0/16"), 24),
)
"""Where subnets are taken from, and the length of their prefix: private ones (RFC 1918). Not those
that Docker (172.17), Podman (10.88) and libvirt (192.168.122) begin with, unless all else is
taken. A /20 has room for the 1,023 ports that a bridge can have."""

_SPLIT_DEFAULT = 1
"""Prefixes up to this length say "everything", as a VPN's 0.0.0.0/1 and 128.0.0.0/1 do."""


def check_subnet(subnet: IPv4Network, taken: Iterable[tuple[IPv4Network, str]]) -> None:
    """Raises SubnetInUse if it overlaps one of `taken` (each with what it is in words)."""
    for other, what in taken:
        if other.prefixlen > _SPLIT_DEFAULT and subnet.overlaps(other):
            raise SubnetInUse(str(subnet), what)


def choose_subnet(taken: Iterable[tuple[IPv4Network, str]]) -> IPv4Network:
    """The first subnet of the pools that overlaps nothing. Raises NetworkError if there is none."""
    others = [other for other, _ in taken if other.prefixlen > _SPLIT_DEFAULT]
    for subnet in _candidates():
        if not any(subnet.overlaps(other) for other in others):
            return subnet
    raise NetworkError(
        "no private subnet is free: every one of "
        f"{', '.join(str(pool) for pool, _ in _POOLS)} overlaps a route of the host or another "
        "network; remove networks, or name a subnet"
    )


def _candidates() -> Iterator[IPv4Network]:
    for pool, prefixlen in _POOLS:
        yield from pool.subnets(new_prefix=prefixlen)
