# SPDX-License-Identifier: GPL-2.0-or-later
"""Acks: the answers by which a provider's DHCP server lends an address, or lends it again.

netifd tells nothing when the client has renewed a lease, because nothing has changed for netifd. So the
active router reads the server's answers itself. The kernel lets no other packet through to this socket.
"""

from __future__ import annotations

import socket
import struct

from tandem.effects.bpf import (
    ALL,
    JEQ,
    JSET,
    LD_B_ABS,
    LD_H_ABS,
    LD_H_IND,
    LDX_IP_HEADER,
    NETWORK,
    RET,
    Program,
    assemble,
    attach,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

_ETH_P_IP = 0x0800
_PORT = 68  # of DHCP clients
_REPLY, _ETHERNET, _MAC_LENGTH = 2, 1, 6  # RFC 2131 section 2
_COOKIE, _COOKIE_AT = b"\x63\x82\x53\x63", 236
_PAD, _LEASE_TIME, _KIND, _END, _ACK = 0, 51, 53, 255, 5  # RFC 2132
_LARGEST = 2048  # bytes that are read of a packet
_MOST = 16  # packets in one turn

# IPv4, UDP to the client's port, not a later fragment; offsets count from the IP header.
_PROGRAM: Program = [
    ("", (LD_B_ABS, NETWORK + 9, "", "")),
    ("", (JEQ, socket.IPPROTO_UDP, "", "drop")),
    ("", (LD_H_ABS, NETWORK + 6, "", "")),
    ("", (JSET, 0x1FFF, "drop", "")),
    ("", (LDX_IP_HEADER, NETWORK, "", "")),
    ("", (LD_H_IND, NETWORK + 2, "", "")),
    ("", (JEQ, _PORT, "", "drop")),
    ("", (RET, ALL, "", "")),
    ("drop", (RET, 0, "", "")),
]


class Acks:
    """The ear for one MAC address; `heard(address, seconds)` gets each ack.

    OSError: there is no packet socket.
    """

    def __init__(self, loop: Loop, mac: str, heard: Callable[[str, int], None]) -> None:
        self._loop = loop
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._heard = heard
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        attach(self._socket, assemble(_PROGRAM))
        self._index: int | None = None
        loop.add_reader(self._socket.fileno(), self._read)

    def listen(self, name: str, index: int) -> None:
        """Hear what comes in by this device from now on. The kernel lets go of one that is deleted."""
        if index != self._index:
            self._socket.bind((name, _ETH_P_IP))
            self._index = index

    def close(self) -> None:
        """Hear no more; takes 16 ms (a grace period of the kernel)."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_MOST):
            try:
                packet = self._socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # the device is gone
                self._index = None
                return
            if (found := parse(packet, self._mac)) is not None:
                self._heard(*found)


def parse(packet: bytes, mac: bytes) -> tuple[str, int] | None:
    """Return address and seconds of an ack for this MAC address, in an IPv4 packet; None: it is none."""
    try:
        message = packet[(packet[0] & 0xF) * 4 + 8 :]
        kind, hardware, length = message[:3]
        address, owner = message[16:20], message[28 : 28 + _MAC_LENGTH]
        if (kind, hardware, length, owner) != (_REPLY, _ETHERNET, _MAC_LENGTH, mac):
            return None
        if message[_COOKIE_AT : _COOKIE_AT + 4] != _COOKIE:
            return None
        options = _options(message[_COOKIE_AT + 4 :])
        (seconds,) = struct.unpack("!I", options[_LEASE_TIME])
        return (socket.inet_ntoa(address), seconds) if options[_KIND] == bytes((_ACK,)) else None
    except (IndexError, KeyError, ValueError, struct.error, OSError):
        return None


def _options(data: bytes) -> dict[int, bytes]:
    """Return the options up to the end mark; one that is cut off is not among them."""
    found: dict[int, bytes] = {}
    place = 0
    while place + 1 < len(data) and data[place] != _END:
        if data[place] == _PAD:
            place += 1
            continue
        end = place + 2 + data[place + 1]
        if end <= len(data):
            found.setdefault(data[place], data[place + 2 : end])
        place = end
    return found
