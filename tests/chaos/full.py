# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection table without room: it holds entries that nobody replicates and the kernel does not drop.

The limit of the table can be changed in the first namespace only, where it holds for every one. So a table is
filled up to it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from tandem.nlmsg import NFNL_HEADER, NLM_F_CREATE, NLM_F_REQUEST, attribute
from tests.lab import Host

MOST = 1 << 19  # entries of a table that is filled in a few seconds
_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_CHUNK = 400  # messages
_NEW, _DELETE = 0x100, 0x102  # IPCTNL_MSG_CT_*, linux/netfilter/nfnetlink_conntrack.h; enum ctattr_type:
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _TIMEOUT, _MARK, _MARK_MASK = 1, 2, 3, 7, 8, 21
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_NESTED = 0x8000
_STATE = 0x0E  # enum ip_conntrack_status: SEEN_REPLY, ASSURED (never dropped early), CONFIRMED
_LASTS = 3600  # seconds
_OURS = struct.pack("!I", 0x0C4A05)  # the mark
_UDP = 17


def possible() -> bool:
    """Return whether tables of this machine are small enough to be filled."""
    return _LIMIT.exists() and int(_LIMIT.read_text()) <= MOST


def fill(host: Host) -> None:
    """Leave no room in the table of a host."""
    with _socket(host) as sock:
        for number in range(MOST // 0xFFFF + 1):
            for chunk in _entries(number):
                if _room(host) <= 0:
                    return
                sock.send(chunk)  # the answers, which are errors, may get lost


def drain(host: Host) -> None:
    """Remove the entries that `fill` has made."""
    with _socket(host) as sock:
        sock.send(_message(_DELETE, 0, attribute(_MARK, _OURS) + attribute(_MARK_MASK, b"\xff" * 4)))


def _room(host: Host) -> int:
    return int(host.sysctl("netfilter/nf_conntrack_max")) - int(host.sysctl("netfilter/nf_conntrack_count"))


def _socket(host: Host) -> socket.socket:
    def made() -> socket.socket:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER

    sock = host.enter(made)
    sock.setblocking(False)
    return sock


def _message(kind: int, flags: int, body: bytes) -> bytes:
    header = NFNL_HEADER.pack(
        NFNL_HEADER.size + len(body), kind, NLM_F_REQUEST | flags, 0, 0, socket.AF_INET, 0, 0
    )
    return header + body


def _entries(number: int) -> Iterator[bytes]:
    """Yield messages for every port of one pair of addresses: loopback, which is never replicated."""
    one, other = bytes((127, 1, 0, number + 1)), bytes((127, 2, 0, 1))
    ports = [struct.pack("!H", port) for port in range(1, 1 << 16)]
    # A message is the same for each port but for the port, so that it is cut there once.
    cut = b"\xa5\x5a"
    more = attribute(_STATUS, struct.pack("!I", _STATE)) + attribute(_TIMEOUT, struct.pack("!I", _LASTS))
    body = _tuple(_TUPLE_ORIG, one, other, cut, b"\0\7") + _tuple(_TUPLE_REPLY, other, one, b"\0\7", cut)
    before, between, after = _message(_NEW, NLM_F_CREATE, body + more + attribute(_MARK, _OURS)).split(cut)
    for start in range(0, len(ports), _CHUNK):
        yield b"".join(before + port + between + port + after for port in ports[start : start + _CHUNK])


def _tuple(kind: int, source: bytes, destination: bytes, sport: bytes, dport: bytes) -> bytes:
    ip = attribute(1, source) + attribute(2, destination)  # CTA_IP_V4_SRC, _DST
    proto = attribute(1, bytes((_UDP,))) + attribute(2, sport) + attribute(3, dport)  # CTA_PROTO_NUM, ports
    nested = attribute(_TUPLE_IP | _NESTED, ip) + attribute(_TUPLE_PROTO | _NESTED, proto)
    return attribute(kind | _NESTED, nested)
