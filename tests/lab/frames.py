# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw frames of a host in the lab: send one, and collect the answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from scapy.layers.l2 import Ether
from scapy.packet import Packet

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
