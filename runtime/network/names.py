"""Names and numbers that follow from others: bridges, veths, tables, MAC addresses, host names.

All that a network has in the kernel carries its id, six hexadecimal digits: the record of that id
in the store's directory says whose it is (`runtime.network.gc`).
"""

from __future__ import annotations

import re
import secrets
from ipaddress import IPv4Address

from runtime.errors import SpecError

__all__ = [
    "bridge_name",
    "check_host_name",
    "check_network_name",
    "group_number",
    "mac_address",
    "new_id",
    "port_name",
    "table_name",
]

_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def new_id() -> str:
    """A random id. Two networks of one host with the same one are told apart by EEXIST."""
    return secrets.token_hex(3)


def bridge_name(network_id: str) -> str:
    """Name of the bridge: 10 bytes of the 15 that IFNAMSIZ leaves."""
    return f"lab-{network_id}"


def port_name(network_id: str) -> str:
    """A name for the host's end of a veth pair, or a tap: 15 bytes, the last six at random.

    Not made from the address: a dying namespace takes its veth along only some time later, and
    the address can be somebody else's by then."""
    return f"lab{network_id}{secrets.token_hex(3)}"


def table_name(network_id: str) -> str:
    """Name of the nftables table, family inet."""
    return f"lab_{network_id}"


def group_number(network_id: str) -> int:
    """The link group (`ip link show group N`) of bridge and ports: one message deletes them all."""
    return 0x4C000000 | int(network_id, 16)  # "L": group numbers that people give are small


def mac_address(address: IPv4Address) -> str:
    """The MAC that goes with an address, as Docker has it: 02:42 (locally administered), then the
    four bytes. A neighbour's ARP entry stays true when the address is given out again."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def check_network_name(name: str) -> str:
    """The name itself. Raises SpecError unless it can be a directory and a domain."""
    if not _NETWORK.fullmatch(name):
        raise SpecError(
            f"network name {name!r} must be 1 to 63 of A-Z a-z 0-9 _ . - and start with a letter "
            "or digit"
        )
    if name in {"none", "host", "default", "bridge"}:
        raise SpecError(f"network name {name!r} stands for a mode; choose another")
    return name


def check_host_name(name: str) -> str:
    """The name in lower case (RFC 4343: DNS is blind to case). Raises SpecError for what cannot be
    a host name (RFC 1123, and _ as people use it)."""
    lower = name.lower()
    if len(lower) > 253 or not all(_LABEL.fullmatch(label) for label in lower.split(".")):
        raise SpecError(
            f"{name!r} cannot be a host name: labels of 1 to 63 of a-z 0-9 - _, joined by dots, "
            "253 in all"
        )
    return lower
