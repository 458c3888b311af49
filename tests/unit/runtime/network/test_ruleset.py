"""From networks and endpoints to rulesets, and that nft takes what comes out."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Address, IPv6Network

import pytest

from runtime.network.config import NetworkConfig
from runtime.network.ports import Port
from runtime.network.ruleset import add_network, delete_table, publish, withdraw
from tests.unit.runtime.network.conftest import make_config

BOX = IPv4Address("10.9.0.7")
PORTS = (Port(80, 8080), Port(53, 5300, IPv4Address("127.0.0.1"), "udp"))

WHOLE = """\
table inet lab_0a1b2c
delete table inet lab_0a1b2c
table inet lab_0a1b2c {
  # Ports of all addresses of the host, and of one: "tcp . 8080 : 10.208.0.2 . 80".
  map published {
    type inet_proto . inet_service : ipv4_addr . inet_service
  }
  map published_at {
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local dnat ip to meta l4proto . th dport map @published
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
  }
  chain output {
    type nat hook output priority -100; policy accept;
    fib daddr type local dnat ip to meta l4proto . th dport map @published
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
  }
  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname "lab-0a1b2c" ip daddr 127.0.0.0/8 drop
    iifname "lab-0a1b2c" ip saddr 127.0.0.0/8 drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "lab-0a1b2c" ct status dnat ip saddr { 10.9.0.0/24, 127.0.0.0/8 } masquerade
    ip saddr 10.9.0.0/24 oifname != { "lab-0a1b2c", "lo" } masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "lab-0a1b2c" oifname "lab-0a1b2c" accept
    oifname "lab-0a1b2c" ct state established,related accept
    oifname "lab-0a1b2c" ct status dnat accept
    oifname "lab-0a1b2c" drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname { "lab-0a1b2c", "lo" } accept
    ip daddr 10.9.0.1 meta l4proto { tcp, udp } th dport 53 drop
  }
}
"""


def test_the_whole_of_it() -> None:
    assert add_network(make_config()) == WHOLE


def test_an_internal_network_has_no_nat_and_no_way_out() -> None:
    text = add_network(make_config(internal=True))
    assert "nat" not in text
    assert '    iifname "lab-0a1b2c" drop' in text
    assert '    oifname "lab-0a1b2c" drop' in text


def test_without_masquerade_only_answers_are_rewritten() -> None:
    text = add_network(make_config(masquerade=False))
    assert text.count("masquerade") == 1
    assert "ct status dnat" in text


def test_ipv6_goes_out_too() -> None:
    text = add_network(make_config(subnet6=IPv6Network("fd00:9::/64")))
    assert 'ip6 saddr fd00:9::/64 oifname != { "lab-0a1b2c", "lo" } masquerade' in text


def test_without_a_name_server_nothing_is_said_of_its_port() -> None:
    assert "chain input" not in add_network(make_config(dns=False))


def test_published_ports_are_elements() -> None:
    assert publish(make_config(), BOX, PORTS).splitlines() == [
        "add element inet lab_0a1b2c published { tcp . 8080 : 10.9.0.7 . 80 }",
        "add element inet lab_0a1b2c published_at { 127.0.0.1 . udp . 5300 : 10.9.0.7 . 53 }",
    ]
    assert withdraw(make_config(), BOX, PORTS).splitlines()[2:] == [
        "delete element inet lab_0a1b2c published { tcp . 8080 }",
        "delete element inet lab_0a1b2c published_at { 127.0.0.1 . udp . 5300 }",
    ]


@pytest.mark.parametrize(
    "config",
    [
        make_config(),
        make_config(internal=True),
        make_config(masquerade=False, dns=False),
        make_config(subnet6=IPv6Network("fd00:9::/64")),
    ],
    ids=["plain", "internal", "bare", "ipv6"],
)
def test_nft_understands_it(config: NetworkConfig) -> None:
    """nft --check asks the kernel, in a user and network namespace of its own: no root."""
    nft, unshare = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"), shutil.which("unshare")
    if nft is None or unshare is None:
        pytest.skip("needs the programs nft and unshare")
    text = add_network(config)
    if not config.internal:
        text += publish(config, BOX, PORTS) + withdraw(config, BOX, PORTS)
    text += delete_table(config.table)
    done = subprocess.run(
        [unshare, "--user", "--map-root-user", "--net", nft, "--check", "-f", "-"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
