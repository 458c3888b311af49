"""The name server, as a resolver in a container sees it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from runtime.errors import KernelRefused
from runtime.network import Attachment, NetworkNamespace, NetworkStore, dns, files
from runtime.syscalls import MS_BIND, mount, umount2
from tests.integration.runtime.network.conftest import DEADLINE, OUTSIDE, eventually, run_in, sh


def query(
    namespace: NetworkNamespace | None,
    server: str,
    name: str,
    kind: str = "A",
    *,
    tcp: bool = False,
) -> DNSRecord:
    return DNSRecord.parse(
        run_in_text(namespace, DNSRecord.question(name, kind).pack(), server, tcp=tcp)
    )


def run_in_text(
    namespace: NetworkNamespace | None, data: bytes, server: str, *, tcp: bool
) -> bytes:
    with run_in(
        namespace,
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM),
    ) as sock:
        sock.settimeout(DEADLINE)
        sock.connect((server, 53))
        sock.sendall(len(data).to_bytes(2, "big") + data if tcp else data)
        return sock.recv(65535)[2:] if tcp else sock.recv(65535)


def addresses(reply: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_containers_find_each_other_by_name(
    store: NetworkStore, outside: NetworkNamespace, tcp: bool
) -> None:
    network = store.create("web")
    a, b = network.connect(name="a"), network.connect(name="b", aliases=["db"])
    server = str(network.gateway)
    for name in ("b", "db", "b.web"):
        assert addresses(query(a.namespace, server, name, tcp=tcp)) == [str(b.address)]
    assert addresses(query(None, server, "a", tcp=tcp)) == [str(a.address)]  # the host, too
    back = ".".join(reversed(str(b.address).split("."))) + ".in-addr.arpa"
    assert addresses(query(a.namespace, server, back, "PTR", tcp=tcp)) == ["b.web."]
    b.disconnect()
    assert query(a.namespace, server, "b.web", tcp=tcp).header.rcode != RCODE.NOERROR


def test_the_c_librarys_resolver(store: NetworkStore, tmp_path: Path) -> None:
    """With the files as a container has them: getaddrinfo of a process in both namespaces."""
    one, two = store.create("one"), store.create("two")
    a, b = one.connect(name="alpha"), two.connect(name="beta")
    program = (
        "import socket\n"
        "for name in 'alpha', 'beta', 'box':\n"
        "    found = socket.getaddrinfo(name, 80, socket.AF_INET)\n"
        "    print(name, *sorted({one[4][0] for one in found}))\n"
        f"print(socket.gethostbyaddr('{a.address}')[0])\n"
    )
    script = (
        'mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts && '
        'exec "$2" -c "$3"'
    )
    with Attachment([one, two], name="box") as net:
        assert net.namespace is not None
        (tmp_path / "resolv.conf").write_text(net.resolv_conf)
        (tmp_path / "hosts").write_text(net.hosts)
        assert net.resolv_conf == f"nameserver {one.gateway}\nnameserver {two.gateway}\n"
        said = net.namespace.run(
            lambda: sh(
                *("unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path)),
                *(sys.executable, program),
            )
        ).splitlines()
        own = sorted(str(end.address) for end in net.endpoints)
        assert said == [
            f"alpha {a.address}",
            f"beta {b.address}",
            " ".join(["box", *own]),
            "alpha.one",
        ]


def test_a_network_does_not_tell_of_another(store: NetworkStore) -> None:
    one, two = store.create("one", internal=True), store.create("two")
    a = one.connect(name="a")
    two.connect(name="b")
    reply = query(a.namespace, str(one.gateway), "b")
    assert reply.header.rcode == RCODE.NXDOMAIN and not reply.rr


class Upstream:
    """A resolver of the outside world that knows one name, and counts."""

    def __init__(self, namespace: NetworkNamespace) -> None:
        self.asked: list[str] = []
        self._socket = namespace.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((OUTSIDE, 53))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if peer is None:
                return
            request = DNSRecord.parse(data)
            self.asked.append(str(request.q.qname))
            reply = request.reply()
            if str(request.q.qname) == "example.com.":
                reply.add_answer(RR("example.com", QTYPE.A, rdata=A("203.0.113.5"), ttl=60))
            else:
                reply.header.rcode = RCODE.NXDOMAIN
            self._socket.sendto(reply.pack(), peer)

    def close(self) -> None:
        with suppress(OSError):  # "not connected", but it wakes the thread up all the same
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self._socket.close()


@pytest.fixture
def upstream(outside: NetworkNamespace, tmp_path: Path) -> Iterator[Upstream]:
    """The host's resolver, by an /etc/resolv.conf that only processes of this test see."""
    text = tmp_path / "host-resolv.conf"
    text.write_text(f"nameserver {OUTSIDE}\n")
    upstream = Upstream(outside)
    mount(str(text), "/etc/resolv.conf", None, MS_BIND, None)
    yield upstream
    umount2("/etc/resolv.conf", 0)
    upstream.close()


