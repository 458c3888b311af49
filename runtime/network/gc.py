"""Finding and removing what dead owners left.

A network's record is written before anything else of it is made, and removed after all of it is
gone; so is the lease of an endpoint. A record whose owner's lock nobody holds therefore names all
that can be left: bridge and ports, table, name server, borrowed switches, published ports. What is
asked of the kernel is only ever asked by such a name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from runtime.network import bridge, dns
from runtime.network.config import NetworkConfig
from runtime.network.endpoint import is_link
from runtime.network.leases import Lease, Leases
from runtime.network.names import bridge_name
from runtime.network.namespace import unbind
from runtime.network.network import Network
from runtime.network.state import held, here, locked, namespace_alive
from runtime.network.store import NetworkStore

__all__ = ["collect"]


def collect(root: Path, *, dry_run: bool = False) -> list[str]:
    """Remove it from the store in this directory, and return what it was, one text a thing.

    Touches nothing of the living, and nothing of a network in another network namespace that is
    alive: run it there. With `dry_run` nothing is removed. Raises NetworkError for what could not
    be."""
    root = root.absolute()
    if not root.is_dir():
        return []
    with locked(root / "lock"):
        return [text for part in _PARTS for text in part(root, dry_run)]


def _networks(root: Path, dry_run: bool) -> Iterator[str]:
    store = NetworkStore(root, keep=True)
    for directory in sorted((root / "networks").glob("*")):
        if not (directory / "network.json").exists():
            yield f"directory {directory}"
            if not dry_run:
                shutil.rmtree(directory)
    for config in store.configs():
        if config.host_namespace != here() and namespace_alive(config.host_namespace):
            continue
        network = Network(store, config)
        if config.owner is not None and not held(Path(config.owner)):
            yield from _things(root, network)
            if not dry_run:
                store.take_down(config)
        else:
            for lease in network.leases():
                if lease.owner is not None and not held(Path(lease.owner)):
                    yield _endpoint(lease, config)
                    if not dry_run:
                        network.forget(lease, delete=True)


def _things(root: Path, network: Network) -> Iterator[str]:
    config = network.config
    for lease in network.leases():
        yield _endpoint(lease, config)
    pid = dns.running(network.directory)
    if pid is not None:
        yield f"process {pid} (name server of network {config.name})"
    if is_link(config.bridge):
        yield f"bridge {config.bridge} and table {config.table}"
    yield f"network {config.name} ({config.subnet})"


def _endpoint(lease: Lease, config: NetworkConfig) -> str:
    return f"endpoint {lease.name or 'held ready'} ({lease.address}) of network {config.name}"


def _orphans(root: Path, dry_run: bool) -> Iterator[str]:
    """Bridges that say they are of this store, which has no record of them: somebody removed it."""
    from runtime.network import netlink as nl

    known = {config.bridge for config in NetworkStore(root, keep=True).configs()}
    with nl.Netlink() as netlink:
        found = list(nl.bridges(netlink))
    for name, text in found:
        if text.startswith(bridge.alias(root, "")) and name not in known:
            yield f"bridge {name} ({text}), which has no record"
            if not dry_run:
                bridge.erase(name.removeprefix(bridge_name("")))


def _ports(root: Path, dry_run: bool) -> Iterator[str]:
    for link in sorted((root / "ports").glob("*")):
        network, _, address = str(link.readlink()).partition("/")
        if not _leased(root, network, address):
            yield f"published port {link.name}"
            if not dry_run:
                link.unlink()


def _members(root: Path, dry_run: bool) -> Iterator[str]:
    for link in sorted((root / "members").glob("*/*")):
        lease = _leased(root, link.name, str(link.readlink()))
        if lease is None or lease.namespace != link.parent.name:
            yield f"membership {link}"
            if not dry_run:
                link.unlink()
    for directory in (root / "members").glob("*"):
        with suppress(OSError):  # not empty
            if not dry_run:
                directory.rmdir()


def _leased(root: Path, network: str, address: str) -> Lease | None:
    directory = root / "networks" / network
    try:
        config = NetworkConfig.from_json((directory / "network.json").read_text())
    except FileNotFoundError:
        return None
    return Leases(directory, config).get(IPv4Address(address))


def _namespaces(root: Path, dry_run: bool) -> Iterator[str]:
    for link in sorted((root / "namespaces").glob("*/.owner")):
        owner = link.readlink()
        if not owner.is_absolute() or held(owner):
            continue  # kept, or alive
        for path in sorted(link.parent.glob("[!.]*")):
            yield f"network namespace bound at {path}"
            if not dry_run:
                unbind(path)
        if not dry_run:
            shutil.rmtree(link.parent)


def _owners(root: Path, dry_run: bool) -> Iterator[str]:
    for lock in sorted((root / "owners").glob("*")):
        if not held(lock):
            yield f"lock {lock}"
            if not dry_run:
                lock.unlink()


_PARTS = (_networks, _orphans, _ports, _members, _namespaces, _owners)
