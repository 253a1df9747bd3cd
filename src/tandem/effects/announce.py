# SPDX-License-Identifier: GPL-2.0-or-later
"""Gratuitous ARP and unsolicited neighbour advertisements, on a socket that is always open.

The frames are pure functions of a MAC address and a virtual address: the caller builds them
when it learns both addresses, so that becoming active only sends bytes. Ethernet only.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from tandem.core.packet import HOP_LIMIT, checksum, pseudo_header

_BROADCAST = b"\xff" * 6
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ETH_P_ARP = 0x0806
_ETH_P_IPV6 = 0x86DD

# Ethernet and IPv4, 6 and 4 byte addresses, operation 1 "request" (RFC 826)
_ARP_REQUEST = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)

_ICMPV6 = 58
_NEIGHBOUR_SOLICITATION = 135
_NEIGHBOUR_ADVERTISEMENT = 136
_ROUTER = 0x80000000
_OVERRIDE = 0x20000000
_SOURCE_LINK_LAYER_ADDRESS = b"\x01\x01"  # option 1, length 1 x 8 bytes
_TARGET_LINK_LAYER_ADDRESS = b"\x02\x01"  # option 2
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")  # and the last 3 bytes (RFC 4291 section 2.7.1)


def garp_frame(mac: bytes, address: bytes) -> bytes:
    """Return the Ethernet frame of one gratuitous ARP for a packed IPv4 address.

    The frame is a request (RFC 9568 section 8.1.2, RFC 5227 section 3). Sender and target are the virtual
    address; the target MAC address is broadcast, as in keepalived's frames.
    """
    ethernet = _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP)
    return ethernet + _ARP_REQUEST + mac + address + _BROADCAST + address


def na_frame(mac: bytes, address: bytes, router: bool = True) -> bytes:
    """Return the Ethernet frame of one unsolicited neighbour advertisement for a packed IPv6 address.

    The frame goes to all nodes, from the address itself, with the Override flag (RFC 4861 sections 4.4 and
    7.2.6); `router` is the Router flag: whether this node forwards IPv6.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    body = struct.pack("!I", flags) + address + _TARGET_LINK_LAYER_ADDRESS + mac
    return _icmpv6(mac, address, _ALL_NODES, _NEIGHBOUR_ADVERTISEMENT, body)


def request_frame(mac: bytes, source: bytes, wanted: bytes) -> bytes:
    """Return the frame that asks for the MAC address of the packed address `wanted`, and tells ours.

    ARP: RFC 826; IPv6: a neighbour solicitation, RFC 4861 section 4.3.
    """
    if len(wanted) == 4:
        ethernet = _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP)
        return ethernet + _ARP_REQUEST + mac + source + bytes(6) + wanted
    body = bytes(4) + wanted + _SOURCE_LINK_LAYER_ADDRESS + mac
    return _icmpv6(mac, source, _SOLICITED_NODE + wanted[-3:], _NEIGHBOUR_SOLICITATION, body)


def probe_frame(mac: bytes, address: bytes) -> bytes:
    """Return the frame that asks, from the unspecified address, whether some host has a packed address.

    RFC 5227 section 2.1.1, RFC 4862 section 5.4: such a question changes no neighbour cache.
    """
    if len(address) == 4:
        return request_frame(mac, bytes(4), address)
    group = _SOLICITED_NODE + address[-3:]
    return _icmpv6(mac, bytes(16), group, _NEIGHBOUR_SOLICITATION, bytes(4) + address)


def _icmpv6(mac: bytes, source: bytes, group: bytes, kind: int, body: bytes) -> bytes:
    """Return a frame with an ICMPv6 message to a multicast group (its MAC address: RFC 2464 section 7)."""
    head = struct.pack("!BB", kind, 0)
    length = len(head) + 2 + len(body)
    summed = pseudo_header(source, group, length, _ICMPV6) + head + b"\0\0" + body
    ethernet = b"\x33\x33" + group[-4:] + mac + struct.pack("!H", _ETH_P_IPV6)
    ip6 = struct.pack("!IHBB", 6 << 28, length, _ICMPV6, HOP_LIMIT) + source + group
    return ethernet + ip6 + head + struct.pack("!H", checksum(summed)) + body


def announcement(mac: bytes, address: bytes, router: bool = True) -> bytes:
    """Return the frame that says that a packed IPv4 or IPv6 address is now at `mac`."""
    return garp_frame(mac, address) if len(address) == 4 else na_frame(mac, address, router)


class Announcer:
    """One packet socket that sends prebuilt frames on any interface and receives nothing.

    Opening raises OSError without CAP_NET_RAW. Closing an AF_PACKET socket takes 16 ms (it waits for an
    RCU grace period), so the socket is opened once.
    """

    __slots__ = ("_socket",)

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_PACKET, kind, 0)  # protocol 0: nothing comes in

    def send(self, ifindex: int, frames: Iterable[bytes], repeat: int = 1) -> int:
        """Send `repeat` rounds of `frames` out of an interface.

        Return 0, or the first errno (ENXIO: no such interface, ENETDOWN, ENOBUFS). The other frames are
        still tried, because one lost announcement is no reason to lose the rest.
        """
        failed = 0
        rounds = tuple(frames) * repeat
        try:
            # The socket module wants a name; the kernel knows it by this number, also when renamed.
            interface = socket.if_indextoname(ifindex)
        except OSError as error:
            return error.errno or -1
        for frame in rounds:
            try:
                self._socket.sendto(frame, (interface, int.from_bytes(frame[12:14], "big")))
            except OSError as error:
                failed = failed or error.errno or -1
        return failed

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()
