"""Links, addresses and routes through rtnetlink(7), many messages in one system call.

The messages are pyroute2's (`ifinfmsg`, `ifaddrmsg`, `rtmsg`). The socket is ours: pyroute2's
`IPRoute` runs an event loop for each request (and none inside another's, so not in a notebook),
takes one message at a time, and its `NetNS` forks. A batch of ours is one `sendmsg` and one read
of the acknowledgements, with the kernel's own words for what it refused (NETLINK_EXT_ACK).

pyroute2 takes 170 ms to import: this module is imported where a link is made, and not before.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.marshal import MarshalRtnl  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # type: ignore[import-untyped]

from runtime.errors import KernelRefused

__all__ = [
    "Message",
    "Netlink",
    "add_address",
    "add_bridge",
    "add_route",
    "add_veth",
    "bridges",
    "change_link",
    "delete_group",
    "delete_link",
    "encode",
    "quiet_ipv6",
    "reflect",
    "routes",
]

# include/uapi/linux/netlink.h, rtnetlink.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x01, 0x04, 0x300
_CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_CAPPED, _ACK_TLVS = 0x100, 0x200
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _NEWROUTE, _GETROUTE = 20, 24, 26
_IFF_UP = 1
_ADDR_GEN_NONE = 1
_NODAD = 2
_MAIN_TABLE, _PROTO_STATIC, _UNICAST = 254, 4, 1
_HEADER = struct.Struct("=IHHII")
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Message:
    """One request, encoded but for its sequence number, and what it asks in words."""

    what: str
    data: bytes = field(repr=False)


def encode(message: Any, kind: int, flags: int, what: str) -> Message:
    """A message of pyroute2's, with its type and flags."""
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | flags
    message.encode()
    return Message(what, bytes(message.data))


def _link(index: int = 0, **attributes: Any) -> Any:
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [(f"IFLA_{name.upper()}", value) for name, value in attributes.items()]
    return message


def _info(kind: str, *data: tuple[str, Any]) -> dict[str, Any]:
    attributes: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data:
        attributes.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    return {"attrs": attributes}


def add_bridge(name: str, mac: str, group: int) -> Message:
    """A bridge, down, without STP, and without multicast snooping, which would only cost."""
    message = _link(
        ifname=name,
        # Given, or the bridge would take its lowest port's and change it as ports come and go.
        address=mac,
        group=group,
        linkinfo=_info("bridge", ("IFLA_BR_FORWARD_DELAY", 0), ("IFLA_BR_MCAST_SNOOPING", 0)),
    )
    return encode(message, _NEWLINK, _ACK | _CREATE, f"add the bridge {name}")


def add_veth(
    name: str, peer: str, namespace_fd: int, *, master: int, group: int, mac: str, mtu: int
) -> Message:
    """A veth pair (veth(4)), both ends down: `name` here in the bridge, `peer` born in the
    namespace. (The peer cannot be born up: veth_open wants both ends to be there.)"""
    other = [
        ("IFLA_IFNAME", peer),
        ("IFLA_ADDRESS", mac),
        ("IFLA_MTU", mtu),
        ("IFLA_NET_NS_FD", namespace_fd),
    ]
    message = _link(
        ifname=name,
        master=master,
        group=group,
        mtu=mtu,
        linkinfo=_info("veth", ("VETH_INFO_PEER", {"attrs": other})),
    )
    return encode(message, _NEWLINK, _ACK | _CREATE, f"add the veth pair {name} and {peer}")


def change_link(link: int | str, what: str, *, up: bool = False, **attributes: Any) -> Message:
    """Set attributes (`IFLA_*`, in lower case without the prefix) of a link, by index or name."""
    if isinstance(link, str):
        attributes["ifname"] = link
    message = _link(link if isinstance(link, int) else 0, **attributes)
    if up:
        message["flags"] = message["change"] = _IFF_UP
    return encode(message, _NEWLINK, _ACK, what)


@functools.lru_cache
def quiet_ipv6(link: int | str, *, up: bool = False) -> Message:
    """No link-local IPv6 address when it comes up, so none of the traffic that comes with one.

    Set up by the same message, it would have one already if it has a carrier then."""
    inet6 = ("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _ADDR_GEN_NONE)]})
    what = f"keep IPv6 quiet on {link}{' and set it up' if up else ''}"
    return change_link(link, what, up=up, af_spec={"attrs": [inet6]})


def reflect(name: str) -> Message:
    """Let the bridge send what comes in on this port out of it again (hairpin mode). Linux knows
    its own reflected neighbour solicitations for what they are (RFC 7527, enhanced_dad)."""
    info = {
        "attrs": [
            ("IFLA_INFO_SLAVE_KIND", "bridge"),
            ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]}),
        ]
    }
    return change_link(name, f"set hairpin mode on {name}", linkinfo=info)


def delete_link(name: str) -> Message:
    """Delete a link by name. Waits for an RCU grace period, some 15 ms."""
    return encode(_link(ifname=name), _DELLINK, _ACK, f"delete the link {name}")


def delete_group(group: int) -> Message:
    """Delete all links of a group, in the time that one would take."""
    return encode(_link(group=group), _DELLINK, _ACK, f"delete the links of group {group}")