def test_the_rest_is_asked_outside_by_the_host(store: NetworkStore, upstream: Upstream) -> None:
    network = store.create("web")
    a = network.connect(name="a")
    server = str(network.gateway)
    assert addresses(query(a.namespace, server, "example.com")) == ["203.0.113.5"]
    assert query(a.namespace, server, "no.example.com").header.rcode == RCODE.NXDOMAIN
    assert query(a.namespace, server, "a").rr
    assert upstream.asked == ["example.com.", "no.example.com."]
    assert files.host_nameservers(loopback=False) == (OUTSIDE,)


def test_an_internal_network_asks_nobody(store: NetworkStore, upstream: Upstream) -> None:
    network = store.create("web", internal=True)
    a = network.connect(name="a")
    reply = query(a.namespace, str(network.gateway), "example.com")
    assert reply.header.rcode == RCODE.NXDOMAIN
    assert upstream.asked == []


def test_no_resolver_is_a_server_failure(store: NetworkStore, upstream: Upstream) -> None:
    Path("/etc/resolv.conf").write_text("")
    network = store.create("web")
    a = network.connect(name="a")
    reply = query(a.namespace, str(network.gateway), "example.com")
    assert reply.header.rcode == RCODE.SERVFAIL


def test_a_container_of_a_network_without_name_server_gets_the_hosts(
    store: NetworkStore, upstream: Upstream
) -> None:
    with Attachment([store.create("web", dns=False)], name="a") as net:
        assert net.resolv_conf == f"nameserver {OUTSIDE}\n"
    with Attachment([store.create("in", dns=False, internal=True)], name="a") as net:
        assert net.resolv_conf == ""
    with Attachment("host", name="a", search=["x"]) as net:
        assert net.resolv_conf == f"nameserver {OUTSIDE}\nsearch x\n"
    with Attachment("none", name="a", nameservers=["192.0.2.1"]) as net:
        assert net.resolv_conf == "nameserver 192.0.2.1\n"


def test_strangers_do_not_reach_it(store: NetworkStore, outside: NetworkNamespace) -> None:
    network = store.create("web")
    network.connect(name="a")
    outside.run(lambda: sh("ip", "route", "add", str(network.subnet), "via", "198.51.100.1"))
    with outside.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(1.0)
        sock.sendto(DNSRecord.question("a").pack(), (str(network.gateway), 53))
        with pytest.raises(OSError):
            sock.recv(512)


def test_a_taken_port_is_said_and_leaves_nothing(store: NetworkStore) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 53))
        with pytest.raises(KernelRefused, match=r":53: .*EADDRINUSE.*dns=False"):
            store.create("web")
        assert store.names() == ()


def test_it_ends_with_its_network(store: NetworkStore) -> None:
    network = store.create("web")
    pid = dns.running(network.directory)
    assert pid is not None
    # Its exec is under way when posix_spawn(3) returns: the command line comes a moment later.
    eventually(lambda: f"dns.server\0{store.root}\0web" in command_of(pid))
    network.remove()
    assert not Path(f"/proc/{pid}").exists()


def test_a_kept_network_gets_its_name_server_back(kept: NetworkStore) -> None:
    network = kept.create("web")
    a = network.connect(name="a")
    pid = dns.running(network.directory)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: dns.running(network.directory) is None)
    kept.open("web")
    assert addresses(query(a.namespace, str(network.gateway), "a")) == [str(a.address)]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_the_server_complains_of_nothing(store: NetworkStore) -> None:
    network = store.create("web")
    a = network.connect(name="a")
    for data in (b"", b"x", b"\0" * 12, b"\xff" * 40):
        with run_in(a.namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.sendto(data, (str(network.gateway), 53))
    for data in (b"\0\0", b"\0\x05abc", b"\xff\xff"):
        with run_in(a.namespace, socket.socket) as sock:
            sock.settimeout(DEADLINE)
            sock.connect((str(network.gateway), 53))
            sock.sendall(data)
    assert addresses(query(a.namespace, str(network.gateway), "a", tcp=True)) == [str(a.address)]
    assert (network.directory / "dns.log").read_text() == ""


def test_all_of_it_in_a_user_namespace(root: Path) -> None:
    """With rights over that network namespace, and over nothing else."""
    program = (
        "import socket, sys; from pathlib import Path\n"
        "from dnslib import DNSRecord\n"
        "from runtime.network import NetworkStore\n"
        "with NetworkStore(Path(sys.argv[1])) as store:\n"
        "    network = store.create('web')\n"
        "    box = network.connect(name='box', ports=['127.0.0.1:8080:80'])\n"
        "    reply = DNSRecord.question('box').send(str(network.gateway), timeout=20)\n"
        "    assert str(DNSRecord.parse(reply).rr[0].rdata) == str(box.address)\n"
        "    serve = lambda: socket.create_server(('0.0.0.0', 80))\n"
        "    with box.namespace.run(serve) as server:\n"
        "        socket.create_connection(('127.0.0.1', 8080), 20).close()\n"
        "        print(server.accept()[1][0] == str(network.gateway))\n"
    )
    said = sh(
        *("unshare", "--user", "--map-root-user", "--net", "sh", "-c"),
        'ip link set lo up && cd "$1" && exec "$2" -W ignore -c "$3" "$4"',
        *("sh", str(Path(__file__).parents[4]), sys.executable, program, str(root)),
    )
    assert said == "True\n"
