"""The three files of a container that belong to its network, as text for whoever mounts them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

__all__ = ["host_nameservers", "hosts", "resolv_conf"]

_RESOLV_CONF = Path("/etc/resolv.conf")
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved lists the real servers behind its 127.0.0.53."""
_MAX_NAMESERVERS = 3
"""MAXNS of resolv.h."""


def hosts(
    hostname: str,
    addresses: Iterable[IPv4Address | IPv6Address],
    extra: Mapping[str, str] | None = None,
) -> str:
    """/etc/hosts (hosts(5)): localhost, this container by each of its addresses, and `extra`, from
    name to address. Other containers are the name server's business: they come and go."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        *(f"{address}\t{hostname}" for address in addresses),
        *(f"{address}\t{name}" for name, address in (extra or {}).items()),
    ]
    return "\n".join(lines) + "\n"


def resolv_conf(
    nameservers: Iterable[IPv4Address | IPv6Address | str],
    *,
    search: Iterable[str] = (),
    options: Iterable[str] = (),
) -> str:
    """/etc/resolv.conf (resolv.conf(5)), with the first three servers: a resolver reads no more."""
    lines = [f"nameserver {server}" for server in list(nameservers)[:_MAX_NAMESERVERS]]
    if domains := " ".join(search):
        lines.append(f"search {domains}")
    if words := " ".join(options):
        lines.append(f"options {words}")
    return "".join(f"{line}\n" for line in lines)


def host_nameservers(*, loopback: bool) -> tuple[str, ...]:
    """The host's name servers. Those on loopback are of use only to who shares its network; without
    them, and with systemd-resolved as the only one, those that it asks."""
    servers = _nameservers(_RESOLV_CONF)
    if loopback:
        return servers
    usable = tuple(server for server in servers if not ip_address(server).is_loopback)
    return usable or _nameservers(_RESOLVED)


def _nameservers(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ()
    words = (line.split() for line in text.splitlines())
    found = (line[1].partition("%")[0] for line in words if line[:1] == ["nameserver"] and line[1:])
    return tuple(server for server in found if _is_address(server))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