def add_address(index: int, address: str, prefixlen: int, where: str) -> Message:
    """An address, IPv4 or IPv6 (that one at once, without duplicate address detection)."""
    message = ifaddrmsg()
    message["index"] = index
    message["prefixlen"] = prefixlen
    message["family"] = socket.AF_INET6 if ":" in address else socket.AF_INET
    message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    if ":" in address:
        message["flags"] = _NODAD
    return encode(message, _NEWADDR, _ACK | _CREATE, f"add {address}/{prefixlen} to {where}")


@functools.lru_cache
def add_route(index: int, gateway: str, metric: int) -> Message:
    """A default route over `gateway`. The one with the lowest metric counts."""
    message = rtmsg()
    message["family"] = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    message["table"] = _MAIN_TABLE
    message["proto"] = _PROTO_STATIC
    message["type"] = _UNICAST
    message["attrs"] = [("RTA_GATEWAY", gateway), ("RTA_OIF", index), ("RTA_PRIORITY", metric)]
    return encode(message, _NEWROUTE, _ACK | _CREATE, f"add the default route over {gateway}")


class Netlink:
    """A netlink socket of the network namespace that the *calling thread* is in; it stays with that
    namespace whatever the thread does then. A context."""

    def __init__(self, opened: socket.socket | None = None) -> None:
        """`opened` is a socket to use in place of one of NETLINK_ROUTE in this namespace. It is
        closed with this object."""
        self._socket = opened or socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.settimeout(_PATIENCE)
        self._socket.bind((0, 0))

    def run(self, *messages: Message, ignore: tuple[int, ...] = ()) -> None:
        """Send them in one packet and wait for all answers.

        The kernel goes on after a message that failed: put into one batch only what may be done
        all the same. Raises KernelRefused for the first failure whose errno is not in `ignore`."""
        packet = bytearray()
        for number, message in enumerate(messages):
            packet += message.data
            struct.pack_into("=I", packet, len(packet) - len(message.data) + 8, number)
        self._socket.send(packet)
        failure: KernelRefused | None = None
        left = len(messages)
        while left:
            for kind, flags, number, body in self._receive():
                if kind != _NLMSG_ERROR:
                    continue
                left -= 1
                code = -struct.unpack_from("=i", body)[0]
                if code and code not in ignore and failure is None:
                    failure = KernelRefused(messages[number].what, code, _said(flags, body))
        if failure is not None:
            raise failure

    def index(self, name: str) -> int | None:
        """Index of the link of that name (16 bytes into `struct ifinfomsg` and its header), None
        if there is none. Raises KernelRefused."""
        request = encode(_link(ifname=name), _GETLINK, 0, f"look up the link {name}")
        self._socket.send(request.data)
        for kind, _, _, body in self._receive():
            if kind == _NEWLINK:
                return int(struct.unpack_from("=i", body, 4)[0])
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number != errno.ENODEV:
                    raise KernelRefused(request.what, number)
        return None

    def dump(self, request: Message) -> Iterator[bytes]:
        """The answers to a dump, each a whole message. Raises KernelRefused."""
        self._socket.send(request.data)
        while True:
            data = self._socket.recv(1 << 18)
            for kind, _, _, body in _split(data):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise KernelRefused(request.what, -struct.unpack_from("=i", body)[0])
                yield _HEADER.pack(_HEADER.size + len(body), kind, 0, 0, 0) + body

    def close(self) -> None:
        """Close the socket. It would hold its namespace."""
        self._socket.close()

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        return _split(self._socket.recv(1 << 16))

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and body of each message in a packet."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, number, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _said(flags: int, body: bytes) -> str:
    """The kernel's message in an NLMSG_ERROR, if there is one (Documentation/userspace-api/
    netlink/intro.rst, "Ext ACK")."""
    if not flags & _ACK_TLVS:
        return ""
    header = _HEADER.unpack_from(body, 4)
    offset = 4 + (_HEADER.size if flags & _CAPPED else header[0])
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if kind == 1:  # NLMSGERR_ATTR_MSG
            return body[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, (length + 3) & ~3)
    return ""


def _parsed(messages: Iterator[bytes]) -> Iterator[Any]:
    marshal = MarshalRtnl()
    return (parsed for message in messages for parsed in marshal.parse(message))


def routes(netlink: Netlink) -> Iterator[tuple[str, int]]:
    """Destination (CIDR) and index of the interface of each IPv4 route of all tables but the
    local one. A route of several hops comes once for each."""
    message = rtmsg()
    message["family"] = socket.AF_INET
    for route in _parsed(netlink.dump(encode(message, _GETROUTE, _DUMP, "list the routes"))):
        if route["type"] != _UNICAST:
            continue
        target = f"{route.get_attr('RTA_DST') or '0.0.0.0'}/{route['dst_len']}"
        hops = [hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ()]
        for index in hops or [route.get_attr("RTA_OIF")]:
            if index:
                yield target, index


def bridges(netlink: Netlink) -> Iterator[tuple[str, str]]:
    """Name and alias of each bridge that has an alias."""
    message = _link(linkinfo=_info("bridge"))
    for link in _parsed(netlink.dump(encode(message, _GETLINK, _DUMP, "list the bridges"))):
        name, alias = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_IFALIAS")
        if name and alias:
            yield os.fsdecode(name), os.fsdecode(alias)
