"""Answers of the name server: a function of the message, the asker and the store's files."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from runtime.network.dns.answer import answer, refusal
from runtime.network.dns.zone import Zone
from runtime.network.leases import Leases
from tests.unit.runtime.network.conftest import lease, make_config, make_leases

GATEWAY = IPv4Address("10.9.0.1")


@pytest.fixture
def web(tmp_path: Path) -> Leases:
    return make_leases(tmp_path, make_config(subnet6=IPv6Network("fd00:9::/64")))


@pytest.fixture
def zone(tmp_path: Path, web: Leases) -> Zone:
    web.take(lease(name="api", aliases=("all",)))  # 10.9.0.2
    web.take(lease(name="db", aliases=("all",)))  # 10.9.0.3
    return Zone(tmp_path, "web")


def ask(zone: Zone, name: str, kind: str = "A", client: IPv4Address = GATEWAY) -> DNSRecord | None:
    data = answer(DNSRecord.question(name, kind).pack(), client, zone, udp=True)
    return None if data is None else DNSRecord.parse(data)


def texts(reply: DNSRecord | None) -> list[str]:
    assert reply is not None
    return [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize("name", ["api", "API", "api.web", "Api.Web."])
def test_names_in_any_case_and_with_the_network(zone: Zone, name: str) -> None:
    reply = ask(zone, name)
    assert texts(reply) == ["10.9.0.2"]
    assert reply is not None and reply.rr[0].ttl == 0 and reply.header.ra and reply.header.aa


def test_an_alias_of_several(zone: Zone) -> None:
    assert texts(ask(zone, "all")) == ["10.9.0.2", "10.9.0.3"]


def test_ipv6(zone: Zone) -> None:
    assert texts(ask(zone, "db", "AAAA")) == ["fd00:9::3"]


def test_a_name_without_that_kind_of_record_exists(zone: Zone) -> None:
    reply = ask(zone, "api", "MX")
    assert texts(reply) == [] and reply is not None and reply.header.rcode == RCODE.NOERROR


def test_a_network_without_ipv6_has_no_aaaa(tmp_path: Path) -> None:
    make_leases(tmp_path, make_config(name="four")).take(lease(name="api"))
    reply = ask(Zone(tmp_path, "four"), "api", "AAAA")
    assert texts(reply) == [] and reply is not None and reply.header.rcode == RCODE.NOERROR


def test_reverse(zone: Zone) -> None:
    assert texts(ask(zone, "2.0.9.10.in-addr.arpa", "PTR")) == ["api.web."]
    six = f"3.{'0.' * 23}9.0.0.0.0.0.d.f.ip6.arpa"
    assert texts(ask(zone, six, "PTR")) == ["db.web."]


def test_an_address_of_nobody_is_not_asked_outside(zone: Zone) -> None:
    reply = ask(zone, "99.0.9.10.in-addr.arpa", "PTR")
    assert reply is not None and reply.header.rcode == RCODE.NXDOMAIN


@pytest.mark.parametrize(
    "name", ["example.com", "nobody", "8.8.8.8.in-addr.arpa", "300.1.1.1.in-addr.arpa", "api.other"]
)
def test_the_rest_is_for_others(zone: Zone, name: str) -> None:
    assert ask(zone, name, "PTR" if "arpa" in name else "A") is None


def test_a_name_that_is_gone_is_gone_at_once(zone: Zone, web: Leases) -> None:
    web.release(IPv4Address("10.9.0.2"))
    assert ask(zone, "api") is None


def test_a_stranger_is_refused(zone: Zone) -> None:
    reply = ask(zone, "api", client=IPv4Address("192.0.2.9"))
    assert reply is not None and reply.header.rcode == RCODE.REFUSED and not reply.rr


def test_a_container_on_two_networks_is_told_of_both_and_others_are_not(
    tmp_path: Path, zone: Zone, web: Leases
) -> None:
    other = make_config(
        name="back", subnet=IPv4Network("10.8.0.0/24"), gateway=IPv4Address("10.8.0.1")
    )
    back = make_leases(tmp_path, other)
    back.take(lease(name="store"))
    both = web.take(lease(name="both", namespace="4-77"))
    here = back.take(lease(name="both", namespace="4-77"))
    members = tmp_path / "members" / "4-77"
    members.mkdir(parents=True)
    for network, address in (("web", both.address), ("back", here.address)):
        (members / network).symlink_to(str(address))
    assert texts(ask(zone, "store", client=both.address)) == ["10.8.0.2"]
    assert texts(ask(zone, "2.0.8.10.in-addr.arpa", "PTR", client=both.address)) == ["store.back."]
    assert ask(zone, "store", client=IPv4Address("10.9.0.2")) is None


def test_an_answer_too_long_for_udp_is_cut_and_marked(zone: Zone, web: Leases) -> None:
    for number in range(60):
        web.take(lease(name=f"n{number}", aliases=("many",)))
    query = DNSRecord.question("many").pack()
    short = DNSRecord.parse(answer(query, GATEWAY, zone, udp=True))
    assert short.header.tc and len(answer(query, GATEWAY, zone, udp=True) or b"") <= 512
    whole = DNSRecord.parse(answer(query, GATEWAY, zone, udp=False))
    assert len(whole.rr) == 60 and not whole.header.tc
    edns = DNSRecord.question("many")
    edns.add_ar(EDNS0(udp_len=4096))
    more = DNSRecord.parse(answer(edns.pack(), GATEWAY, zone, udp=True))
    assert len(more.rr) == 60 and [extra.rtype for extra in more.ar] == [QTYPE.OPT]


@pytest.mark.parametrize("data", [b"", b"x", b"\x12\x34" + bytes(9), b"\x12\x34" + b"\xff" * 30])
def test_what_is_no_message_gets_a_format_error_or_nothing(zone: Zone, data: bytes) -> None:
    reply = answer(data, GATEWAY, zone, udp=True)
    assert reply is not None
    if len(data) < 12:
        assert reply == b""
    else:
        assert reply[:2] == data[:2] and reply[2] & 0x80


def test_an_answer_is_not_answered_as_if_it_were_a_question(zone: Zone) -> None:
    echo = DNSRecord.question("api").reply().pack()
    reply = DNSRecord.parse(answer(echo, GATEWAY, zone, udp=True))
    assert reply.header.rcode == RCODE.NOTIMP and not reply.rr


@given(data=st.binary(max_size=80))
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = tmp_path_factory.mktemp("store")
    make_leases(root, make_config())
    zone = Zone(root, "web")
    for udp in (True, False):
        reply = answer(data, GATEWAY, zone, udp=udp)
        assert reply is None or reply == b"" or reply[:2] == data[:2]
    assert refusal(data, RCODE.SERVFAIL)[:2] in (b"", data[:2])
