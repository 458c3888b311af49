"""A host of its own for each test: a fresh network namespace, with an outside world beyond it.

Nothing here touches the machine's network: the test's thread moves into the namespace and back.
Sockets stay in the namespace where they were opened, so most "containers" are a namespace with
sockets of the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.namespaces import Namespace
from runtime.network import NetworkNamespace, NetworkStore
from runtime.network import forwarding as forwarding_notes
from runtime.syscalls import interface_up, setns, unshare

DEADLINE = 20.0
"""Seconds: only there to end a hang."""

HOST_OUTSIDE, OUTSIDE = "198.51.100.1", "198.51.100.2"


def sh(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def need(*programs: str) -> None:
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"needs the program {', '.join(missing)}")


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """Be in a new network namespace, with lo up; nothing may be left in it."""
    need("nft", "ip")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(Namespace.NET)
    try:
        with socket.socket() as sock:
            interface_up(sock.fileno(), "lo")
        # A new namespace takes it from the first one, where Docker may have turned it on.
        switch = Path("/proc/sys/net/ipv4/ip_forward")
        switch.write_text("0")
        yield
        eventually(lambda: {name for name in links() if name.startswith("lab")} == set())
        assert sh("nft", "list", "tables") == ""
        assert switch.read_text() == "0\n"
        assert not forwarding_notes._notes().exists()
    finally:
        setns(home, Namespace.NET)
        os.close(home)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[NetworkStore]:
    with NetworkStore(root) as store:
        yield store
    left = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    assert not left


@pytest.fixture
def kept(root: Path) -> Iterator[NetworkStore]:
    """A store whose networks stay: they would outlive the test."""
    kept = NetworkStore(root, keep=True)
    yield kept
    for name in kept.names():
        kept.remove(name, force=True)
    kept.close()


@pytest.fixture
def outside() -> Iterator[NetworkNamespace]:
    """A machine beyond the host's uplink `up0`, with a route to nothing but that link."""
    with NetworkNamespace.create() as outside:
        path = str(outside.path)
        sh("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0")
        sh("ip", "link", "set", "eth0", "netns", path)
        sh("ip", "address", "add", f"{HOST_OUTSIDE}/24", "dev", "up0")
        sh("ip", "link", "set", "up0", "up")
        sh("ip", "route", "add", "default", "via", OUTSIDE)
        outside.run(lambda: sh("ip", "address", "add", f"{OUTSIDE}/24", "dev", "eth0"))
        outside.run(lambda: sh("ip", "link", "set", "eth0", "up"))
        yield outside
        sh("ip", "link", "delete", "up0")


def eventually(check: Callable[[], bool]) -> None:
    """Wait until the kernel has taken something apart in the background."""
    done = threading.Event()
    for _ in range(int(DEADLINE / 0.02)):
        if check():
            return
        done.wait(0.02)
    raise AssertionError(f"did not come true within {DEADLINE:g} s: {links()}")


class Service:
    """A server in a namespace (None: the host) that answers each request with what it sees: its
    own name and the address of who asked."""

    def __init__(
        self, namespace: NetworkNamespace | None, name: str, port: int, kind: str = "tcp"
    ) -> None:
        self._name = name
        self._kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        self._socket = run_in(namespace, lambda: socket.socket(socket.AF_INET, self._kind))
        self._socket.bind(("0.0.0.0", port))
        self.port = self._socket.getsockname()[1]
        if kind == "tcp":
            self._socket.listen()
        self._thread = threading.Thread(target=self._tcp if kind == "tcp" else self._udp)
        self._thread.start()

    def _tcp(self) -> None:
        with suppress(OSError):
            while True:
                connection, peer = self._socket.accept()
                with connection:
                    connection.sendall(f"{self._name} {peer[0]}".encode())

    def _udp(self) -> None:
        with suppress(OSError):
            while True:
                data, peer = self._socket.recvfrom(1500)
                if peer is None:  # shut down
                    return
                assert data == b"?"
                self._socket.sendto(f"{self._name} {peer[0]}".encode(), peer)

    def close(self) -> None:
        with suppress(OSError):  # "not connected", but it wakes the thread up all the same
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._socket.close()


Serve = Callable[..., Service]


@pytest.fixture
def serve() -> Iterator[Serve]:
    services: list[Service] = []

    def serve(
        namespace: NetworkNamespace | None, name: str, port: int = 80, kind: str = "tcp"
    ) -> Service:
        services.append(Service(namespace, name, port, kind))
        return services[-1]

    yield serve
    for service in services:
        service.close()


def run_in(namespace: NetworkNamespace | None, work: Callable[[], socket.socket]) -> socket.socket:
    return work() if namespace is None else namespace.run(work)


def ask(namespace: NetworkNamespace | None, address: str, port: int = 80, kind: str = "tcp") -> str:
    """What a service says to who asks from a namespace (None: the host). Raises OSError if it
    cannot be reached."""
    stream = kind == "tcp"
    with run_in(
        namespace,
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM),
    ) as sock:
        sock.settimeout(DEADLINE)
        sock.connect((address, port))
        if not stream:
            sock.send(b"?")
        return sock.recv(1500).decode()


def unreachable(namespace: NetworkNamespace | None, address: str, port: int = 80) -> bool:
    """Whether nobody answers there: a refusal, or silence for as long as a neighbour in the same
    machine never takes."""
    with run_in(namespace, socket.socket) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect((address, port))
        except OSError:
            return True
        return False
