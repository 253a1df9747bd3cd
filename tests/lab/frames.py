# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets that a host of the lab makes by hand: raw frames with their answers, and adverts."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tandem.core.packet import GROUP4, Advertisement, encode

from .lab import Host


def say(host: Host, frame: Packet, seconds: float, device: str = "eth0") -> Iterator[Packet]:
    """Send a frame, and yield the frames of its protocol that come in within `seconds`."""
    with host.enter(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as sock:
        sock.bind((device, frame.type))
        sock.send(bytes(frame))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                yield Ether(sock.recv(2000))
            except TimeoutError:
                return


def advertise(host: Host, source: str, *adverts: Advertisement, device: str = "eth0") -> None:
    """Send VRRP advertisements from one of the host's IPv4 addresses, one right after the other."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
            by = struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(device))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
            sock.bind((source, 0))
            for advert in adverts:
                sock.sendto(encode(advert, socket.inet_aton(source), GROUP4), ("224.0.0.18", 0))

    host.enter(send)
