"""`client.networks`: bridges that containers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from runtime.client.network import store_of
from runtime.network.config import NetworkConfig

if TYPE_CHECKING:
    from runtime.client.client import Client

__all__ = ["ClientNetwork", "NetworkCollection"]


@dataclass(frozen=True, slots=True)
class ClientNetwork:
    """A network of a client's root directory; `config` is its record."""

    config: NetworkConfig
    client: Client

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    @property
    def subnet(self) -> IPv4Network:
        """Its subnet."""
        return self.config.subnet

    def remove(self, *, force: bool = False) -> None:
        """Remove it. Raises NetworkInUse while containers are on it, unless forced."""
        with store_of(self.client.root) as store:
            store.remove(self.name, force=force)


class NetworkCollection:
    """The networks of a client's root directory. They stay until they are removed."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, name: str, **settings: Any) -> ClientNetwork:
        """A network; `settings` are those of `NetworkStore.create` (subnet, gateway, internal, …).

        Raises NetworkExists, SubnetInUse and the like."""
        with store_of(self._client.root) as store:
            return ClientNetwork(store.create(name, **settings).config, self._client)

    def get(self, name: str) -> ClientNetwork:
        """Raises NetworkNotFound with the choices."""
        with store_of(self._client.root) as store:
            return ClientNetwork(store.config(name), self._client)

    def list(self) -> Sequence[ClientNetwork]:
        """All of them, by name."""
        with store_of(self._client.root) as store:
            return [ClientNetwork(config, self._client) for config in store.configs()]

    def prune(self) -> Sequence[str]:
        """Remove those that no container is on; their names."""
        from runtime.errors import NetworkInUse

        gone = []
        for network in self.list():
            try:
                network.remove()
            except NetworkInUse:
                continue
            gone.append(network.name)
        return gone
