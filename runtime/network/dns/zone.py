"""The names of a network as its name server sees them: the store's files, looked up, not kept."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from runtime.network.config import NetworkConfig
from runtime.network.leases import Leases

__all__ = ["Zone"]


class Zone:
    """What one network answers, to whom.

    A container on two networks asks the name server of one of them only (a resolver takes the
    first server's "no such name" for the last word), so that one answers for all networks that
    the asker is on, and for no other.
    """

    def __init__(self, root: Path, network: str) -> None:
        self._root = root
        self._network = network
        self.config = self._read(network)

    def _read(self, network: str) -> NetworkConfig:
        return NetworkConfig.from_json((self._directory(network) / "network.json").read_text())

    def _directory(self, network: str) -> Path:
        return self._root / "networks" / network

    def serves(self, client: IPv4Address) -> bool:
        """Whether it may ask: an endpoint, or the host by its address in this network."""
        return client in self.config.subnet or client.is_loopback

    def lookup(
        self, name: str, client: IPv4Address
    ) -> tuple[tuple[IPv4Address, ...], tuple[IPv6Address, ...]] | None:
        """The addresses of a name, or of ``name.network``; None if there is no such name."""
        for config, leases in self._networks(client):
            for candidate in (name, name.removesuffix(f".{config.name.lower()}")):
                if found := leases.lookup(candidate):
                    six = tuple(filter(None, (config.address6(address) for address in found)))
                    return found, six
        return None

    def reverse(self, address: IPv4Address | IPv6Address, client: IPv4Address) -> str | None:
        """The name that goes with an address; "" if it is of a network and nobody's, None if it
        is of no network that the client is on."""
        for config, leases in self._networks(client):
            four = _four(config, address)
            if four is not None and four in config.subnet:
                lease = leases.get(four)
                return f"{lease.name}.{config.name}".lower() if lease and lease.name else ""
        return None

    def _networks(self, client: IPv4Address) -> Iterator[tuple[NetworkConfig, Leases]]:
        """This network, and the others of the container that has this address."""
        own = Leases(self._directory(self._network), self.config)
        yield self.config, own
        lease = own.get(client)
        if lease is None or lease.namespace is None:
            return
        try:
            others = sorted(
                path.name for path in (self._root / "members" / lease.namespace).iterdir()
            )
        except FileNotFoundError:
            return
        for name in others:
            if name != self._network:
                try:
                    config = self._read(name)
                except FileNotFoundError:
                    continue  # removed meanwhile
                yield config, Leases(self._directory(name), config)


def _four(config: NetworkConfig, address: IPv4Address | IPv6Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return address
    if config.subnet6 is None or address not in config.subnet6:
        return None
    number = int(address) - int(config.subnet6.network_address)
    if number >= config.subnet.num_addresses:
        return None
    return config.subnet[number]
