"""Containers, the host and the outside: who reaches whom, and as whom."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from runtime.errors import (
    AddressExhausted,
    AddressInUse,
    KernelRefused,
    NameInUse,
    NetworkError,
    NetworkExists,
    NetworkInUse,
    NetworkNotFound,
    SpecError,
    SubnetInUse,
)
from runtime.network import Attachment, NetworkNamespace, NetworkStore
from runtime.network import forwarding as switches
from tests.integration.runtime.network.conftest import (
    HOST_OUTSIDE,
    OUTSIDE,
    Serve,
    ask,
    eventually,
    links,
    sh,
    unreachable,
)


def forwards(interface: str) -> bool:
    return Path(f"/proc/sys/net/ipv4/conf/{interface}/forwarding").read_text().strip() == "1"


def test_containers_and_host_reach_each_other(store: NetworkStore, serve: Serve) -> None:
    network = store.create("web", dns=False)
    a, b = network.connect(name="a"), network.connect(name="b")
    serve(b.namespace, "b")
    serve(None, "host", 8000)
    assert ask(a.namespace, str(b.address)) == f"b {a.address}"
    assert ask(None, str(b.address)) == f"b {network.gateway}"
    assert ask(a.namespace, str(network.gateway), 8000) == f"host {a.address}"


def test_what_an_endpoint_has(store: NetworkStore) -> None:
    network = store.create("web", subnet="10.9.0.0/24", mtu=1400, dns=False)
    with network.connect(name="A", address="10.9.0.77") as end:
        assert end.namespace is not None
        shown = end.namespace.run(lambda: sh("ip", "-o", "addr", "show"))
        assert "inet 10.9.0.77/24 scope global eth0" in shown
        assert "inet 127.0.0.1/8 scope host lo" in shown
        assert "fe80" not in shown
        link = end.namespace.run(lambda: sh("ip", "-o", "link", "show", "eth0"))
        assert "mtu 1400" in link and end.mac in link and "LOWER_UP" in link
        route = end.namespace.run(lambda: sh("ip", "route"))
        assert route.startswith("default via 10.9.0.1 dev eth0")
        assert (end.name, end.prefixlen, end.mac) == ("a", 24, "02:42:0a:09:00:4d")
    assert "mtu 1400" in sh("ip", "-o", "link", "show", network.bridge)
    assert "isolation-lab" in sh("ip", "link", "show", network.bridge)
    assert network.leases() == ()
    assert links() == {"lo", network.bridge}


def test_out_to_the_world_under_the_hosts_address(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    network = store.create("web", dns=False)
    assert forwards("up0") and forwards(network.bridge)
    assert not forwards("lo")
    end = network.connect(name="a")
    serve(outside, "world")
    serve(outside, "world", 53, "udp")
    assert ask(end.namespace, OUTSIDE) == f"world {HOST_OUTSIDE}"
    assert ask(end.namespace, OUTSIDE, 53, "udp") == f"world {HOST_OUTSIDE}"
    network.remove(force=True)
    assert not forwards("up0")


def test_the_world_cannot_come_in_even_by_a_route(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    network = store.create("web", dns=False)
    end = network.connect(name="a")
    serve(end.namespace, "a")
    outside.run(lambda: sh("ip", "route", "add", str(network.subnet), "via", HOST_OUTSIDE))
    assert unreachable(outside, str(end.address))
    sh("nft", "delete", "table", "inet", network.config.table)
    assert not unreachable(outside, str(end.address))  # so it was the table that kept it out


def test_without_masquerade_the_world_sees_the_container(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    network = store.create("web", dns=False, masquerade=False)
    end = network.connect(name="a")
    serve(outside, "world")
    outside.run(lambda: sh("ip", "route", "add", str(network.subnet), "via", HOST_OUTSIDE))
    assert ask(end.namespace, OUTSIDE) == f"world {end.address}"


def test_an_internal_network_has_no_way_out(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    network = store.create("web", dns=False, internal=True)
    a, b = network.connect(name="a"), network.connect(name="b")
    serve(outside, "world")
    serve(b.namespace, "b")
    assert ask(a.namespace, str(b.address)) == f"b {a.address}"
    assert ask(None, str(b.address)) == f"b {network.gateway}"
    assert unreachable(a.namespace, OUTSIDE)
    assert not forwards("up0")
    # Nor does one that makes itself a way, on a host that forwards everything.
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1")
    assert a.namespace is not None
    a.namespace.run(lambda: sh("ip", "route", "add", "default", "via", str(network.gateway)))
    assert unreachable(a.namespace, OUTSIDE)
    sh("sysctl", "-qw", "net.ipv4.ip_forward=0")
    with pytest.raises(SpecError, match="internal"):
        network.connect(name="c", ports=["80"])


def test_two_networks_are_apart(store: NetworkStore, serve: Serve) -> None:
    one, two = store.create("one", dns=False), store.create("two", dns=False)
    assert not one.subnet.overlaps(two.subnet)
    a, b = one.connect(name="a"), two.connect(name="b")
    serve(b.namespace, "b")
    assert unreachable(a.namespace, str(b.address))
    assert ask(None, str(b.address)) == f"b {two.gateway}"


def test_a_container_on_two_networks(
    store: NetworkStore, outside: NetworkNamespace, serve: Serve
) -> None:
    one, two = store.create("one", dns=False), store.create("two", dns=False)
    a, b = one.connect(name="a"), two.connect(name="b")
    serve(a.namespace, "a")
    serve(b.namespace, "b")
    serve(outside, "world")
    with NetworkNamespace.create() as both:
        first = one.connect(both, name="both")
        second = two.connect(both, name="both")  # while it runs, as it were
        assert (first.interface, second.interface) == ("eth0", "eth1")
        assert ask(both, str(a.address)) == f"a {first.address}"
        assert ask(both, str(b.address)) == f"b {second.address}"
        routes = both.run(lambda: sh("ip", "route"))
        assert routes.splitlines()[0].startswith(f"default via {one.gateway}")
        first.disconnect()
        assert unreachable(both, str(a.address))
        assert ask(both, OUTSIDE) == f"world {HOST_OUTSIDE}"  # the other way out
        again = one.connect(both, name="both")
        assert again.interface == "eth0"
        with pytest.raises(NetworkError, match="on network 'one' already"):
            one.connect(both, name="twice")
        assert [lease.name for lease in one.leases()] == ["a", "both"]
        again.disconnect()
        second.disconnect()


def test_prepared_ends_are_taken_and_then_made(store: NetworkStore, serve: Serve) -> None:
    network = store.create("web", dns=False)
    network.prepare(2)
    ready = {lease.address for lease in network.leases()}
    assert {lease.name for lease in network.leases()} == {None}
    a, b, c = (network.connect(name=name) for name in "abc")
    assert {a.address, b.address} == ready
    assert c.address not in ready
    serve(a.namespace, "a")
    assert ask(c.namespace, str(a.address)) == f"a {c.address}"
    network.prepare(1)
    c.release()


def test_ipv6_inside(store: NetworkStore) -> None:
    network = store.create("web", subnet6="fd00:9::/64", dns=False)
    a, b = network.connect(name="a"), network.connect(name="b")
    assert a.namespace is not None and b.namespace is not None
    assert str(a.address6) == "fd00:9::2"
    import socket

    server = b.namespace.run(lambda: socket.create_server(("::", 80), family=socket.AF_INET6))
    for namespace in (a.namespace, None):
        work = lambda: socket.create_connection((str(b.address6), 80), 20)  # noqa: E731
        (namespace.run(work) if namespace else work()).close()
    server.close()


def test_a_tap_is_a_port_of_the_bridge_and_goes_with_its_descriptor(store: NetworkStore) -> None:
    network = store.create("web", dns=False)
    tap = network.attach_tap("guest")
    assert f"master {network.bridge}" in sh("ip", "link", "show", tap.interface)
    assert tap.mac == f"02:42:{tap.address.packed.hex(':')}"
    assert tap.tap_fd > 2
    tap.close_tap()
    assert tap.interface not in links()
    with pytest.raises(NetworkError, match="no open tap"):
        _ = tap.tap_fd
    tap.disconnect()
    assert network.leases() == ()


def test_none_is_loopback_alone_and_host_is_nothing(store: NetworkStore) -> None:
    with Attachment("none", name="a") as net:
        assert net.namespace is not None
        shown = net.namespace.run(lambda: sh("ip", "-br", "addr"))
        assert shown.split()[:3] == ["lo", "UNKNOWN", "127.0.0.1/8"] and shown.count("\n") == 1
        assert net.resolv_conf == ""
        assert net.hosts.splitlines()[0] == "127.0.0.1\tlocalhost"
    with Attachment("host", name="a") as net:
        assert net.namespace is None


def test_an_attachment_joins_by_path(store: NetworkStore, serve: Serve) -> None:
    one, two = store.create("one", dns=False), store.create("two", dns=False)
    with Attachment([one, two], name="box", address=str(one.subnet[9])) as net:
        assert net.namespace is not None
        path = str(net.namespace.path)
        shown = sh("nsenter", f"--net={path}", "ip", "-o", "-4", "addr")
        assert str(one.subnet[9]) in shown and "eth1" in shown
        assert f"{one.subnet[9]}\tbox" in net.hosts
        net.disconnect(one)
        assert str(one.subnet[9]) not in net.hosts
        assert [end.network.name for end in net.endpoints] == ["two"]
        serve(net.namespace, "box")
        assert ask(None, str(net.endpoints[0].address)) == f"box {two.gateway}"
        net.connect(one)
        with pytest.raises(NetworkError, match="on network 'one' already"):
            one.connect(net.namespace, name="twice")
        assert (store.root / "members" / net.namespace.id / "one").is_symlink()
    assert one.leases() == two.leases() == ()


def test_a_namespace_bound_at_a_path(store: NetworkStore, root: Path) -> None:
    network = store.create("web", dns=False)
    namespace = store.namespace("box")
    assert namespace.path.is_relative_to(root / "namespaces")
    end = network.connect(namespace, name="box")
    namespace.close()  # the mount holds it
    shown = sh("nsenter", f"--net={namespace.path}", "ip", "-o", "addr")
    assert str(end.address) in shown
    with NetworkNamespace.open(namespace.path) as again:
        assert again.id == namespace.id
    with pytest.raises(NetworkError, match="there already"):
        store.namespace("box")
    namespace.remove()
    assert not list((root / "namespaces").glob("*/box"))
    end.release()
    eventually(lambda: links() == {"lo", network.bridge})


def test_what_cannot_be_opened_as_a_namespace(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="cannot open"):
        NetworkNamespace.open(tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(NetworkError, match="cannot be joined"):
        NetworkNamespace.open(tmp_path / "file")
    with pytest.raises(NetworkError, match="there already"):
        NetworkNamespace.create(tmp_path / "file")


def test_errors_are_typed_and_leave_nothing(
    store: NetworkStore, outside: NetworkNamespace, root: Path
) -> None:
    with pytest.raises(SubnetInUse, match=r"overlaps the host's route 198\.51\.100\.0/24 dev up0"):
        store.create("web", subnet="198.51.100.128/25")
    network = store.create("web", subnet="10.9.0.0/30", dns=False)
    with pytest.raises(SubnetInUse, match=r"10\.9\.0\.0/30"):
        store.create("two", subnet="10.0.0.0/8")
    with pytest.raises(NetworkExists, match="'web'"):
        store.create("web")
    with pytest.raises(SpecError, match="subnet: "):
        store.create("two", subnet="10.9.0.1/24")
    with pytest.raises(NetworkNotFound, match=r"'no'.*there: web"):
        store.open("no")
    only = network.connect(name="a")
    before = links()
    with pytest.raises(AddressExhausted, match="all 1 addresses"):
        network.connect(name="b")
    with pytest.raises(AddressInUse, match="taken by a"):
        network.connect(name="b", address="10.9.0.2")
    with pytest.raises(SpecError, match="address"):
        network.connect(name="b", address="x")
    with pytest.raises(NetworkInUse, match=r"a \(10\.9\.0\.2\)"):
        network.remove()
    assert links() == before and store.names() == ("web",)
    only.disconnect()
    with NetworkNamespace.create() as namespace:
        namespace.run(lambda: sh("ip", "link", "add", "eth0", "type", "bridge"))
        with pytest.raises(KernelRefused, match=r"add the veth pair .* \(EEXIST\)"):
            network.connect(namespace, name="a", interface="eth0")
    assert network.leases() == () and list((root / "members").iterdir()) == []
    network.remove()
    assert store.names() == ()


def test_a_name_is_taken_once(store: NetworkStore) -> None:
    network = store.create("web", dns=False)
    network.prepare(1)
    network.connect(name="a")
    with pytest.raises(NameInUse):
        network.connect(name="a")
    network.prepare(1)
    with pytest.raises(NameInUse):
        network.connect(name="a")
    assert [lease.name for lease in network.leases()] == ["a"]


def test_two_processes_connect_at_once(store: NetworkStore, root: Path) -> None:
    network = store.create("web", dns=False)
    program = (
        "import sys; from pathlib import Path; from runtime.network import NetworkStore\n"
        "with NetworkStore(Path(sys.argv[1])) as store:\n"
        "    network = store.open('web')\n"
        "    for n in range(20):\n"
        "        print(network.connect(name=f'{sys.argv[2]}{n}').address, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    here = Path(__file__).parents[4]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(root), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=here,
        )
        for name in "ab"
    ]
    said = []
    for each in both:
        assert each.stdout is not None
        said += [each.stdout.readline().strip() for _ in range(20)]
    assert len(set(said)) == 40
    assert sorted(map(IPv4Address, said)) == [lease.address for lease in network.leases()]
    for each in both:
        each.communicate()
    assert [each.returncode for each in both] == [0, 0]
    assert network.leases() == ()  # they took theirs along


def test_switches_of_the_host_are_given_back_by_the_last(
    store: NetworkStore, outside: NetworkNamespace, root: Path, tmp_path: Path
) -> None:
    one = store.create("one", dns=False)
    with NetworkStore(tmp_path / "other") as other:
        two = other.create("two", dns=False)
        assert switches.borrowed(two.directory / "network.json") == ("up0",)
        one.remove()
        assert forwards("up0")  # the other store needs it
    assert not forwards("up0")


def test_a_switch_that_somebody_turned_on_meanwhile_stays(
    store: NetworkStore, outside: NetworkNamespace
) -> None:
    network = store.create("web", dns=False)
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1")
    network.remove()
    assert forwards("up0")
    other = store.create("other", dns=False)
    assert switches.borrowed(other.directory / "network.json") == ()
    other.remove()
    sh("sysctl", "-qw", "net.ipv4.ip_forward=0")
