# SPDX-License-Identifier: GPL-2.0-or-later
"""Flows made for real, parsed from their events and their dump, flushed, restored, and used again."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from tandem.conntrack.bulk import CHANGE
from tandem.conntrack.encode import Builder
from tandem.conntrack.expectation import master_key
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import EXPECTED, NEW, T_LABELS, T_SCTP, T_SEQ_ADJ_ORIG, T_ZONE, tail
from tandem.replication.cache import Cache

from .conntrack import Conntrack, NatLab, crc32c, iterate, ping, talks

SNAT4 = "oif wan snat to 192.0.2.10;"
SNAT6 = "oif wan snat to fd00:b::10;"
SNAT4_PORT = "oif wan meta l4proto { tcp, udp } snat to 192.0.2.10:40000-40100;"
SNAT6_PORT = "oif wan meta l4proto { tcp, udp } snat to [fd00:b::10]:40000-40100;"
DNAT4 = "iif lan ip daddr 192.0.2.77 dnat to 192.0.2.2;"
DNAT4_PORT = "iif lan tcp dport 8080 dnat to 192.0.2.2:80; iif lan udp dport 8080 dnat to 192.0.2.2:80;"
DNAT6_PORT = "iif lan tcp dport 8080 dnat to [fd00:b::2]:80; iif lan udp dport 8080 dnat to [fd00:b::2]:80;"

V4, V6 = "192.0.2.2", "fd00:b::2"
# name: (rules, destination)
TCP_CASES = {
    "plain": ({"pre": "", "post": "ip daddr 1.1.1.1 accept;"}, (V4, 80)),
    "snat": ({"post": SNAT4}, (V4, 80)),
    "snat port": ({"post": SNAT4_PORT}, (V4, 80)),
    "masquerade": ({"post": "oif wan masquerade;"}, (V4, 80)),
    "dnat": ({"pre": DNAT4}, ("192.0.2.77", 80)),
    "dnat port": ({"pre": DNAT4_PORT}, ("192.0.2.55", 8080)),
    "both": ({"pre": DNAT4_PORT, "post": SNAT4}, ("192.0.2.55", 8080)),
    "both ports": ({"pre": DNAT4_PORT, "post": SNAT4_PORT}, ("192.0.2.55", 8080)),
    "redirect port only": ({"pre": DNAT4_PORT}, (V4, 8080)),
    "v6 plain": ({"post6": "ip6 daddr ::2 accept;"}, (V6, 80)),
    "v6 snat": ({"post6": SNAT6}, (V6, 80)),
    "v6 snat port": ({"post6": SNAT6_PORT}, (V6, 80)),
    "v6 dnat port": ({"pre6": DNAT6_PORT}, ("fd00:b::55", 8080)),
    "v6 both ports": ({"pre6": DNAT6_PORT, "post6": SNAT6_PORT}, ("fd00:b::55", 8080)),
}

MORE = """
table inet more {
    chain pre {
        type filter hook prerouting priority -300;
        udp dport 1001 ct zone set 7
        udp dport 1002 ct original zone set 8
    }
    chain forward {
        type filter hook forward priority 0;
        udp dport 1000-1002 ct mark set 0x12345678
        udp dport 1003 ct label set 5
    }
}
"""
FTP_HELPER = """
table inet help {
    ct helper ftp { type "ftp" protocol tcp; }
    chain forward { type filter hook forward priority 0; tcp dport 21 ct helper set "ftp"; }
}
"""

SIP_HELPER = """
table inet help {
    ct helper sip { type "sip" protocol udp; }
    chain forward { type filter hook forward priority 0; udp dport 5060 ct helper set "sip"; }
}
"""
SDP = """v=0\r
o=alice 1 1 IN IP4 10.0.0.2\r
s=-\r
c=IN IP4 10.0.0.2\r
t=0 0\r
m=audio 5004 RTP/AVP 0\r
"""
INVITE = f"""INVITE sip:bob@192.0.2.2 SIP/2.0\r
Via: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK776asdhds\r
From: <sip:alice@10.0.0.2>;tag=1928301774\r
To: <sip:bob@192.0.2.2>\r
Call-ID: a84b4c76e66710@10.0.0.2\r
CSeq: 1 INVITE\r
Contact: <sip:alice@10.0.0.2:5060>\r
Content-Type: application/sdp\r
Content-Length: {len(SDP)}\r
\r
{SDP}"""


@pytest.fixture
def lab() -> Iterator[NatLab]:
    with NatLab() as lab:
        yield lab


class Replica:
    """The table of a backup, made from the events of the router."""

    def __init__(self, lab: NatLab) -> None:
        self.conntrack = Conntrack(lab.router)
        self.fresh = Conntrack(lab.fresh)
        self.conntrack.listen()
        self.cache = Cache(1000, 1 << 20)
        self.parser = Parser()
        self.builder = Builder()

    def hear(self) -> None:
        for message in self.conntrack.events():
            record = self.parser.parse(message)
            assert record is not None, message.hex()
            self.cache.apply(record, 0)
            if record[0] == NEW and record[1][2] & EXPECTED:
                answer = self.parser.parse(self.conntrack.ask(self.builder.get(master_key(record[1]))))
                assert answer is not None
                assert T_SEQ_ADJ_ORIG in tail(answer[2]) or record[1][-1] == socket.IPPROTO_UDP
                self.cache.apply(answer, 0)
        assert not self.cache.invalid

    def dumped(self) -> Cache:
        """A dump, in a table of its own."""
        cache = Cache(1000, 1 << 20)
        for message in self.conntrack.dump() + self.conntrack.dump(2):
            record = self.parser.parse(message)
            assert record is not None, message.hex()
            cache.apply(record, 0)
        assert not cache.invalid
        return cache

    def chunks(self, cache: Cache) -> Iterator[bytes]:
        entries = (entry for some in cache.slices() for entry in some)
        return iterate(self.builder.chunks(entries, 1, 7440))

    def move(self, lab: NatLab, cache: Cache | None = None, more: str = "") -> None:
        """Flush the table and the rules that made it, and restore the table from the replica."""
        before = self.conntrack.list()
        lab.rules(more=more)
        self.conntrack.flush()
        assert self.conntrack.list() == []
        assert self.conntrack.send(self.chunks(cache or self.cache)) == {}
        assert self.conntrack.list() == before


@pytest.mark.parametrize("source", ["events", "dump"])
@pytest.mark.parametrize("case", TCP_CASES)
def test_tcp_goes_on(lab: NatLab, case: str, source: str) -> None:
    rules, to = TCP_CASES[case]
    replica = Replica(lab)
    lab.rules(**rules)
    server = lab.listen(lab.server, V6 if ":" in to[0] else V4, 80)
    here, there = lab.connect(server, to)
    assert talks(here, there)
    replica.hear()
    dumped = replica.dumped()
    assert replica.cache.digest() == dumped.digest()
    replica.move(lab, dumped if source == "dump" else replica.cache)
    assert talks(here, there)
    here.close()
    there.close()
    replica.hear()


@pytest.mark.parametrize("case", [case for case in TCP_CASES if case != "masquerade"])
def test_udp_goes_on(lab: NatLab, case: str) -> None:
    rules, to = TCP_CASES[case]
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    replica = Replica(lab)
    lab.rules(**rules)
    there = lab.socket(lab.server, family, socket.SOCK_DGRAM)
    there.bind((V6 if ":" in to[0] else V4, 80))
    here = lab.socket(lab.client, family, socket.SOCK_DGRAM)
    here.connect(to)
    here.send(b"1")
    _, peer = there.recvfrom(10)
    there.sendto(b"2", peer)
    assert here.recv(10) == b"2"
    replica.hear()
    assert replica.cache.digest() == replica.dumped().digest()
    replica.move(lab)
    there.sendto(b"3", peer)
    assert here.recv(10) == b"3"
    here.send(b"4")
    assert there.recvfrom(10) == (b"4", peer)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("translated", [False, True])
def test_icmp_goes_on(lab: NatLab, v6: bool, translated: bool) -> None:
    replica = Replica(lab)
    lab.rules(
        post=SNAT4 if translated else "ip daddr 1.1.1.1 accept;",
        post6=SNAT6 if translated else "ip6 daddr ::2 accept;",
    )
    family, protocol = (socket.AF_INET6, 58) if v6 else (socket.AF_INET, 1)
    raw = lab.socket(lab.client, family, socket.SOCK_RAW, protocol)

    def echo() -> None:
        raw.sendto(ping(0x1234, v6), (V6 if v6 else V4, 0))
        while True:
            answer = raw.recv(1000)
            if not v6:
                answer = answer[20:]
            if answer[0] in (0, 129):
                assert answer[4:6] == b"\x12\x34"
                return

    echo()
    replica.hear()
    assert replica.cache.digest() == replica.dumped().digest()
    replica.move(lab)
    echo()


def test_other_protocols_and_attributes(lab: NatLab) -> None:
    """Rarer protocols; marks, zones, labels. Compared with the original in a fresh namespace."""
    replica = Replica(lab)
    lab.rules(post=SNAT4, more=MORE)
    other_packets(lab)
    replica.hear()
    before = replica.conntrack.list()
    text = "\n".join(before)
    assert "mark=305419896" in text and "zone=7" in text and "zone-orig=8" in text, text
    assert "sctp" in text and "gre" in text, text
    assert replica.cache.digest() == replica.dumped().digest()
    replica.move(lab, more=MORE)
    after = replica.dumped()
    kept = set()
    for some in replica.cache.slices():
        for key, body in some:
            restored = after.get(key)
            assert restored is not None and tail(restored) == tail(body)
            kept |= set(tail(body))
    assert kept == {T_LABELS, T_SCTP, T_ZONE}


def test_an_ftp_transfer_begins_on_the_other_router(lab: NatLab) -> None:
    """The helper has seen PORT, translated it and expects the connection; then the table moves."""
    replica = Replica(lab)
    lab.rules(post=SNAT4, more=FTP_HELPER)
    control = lab.listen(lab.server, V4, 21)
    here, there = lab.connect(control, (V4, 21))
    data = lab.listen(lab.client, "10.0.0.2", 5001)
    here.sendall(b"USER x\r\n")  # the helper reads from the second line on
    assert there.recv(100) == b"USER x\r\n"
    here.sendall(b"PORT 10,0,0,2,19,137\r\n")
    command = there.recv(100)
    assert command.startswith(b"PORT 192,0,2,10,"), command  # longer by one: sequence numbers are adjusted
    high, low = (int(word) for word in command.split(b",")[4:])
    replica.hear()
    expectations = replica.conntrack.run("conntrack", "-L", "expect")
    assert "helper=ftp" in expectations
    assert replica.cache.digest() == replica.dumped().digest()

    replica.move(lab, more=FTP_HELPER)
    assert words(replica.conntrack.run("conntrack", "-L", "expect")) == words(expectations)
    transfer = lab.socket(lab.server, socket.AF_INET, socket.SOCK_STREAM)
    transfer.connect(("192.0.2.10", high * 256 + low))
    arrived, _ = data.accept()
    with arrived:
        assert talks(transfer, arrived)
        replica.hear()
        replica.move(lab, more=FTP_HELPER)  # with a master now
        assert talks(transfer, arrived)
    there.sendall(b"226 done\r\n")
    assert here.recv(100) == b"226 done\r\n"
    here.sendall(b"PORT 10,0,0,2,19,138\r\n")  # the helper still reads
    assert there.recv(100).startswith(b"PORT 192,0,2,10,")


def test_a_call_is_put_through_on_the_other_router(lab: NatLab) -> None:
    """The helper has read an INVITE, translated its SDP and expects RTP and RTCP; then the table moves."""
    replica = Replica(lab)
    lab.rules(post=SNAT4, more=SIP_HELPER)
    caller = lab.socket(lab.client, socket.AF_INET, socket.SOCK_DGRAM)
    caller.bind(("10.0.0.2", 5060))
    callee = lab.socket(lab.server, socket.AF_INET, socket.SOCK_DGRAM)
    callee.bind((V4, 5060))
    caller.sendto(INVITE.encode(), (V4, 5060))
    invite = callee.recv(2000).decode()
    assert "c=IN IP4 192.0.2.10" in invite, invite
    port = int(invite.partition("m=audio ")[2].split()[0])
    replica.hear()
    expectations = replica.conntrack.run("conntrack", "-L", "expect")
    assert expectations.count("helper=sip") >= 2, expectations  # RTP and RTCP, and the answer
    assert replica.cache.digest() == replica.dumped().digest()

    replica.move(lab, more=SIP_HELPER)
    assert words(replica.conntrack.run("conntrack", "-L", "expect")) == words(expectations)
    phone = lab.socket(lab.client, socket.AF_INET, socket.SOCK_DGRAM)
    phone.bind(("10.0.0.2", 5004))
    far_phone = lab.socket(lab.server, socket.AF_INET, socket.SOCK_DGRAM)
    far_phone.bind((V4, 6004))
    far_phone.sendto(b"voice", ("192.0.2.10", port))
    data, address = phone.recvfrom(100)
    assert data == b"voice"
    phone.sendto(b"answer", address)
    assert far_phone.recv(100) == b"answer"
    replica.hear()
    left = [key for some in replica.cache.slices() for key, _ in some if key[2] & EXPECTED]
    assert left and replica.cache.digest() == replica.dumped().digest()
    assert replica.conntrack.send(iterate(replica.builder.deletes(left))) == {}
    assert not replica.conntrack.run("conntrack", "-L", "expect")


def words(listing: str) -> list[str]:
    """A listing of expectations without timeouts."""
    return sorted(" ".join(line.split()[1:]) for line in listing.splitlines())


def test_what_is_there_is_updated_and_what_is_taken_is_told(lab: NatLab) -> None:
    replica = Replica(lab)
    lab.rules(post=SNAT4_PORT)
    server = lab.listen(lab.server, V4, 80)
    here, there = lab.connect(server, (V4, 80))
    assert talks(here, there)
    replica.hear()
    fresh = replica.fresh
    entries = [entry for some in replica.cache.slices() for entry in some]
    [(key, body)] = entries
    assert fresh.send(replica.chunks(replica.cache)) == {}
    assert fresh.send(replica.chunks(replica.cache)) == {1: errno.EOPNOTSUPP}
    changed = body[:7] + bytes((4,)) + body[8:]  # FIN_WAIT
    assert fresh.send(iterate(replica.builder.chunks([(key, changed)], purpose=CHANGE))) == {}
    assert "FIN_WAIT" in fresh.list()[0] and len(fresh.list()) == 1
    other = key[:7] + b"\x63" + key[8:]  # 10.0.0.99 wants the same address and port
    assert fresh.send([replica.builder.message(other, body, 9)]) == {9: errno.EEXIST}
    assert fresh.send([replica.builder.message(other, body, 9, CHANGE)]) == {9: errno.ENOENT}
    assert fresh.send(iterate(replica.builder.deletes([key, other], 5))) == {6: errno.ENOENT}
    assert fresh.list() == []


def other_packets(lab: NatLab) -> None:
    """One packet each of GRE, ESP, SCTP, an unknown protocol, and UDP to the ports of MORE."""
    for protocol, payload in (
        (47, bytes.fromhex("0000080045000000") + bytes(20)),
        (50, bytes(16)),
        (132, bytes.fromhex("0bb80bb900000000 00000000 01000014 12345678 00010000 000a 000a 00000001")),
        (253, bytes(16)),
    ):
        raw = lab.socket(lab.client, socket.AF_INET, socket.SOCK_RAW, protocol)
        if protocol == 132:
            payload = payload[:8] + crc32c(payload).to_bytes(4, "little") + payload[12:]
        raw.sendto(payload, (V4, 0))
    here = lab.socket(lab.client, socket.AF_INET, socket.SOCK_DGRAM)
    for port in range(1000, 1004):
        here.sendto(b"x", (V4, port))
