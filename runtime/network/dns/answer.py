"""From a question to an answer: a pure function of the message and the zone.

The wire format is dnslib's. RFC 1035 (messages), RFC 3596 (AAAA), RFC 6891 (EDNS).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from dnslib import (  # type: ignore[import-untyped]
    AAAA,
    EDNS0,
    PTR,
    QTYPE,
    RCODE,
    RR,
    A,
    DNSError,
    DNSRecord,
)

from runtime.network.dns.zone import Zone

__all__ = ["answer", "refusal"]

_TTL = 0
"""Seconds that an answer may be kept: containers come and go."""
_PLAIN_SIZE, _OUR_SIZE = 512, 1232
"""Bytes of a UDP answer: RFC 1035, and what fits through any path (DNS flag day 2020)."""
_ARPA4 = re.compile(r"(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa")
_ARPA6 = re.compile(r"((?:[0-9a-f]\.){32})ip6\.arpa")


def answer(data: bytes, client: IPv4Address, zone: Zone, *, udp: bool) -> bytes | None:
    """The answer to a message, ready to send, or None if the question is for others to answer.

    Not a query, not understood or not for this client: an answer with that code."""
    try:
        request = DNSRecord.parse(data)
        question = request.get_q()
        name = str(question.qname).rstrip(".").lower()
    except (DNSError, IndexError, ValueError):
        return refusal(data, RCODE.FORMERR)
    if request.header.qr or request.header.opcode:
        return refusal(data, RCODE.NOTIMP)
    if not zone.serves(client):
        return refusal(data, RCODE.REFUSED)
    reply = request.reply(ra=1, aa=1)
    reply.header.ad = 0  # "authentic data" is DNSSEC's word, and was the asker's
    if not _fill(reply, name, QTYPE.get(question.qtype), client, zone):
        return None
    return _pack(request, reply) if udp else bytes(reply.pack())


def refusal(data: bytes, code: int) -> bytes:
    """An answer without content to whatever that was, with its id and its question if it is whole.
    Empty if there is not even a header."""
    try:
        reply = DNSRecord.parse(data).reply(ra=1, aa=0)
        reply.header.rcode = code
        return bytes(reply.pack())
    except (DNSError, IndexError, ValueError):
        if len(data) < 12:
            return b""
        return data[:2] + bytes([0x80 | data[2] & 0x79, 0x80 | code]) + bytes(8)


def _fill(reply: DNSRecord, name: str, kind: str, client: IPv4Address, zone: Zone) -> bool:
    """Put the zone's records into the reply; False if it has nothing to say about that name."""
    address = _reversed(name)
    if address is not None:
        owner = zone.reverse(address, client)
        if owner is None:
            return False
        if not owner:
            reply.header.rcode = RCODE.NXDOMAIN
        elif kind in {"PTR", "ANY"}:
            reply.add_answer(RR(reply.q.qname, QTYPE.PTR, rdata=PTR(owner), ttl=_TTL))
        return True
    found = zone.lookup(name, client)
    if found is None:
        return False
    # A name that has no address of the kind asked for exists all the same: no records, and not
    # NXDOMAIN, after which a resolver would not ask for the other kind.
    if kind in {"A", "ANY"}:
        for four in found[0]:
            reply.add_answer(RR(reply.q.qname, QTYPE.A, rdata=A(str(four)), ttl=_TTL))
    if kind in {"AAAA", "ANY"}:
        for six in found[1]:
            reply.add_answer(RR(reply.q.qname, QTYPE.AAAA, rdata=AAAA(str(six)), ttl=_TTL))
    return True


def _reversed(name: str) -> IPv4Address | IPv6Address | None:
    """The address that a name below in-addr.arpa or ip6.arpa stands for."""
    try:
        if match := _ARPA4.fullmatch(name):
            return IPv4Address(".".join(reversed(match.groups())))
        if match := _ARPA6.fullmatch(name):
            digits = match[1].replace(".", "")[::-1]
            return IPv6Address(int(digits, 16))
    except ValueError:
        pass  # such as 300.1.1.1: a name like any other
    return None


def _pack(request: DNSRecord, reply: DNSRecord) -> bytes:
    """For UDP: no longer than the asker takes; cut, and marked so, if it is."""
    size = _PLAIN_SIZE
    for extra in request.ar:
        if extra.rtype == QTYPE.OPT:
            size = min(max(_PLAIN_SIZE, extra.edns_len), _OUR_SIZE)
            reply.add_ar(EDNS0(udp_len=_OUR_SIZE))
    packed = bytes(reply.pack())
    return packed if len(packed) <= size else bytes(reply.truncate().pack())
