"""Who has which address and which names on one network: the part that must not be given twice."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from runtime.errors import AddressExhausted, AddressInUse, NameInUse, NetworkNotFound
from runtime.network.config import NetworkConfig
from runtime.network.state import locked, write

__all__ = ["Lease", "Leases"]

_TRIES = 16
"""Addresses tried one by one before all of them are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One endpoint, as it is recorded: enough to undo it when its owner has gone."""

    address: IPv4Address
    link: str
    """Name of its interface in the host: a veth or a tap, a port of the bridge."""
    owner: str | None
    """Path of its owner's lock file; None if it stays until it is disconnected."""
    name: str | None = None
    """None while it is held ready for whoever comes."""
    aliases: tuple[str, ...] = ()
    namespace: str | None = None
    """`NetworkNamespace.id`; None for a tap."""
    published: tuple[tuple[str, int, str, int], ...] = ()
    """Host address, host port, protocol, container port of each published port."""

    def to_json(self) -> str:
        """The record, as `from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), default=str) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Lease:
        """Read a record back."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "address": IPv4Address(values["address"]),
                "aliases": tuple(values["aliases"]),
                "published": tuple(tuple(port) for port in values["published"]),
            }
        )


class Leases:
    """The leases of one network, below its directory; safe between processes and threads."""

    def __init__(self, directory: Path, config: NetworkConfig) -> None:
        self._directory = directory
        self._config = config
        self._leases = directory / "leases"
        self._names = directory / "names"
        self._aliases = directory / "aliases"

    def prepare(self) -> None:
        """Make the directories, and the lock."""
        (self._directory / "lock").touch()
        for path in (self._leases, self._names, self._aliases):
            path.mkdir(exist_ok=True)

    def take(
        self, make: Callable[[IPv4Address], Lease], *, address: IPv4Address | None = None
    ) -> Lease:
        """Find an address (that one, if given), and record what `make` returns for it.

        Addresses are given out in turn, so that one just released rests as long as it can. Raises
        AddressExhausted, AddressInUse, NameInUse, or NetworkNotFound if it was removed since."""
        with self._locked() as lock:
            if address is None:
                address = self._free(os.pread(lock, 64, 0))
            else:
                self._check(address)
            lease = make(address)
            self._record(lease)
            # In place: replacing a file by rename makes ext4 write it out first (auto_da_alloc).
            os.pwrite(lock, f"{address}\n".ljust(16).encode(), 0)
            return lease

    def rename(self, lease: Lease) -> None:
        """Record the changed lease of an address that is held, with the names it has now."""
        with self._locked():
            old = self.get(lease.address)
            if old is not None:
                self._unclaim(old)
            try:
                self._record(lease)
            except BaseException:
                if old is not None:
                    self._claim(old)
                raise

    def release(self, address: IPv4Address) -> None:
        """Give back address and names; no error if they are given back, or the network is gone."""
        with suppress(NetworkNotFound), self._locked():
            lease = self.get(address)
            if lease is not None:
                self._unclaim(lease)
                self._path(address).unlink()

    def get(self, address: IPv4Address) -> Lease | None:
        """The lease of an address."""
        try:
            return Lease.from_json(self._path(address).read_text())
        except FileNotFoundError:
            return None

    def all(self) -> Iterator[Lease]:
        """All leases, by address. One that is released meanwhile is left out."""
        with suppress(FileNotFoundError):
            for address in sorted(IPv4Address(path.name) for path in _visible(self._leases)):
                lease = self.get(address)
                if lease is not None:
                    yield lease

    def lookup(self, name: str) -> tuple[IPv4Address, ...]:
        """The addresses of a name or an alias (in lower case)."""
        if not name or set(name) & {"/", "\0"} or name.startswith("."):
            return ()
        try:
            return (IPv4Address(str((self._names / name).readlink())),)
        except OSError:
            pass  # no name: perhaps an alias
        try:
            return tuple(
                sorted(IPv4Address(path.name) for path in (self._aliases / name).iterdir())
            )
        except OSError:
            return ()

    @contextmanager
    def _locked(self) -> Iterator[int]:
        with ExitStack() as stack:
            lock = -1
            with suppress(FileNotFoundError):
                lock = stack.enter_context(locked(self._directory / "lock", create=False))
            # It can have been waited for while the network was removed.
            if lock < 0 or not (self._directory / "network.json").exists():
                raise NetworkNotFound(self._config.name, str(self._directory.parent), ())
            yield lock

    def _path(self, address: IPv4Address) -> Path:
        return self._leases / str(address)

    def _record(self, lease: Lease) -> None:
        """Claim its names and write it down, or neither: the disk can be full."""
        try:
            self._claim(lease)
            write(self._path(lease.address), lease.to_json())
        except BaseException:
            self._unclaim(lease)  # not what is another's: that has another address
            raise

    def _reserved(self, address: IPv4Address) -> bool:
        subnet = self._config.subnet
        return address in (self._config.gateway, subnet.network_address, subnet.broadcast_address)

    def _check(self, address: IPv4Address) -> None:
        if address not in self._config.subnet or self._reserved(address):
            raise AddressInUse(
                f"{address} is no address for an endpoint of network {self._config.name!r}: "
                f"subnet {self._config.subnet}, gateway {self._config.gateway}"
            )
        if (other := self.get(address)) is not None:
            raise AddressInUse(
                f"{address} of network {self._config.name!r} is taken by "
                f"{other.name or 'an endpoint held ready'}; choose another one, or none"
            )

    def _free(self, last_text: bytes) -> IPv4Address:
        first = int(self._config.subnet.network_address)
        size = self._config.subnet.num_addresses
        try:
            last = int(IPv4Address(last_text.decode().strip()))
        except ValueError:
            last = first  # nothing was given out yet
        turn = (IPv4Address(first + (last - first + step) % size) for step in range(1, size + 1))
        for _, address in zip(range(_TRIES), turn, strict=False):
            if not self._reserved(address) and not self._path(address).exists():
                return address
        taken = {path.name for path in _visible(self._leases)}
        for address in turn:
            if not self._reserved(address) and str(address) not in taken:
                return address
        raise AddressExhausted(self._config.name, str(self._config.subnet), size - 3)

    def _claim(self, lease: Lease) -> None:
        if lease.name is None:
            return
        link = self._names / lease.name
        try:
            link.symlink_to(str(lease.address))
        except FileExistsError as error:
            raise NameInUse(
                f"network {self._config.name!r} has an endpoint {lease.name!r} at "
                f"{link.readlink()}; choose another name, or disconnect that one"
            ) from error
        for alias in lease.aliases:
            (self._aliases / alias).mkdir(exist_ok=True)
            (self._aliases / alias / str(lease.address)).touch()

    def _unclaim(self, lease: Lease) -> None:
        if lease.name is None:
            return
        link = self._names / lease.name
        with suppress(FileNotFoundError):
            if str(link.readlink()) == str(lease.address):
                link.unlink()
        for alias in lease.aliases:
            (self._aliases / alias / str(lease.address)).unlink(missing_ok=True)
            with suppress(OSError):  # others have it too
                (self._aliases / alias).rmdir()


def _visible(directory: Path) -> Iterator[Path]:
    """The files that are not somebody's half-written ones."""
    return (path for path in directory.iterdir() if not path.name.startswith("."))
