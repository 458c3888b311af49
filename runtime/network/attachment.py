"""What one container needs of the network: a namespace to join, its endpoints, and three files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address
from types import TracebackType

from runtime.errors import NetworkError, SpecError
from runtime.network import files
from runtime.network.endpoint import Endpoint
from runtime.network.names import check_host_name
from runtime.network.namespace import NetworkNamespace
from runtime.network.network import Network
from runtime.network.ports import Port

__all__ = ["Attachment"]


class Attachment:
    """The network of a container, from before its start until after its end; a context.

    `networks` are Networks, the first one the way out; or "none", a namespace with `lo` alone; or
    "host", the host's own. `namespace` is what its process joins, None for the host's;
    `hostname`, `hosts` and `resolv_conf` are the texts of the files in /etc, for whoever mounts
    them: they follow what is connected, so a running container's can be written anew after
    `connect`.
    """

    def __init__(
        self,
        networks: Iterable[Network] | str,
        *,
        name: str,
        hostname: str | None = None,
        aliases: Iterable[str] = (),
        address: IPv4Address | str | None = None,
        ports: Iterable[Port | str] = (),
        nameservers: Iterable[str] = (),
        search: Iterable[str] = (),
        extra_hosts: Mapping[str, str] | None = None,
        namespace: NetworkNamespace | None = None,
    ) -> None:
        """`address` and `ports` are of the first network; `nameservers` are asked in place of the
        network's own; `extra_hosts` goes from name to address; `namespace` is one to use instead
        of a new one, and stays the caller's. Raises what `Network.connect` does; then nothing is
        left."""
        self.name = check_host_name(name)
        self.hostname = hostname or self.name
        self.endpoints: list[Endpoint] = []
        """In the order of connecting."""
        self.namespace = namespace
        self._owns_namespace = namespace is None
        self._mode = networks if isinstance(networks, str) else "networks"
        self._aliases = tuple(aliases)
        self._nameservers = tuple(nameservers)
        self._search = tuple(search)
        self._extra = dict(extra_hosts or {})
        wanted = [] if isinstance(networks, str) else list(networks)
        self._check(wanted, address, tuple(ports))
        with ExitStack() as undo:
            undo.callback(self.close)
            if self._mode == "none" and namespace is None:
                self.namespace = NetworkNamespace.create()
            for number, network in enumerate(wanted):
                first = number == 0
                self.connect(
                    network, address=address if first else None, ports=ports if first else ()
                )
            undo.pop_all()

    def _check(
        self, networks: list[Network], address: IPv4Address | str | None, ports: tuple[object, ...]
    ) -> None:
        if self._mode not in {"none", "host", "networks"}:
            raise SpecError(f'networks: {self._mode!r} is none of "none", "host" and Networks')
        if self._mode == "networks" and not networks:
            raise SpecError('networks: there are none; "none" is the word for that')
        if self._mode != "networks" and (address is not None or ports):
            raise SpecError(f"address, ports: mode {self._mode!r} has no network to give them on")
        if self._mode == "host" and self.namespace is not None:
            raise SpecError("namespace: mode 'host' has the host's")

    @property
    def hosts(self) -> str:
        """Text of /etc/hosts."""
        addresses = [
            address
            for endpoint in self.endpoints
            for address in (endpoint.address, endpoint.address6)
            if address is not None
        ]
        return files.hosts(self.hostname, addresses, self._extra)

    @property
    def resolv_conf(self) -> str:
        """Text of /etc/resolv.conf: the name servers given; else those of its networks (each
        answers for all of them); else the host's."""
        servers: list[str] = list(self._nameservers)
        if not servers:
            servers = [str(each.gateway) for each in self.endpoints if each.network.config.dns]
        if not servers and any(not each.network.config.internal for each in self.endpoints):
            servers = list(files.host_nameservers(loopback=False))
        if not servers and self._mode == "host":
            servers = list(files.host_nameservers(loopback=True))
        return files.resolv_conf(servers, search=self._search)

    def connect(
        self,
        network: Network,
        *,
        address: IPv4Address | str | None = None,
        ports: Iterable[Port | str] = (),
        aliases: Iterable[str] = (),
    ) -> Endpoint:
        """Connect it to one more network, also while it runs. Raises as `Network.connect`."""
        if self._mode == "host":
            raise NetworkError(f"{self.name!r} has the host's network; nothing can be connected")
        endpoint = network.connect(
            self.namespace,
            name=self.name,
            aliases=(*self._aliases, *aliases),
            address=address,
            ports=ports,
        )
        if self.namespace is None:
            # It is to stay when this network is the first to be disconnected.
            self.namespace = endpoint.hand_over()
        self.endpoints.append(endpoint)
        return endpoint

    def disconnect(self, network: Network) -> None:
        """Take it off a network, also while it runs. Raises NetworkError if it is not on it."""
        for endpoint in self.endpoints:
            if endpoint.network.name == network.name:
                endpoint.disconnect()
                self.endpoints.remove(endpoint)
                return
        raise NetworkError(f"{self.name!r} is not on network {network.name!r}")

    def close(self) -> None:
        """Give everything back, once the container has ended. Idempotent."""
        while self.endpoints:
            self.endpoints[-1].release()
            self.endpoints.pop()
        if self.namespace is not None and self._owns_namespace:
            self.namespace.remove()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
