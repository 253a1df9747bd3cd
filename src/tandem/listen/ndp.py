# SPDX-License-Identifier: GPL-2.0-or-later
"""Routers that advertise themselves and DHCPv6 servers: two questions to a network, and the answers.

A packet socket receives the answers before any firewall does. The questions are a router solicitation
(RFC 4861 section 4.1) and an information request (RFC 8415 section 18.2.6), which makes no lease.
"""

from __future__ import annotations

import os
import socket
import struct

from tandem.effects.bpf import ALL, JEQ, LD_B_ABS, LD_H_ABS, RET, Program, assemble, attach

ADVERTISEMENT, DHCPV6 = "advertisement", "dhcpv6"

_ETH_P_IPV6 = 0x86DD
_ALL_ROUTERS, _ALL_SERVERS = "ff02::2", "ff02::1:2"
_SO_BINDTODEVICE = 25
_UDP, _ICMPV6 = 17, 58
_ROUTER_SOLICIT, _ROUTER_ADVERT = 133, 134
_CLIENT, _SERVER = 546, 547
_INFORMATION_REQUEST = 11
_NEXT_HEADER, _SOURCE, _PAYLOAD = 6, 8, 40  # offsets in an IPv6 packet

_ANSWERS: Program = [
    ("", (LD_B_ABS, _NEXT_HEADER, "", "")),
    ("", (JEQ, _ICMPV6, "", "udp")),
    ("", (LD_B_ABS, _PAYLOAD, "", "")),
    ("", (JEQ, _ROUTER_ADVERT, "accept", "drop")),
    ("udp", (JEQ, _UDP, "", "drop")),
    ("", (LD_H_ABS, _PAYLOAD, "", "")),
    ("", (JEQ, _SERVER, "", "drop")),
    ("", (LD_H_ABS, _PAYLOAD + 2, "", "")),
    ("", (JEQ, _CLIENT, "accept", "drop")),
    ("drop", (RET, 0, "", "")),
    ("accept", (RET, ALL, "", "")),
]


def open_answers(device: str) -> socket.socket:
    """Open a packet socket that gets the answers on this device, from the IPv6 header on. OSError."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        attach(sock, assemble(_ANSWERS))
        sock.bind((device, _ETH_P_IPV6))
    except OSError:
        sock.close()
        raise
    return sock


def answer(data: bytes) -> tuple[str, str] | None:
    """Return the kind of an IPv6 packet, ADVERTISEMENT or DHCPV6, and its source as text; None: neither.

    An advertisement with lifetime 0 offers no default route, but it may offer prefixes and resolvers. One
    that offers nothing is a goodbye.
    """
    if len(data) < _PAYLOAD + 16 or data[0] >> 4 != 6:
        return None
    source = socket.inet_ntop(socket.AF_INET6, data[_SOURCE : _SOURCE + 16])
    payload = data[_PAYLOAD:]
    if data[_NEXT_HEADER] == _ICMPV6 and payload[0] == _ROUTER_ADVERT:
        return ADVERTISEMENT, source
    if data[_NEXT_HEADER] == _UDP and struct.unpack_from("!HH", payload) == (_SERVER, _CLIENT):
        return DHCPV6, source
    return None


def open_solicitor(device: str) -> socket.socket:
    """Open a socket for router solicitations; the kernel fills in the checksum. OSError."""
    sock = _bound(device, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    return sock


def open_client(device: str) -> socket.socket:
    """Open a socket for DHCPv6. OSError: a client of this router has the port."""
    sock = _bound(device, socket.SOCK_DGRAM, 0)
    try:
        sock.bind(("::", _CLIENT))
    except OSError:
        sock.close()
        raise
    return sock


def _bound(device: str, kind: int, protocol: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device.encode() + b"\0")
        index = socket.if_nametoindex(device)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
    except OSError:
        sock.close()
        raise
    return sock


def solicitation() -> tuple[bytes, tuple[str, int]]:
    """Return a router solicitation and its destination."""
    return struct.pack("!BBHI", _ROUTER_SOLICIT, 0, 0, 0), (_ALL_ROUTERS, 0)


def information_request() -> tuple[bytes, tuple[str, int]]:
    """Return an information request of a client that does not exist, and its destination."""
    number = os.urandom(4)
    client = struct.pack("!HH", 3, 1) + b"\x02\x00" + number  # DUID-LL
    wanted = struct.pack("!H", 23)  # DNS servers
    options = b"".join(
        struct.pack("!HH", kind, len(value)) + value
        for kind, value in ((1, client), (8, bytes(2)), (6, wanted))
    )
    message = struct.pack("!B", _INFORMATION_REQUEST) + number[:3] + options
    return message, (_ALL_SERVERS, _SERVER)
