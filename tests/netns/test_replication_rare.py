# SPDX-License-Identifier: GPL-2.0-or-later
"""Other protocols than TCP, UDP and ICMP, and marks, labels and zones, go on through the other router.

The firewall lets nothing in from the WAN that is not known, and translates only what begins in the LAN: a
packet of the server that arrives has met its entry.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from tandem.conntrack.message import parse
from tandem.conntrack.record import MARK as MARKED
from tandem.conntrack.record import T_LABELS, TCP, TCP_AT, TCP_SIZE, ZONED, tail
from tests.lab import FAR, WAN_ADDRESS, Host, Router, SeedLab

from .conntrack import Conntrack, crc32c
from .live import CLIENT, connections, power_loss, started, synced, takes_over, told

Open = Callable[[SeedLab], SeedLab]

SCTP, GRE, UNKNOWN = 132, 47, 253
MARK = 0x12345678
RULES = f"""
table inet more {{
    chain prerouting {{
        type filter hook prerouting priority raw
        iifname "br-lan" udp dport 1001 ct zone set 7
        iifname "eth0.2" udp sport 1001 ct zone set 7
    }}
    chain forward {{
        type filter hook forward priority mangle
        iifname "br-lan" udp dport 1002 ct mark set {MARK}
        iifname "br-lan" udp dport 1003 ct label set 5
        iifname "br-lan" tcp dport 1004 ct mark set {MARK}
        iifname "br-lan" tcp dport 1004 ct label set 5
    }}
}}
"""


class Ends:
    """Raw sockets of one protocol at the client and at the server."""

    def __init__(self, lab: SeedLab, protocol: int) -> None:
        self.client, self.server = (self._open(host, protocol) for host in (lab.client, lab.server))
        self.server.bind((FAR, 0))

    def _open(self, host: Host, protocol: int) -> socket.socket:
        made = host.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
        made.settimeout(1)
        return made

    def out(self, packet: bytes) -> bytes:
        """The payload as it arrives at the server, from the shared address."""
        return arrives(self.client, FAR, packet, self.server, WAN_ADDRESS)

    def back(self, packet: bytes) -> bytes:
        """And as the client gets it."""
        return arrives(self.server, WAN_ADDRESS, packet, self.client, FAR)


def arrives(one: socket.socket, to: str, packet: bytes, other: socket.socket, from_: str) -> bytes:
    for _ in range(5):
        one.sendto(packet, (to, 0))
        until = time.monotonic() + 1
        while time.monotonic() < until:
            try:
                found, (address, _) = other.recvfrom(500)
            except TimeoutError:
                break
            payload = found[20:]
            if payload[-4:] == packet[-4:] and address == from_:
                return payload
    raise AssertionError(f"nothing arrives from {from_}: {packet.hex()}")


def sctp(ports: tuple[int, int], tag: int, kind: int, value: bytes) -> bytes:
    """An SCTP packet with one chunk (RFC 9260 section 3)."""
    chunk = struct.pack("!BBH", kind, 0, 4 + len(value)) + value
    head = struct.pack("!HHI", *ports, tag)
    return head + crc32c(head + bytes(4) + chunk).to_bytes(4, "little") + chunk


def association(ends: Ends) -> Callable[[bytes], None]:
    """Open it, by hand: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK. A packet with another tag is invalid."""
    ports, init = (3000, 3001), struct.Struct("!IIHHI")
    ends.out(sctp(ports, 0, 1, init.pack(0x11111111, 65536, 1, 1, 1)))
    ends.back(sctp(ports[::-1], 0x11111111, 2, init.pack(0x22222222, 65536, 1, 1, 2)))
    ends.out(sctp(ports, 0x22222222, 10, b"cook"))
    ends.back(sctp(ports[::-1], 0x11111111, 11, b""))

    def check(token: bytes) -> None:
        data = struct.pack("!IHHI", 1, 0, 0, 0) + token
        ends.back(sctp(ports[::-1], 0x11111111, 0, data))
        ends.out(sctp(ports, 0x22222222, 0, data))

    return check


def anything(ends: Ends, head: bytes, answer: bytes) -> Callable[[bytes], None]:
    """Packets that begin with these bytes, there and back."""

    def check(token: bytes) -> None:
        ends.back(answer + token)
        ends.out(head + token)

    ends.out(head + b"open")
    return check


def udp(lab: SeedLab, port: int) -> Callable[[bytes], None]:
    server = lab.server.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    client = lab.client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind((FAR, port))
    client.bind((CLIENT, port + 1000))
    for end in (server, client):
        end.settimeout(5)
    client.sendto(b"open", (FAR, port))
    assert server.recv(10) == b"open"

    def check(token: bytes) -> None:
        server.sendto(token, (WAN_ADDRESS, port + 1000))
        assert client.recv(10) == token

    return check


def noted(router: Router) -> dict[bytes, tuple[bytes, bytes]]:
    """By key, with its zone: mark and labels of the entries that have any of the three."""
    found = {}
    for message in Conntrack(router.namespace).dump():
        record = parse(message)
        assert record
        _, key, body = record
        at = TCP_AT + (TCP_SIZE if body[0] & TCP else 0)
        mark = body[at : at + 4] if body[0] & MARKED else b""
        labels = tail(body).get(T_LABELS, b"")
        if mark or labels or body[0] & ZONED:
            found[key] = mark, labels
    return found


def test_other_protocols_and_attributes(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, rules=RULES)))
    started(lab)
    checks = {
        "SCTP": association(Ends(lab, SCTP)),
        "GRE": anything(Ends(lab, GRE), b"\0\0\x08\0", b"\0\0\x08\0"),
        "unknown": anything(Ends(lab, UNKNOWN), b"head", b"head"),
        **{f"UDP {port}": udp(lab, port) for port in (1001, 1002, 1003)},
    }
    with connections() as flows:
        for server_speaks in (True, False):
            flows.add(lab.client, lab.server, FAR, 2, server_speaks, port=1004)
        flows.all_go_on()
        for event in (None, power_loss, power_loss):
            active, backup = told(lab)
            before = noted(active)
            assert len(before) == 3 + 4
            assert len({*before.values()}) == 4  # the zone's has none; mark, labels, both
            if event:
                event(lab, active)
                takes_over(lab, backup)
                flows.all_go_on()
                assert noted(backup) == before
            failed = {}
            for name, check in checks.items():
                try:
                    check(struct.pack("!I", time.monotonic_ns() & 0xFFFFFFFF))
                except (AssertionError, OSError) as error:
                    failed[name] = repr(error)
            assert not failed, f"after {event}"
            if event:
                active.power_on()
