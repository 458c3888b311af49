"""Published ports: what is asked for, and the host's port that must be free."""

from __future__ import annotations

import errno
import re
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from runtime.errors import KernelRefused, NetworkError, PortInUse, SpecError

__all__ = ["Port", "PortReservation", "parse_ports", "port_link"]

_ANY = IPv4Address("0.0.0.0")
_FORM = re.compile(
    r"(?:(?:(?P<address>[0-9.]+):)?(?P<host>[0-9]*(?:-[0-9]+)?):)?"
    r"(?P<container>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>[a-z]+))?"
)


@dataclass(frozen=True, slots=True)
class Port:
    """One published port. Raises SpecError for what cannot be."""

    container: int
    host: int = 0
    """0 for any that is free."""
    address: IPv4Address = _ANY
    """Of the host; 0.0.0.0 for all of them, 127.0.0.1 for the host alone."""
    protocol: str = "tcp"

    def __post_init__(self) -> None:
        if not 1 <= self.container <= 65535 or not 0 <= self.host <= 65535:
            raise SpecError(f"port {self}: numbers are 1 to 65535, and 0 for any port of the host")
        if self.protocol not in {"tcp", "udp"}:
            raise SpecError(f"port {self}: the protocol is tcp or udp")

    def __str__(self) -> str:
        return f"{self.address}:{self.host}:{self.container}/{self.protocol}"

    @property
    def everywhere(self) -> bool:
        """Whether it is on all addresses of the host."""
        return self.address == _ANY

    def record(self) -> tuple[str, int, str, int]:
        """As a lease records it."""
        return (str(self.address), self.host, self.protocol, self.container)

    @classmethod
    def from_record(cls, record: tuple[str, int, str, int]) -> Port:
        """Read a record back."""
        address, host, protocol, container = record
        return cls(container, host, IPv4Address(address), protocol)


def parse_ports(text: str) -> tuple[Port, ...]:
    """Docker's form: ``[[address:][host]:]container[/protocol]``, with ranges of one length, such
    as ``8080:80``, ``127.0.0.1:5300:53/udp``, ``9000-9002:80-82``, ``80`` (any port of the host).

    Raises SpecError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise SpecError(
            f"port {text!r} is not of the form [[address:][host]:]container[/tcp|udp], IPv4 only"
        )
    try:
        address = IPv4Address(match["address"] or "0.0.0.0")
    except AddressValueError as error:
        raise SpecError(f"port {text!r}: {error}") from error
    inside = _range(match["container"])
    outside = _range(match["host"]) if match["host"] else [0] * len(inside)
    if len(inside) != len(outside) or not inside:
        raise SpecError(f"port {text!r}: the two ranges must rise, and be of one length")
    protocol = match["protocol"] or "tcp"
    return tuple(
        Port(container, host, address, protocol)
        for container, host in zip(inside, outside, strict=True)
    )


def _range(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if not first:
        return []
    return list(range(int(first), int(last or first) + 1))


class PortReservation:
    """Ports of the host, held for one endpoint.

    Two things hold a port: a link in the store's directory, which names the endpoint to the other
    processes that use the store, and a bound socket, against everybody else. The socket gets no
    packet, since they are redirected before; it lives as long as this process at the most.
    """

    def __init__(self, directory: Path, holder: str) -> None:
        self._directory = directory
        self._holder = holder
        self._sockets = ExitStack()
        self.ports: tuple[Port, ...] = ()
        """What is held, with the number that was chosen where any would do."""

    def take(self, ports: tuple[Port, ...]) -> None:
        """Hold all of them or none. Raises PortInUse, NetworkError."""
        self._directory.mkdir(exist_ok=True)
        try:
            for port in ports:
                self.ports += (self._take(port),)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give them back. Idempotent."""
        for port in self.ports:
            port_link(self._directory, port).unlink(missing_ok=True)
        self.ports = ()
        self.close()

    def close(self) -> None:
        """Close the sockets; the links stay. Idempotent."""
        self._sockets.close()

    def _take(self, port: Port) -> Port:
        kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
        sock = self._sockets.enter_context(socket.socket(socket.AF_INET, kind))
        if port.protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past TIME_WAIT
        try:
            sock.bind((str(port.address), port.host))
            if port.protocol == "tcp":
                # A bound socket with SO_REUSEADDR would not keep others out; a listening one does.
                sock.listen(1)
        except OSError as error:
            raise self._refused(port, error) from error
        port = replace(port, host=sock.getsockname()[1])
        link = port_link(self._directory, port)
        try:
            link.symlink_to(self._holder)
        except FileExistsError as error:
            # Its process has ended, or it could not have been bound here.
            raise PortInUse(_said(port), _by(link)) from error
        return port

    def _refused(self, port: Port, error: OSError) -> NetworkError:
        if error.errno == errno.EADDRINUSE:
            return PortInUse(_said(port), _by(port_link(self._directory, port)))
        if error.errno == errno.EADDRNOTAVAIL:
            return NetworkError(f"cannot publish {_said(port)}: {port.address} is not of this host")
        return KernelRefused(f"bind {_said(port)}", error.errno or 0)


def port_link(directory: Path, port: Port) -> Path:
    """The link that names the holder of a port."""
    return directory / f"{port.address}:{port.host}-{port.protocol}"


def _said(port: Port) -> str:
    return f"{port.address}:{port.host}/{port.protocol}"


def _by(link: Path) -> str:
    """Who has the port of this link: that endpoint, one on all addresses or another, or nobody
    whom the store knows."""
    number = link.name.rpartition(":")[2]
    for other in (link, *sorted(link.parent.glob(f"*:{number}"))):
        try:
            return f"the endpoint {other.readlink()} has it"
        except OSError:
            continue
    listener = f"sport = :{number.partition('-')[0]}"
    return f"a process of the host listens there (ss -lnp {listener!r} names it)"
