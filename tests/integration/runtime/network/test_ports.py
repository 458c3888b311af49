"""Published ports: from the host, from localhost, from outside, from the network itself."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from runtime.errors import KernelRefused, NetworkError, PortInUse
from runtime.network import NetworkNamespace, NetworkStore, Port, nftables, obstacles
from tests.integration.runtime.network.conftest import (
    DEADLINE,
    HOST_OUTSIDE,
    OUTSIDE,
    Serve,
    ask,
    need,
    sh,
    unreachable,
)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("nf_call", ["0", "1"], ids=["bridged", "bridge-nf-call-iptables"])
def test_a_published_port_is_reached_from_everywhere(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve, kind: str, nf_call: str
) -> None:
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists():
        switch.write_text(nf_call)
    elif nf_call == "1":
        pytest.skip("needs br_netfilter in the kernel")
    web, other = store.create("web", dns=False), store.create("other", dns=False)
    box = web.connect(name="box", ports=[f"8080:80/{kind}"])
    near, far = web.connect(name="near"), other.connect(name="far")
    assert box.ports == (Port(80, 8080, protocol=kind),)
    serve(box.namespace, "box", 80, kind)
    assert ask(outside, HOST_OUTSIDE, 8080, kind) == f"box {OUTSIDE}"
    assert ask(None, HOST_OUTSIDE, 8080, kind) == f"box {HOST_OUTSIDE}"
    assert ask(None, "127.0.0.1", 8080, kind) == f"box {web.gateway}"
    # Hairpin: from the network itself, and from the very container, by the host's address.
    assert ask(near.namespace, str(web.gateway), 8080, kind) == f"box {web.gateway}"
    assert ask(box.namespace, HOST_OUTSIDE, 8080, kind) == f"box {web.gateway}"
    assert ask(far.namespace, HOST_OUTSIDE, 8080, kind).startswith("box ")
    box.disconnect()
    assert unreachable(outside, HOST_OUTSIDE, 8080)


def test_a_udp_flow_follows_the_port(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    """A client that goes on sending from one port, before, between and after."""
    network = store.create("web", dns=False)
    network.connect(name="other", ports=["9000:80/udp"])  # so that flows are tracked
    with outside.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(DEADLINE)
        client.connect((HOST_OUTSIDE, 8080))
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        for name in ("first", "second"):
            box = network.connect(name=name, ports=["8080:80/udp"])
            service = serve(box.namespace, name, 80, "udp")
            client.send(b"?")
            assert client.recv(100).decode() == f"{name} {OUTSIDE}"
            service.close()
            box.disconnect()


def test_a_port_of_one_address_is_of_no_other(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    network = store.create("web", dns=False)
    box = network.connect(name="box", ports=["127.0.0.1:8080:80", f"{HOST_OUTSIDE}:8081:80"])
    serve(box.namespace, "box")
    assert ask(None, "127.0.0.1", 8080) == f"box {network.gateway}"
    assert unreachable(outside, HOST_OUTSIDE, 8080)
    assert unreachable(None, HOST_OUTSIDE, 8080)
    assert ask(outside, HOST_OUTSIDE, 8081) == f"box {OUTSIDE}"
    assert unreachable(None, "127.0.0.1", 8081)


def test_any_port_of_the_host(store: NetworkStore, serve: Serve) -> None:
    network = store.create("web", dns=False)
    box = network.connect(name="box", ports=["80", "127.0.0.1::80"])
    serve(box.namespace, "box")
    for port in box.ports:
        assert port.host > 0
        assert ask(None, "127.0.0.1", port.host) == f"box {network.gateway}"


def test_what_comes_out_of_a_container_cannot_use_the_hosts_loopback(
    store: NetworkStore, serve: Serve
) -> None:
    """CVE-2020-8558: route_localnet would let a neighbour in to what listens on 127.0.0.1."""
    network = store.create("web", dns=False)
    box = network.connect(name="box")
    assert box.namespace is not None
    serve(None, "host", 8000)
    box.namespace.run(lambda: sh("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"))
    box.namespace.run(lambda: sh("ip", "addr", "del", "127.0.0.1/8", "dev", "lo"))
    box.namespace.run(
        lambda: sh("ip", "route", "add", "127.0.0.1", "via", str(network.gateway), "dev", "eth0")
    )
    assert unreachable(box.namespace, "127.0.0.1", 8000)
    sh("nft", "flush", "chain", "inet", network.config.table, "guard")
    assert ask(box.namespace, "127.0.0.1", 8000) == f"host {box.address}"  # so it was the guard


def test_a_port_that_is_taken(store: NetworkStore, root: Path, serve: Serve) -> None:
    network = store.create("web", dns=False)
    listener = serve(None, "host", 8000)
    with pytest.raises(PortInUse, match=r"0\.0\.0\.0:8000/tcp: a process of the host .*ss -lnp"):
        network.connect(name="a", ports=[f"{listener.port}:80"])
    box = network.connect(name="box", ports=["8080:80", "8080:80/udp"])
    for wanted in ("8080:80", "127.0.0.1:8080:80", "8080:80/udp"):
        with pytest.raises(PortInUse, match=rf"the endpoint web/{box.address} has it"):
            network.connect(name="a", ports=["9090:90", wanted])
    with pytest.raises(NetworkError, match=r"192\.0\.2\.99 is not of this host"):
        network.connect(name="a", ports=["192.0.2.99:80:80"])
    assert [lease.name for lease in network.leases()] == ["box"]
    assert sorted(path.name for path in (root / "ports").iterdir()) == [
        "0.0.0.0:8080-tcp",
        "0.0.0.0:8080-udp",
    ]
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        # The port is held against the rest of the host, too.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("0.0.0.0", 8080))
        other.listen()
    box.disconnect()
    network.connect(name="a", ports=["9090:90", "8080:80"]).disconnect()


def test_a_transaction_that_nft_refuses_leaves_nothing(store: NetworkStore, root: Path) -> None:
    network = store.create("web", dns=False)
    sh("nft", "flush", "chain", "inet", network.config.table, "output")
    sh("nft", "flush", "chain", "inet", network.config.table, "prerouting")
    sh("nft", "delete", "map", "inet", network.config.table, "published")
    with pytest.raises(KernelRefused, match=r"could not publish 0\.0\.0\.0:8080:80/tcp with nft"):
        network.connect(name="a", ports=["8080:80"])
    assert network.leases() == ()
    assert list((root / "ports").iterdir()) == []


def test_a_prepared_end_can_publish(store: NetworkStore, serve: Serve) -> None:
    network = store.create("web", dns=False)
    network.prepare(1)
    box = network.connect(name="box", ports=[Port(80, 8080, IPv4Address("127.0.0.1"))])
    serve(box.namespace, "box")
    assert ask(None, "127.0.0.1", 8080) == f"box {network.gateway}"


def test_a_firewall_that_drops_is_named_and_dockers_is_passed_if_asked(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    need("iptables")
    for rule in ("-N DOCKER-USER", "-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"):
        sh("iptables", "--wait", *rule.split())
    sh("iptables", "--wait", "-P", "INPUT", "DROP")
    said = " ".join(obstacles())
    assert "ip filter FORWARD drops" in said and "docker_user=True" in said
    assert "ip filter INPUT drops" in said
    sh("iptables", "--wait", "-P", "INPUT", "ACCEPT")
    serve(outside, "world")
    blocked, passed = store.create("blocked", dns=False), store.create("passed", docker_user=True)
    assert unreachable(blocked.connect(name="a").namespace, OUTSIDE)
    box = passed.connect(name="a", ports=["8080:80"])
    assert ask(box.namespace, OUTSIDE) == f"world {HOST_OUTSIDE}"
    serve(box.namespace, "box")
    assert ask(outside, HOST_OUTSIDE, 8080) == f"box {OUTSIDE}"
    assert sh("iptables", "-S", "DOCKER-USER").count(passed.config.table) == 2
    passed.remove(force=True)
    assert passed.config.table not in sh("iptables", "-S", "DOCKER-USER")
    blocked.remove(force=True)
    for chain in nftables.chains():
        assert not chain["table"].startswith("lab_")
    sh("nft", "flush", "ruleset")


def test_docker_user_without_docker(store: NetworkStore) -> None:
    need("iptables")
    with pytest.raises(KernelRefused, match="needs a running Docker Engine"):
        store.create("web", docker_user=True, dns=False)
    assert store.names() == ()
    sh("nft", "flush", "ruleset")  # iptables-nft made its empty tables on the way
