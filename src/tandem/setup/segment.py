# SPDX-License-Identifier: GPL-2.0-or-later
"""A look at the networks before the set-up: which addresses and virtual router ids are already in use.

Without the rights or the device, nothing is found and no error is raised.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable

from tandem.listen import arp
from tandem.listen.adverts import ETH_P_IP, listen, take_apart

ARP_S = 1.0
ADVERTS_S = 3.5  # three adverts of a router with keepalived's defaults


def who_has(device: str, address: str, seconds: float = ARP_S) -> str | None:
    """Return the MAC of the host that answers for an IPv4 address; None: no host, or asking is impossible."""
    try:
        with open(f"/sys/class/net/{device}/address") as file:
            mac = bytes.fromhex(file.read().strip().replace(":", ""))
        if len(mac) != 6:
            return None
        with arp.open_arp(device) as sock:
            end = time.monotonic() + seconds
            sock.sendto(arp.probe(mac, address), (device, arp.ETH_P_ARP, 0, 0, arp.BROADCAST))
            while (left := end - time.monotonic()) > 0:
                if select.select([sock], [], [], left)[0]:
                    answer = arp.answer(sock.recv(256))
                    if answer is not None and answer[0] == address:
                        return answer[1]
    except (OSError, ValueError):
        pass
    return None


def used_ids(devices: Iterable[str], seconds: float = ADVERTS_S) -> dict[int, str]:
    """Return the virtual router ids that others advertise on these devices, each with one router."""
    sockets: list[socket.socket] = []
    found: dict[int, str] = {}
    try:
        for device in dict.fromkeys(devices):
            try:
                sockets.append(listen(device))
            except (OSError, ValueError):
                continue
        end = time.monotonic() + seconds
        while sockets and (left := end - time.monotonic()) > 0:
            for sock in select.select(sockets, [], [], left)[0]:
                data, address = sock.recvfrom(65535)
                datagram = take_apart(data, 4 if address[1] == ETH_P_IP else 6)
                if address[2] == socket.PACKET_OUTGOING or datagram is None or len(datagram.payload) < 2:
                    continue
                family = socket.AF_INET if datagram.family == 4 else socket.AF_INET6
                found.setdefault(datagram.payload[1], socket.inet_ntop(family, datagram.source))
    except OSError:
        pass  # an interface went away
    finally:
        for sock in sockets:
            sock.close()
    return found
