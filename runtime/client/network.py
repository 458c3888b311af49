"""The network of a client's container: what its monitor holds for as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.client.options import RunOptions
from runtime.client.values import ports
from runtime.errors import NetworkExists, NetworkNotFound
from runtime.network import Attachment, Network, NetworkStore

__all__ = ["DEFAULT", "attach", "network_description", "network_state", "store_of"]

DEFAULT = "bridge"
"""The network of containers that name none, made when it is first needed, as Docker's is."""


def store_of(root: Path, *, keep: bool = True) -> NetworkStore:
    """The networks of a client's root directory."""
    return NetworkStore(root / "networks", keep=keep)


def network_description(options: RunOptions, name: str) -> dict[str, Any]:
    """What a monitor needs to know, as JSON."""
    return {
        "kind": options.network_kind,
        "name": name,
        "hostname": options.hostname,
        "ports": list(ports(options.ports)),
        "nameservers": list(options.dns or ()),
        "search": list(options.dns_search or ()),
        "extra_hosts": dict(options.extra_hosts or {}),
    }


@contextlib.contextmanager
def attach(what: Mapping[str, Any], root: str) -> Iterator[Attachment]:
    """Its network, until the context ends. Raises NetworkError and its kind."""
    kind = what["kind"]
    with contextlib.ExitStack() as stack:
        networks: str | list[Network] = kind
        if kind not in {"none", "host"}:
            # The network itself is kept; the endpoint is this process's, and goes with it.
            kept = _ensure(Path(root), kind)
            store = stack.enter_context(store_of(Path(root), keep=False))
            networks = [store.open(kept)]
        yield stack.enter_context(
            Attachment(
                networks,
                name=what["name"],
                hostname=what["hostname"],
                ports=what["ports"],
                nameservers=what["nameservers"],
                search=what["search"],
                extra_hosts=what["extra_hosts"],
            )
        )


def _ensure(root: Path, name: str) -> str:
    with store_of(root) as store:
        try:
            store.open(name)
        except NetworkNotFound:
            if name != DEFAULT:
                raise
            with contextlib.suppress(NetworkExists):  # another has made it meanwhile
                store.create(name)
    return name


def network_state(attachment: Attachment) -> dict[str, dict[str, Any]]:
    """Addresses and ports, by network, as JSON."""
    return {
        endpoint.network.name: {
            "address": str(endpoint.address),
            "gateway": str(endpoint.gateway),
            "mac": endpoint.mac,
            "ports": [str(port) for port in endpoint.ports],
        }
        for endpoint in attachment.endpoints
    }
