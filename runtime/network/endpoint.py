"""One end of a network: an interface in a container's namespace, or a tap for a guest."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.errors import NetworkError
from runtime.network.config import NetworkConfig
from runtime.network.leases import Lease
from runtime.network.names import mac_address
from runtime.network.namespace import NetworkNamespace
from runtime.network.ports import Port

if TYPE_CHECKING:
    from runtime.network.netlink import Message, Netlink
    from runtime.network.network import Network

__all__ = ["Endpoint", "delete_link", "is_link", "plug", "reflect"]


class Endpoint:
    """A connection to a network, made by `Network.connect` or `Network.attach_tap`; a context."""

    def __init__(
        self,
        network: Network,
        lease: Lease,
        interface: str,
        *,
        namespace: NetworkNamespace | None = None,
        owns_namespace: bool = False,
        tap_fd: int = -1,
    ) -> None:
        self.network = network
        self.lease = lease
        self.interface = interface
        """Name of the interface inside."""
        self.namespace = namespace
        """Where it is; None for a tap."""
        self._owns_namespace = owns_namespace
        self._tap_fd = tap_fd
        self._held = ExitStack()
        self._gone = False

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.address} on {self.network.name}>"

    @property
    def name(self) -> str | None:
        """Its host name on this network; None while it is held ready."""
        return self.lease.name

    @property
    def address(self) -> IPv4Address:
        """Its address."""
        return self.lease.address

    @property
    def address6(self) -> IPv6Address | None:
        """Its IPv6 address, if the network has a subnet6."""
        return self.network.config.address6(self.lease.address)

    @property
    def prefixlen(self) -> int:
        """Length of the subnet's prefix."""
        return self.network.config.subnet.prefixlen

    @property
    def gateway(self) -> IPv4Address:
        """The host's address, which is also the name server's."""
        return self.network.config.gateway

    @property
    def mac(self) -> str:
        """MAC address inside: the interface's, or the one to give to a guest's network card."""
        return mac_address(self.lease.address)

    @property
    def ports(self) -> tuple[Port, ...]:
        """Published ports, with the host ports that were chosen."""
        return tuple(Port.from_record(record) for record in self.lease.published)

    @property
    def tap_fd(self) -> int:
        """Descriptor of the tap. Raises NetworkError if there is none, or no longer."""
        if self._tap_fd < 0:
            raise NetworkError(f"{self!r} has no open tap: Network.attach_tap makes one")
        return self._tap_fd

    def close_tap(self) -> None:
        """Close the descriptor here, once another process has it: then that one's end ends the tap.
        Idempotent."""
        if self._tap_fd >= 0:
            os.close(self._tap_fd)
            self._tap_fd = -1

    def hand_over(self) -> NetworkNamespace | None:
        """Its namespace; if it was the endpoint's own, it is the caller's to close from now on."""
        self._owns_namespace = False
        return self.namespace

    def hold(self, close: Callable[[], None]) -> None:
        """Keep something open until the endpoint goes."""
        self._held.callback(close)

    def disconnect(self) -> None:
        """Take the interface away and give back address, names and ports. Idempotent.

        Right at any time, also in a running container. Waits some 15 ms for the kernel."""
        self._leave(delete=True)

    def release(self) -> None:
        """`disconnect` for a container that has ended: its interface is gone with its namespace, or
        is just going, so nobody has to wait for it. Idempotent."""
        self._leave(delete=False)

    def drop(self) -> None:
        """Close what this process has of it: its own namespace, the tap, the sockets that keep its
        ports; the rest stays as it is, or is gone with its network. Idempotent."""
        self.network.dropped(self)
        self.close_tap()
        if self.namespace is not None and self._owns_namespace:
            self.namespace.remove()
        self._held.close()

    def _leave(self, *, delete: bool) -> None:
        if not self._gone:
            self.network.forget(self.lease, delete=delete)
            self.drop()
            self._gone = True

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disconnect()


def plug(
    config: NetworkConfig, lease: Lease, namespace: NetworkNamespace, interface: str | None
) -> str:
    """Make the veth pair of a lease and configure the end inside; the name of that end.

    Raises KernelRefused; then no link is left."""
    from runtime.network import netlink as nl

    route, fresh = namespace.open_route()
    with nl.Netlink(route) as inner, nl.Netlink() as host:
        bridge = host.index(config.bridge)
        if bridge is None:
            raise NetworkError(
                f"network {config.name!r} has no bridge {config.bridge}: somebody removed it, or "
                "the host was started anew; remove the network, or open it again if it is kept"
            )
        inside = interface or ("eth0" if fresh else _free_name(inner))
        host.run(
            nl.add_veth(
                lease.link,
                inside,
                namespace.fd,
                master=bridge,
                group=config.group,
                mac=mac_address(lease.address),
                mtu=config.mtu,
            )
        )
        try:
            # The other end is down still, so this one has no carrier yet.
            host.run(nl.quiet_ipv6(lease.link, up=True))
            index = inner.index(inside)
            assert index is not None
            inner.run(*_configuration(config, lease.address, inside, index))
        except BaseException:
            host.run(nl.delete_link(lease.link), ignore=(errno.ENODEV,))
            raise
    return inside


def _free_name(inner: Netlink) -> str:
    numbers = itertools.count()
    return next(name for n in numbers if inner.index(name := f"eth{n}") is None)


def _configuration(
    config: NetworkConfig, address: IPv4Address, interface: str, index: int
) -> list[Message]:
    """What is asked for inside the namespace."""
    from runtime.network import netlink as nl

    batch = [
        nl.change_link(index, f"set {interface} up", up=True),
        nl.add_address(index, str(address), config.subnet.prefixlen, interface),
    ]
    if config.subnet6 is None:
        batch.insert(0, nl.quiet_ipv6(index))
    else:
        address6 = str(config.address6(address))
        batch.append(nl.add_address(index, address6, config.subnet6.prefixlen, interface))
    if not config.internal:
        # The network that was connected first has the lowest index: it is the way out, and when it
        # is disconnected the next one takes its place by itself.
        batch.append(nl.add_route(index, str(config.gateway), metric=index))
        if config.gateway6 is not None and _host_forwards6():
            batch.append(nl.add_route(index, str(config.gateway6), metric=index))
    return batch


def _host_forwards6() -> bool:
    """Whether the host is a router of IPv6. This project does not make it one: an interface that
    forwards IPv6 no longer configures itself from router advertisements (accept_ra), which can cut
    the host off. Without, a default route inside would only delay what falls back to IPv4."""
    try:
        return Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text().strip() == "1"
    except FileNotFoundError:
        return False


def reflect(name: str) -> None:
    """For a published port that is asked for by the very container that has it. Where br_netfilter
    hands bridged packets to the tables (bridge-nf-call-iptables), the bridge finds that this one,
    redirected, is to go back to where it came from, and drops it unless told otherwise."""
    from runtime.network import netlink as nl

    with nl.Netlink() as netlink:
        netlink.run(nl.reflect(name))


def is_link(name: str) -> bool:
    """Whether the host has a link of that name."""
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def delete_link(name: str) -> None:
    """Delete a link of the host. No error if it is not there."""
    from runtime.network import netlink as nl

    with nl.Netlink() as netlink:
        netlink.run(nl.delete_link(name), ignore=(errno.ENODEV,))
