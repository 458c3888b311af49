"""Forgetting flows that were tracked before a port was published, or withdrawn.

Address translation is decided by the first packet of a flow and then remembered. A TCP connection
ends; but a UDP flow is whatever keeps its two addresses and ports, so a client that goes on sending
would be led to where the port was published before, or nowhere, for ever.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from runtime.network.ports import Port

__all__ = ["forget_flows"]

_NETLINK_NETFILTER = 12
# include/uapi/linux/netfilter/nfnetlink_conntrack.h: IPCTNL_MSG_CT_GET and _DELETE of subsystem 1
_GET, _DELETE = 0x101, 0x102
_DUMP, _ACK = 0x300, 0x04


def forget_flows(ports: Iterable[Port], address: IPv4Address) -> None:
    """Delete the entries of UDP flows to these ports of the host: those that are led to `address`,
    and those that are led nowhere. Raises KernelRefused."""
    for port in ports:
        if port.protocol == "udp":
            _forget(port.host, lambda asked, answers: _concerns(asked, answers, address))


def _concerns(asked: str, answers: str, address: IPv4Address) -> bool:
    """Whether a flow that asked this address and is answered by that one is among them."""
    return answers == str(address) or (answers == asked and _is_local(asked))


def _is_local(address: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def _forget(port: int, concerned: Callable[[str, str], bool]) -> None:
    from pyroute2.netlink.nfnetlink.nfctsocket import (  # type: ignore[import-untyped]
        NFCTAttrTuple,
        nfct_msg,
    )

    from runtime.network.netlink import Netlink, encode

    wanted = NFCTAttrTuple(proto=socket.IPPROTO_UDP, dport=port)
    wanted.attrs()  # computes the flags
    # The kernel looks through all its entries, and sends those alone (from 5.8 on).
    query = nfct_msg.create_from(
        tuple_orig=wanted, filter={"attrs": [["CTA_FILTER_ORIG_FLAGS", wanted.flags]]}
    )
    query["nfgen_family"] = socket.AF_INET
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    with Netlink(opened) as netlink:
        found = []
        for data in netlink.dump(encode(query, _GET, _DUMP, "list tracked flows")):
            flow = nfct_msg(data)
            flow.decode()
            there, back = (
                NFCTAttrTuple.from_netlink(socket.AF_INET, flow.get_attr(f"CTA_TUPLE_{way}"))
                for way in ("ORIG", "REPLY")
            )
            if (there.proto, there.dport) == (socket.IPPROTO_UDP, port) and concerned(
                there.daddr, back.saddr
            ):
                found.append(there)
        for there in found:
            one = nfct_msg.create_from(tuple_orig=there)
            one["nfgen_family"] = socket.AF_INET
            message = encode(one, _DELETE, _ACK, "forget a tracked flow")
            netlink.run(message, ignore=(errno.ENOENT,))
