"""Networks of containers: namespaces, bridges, addresses, names, published ports.

    with NetworkStore(Path("/run/isolation-lab/networks")) as store:
        web = store.create("web")
        with Attachment([web], name="api", ports=["127.0.0.1:8080:80"]) as net:
            …  # start a process in net.namespace.path, with net.hosts and net.resolv_conf

`docs/concepts/networks.md` has the picture, and the commands to check each part by hand. Names are
loaded when they are first used, as those of `runtime` are: the name server's process needs few.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own constant would bring typing
if TYPE_CHECKING:
    from runtime.network.attachment import Attachment
    from runtime.network.config import NetworkConfig
    from runtime.network.endpoint import Endpoint
    from runtime.network.firewall import obstacles
    from runtime.network.gc import collect
    from runtime.network.leases import Lease
    from runtime.network.namespace import NetworkNamespace
    from runtime.network.network import Network
    from runtime.network.ports import Port, parse_ports
    from runtime.network.store import NetworkStore

__all__ = [
    "Attachment",
    "Endpoint",
    "Lease",
    "Network",
    "NetworkConfig",
    "NetworkNamespace",
    "NetworkStore",
    "Port",
    "collect",
    "obstacles",
    "parse_ports",
]

_HOME = {
    "Attachment": "attachment",
    "Endpoint": "endpoint",
    "Lease": "leases",
    "Network": "network",
    "NetworkConfig": "config",
    "NetworkNamespace": "namespace",
    "NetworkStore": "store",
    "Port": "ports",
    "collect": "gc",
    "obstacles": "firewall",
    "parse_ports": "ports",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
