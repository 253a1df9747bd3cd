# SPDX-License-Identifier: GPL-2.0-or-later
"""Claims: hears other hosts say that they have one of the virtual addresses, by ARP and neighbour discovery.

A host that has such an address by mistake may never say so unasked. The daemon therefore asks now and then
like a host that wants the address (RFC 5227 section 2.1.1, RFC 4862 section 5.4); such a question changes
no neighbour cache. A filter in the kernel accepts only packets that name one of the addresses. Ethernet only.
"""

from __future__ import annotations

import socket
import struct

from tandem.effects.bpf import ALL, JEQ, LD_B_ABS, LD_W_ABS, RET, Program, assemble, attach

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

    Place = tuple[str, int, int]  # device, its index, family of addresses

PACKETS_A_TURN = 32
WATCHED_MAX = 64  # addresses on one device; if there are more, only the first are watched

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_PKTTYPE, _OUTGOING = 0xFFFFF000 + 4, 4  # SKF_AD_OFF + SKF_AD_PKTTYPE, PACKET_OUTGOING
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_LINK_LAYER_OPTION = b"\x02\x01"  # target link-layer address, 8 bytes
# Offsets in an Ethernet frame; the filter compares only the last word of an IPv6 address, `claim` all of it.
_SENDER_MAC, _SENDER = 22, 28
_NEXT_HEADER, _SOURCE6, _TYPE, _TARGET, _OPTIONS = 20, 22, 54, 62, 78
_NOTHING: Program = [("", (RET, 0, "", ""))]


class Claims:
    """Sockets by device and family; `claimed(address, mac)` is called for each claim."""

    def __init__(self, loop: Loop, claimed: Callable[[bytes, bytes], None]) -> None:
        self._loop = loop
        self._claimed = claimed
        self._sockets: dict[Place, socket.socket] = {}
        self._watched: dict[Place, frozenset[bytes]] = {}

    def watch(self, wanted: dict[Place, frozenset[bytes]]) -> list[str]:
        """Listen for these addresses and no others; return the problems.

        A socket without addresses stays open and hears nothing: closing it takes 16 ms.
        """
        problems = []
        for place in wanted.keys() | self._sockets.keys():
            addresses = wanted.get(place, frozenset())
            if self._watched.get(place) != addresses:
                try:
                    self._set(place, addresses)
                except OSError as error:
                    problems.append(f"{place[0]}: {error.strerror}")
        return problems

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets.values():
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        self._watched.clear()

    def _set(self, place: Place, addresses: frozenset[bytes]) -> None:
        device, _, family = place
        sock = self._sockets.get(place)
        if sock is None:
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            sock = socket.socket(socket.AF_PACKET, kind, 0)  # hears nothing before it is bound
            try:
                attach(sock, assemble(_program(family, addresses)))
                sock.bind((device, _ETH_P_IPV6 if family == 6 else _ETH_P_ARP))
            except OSError:
                sock.close()
                raise
            self._sockets[place] = sock
            self._loop.add_reader(sock.fileno(), lambda: self._readable(place))
        else:
            attach(sock, assemble(_program(family, addresses)))
        self._watched[place] = addresses

    def _readable(self, place: Place) -> None:
        for _ in range(PACKETS_A_TURN):
            try:
                frame = self._sockets[place].recv(256)
            except BlockingIOError:
                return
            except OSError:
                return  # the device is down
            address, mac = claim(frame)
            if address in self._watched[place]:
                self._claimed(address, mac)


def claim(frame: bytes) -> tuple[bytes, bytes]:
    """Return the address that the sender of an Ethernet frame claims, or b"", and its MAC address."""
    if frame[12:14] == struct.pack("!H", _ETH_P_ARP):
        return frame[_SENDER : _SENDER + 4], frame[_SENDER_MAC : _SENDER_MAC + 6]
    kind = frame[_TYPE : _TYPE + 1]
    if kind == bytes((_SOLICITATION,)):
        return frame[_SOURCE6 : _SOURCE6 + 16], frame[6:12]
    mac = frame[6:12]
    if frame[_OPTIONS : _OPTIONS + 2] == _LINK_LAYER_OPTION:
        mac = frame[_OPTIONS + 2 : _OPTIONS + 8]
    return (frame[_TARGET : _TARGET + 16] if kind == bytes((_ADVERTISEMENT,)) else b""), mac


def _program(family: int, addresses: frozenset[bytes]) -> Program:
    words = {int.from_bytes(address[-4:], "big") for address in addresses}
    tests: Program = [("", (JEQ, word, "accept", "")) for word in sorted(words)[:WATCHED_MAX]]
    if not tests:
        return _NOTHING
    code: Program = [("", (LD_W_ABS, _PKTTYPE, "", "")), ("", (JEQ, _OUTGOING, "drop", ""))]
    if family == 4:
        code += [("", (LD_W_ABS, _SENDER, "", "")), *tests]
    else:
        code += [("", (LD_B_ABS, _NEXT_HEADER, "", "")), ("", (JEQ, _ICMPV6, "", "drop"))]
        code += [("", (LD_B_ABS, _TYPE, "", "")), ("", (JEQ, _ADVERTISEMENT, "target", ""))]
        code += [("", (JEQ, _SOLICITATION, "", "drop"))]
        code += [("", (LD_W_ABS, _SOURCE6 + 12, "", "")), *tests, ("", (RET, 0, "", ""))]
        code += [("target", (LD_W_ABS, _TARGET + 12, "", "")), *tests]
    return [*code, ("drop", (RET, 0, "", "")), ("accept", (RET, ALL, "", ""))]
