"""A network: a bridge of its own, its subnet, and what is connected to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import KernelRefused, NetworkError, SpecError
from runtime.network import nftables, ruleset
from runtime.network.config import NetworkConfig
from runtime.network.conntrack import forget_flows
from runtime.network.endpoint import Endpoint, delete_link, is_link, plug, reflect
from runtime.network.leases import Lease, Leases
from runtime.network.names import check_host_name, port_name
from runtime.network.namespace import NetworkNamespace
from runtime.network.ports import Port, PortReservation, parse_ports, port_link
from runtime.network.tap import open_tap

if TYPE_CHECKING:
    from runtime.network.store import NetworkStore

__all__ = ["Network"]


class Network:
    """One network of a store, made by `NetworkStore.create` or found by `NetworkStore.open`.

    Its methods may be called from any thread, and by several processes at once."""

    def __init__(self, store: NetworkStore, config: NetworkConfig) -> None:
        self.config = config
        self._store = store
        self._leases = Leases(self.directory, config)
        self._ready: list[Endpoint] = []

    def __repr__(self) -> str:
        return f"<Network {self.name} {self.subnet} {self.bridge}>"

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self.config.name

    @property
    def subnet(self) -> IPv4Network:
        """Its subnet."""
        return self.config.subnet

    @property
    def gateway(self) -> IPv4Address:
        """The host's address on it."""
        return self.config.gateway

    @property
    def bridge(self) -> str:
        """Name of its bridge in the host."""
        return self.config.bridge

    @property
    def directory(self) -> Path:
        """Where its records are (`runtime.network.state` draws it)."""
        return self._store.root / "networks" / self.config.name

    def leases(self) -> tuple[Lease, ...]:
        """What is recorded of all its endpoints, those of other processes too, by address."""
        return tuple(self._leases.all())

    def connect(
        self,
        namespace: NetworkNamespace | None = None,
        *,
        name: str,
        aliases: Iterable[str] = (),
        address: IPv4Address | str | None = None,
        ports: Iterable[Port | str] = (),
        interface: str | None = None,
    ) -> Endpoint:
        """Give a namespace an interface on this network; without one, a new namespace is made, or
        taken from those that `prepare` has made, and is the endpoint's own.

        `name` and `aliases` are what the name server answers to, `address` one that is wanted,
        `ports` what to publish, in Docker's form or as Ports, `interface` its name inside (eth0,
        eth1, … if not given). Raises SpecError, NameInUse, AddressInUse, AddressExhausted,
        PortInUse, KernelRefused and NetworkError; then nothing is left of it."""
        name, aliases, wanted = _names(name, aliases), _aliases(aliases), _ports(ports)
        at = _address(address)
        self._check_ports(wanted)

        def work() -> Endpoint:
            with ExitStack() as undo:
                endpoint = None
                if namespace is None and at is None and interface is None:
                    endpoint = self._name_ready(undo, name, aliases)
                if endpoint is None:
                    endpoint = self._make(undo, namespace, name, aliases, at, interface)
                self._publish(undo, endpoint, wanted)
                undo.pop_all()
            self._store.endpoints.add(endpoint)
            return endpoint

        return self._store.swept(work)

    def prepare(self, count: int) -> None:
        """Make namespaces with an interface on this network ready, until there are `count`: a
        `connect` without a namespace then only writes a name down."""
        while len(self._ready) < count:
            with ExitStack() as undo:
                endpoint = self._make(undo, None, None, (), None, None)
                undo.pop_all()
            self._store.endpoints.add(endpoint)
            self._ready.append(endpoint)

    def attach_tap(
        self,
        name: str,
        *,
        aliases: Iterable[str] = (),
        address: IPv4Address | str | None = None,
        ports: Iterable[Port | str] = (),
    ) -> Endpoint:
        """A tap on the bridge, for the network card of a virtual machine: hand on `Endpoint.tap_fd`
        (`-netdev tap,fd=…`), with `Endpoint.mac` and `Endpoint.address` for the guest.

        It lives as long as the descriptor is open anywhere, so a crash leaves no tap. Raises as
        `connect` does."""
        name, aliases, wanted = _names(name, aliases), _aliases(aliases), _ports(ports)
        self._check_ports(wanted)

        def work() -> Endpoint:
            with ExitStack() as undo:
                lease = self._take(undo, None, name, aliases, _address(address))
                fd = open_tap(self.config, lease.link)
                endpoint = Endpoint(self, lease, lease.link, tap_fd=fd)
                undo.callback(endpoint.release)
                self._publish(undo, endpoint, wanted)
                undo.pop_all()
            self._store.endpoints.add(endpoint)
            return endpoint

        return self._store.swept(work)

    def remove(self, *, force: bool = False) -> None:
        """Remove it and all that it has. Raises NetworkInUse if endpoints of the living are on it,
        unless `force`; NetworkError for what could not be removed."""
        self._store.remove(self.name, force=force)
        self._ready.clear()

    def exists(self) -> bool:
        """Whether nobody has removed it."""
        return (self.directory / "network.json").exists()

    def dropped(self, endpoint: Endpoint) -> None:
        """For endpoints: this process has nothing more of it."""
        self._store.endpoints.discard(endpoint)

    def forget(self, lease: Lease, *, delete: bool) -> None:
        """Undo what a lease stands for, as far as it is there: ports, link (if `delete`), names,
        address. For endpoints, and for those whose owner has died."""
        config, ports = self.config, [Port.from_record(record) for record in lease.published]
        if not self.exists():
            return  # and all that it had
        if ports:
            # The table can be gone with the host's start, and the ports with it.
            with suppress(KernelRefused):
                transaction = ruleset.withdraw(config, lease.address, ports)
                nftables.apply(transaction, f"withdraw the ports of {lease.address}")
            forget_flows(ports, lease.address)
        if delete:
            delete_link(lease.link)
        self.unlink(lease)
        self._leases.release(lease.address)

    def unlink(self, lease: Lease) -> None:
        """Remove what the store's directory says of a lease outside the network's own."""
        for record in lease.published:
            link = port_link(self._store.root / "ports", Port.from_record(record))
            _unlink_if(link, f"{self.name}/{lease.address}")
        if lease.namespace is not None:
            members = self._store.root / "members" / lease.namespace
            _unlink_if(members / self.name, str(lease.address))
            with suppress(OSError):  # on other networks too
                members.rmdir()

    def _name_ready(self, undo: ExitStack, name: str, aliases: tuple[str, ...]) -> Endpoint | None:
        """Give a name to one of those that are held ready, if there is one."""
        try:
            endpoint = self._ready.pop()
        except IndexError:
            return None
        undo.callback(endpoint.release)
        endpoint.lease = replace(endpoint.lease, name=name, aliases=aliases)
        self._leases.rename(endpoint.lease)
        return endpoint

    def _make(
        self,
        undo: ExitStack,
        namespace: NetworkNamespace | None,
        name: str | None,
        aliases: tuple[str, ...],
        address: IPv4Address | None,
        interface: str | None,
    ) -> Endpoint:
        own = namespace is None
        if namespace is None:
            namespace = NetworkNamespace.create()
            undo.callback(namespace.close)
        lease = self._take(undo, namespace, name, aliases, address)
        inside = plug(self.config, lease, namespace, interface)
        undo.callback(delete_link, lease.link)
        return Endpoint(self, lease, inside, namespace=namespace, owns_namespace=own)

    def _take(
        self,
        undo: ExitStack,
        namespace: NetworkNamespace | None,
        name: str | None,
        aliases: tuple[str, ...],
        address: IPv4Address | None,
    ) -> Lease:
        """Record the lease, and that the namespace is on this network."""
        owner, where = self._store.owner(), namespace.id if namespace else None
        make: Callable[[IPv4Address], Lease] = lambda address: Lease(  # noqa: E731
            address=address,
            link=port_name(self.config.id),
            owner=owner,
            name=name,
            aliases=aliases,
            namespace=where,
        )
        lease = self._leases.take(make, address=address)
        undo.callback(self.forget, lease, delete=False)
        if where is not None:
            self._join(where, lease)
        return lease

    def _join(self, namespace: str, lease: Lease) -> None:
        """Note that the namespace is on this network now. Raises NetworkError if it is already."""
        link = self._store.root / "members" / namespace / self.name
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            other = self._leases.get(IPv4Address(str(link.readlink())))
            # The number of a namespace that has gone is given to another one.
            if other is None or not is_link(other.link):
                link.unlink(missing_ok=True)
        try:
            link.symlink_to(str(lease.address))
        except FileExistsError as error:
            raise NetworkError(
                f"the namespace is on network {self.name!r} already, at {link.readlink()}: "
                "disconnect that endpoint first"
            ) from error

    def _check_ports(self, ports: tuple[Port, ...]) -> None:
        if ports and self.config.internal:
            raise SpecError(
                f"network {self.name!r} is internal: nothing can be published on it; make one "
                "without internal=True"
            )

    def _publish(self, undo: ExitStack, endpoint: Endpoint, ports: tuple[Port, ...]) -> None:
        """Hold the ports, record that, and only then lead them to the endpoint."""
        if not ports:
            return
        holder = f"{self.name}/{endpoint.address}"
        reservation = PortReservation(self._store.root / "ports", holder)
        reservation.take(ports)
        undo.callback(reservation.release)
        endpoint.hold(reservation.close)
        taken = reservation.ports
        published = tuple(port.record() for port in taken)
        endpoint.lease = replace(endpoint.lease, published=published)
        self._leases.rename(endpoint.lease)
        reflect(endpoint.lease.link)
        nftables.apply(
            ruleset.publish(self.config, endpoint.address, taken),
            f"publish {', '.join(map(str, taken))}",
        )
        forget_flows(taken, endpoint.address)


def _unlink_if(link: Path, target: str) -> None:
    """Remove a symbolic link, unless it has become another's."""
    with suppress(FileNotFoundError):
        if str(link.readlink()) == target:
            link.unlink()


def _names(name: str, aliases: Iterable[str]) -> str:
    if isinstance(aliases, str):
        raise SpecError(f"aliases: {aliases!r} is one text; give a list of them")
    return check_host_name(name)


def _aliases(aliases: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({check_host_name(alias) for alias in aliases}))


def _ports(ports: Iterable[Port | str]) -> tuple[Port, ...]:
    if isinstance(ports, str):
        raise SpecError(f"ports: {ports!r} is one text; give a list of them")
    found: list[Port] = []
    for port in ports:
        found += parse_ports(port) if isinstance(port, str) else [port]
    return tuple(found)


def _address(address: IPv4Address | str | None) -> IPv4Address | None:
    if address is None or isinstance(address, IPv4Address):
        return address
    try:
        return IPv4Address(address)
    except ValueError as error:
        raise SpecError(f"address: {error}") from error
