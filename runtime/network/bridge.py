"""What a network has in the host: bridge, addresses, switches, table, name server."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import NetworkError
from runtime.network import dns, firewall, forwarding, nftables, ruleset
from runtime.network.config import NetworkConfig
from runtime.network.names import group_number, table_name

if TYPE_CHECKING:
    from runtime.network.netlink import Netlink

__all__ = [
    "alias",
    "bring_up",
    "default_mtu",
    "erase",
    "host_routes",
    "take_down",
]

_IPV6 = Path("/proc/sys/net/ipv6/conf")


def alias(root: Path, name: str) -> str:
    """What `ip link show` says of a bridge. For people, and for gc if the record is lost."""
    return f"isolation-lab {root} {name}"


def bring_up(root: Path, config: NetworkConfig) -> None:
    """Make all of it.

    Raises KernelRefused (EEXIST if there is a bridge of this id) and NetworkError; then nothing
    of it is left."""
    from runtime.network import netlink as nl

    with nl.Netlink() as netlink:
        # First and alone: what follows must not be done to a bridge that is not ours.
        netlink.run(nl.add_bridge(config.bridge, config.mac, config.group))
        try:
            index = socket.if_nametoindex(config.bridge)
            _set_switches(config)
            addresses = [(str(config.gateway), config.subnet.prefixlen)]
            if config.subnet6 is not None:
                addresses.append((str(config.gateway6), config.subnet6.prefixlen))
            netlink.run(
                nl.change_link(
                    index,
                    f"configure the bridge {config.bridge}",
                    up=True,
                    mtu=config.mtu,
                    ifalias=alias(root, config.name),
                ),
                *(
                    nl.add_address(index, address, prefixlen, config.bridge)
                    for address, prefixlen in addresses
                ),
            )
            nftables.apply(ruleset.add_network(config), f"make the table {config.table}")
            if not config.internal:
                interfaces = {name for _, name in host_routes(netlink)} - {config.bridge}
                forwarding.borrow(_record(root, config), interfaces)
            if config.docker_user:
                firewall.admit(config)
            if config.dns:
                dns.start(root, config)
        except BaseException:
            take_down(root, config)
            raise


def take_down(root: Path, config: NetworkConfig) -> None:
    """Remove all of it that is there, ports of the bridge included. One part that cannot be
    removed keeps none of the others; its error is raised at the end."""
    parts: list[Callable[[], object]] = [
        lambda: dns.stop(root / "networks" / config.name),
        lambda: forwarding.give_back(_record(root, config)),
        lambda: _delete_table(config.table),
        lambda: _delete_links(config.group),
    ]
    if config.docker_user:
        parts.append(lambda: firewall.dismiss(config))
    _all(parts)


def erase(network_id: str) -> None:
    """Remove what carries the id of a network whose record is lost."""
    _all(
        [
            lambda: _delete_table(table_name(network_id)),
            lambda: _delete_links(group_number(network_id)),
        ]
    )


def _all(parts: list[Callable[[], object]]) -> None:
    failures: list[NetworkError] = []
    for part in parts:
        try:
            part()
        except NetworkError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def host_routes(netlink: Netlink) -> list[tuple[IPv4Network, str]]:
    """Destination and interface of each IPv4 route of this network namespace, but those of
    loopback."""
    from runtime.network import netlink as nl

    found = []
    for target, index in nl.routes(netlink):
        try:
            name = socket.if_indextoname(index)
        except OSError:
            continue  # gone meanwhile
        if name != "lo":
            found.append((IPv4Network(target), name))
    return found


def default_mtu(routes: list[tuple[IPv4Network, str]]) -> int:
    """The MTU of the way out: a larger one inside would make packets that do not get through where
    somebody drops ICMP."""
    ways = [name for target, name in routes if target.prefixlen == 0]
    mtus = [_mtu(name) for name in ways]
    return min((mtu for mtu in mtus if mtu >= 1280), default=1500)


def _mtu(interface: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = os.fsencode(interface).ljust(40, b"\0")  # struct ifreq, netdevice(7)
        try:
            answer = fcntl.ioctl(sock, 0x8921, request)  # SIOCGIFMTU
        except OSError:
            return 0
    return int.from_bytes(answer[16:20], sys.byteorder)


def _set_switches(config: NetworkConfig) -> None:
    conf = f"net/ipv4/conf/{config.bridge}"
    if not config.internal:
        forwarding.set_switch(f"{conf}/forwarding", "1")
        forwarding.set_switch(f"{conf}/route_localnet", "1")
    if _IPV6.is_dir():
        # A container must not configure the host by router advertisements, and without a subnet6
        # there is no IPv6 here at all.
        name = "accept_ra" if config.subnet6 is not None else "disable_ipv6"
        value = "0" if config.subnet6 is not None else "1"
        forwarding.set_switch(f"net/ipv6/conf/{config.bridge}/{name}", value)


def _delete_table(table: str) -> None:
    nftables.apply(ruleset.delete_table(table), f"delete the table {table}")


def _delete_links(group: int) -> None:
    from runtime.network import netlink as nl

    with nl.Netlink() as netlink:
        netlink.run(nl.delete_group(group), ignore=(errno.ENODEV,))


def _record(root: Path, config: NetworkConfig) -> Path:
    return root / "networks" / config.name / "network.json"
