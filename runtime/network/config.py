"""What a network is: one frozen record, written once."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from runtime.errors import SpecError
from runtime.network.names import (
    bridge_name,
    check_network_name,
    group_number,
    mac_address,
    table_name,
)

__all__ = ["NetworkConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """One network. Raises SpecError for what cannot be."""

    name: str
    id: str
    """Six hexadecimal digits: in the name of all that it has in the kernel."""
    owner: str | None
    """Path of its owner's lock file; None for a network that stays until it is removed."""
    subnet: IPv4Network
    gateway: IPv4Address
    """The bridge's own address: the host, as the containers see it."""
    subnet6: IPv6Network | None = None
    mtu: int = 1500
    """Bytes of an IP packet."""
    internal: bool = False
    """No way out and none in but from the host itself."""
    masquerade: bool = True
    """What goes out carries the host's address. If not, the world must have a route back."""
    dns: bool = True
    """Whether a name server runs at the gateway."""
    docker_user: bool = False
    """Whether rules in Docker's chain DOCKER-USER let this network through."""
    host_namespace: str = ""
    """`NetworkNamespace.id` of where the bridge is."""

    def __post_init__(self) -> None:
        check_network_name(self.name)
        if self.subnet.prefixlen > 30:
            raise SpecError(
                f"subnet {self.subnet}: needs room for a gateway and an endpoint, /30 at the least"
            )
        if self.gateway not in self.subnet or self.gateway in (
            self.subnet.network_address,
            self.subnet.broadcast_address,
        ):
            raise SpecError(f"gateway {self.gateway} is no host address of {self.subnet}")
        if self.subnet6 is not None and (
            self.subnet6.num_addresses < self.subnet.num_addresses or self.subnet6.is_multicast
        ):
            raise SpecError(
                f"subnet6 {self.subnet6} must be unicast and no smaller than {self.subnet}: an "
                "endpoint has the same number in both"
            )
        if not 1280 <= self.mtu <= 65535:
            # RFC 8200, section 5: IPv6 works with no less; a veth takes no more.
            raise SpecError(f"mtu {self.mtu} is not between 1280 and 65535")

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return bridge_name(self.id)

    @property
    def table(self) -> str:
        """Name of the nftables table, family inet."""
        return table_name(self.id)

    @property
    def group(self) -> int:
        """Link group of bridge and ports."""
        return group_number(self.id)

    @property
    def mac(self) -> str:
        """The bridge's MAC address."""
        return mac_address(self.gateway)

    @property
    def gateway6(self) -> IPv6Address | None:
        """The bridge's IPv6 address."""
        return self.address6(self.gateway)

    def address6(self, address: IPv4Address) -> IPv6Address | None:
        """The IPv6 address that goes with an IPv4 one: the same number in its own subnet, so that
        one lease is for both."""
        if self.subnet6 is None:
            return None
        return self.subnet6[int(address) - int(self.subnet.network_address)]

    def to_json(self) -> str:
        """The record, as `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), default=str, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> NetworkConfig:
        """Read a record back."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "subnet": IPv4Network(values["subnet"]),
                "gateway": IPv4Address(values["gateway"]),
                "subnet6": IPv6Network(values["subnet6"]) if values["subnet6"] else None,
            }
        )
