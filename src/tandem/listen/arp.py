# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP probes (RFC 5227 section 2.1.1): ask who has an address, without an address of one's own."""

from __future__ import annotations

import socket
import struct

ETH_P_ARP = 0x0806
BROADCAST = b"\xff" * 6

_ETH_P_IP = 0x0800
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2


def open_arp(device: str) -> socket.socket:
    """Open a packet socket for ARP on the device, without the Ethernet header. OSError."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        sock.bind((device, ETH_P_ARP))
    except OSError:
        sock.close()
        raise
    return sock


def probe(mac: bytes, address: str, source: str = "0.0.0.0") -> bytes:
    """Return the request for `address` from the card with this MAC address (6 bytes)."""
    sender, target = socket.inet_aton(source), socket.inet_aton(address)
    return _ARP.pack(1, _ETH_P_IP, 6, 4, _REQUEST, mac, sender, bytes(6), target)


def answer(data: bytes) -> tuple[str, str] | None:
    """Return address and MAC address of a reply as text; None: the packet is no reply."""
    if len(data) < _ARP.size:
        return None
    _, protocol, _, _, operation, mac, address, _, _ = _ARP.unpack_from(data)
    if (protocol, operation) != (_ETH_P_IP, _REPLY):
        return None
    return socket.inet_ntoa(address), mac.hex(":")
