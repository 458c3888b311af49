"""From a network to its nftables ruleset: pure functions, in the language of nft(8).

One table for each network, so that removing it is one command, and nobody else's is touched. What
does not depend on endpoints is written once; a published port is one element of a map, added and
deleted by its key, so an endpoint without one costs no transaction at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from runtime.network.config import NetworkConfig
from runtime.network.ports import Port

__all__ = ["add_network", "delete_table", "publish", "withdraw"]

_MAPS = """\
  # Ports of all addresses of the host, and of one: "tcp . 8080 : 10.208.0.2 . 80".
  map published {
    type inet_proto . inet_service : ipv4_addr . inet_service
  }
  map published_at {
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local dnat ip to meta l4proto . th dport map @published
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
  }
  chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local dnat ip to meta l4proto . th dport map @published
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
  }
"""

# A published port can be one of 127.0.0.1, so route_localnet is on for the bridge: nothing that
# comes out of a container may use that (CVE-2020-8558).
_GUARD = """\
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
    iifname "{bridge}" ip saddr 127.0.0.0/8 drop
  }}
"""

# The first rule: whoever reached a published port from this network or from 127.0.0.1 must be
# answered through the host, for a direct answer would come from an address that nobody asked.
_POSTROUTING = """\
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{bridge}" ct status dnat ip saddr {{ {subnet}, 127.0.0.0/8 }} masquerade
{masquerade}  }}
"""

# In comes what was asked for, or what a published port led in. Everything else stays out, another
# network's too. (The first rule is for bridged packets, where bridge-nf-call-iptables is on.)
_FORWARD = """\
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" ct status dnat accept
    oifname "{bridge}" drop
  }}
"""

_FORWARD_INTERNAL = """\
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname "{bridge}" accept
    oifname "{bridge}" drop
    iifname "{bridge}" drop
  }}
"""

_INPUT = """\
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname {{ "{bridge}", "lo" }} accept
    ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 drop
  }}
"""


def add_network(config: NetworkConfig) -> str:
    """The transaction that makes the table, or makes it anew."""
    bridge = config.bridge
    parts: list[str] = []
    if not config.internal:
        masquerade = ""
        if config.masquerade:
            # Not on lo: there the host asks its own address on the bridge, the name server's.
            out = f'oifname != {{ "{bridge}", "lo" }} masquerade\n'
            masquerade = f"    ip saddr {config.subnet} {out}"
            if config.subnet6 is not None:
                masquerade += f"    ip6 saddr {config.subnet6} {out}"
        parts += [
            _MAPS,
            _GUARD.format(bridge=bridge),
            _POSTROUTING.format(bridge=bridge, subnet=config.subnet, masquerade=masquerade),
        ]
    parts.append((_FORWARD_INTERNAL if config.internal else _FORWARD).format(bridge=bridge))
    if config.dns:
        parts.append(_INPUT.format(bridge=bridge, gateway=config.gateway))
    return f"{delete_table(config.table)}table inet {config.table} {{\n{''.join(parts)}}}\n"


def delete_table(table: str) -> str:
    """The transaction that removes a table, whether it is there or not. (`destroy` says so in
    one word, from nft 1.0.7 on.)"""
    return f"table inet {table}\ndelete table inet {table}\n"


def publish(config: NetworkConfig, address: IPv4Address, ports: Iterable[Port]) -> str:
    """The transaction that leads these ports of the host to an endpoint."""
    return "".join(
        f"add element inet {config.table} {_map(port)} "
        f"{{ {_key(port)} : {address} . {port.container} }}\n"
        for port in ports
    )


def withdraw(config: NetworkConfig, address: IPv4Address, ports: Iterable[Port]) -> str:
    """The transaction that undoes `publish`, or the part of it that was done: adding what is there
    is no error, deleting what is not there would be."""
    ports = tuple(ports)
    return publish(config, address, ports) + "".join(
        f"delete element inet {config.table} {_map(port)} {{ {_key(port)} }}\n" for port in ports
    )


def _map(port: Port) -> str:
    return "published" if port.everywhere else "published_at"


def _key(port: Port) -> str:
    key = f"{port.protocol} . {port.host}"
    return key if port.everywhere else f"{port.address} . {key}"
