"""The networks of one directory, and who owns them."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from runtime.errors import (
    AddressExhausted,
    AddressInUse,
    KernelRefused,
    NameInUse,
    NetworkError,
    NetworkExists,
    NetworkInUse,
    NetworkNotFound,
    PortInUse,
    SpecError,
    SubnetInUse,
)
from runtime.network import bridge, dns
from runtime.network.config import NetworkConfig
from runtime.network.endpoint import Endpoint, is_link
from runtime.network.leases import Leases
from runtime.network.names import check_network_name, new_id
from runtime.network.namespace import NetworkNamespace
from runtime.network.network import Network
from runtime.network.state import (
    Owner,
    held,
    here,
    locked,
    namespace_alive,
    namespace_locked,
    write,
)
from runtime.network.subnets import check_subnet, choose_subnet

__all__ = ["NetworkStore"]

_Made = TypeVar("_Made")


class NetworkStore:
    """Networks and their state in a directory, for any number of processes; a context.

    What is made through a store belongs to its *owner*: this process, unless a lock file of
    somebody else's is given in `owner` (a flock(2) that its holder keeps for life). When the owner
    closes the store, or dies, its networks and endpoints are to go: `close` removes them, and
    `runtime.network.collect` does for the dead. With `keep` they have no owner and stay until they
    are removed by name; `open` makes a kept network anew after the host was.
    """

    def __init__(self, root: Path, *, owner: Path | None = None, keep: bool = False) -> None:
        if owner is not None and keep:
            raise SpecError("owner and keep: what is kept has no owner; give one of them")
        self.root = root.absolute()
        self._keep = keep
        self._named_owner = owner.absolute() if owner else None
        self._owner: Owner | None = None
        self._made: list[Network] = []
        self.endpoints: set[Endpoint] = set()
        """What is connected through this store: kept here, so that no published port loses its
        socket because somebody let go of an Endpoint."""
        self._namespaces: list[tuple[Path, NetworkNamespace]] = []
        self._mutex = threading.Lock()

    def __repr__(self) -> str:
        return f"<NetworkStore {self.root}>"

    def owner(self) -> str | None:
        """Path of the lock that says whether the owner lives; made when it is first needed."""
        if self._keep:
            return None
        if self._named_owner is not None:
            return str(self._named_owner)
        with self._mutex:
            if self._owner is None:
                self.root.mkdir(parents=True, exist_ok=True)
                with locked(self.root / "lock"):  # so that gc does not see it without its lock
                    self._owner = Owner.become(self.root / "owners")
            return str(self._owner.lock)

    def create(
        self,
        name: str,
        *,
        subnet: IPv4Network | str | None = None,
        gateway: IPv4Address | str | None = None,
        subnet6: IPv6Network | str | None = None,
        mtu: int | None = None,
        internal: bool = False,
        masquerade: bool = True,
        dns: bool = True,
        docker_user: bool = False,
    ) -> Network:
        """Make a network.

        `subnet` is chosen among those that overlap nothing if not given, `gateway` is its first
        address, `mtu` that of the host's default route; the rest is told in `NetworkConfig`.
        Raises SpecError, NetworkExists, SubnetInUse, KernelRefused and NetworkError; then nothing
        is left of it."""
        check_network_name(name)
        wanted = _parse(IPv4Network, "subnet", subnet)
        owner = self.owner()
        self.root.mkdir(parents=True, exist_ok=True)

        def work() -> Network:
            with locked(self.root / "lock"), namespace_locked():
                if (self.root / "networks" / name).exists():
                    raise NetworkExists(
                        f"network {name!r} is in {self.root} already; open() it, or remove it first"
                    )
                routes = _host_routes()
                taken = [(target, f"the host's route {target} dev {dev}") for target, dev in routes]
                taken += [
                    (config.subnet, f"the subnet {config.subnet} of network {config.name!r}")
                    for config in self.configs()
                ]
                if wanted is not None:
                    check_subnet(wanted, taken)
                chosen = wanted or choose_subnet(taken)
                return self._bring_up(
                    name=name,
                    owner=owner,
                    subnet=chosen,
                    gateway=_parse(IPv4Address, "gateway", gateway) or chosen[1],
                    subnet6=_parse(IPv6Network, "subnet6", subnet6),
                    mtu=mtu or bridge.default_mtu(routes),
                    internal=internal,
                    masquerade=masquerade,
                    dns=dns,
                    docker_user=docker_user,
                    host_namespace=here(),
                )

        network = self.swept(work)
        if owner is not None:
            self._made.append(network)
        return network

    def open(self, name: str) -> Network:
        """A network that is there. A kept one is brought up again if its bridge or its name server
        has gone (the host was started anew, the server was killed).

        Raises NetworkNotFound, or NetworkError from another network namespace than its own."""
        config = self.config(name)
        if config.host_namespace != here() and (
            config.owner is not None or namespace_alive(config.host_namespace)
        ):
            raise NetworkError(
                f"network {name!r} is in the network namespace {config.host_namespace}, and this "
                f"thread in {here()}: open it there"
            )
        if config.owner is None:
            with locked(self.root / "lock"):
                return self._restored(config)
        return Network(self, config)

    def names(self) -> tuple[str, ...]:
        """Names of all networks, sorted."""
        return tuple(config.name for config in self.configs())

    def swept(self, work: Callable[[], _Made]) -> _Made:
        """Do it; and if something is in the way, and the dead left something, once more without
        that."""
        try:
            return work()
        except (AddressExhausted, AddressInUse, NameInUse, NetworkExists, PortInUse, SubnetInUse):
            from runtime.network.gc import collect

            if not collect(self.root):
                raise
            return work()

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a network and all that it has, by name; see `Network.remove`."""
        with locked(self.root / "lock", create=False):
            config = self.config(name)
            leases = Leases(self.root / "networks" / name, config)
            living = [
                f"{lease.name} ({lease.address})"
                for lease in leases.all()
                if lease.name and (lease.owner is None or held(Path(lease.owner)))
            ]
            if living and not force:
                raise NetworkInUse(name, living)
            self.take_down(config)
        for endpoint in [each for each in self.endpoints if each.network.name == name]:
            endpoint.drop()

    def take_down(self, config: NetworkConfig) -> None:
        """Remove what a network has, then its records. The caller holds the store's lock."""
        directory = self.root / "networks" / config.name
        network = Network(self, config)
        with locked(directory / "lock"):
            if config.host_namespace == here():
                bridge.take_down(self.root, config)
            for lease in network.leases():
                network.unlink(lease)
            # Before the rest: who waits for the lock shall see that the network is gone.
            (directory / "network.json").unlink()
        shutil.rmtree(directory)

    def namespace(self, name: str) -> NetworkNamespace:
        """A new network namespace, bound below this store's directory: for a container engine that
        takes a path and lives longer than this process. Raises KernelRefused, NetworkError."""
        check_network_name(name)
        owner = self.owner() or "kept"
        directory = self.root / "namespaces" / hashlib.sha256(owner.encode()).hexdigest()[:16]
        directory.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (directory / ".owner").symlink_to(owner)
        namespace = NetworkNamespace.create(directory / name)
        if not self._keep:
            self._namespaces.append((directory / name, namespace))
        return namespace

    def config(self, name: str) -> NetworkConfig:
        """The record of a network. Raises NetworkNotFound."""
        try:
            record = self.root / "networks" / check_network_name(name) / "network.json"
            return NetworkConfig.from_json(record.read_text())
        except FileNotFoundError as error:
            raise NetworkNotFound(name, str(self.root), self.names()) from error

    def configs(self) -> tuple[NetworkConfig, ...]:
        """The records of all networks, by name."""
        found = []
        for path in sorted((self.root / "networks").glob("*/network.json")):
            with suppress(FileNotFoundError):  # removed meanwhile
                found.append(NetworkConfig.from_json(path.read_text()))
        return tuple(found)

    def _bring_up(self, **settings: Any) -> Network:
        """Record a network and make it. The caller holds the store's lock."""
        while True:
            config = NetworkConfig(id=new_id(), **settings)
            directory = self.root / "networks" / config.name
            directory.mkdir(parents=True)
            try:
                Leases(directory, config).prepare()
                write(directory / "network.json", config.to_json())
                bridge.bring_up(self.root, config)
                return Network(self, config)
            except KernelRefused as error:
                shutil.rmtree(directory)
                if error.errno != errno.EEXIST:  # a bridge of that id, perhaps another store's
                    raise
            except BaseException:
                shutil.rmtree(directory)
                raise

    def _restored(self, config: NetworkConfig) -> Network:
        """A kept network, with what it lacks made again. The caller holds the store's lock."""
        directory = self.root / "networks" / config.name
        if is_link(config.bridge):
            if config.dns and dns.running(directory) is None:
                dns.start(self.root, config)
            return Network(self, config)
        # The interfaces of its endpoints went with the bridge's host.
        config = dataclasses.replace(config, host_namespace=here())
        network = Network(self, config)
        for lease in network.leases():
            network.forget(lease, delete=False)
        write(directory / "network.json", config.to_json())
        bridge.bring_up(self.root, config)
        return network

    def close(self) -> None:
        """Remove the networks that were made through it, whoever uses them, and disconnect what was
        connected; what is kept stays. Idempotent. Raises NetworkError for
        what could not be removed; `collect` tries again."""
        failures: list[NetworkError] = []
        for work in self._closing():
            try:
                work()
            except NetworkNotFound:
                pass  # somebody removed it by name
            except NetworkError as error:
                failures.append(error)
        if self._owner is not None:
            # Also after a failure: what is left is a dead owner's then.
            with locked(self.root / "lock"):
                self._owner.retire()
            self._owner = None
        if failures:
            raise failures[0]

    def _closing(self) -> Iterator[Callable[[], object]]:
        while self._made:
            yield partial(self._made.pop().remove, force=True)
        for endpoint in list(self.endpoints):
            yield endpoint.drop if self._keep else endpoint.disconnect
        while self._namespaces:
            path, namespace = self._namespaces.pop()
            yield namespace.remove
            if {other.name for other in path.parent.iterdir()} == {".owner"}:
                shutil.rmtree(path.parent)

    def __enter__(self) -> NetworkStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_Parsed = TypeVar("_Parsed", IPv4Address, IPv4Network, IPv6Network)


def _parse(kind: type[_Parsed], what: str, value: _Parsed | str | None) -> _Parsed | None:
    if value is None or isinstance(value, kind):
        return value
    try:
        return kind(value)
    except ValueError as error:
        raise SpecError(f"{what}: {error}") from error


def _host_routes() -> list[tuple[IPv4Network, str]]:
    from runtime.network.netlink import Netlink

    with Netlink() as netlink:
        return bridge.host_routes(netlink)
