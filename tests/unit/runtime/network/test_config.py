"""Names, numbers, subnets, ports, files: all that follows without asking the kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import NetworkError, SpecError, SubnetInUse
from runtime.network import files
from runtime.network.config import NetworkConfig
from runtime.network.names import (
    bridge_name,
    check_host_name,
    check_network_name,
    group_number,
    mac_address,
    new_id,
    port_name,
    table_name,
)
from runtime.network.ports import Port, parse_ports
from runtime.network.subnets import check_subnet, choose_subnet
from tests.unit.runtime.network.conftest import make_config

ANY = IPv4Address("0.0.0.0")


def test_names_carry_the_id_and_fit_the_kernel() -> None:
    number = new_id()
    assert bridge_name(number) == f"lab-{number}"
    assert table_name(number) == f"lab_{number}"
    assert group_number(number) == 0x4C000000 + int(number, 16) < 2**31
    ports = {port_name(number) for _ in range(100)}
    assert len(ports) == 100
    assert all(name.startswith(f"lab{number}") and len(name) == 15 for name in ports)


def test_a_mac_address_is_local_unicast_and_holds_the_address() -> None:
    assert mac_address(IPv4Address("10.208.1.255")) == "02:42:0a:d0:01:ff"


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "a b", "a" * 64, "none", "host", "ä"])
def test_network_names_that_cannot_be(name: str) -> None:
    with pytest.raises(SpecError):
        check_network_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", ".a", "a/b", "a" * 64, "a.b " * 70])
def test_host_names_that_cannot_be(name: str) -> None:
    with pytest.raises(SpecError, match="host name"):
        check_host_name(name)


def test_host_names_are_in_lower_case() -> None:
    assert check_host_name("My_Box-1.Example") == "my_box-1.example"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subnet": IPv4Network("10.9.0.0/31")}, "/30 at the least"),
        ({"gateway": IPv4Address("10.8.0.1")}, "no host address"),
        ({"gateway": IPv4Address("10.9.0.0")}, "no host address"),
        ({"gateway": IPv4Address("10.9.0.255")}, "no host address"),
        ({"subnet6": IPv6Network("fd00::/121")}, "no smaller"),
        ({"mtu": 1000}, "1280"),
        ({"name": "../x"}, "network name"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make_config(**changes)


def test_a_configuration_comes_back_as_it_was() -> None:
    config = make_config(subnet6=IPv6Network("fd00:9::/64"), internal=True, owner="/o")
    assert NetworkConfig.from_json(config.to_json()) == config
    assert config.gateway6 == IPv6Address("fd00:9::1")
    assert config.address6(IPv4Address("10.9.0.200")) == IPv6Address("fd00:9::c8")
    assert make_config().gateway6 is None


def test_a_subnet_that_overlaps_is_refused_by_name() -> None:
    taken = [(IPv4Network("10.0.0.0/8"), "the host's route 10.0.0.0/8 dev vpn0")]
    with pytest.raises(SubnetInUse, match=r"10\.9\.0\.0/24 overlaps .* dev vpn0; choose"):
        check_subnet(IPv4Network("10.9.0.0/24"), taken)
    check_subnet(IPv4Network("172.16.0.0/24"), taken)


def test_default_routes_overlap_nothing() -> None:
    everything = [(IPv4Network(text), "x") for text in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")]
    check_subnet(IPv4Network("10.9.0.0/24"), everything)
    assert choose_subnet(everything) == IPv4Network("10.208.0.0/20")


def test_a_chosen_subnet_avoids_what_is_taken() -> None:
    taken = [(IPv4Network("10.208.0.0/20"), "a"), (IPv4Network("10.208.16.128/25"), "b")]
    assert choose_subnet(taken) == IPv4Network("10.208.32.0/20")
    assert choose_subnet([(IPv4Network("10.0.0.0/8"), "x")]) == IPv4Network("172.16.0.0/20")


def test_when_all_is_taken_that_is_said() -> None:
    taken = [(IPv4Network(t), "x") for t in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
    with pytest.raises(NetworkError, match="no private subnet is free"):
        choose_subnet(taken)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", (Port(80),)),
        ("8080:80", (Port(80, 8080),)),
        (":80", (Port(80),)),
        ("127.0.0.1::80", (Port(80, 0, IPv4Address("127.0.0.1")),)),
        ("192.0.2.7:53:5353/udp", (Port(5353, 53, IPv4Address("192.0.2.7"), "udp"),)),
        ("9000-9001:80-81", (Port(80, 9000), Port(81, 9001))),
        ("80-81/udp", (Port(80, 0, ANY, "udp"), Port(81, 0, ANY, "udp"))),
    ],
)
def test_ports_in_dockers_form(text: str, ports: tuple[Port, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "80/sctp",
        "0",
        "70000",
        "1:2:3:4",
        "80:",
        "9-8:1-2",
        "1-3:1-2",
        "300.1.1.1:1:1",
        "-1",
    ],
)
def test_ports_that_cannot_be(text: str) -> None:
    with pytest.raises(SpecError, match="port"):
        parse_ports(text)


@given(st.text(alphabet="0123456789.:-/tcpud", max_size=24))
def test_no_text_of_a_port_breaks_the_reader(text: str) -> None:
    try:
        ports = parse_ports(text)
    except SpecError:
        return
    assert ports and all(Port.from_record(port.record()) == port for port in ports)


def test_hosts() -> None:
    text = files.hosts(
        "box", [IPv4Address("10.9.0.2"), IPv6Address("fd00::2")], {"db": "192.0.2.9"}
    )
    assert text.splitlines() == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "10.9.0.2\tbox",
        "fd00::2\tbox",
        "192.0.2.9\tdb",
    ]


def test_resolv_conf() -> None:
    text = files.resolv_conf(
        ["10.9.0.1", "10.8.0.1", "1.1.1.1", "2.2.2.2"], search=["a", "b"], options=["ndots:0"]
    )
    assert text.splitlines() == [
        "nameserver 10.9.0.1",
        "nameserver 10.8.0.1",
        "nameserver 1.1.1.1",
        "search a b",
        "options ndots:0",
    ]
    assert files.resolv_conf([]) == ""


def test_the_hosts_name_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    monkeypatch.setattr(files, "_RESOLV_CONF", stub)
    monkeypatch.setattr(files, "_RESOLVED", real)
    assert files.host_nameservers(loopback=True) == ()
    stub.write_text(
        "# comment\nnameserver 127.0.0.53\nnameserver\nnameserver nonsense\noptions x\n"
    )
    real.write_text("nameserver 192.0.2.53\nnameserver fe80::1%eth0\n")
    assert files.host_nameservers(loopback=True) == ("127.0.0.53",)
    assert files.host_nameservers(loopback=False) == ("192.0.2.53", "fe80::1")
    stub.write_text("nameserver 127.0.0.1\nnameserver 192.0.2.1\n")
    assert files.host_nameservers(loopback=False) == ("192.0.2.1",)
