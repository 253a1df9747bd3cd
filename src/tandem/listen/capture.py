# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem capture`: each advertisement on an interface as one line, with this router's verdict.

Scapy decodes what is shown, even of packets that are refused. No other module of the product imports scapy.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, TextIO

from tandem.config.schema import Config
from tandem.core.packet import PacketError
from tandem.core.settings import Instance
from tandem.effects.vrrp_socket import pack
from tandem.listen.adverts import ETH_P_IP, Datagram, instances_on, listen, take_apart, verdict


def capture(interface: str, config: Config | None, count: int | None, out: TextIO) -> int:
    """Print `count` packets (None: until Ctrl-C) that arrive at or leave `interface`; returns 0.

    ModuleNotFoundError when scapy is not installed, PermissionError without CAP_NET_RAW,
    OSError when there is no such interface, BrokenPipeError when nobody reads `out`.
    """
    show = _Scapy()
    instances = instances_on(interface, config)
    own = show.own_addresses() if config else frozenset()
    with listen(interface) as sock:
        out.write(_headline(interface, config, instances))
        out.flush()
        seen = 0
        try:
            while count is None or seen < count:
                data, address = sock.recvfrom(65535)
                datagram = take_apart(data, 4 if address[1] == ETH_P_IP else 6)
                if address[2] == socket.PACKET_OUTGOING:
                    judgement = "sent by this router"
                elif address[2] == socket.PACKET_OTHERHOST:
                    judgement = "for another host"
                else:
                    judgement = verdict(datagram, config, instances, own)
                now = time.time()
                clock = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03}"
                out.write(f"{clock} {show.describe(datagram)}: {judgement}\n")
                out.flush()
                seen += 1
        except KeyboardInterrupt:
            pass
    return 0


class _Scapy:
    """The parts of scapy that are used. Their import takes 0.3 s and 35 MiB, so that it comes late."""

    def __init__(self) -> None:
        from scapy.config import conf
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.vrrp import VRRP, VRRPv3

        self._conf: Any = conf
        self._ip: dict[int, Any] = {4: IP, 6: IPv6}
        self._vrrp: tuple[Any, Any] = (VRRP, VRRPv3)

    def own_addresses(self) -> frozenset[bytes]:
        """Return the packed addresses of all interfaces of this router."""
        texts = (a for item in self._conf.ifaces.values() for family in (4, 6) for a in item.ips[family])
        return frozenset(pack(text.partition("%")[0]) for text in texts)

    def describe(self, datagram: Datagram | None) -> str:
        """Return source, destination and what the advertisement says, as far as scapy can decode it."""
        if datagram is None:
            return "unreadable packet"
        domain = socket.AF_INET if datagram.family == 4 else socket.AF_INET6
        source = socket.inet_ntop(domain, datagram.source)
        destination = socket.inet_ntop(domain, datagram.destination)
        return f"{source} -> {destination} {self._fields(datagram)}"

    def _fields(self, datagram: Datagram) -> str:
        payload = datagram.payload
        if len(payload) < 8:
            return f"{len(payload)} bytes"
        # Scapy does not even decode the header when the packet ends within an address.
        payload = payload.ljust(8 + payload[3] * len(datagram.source) + 8, b"\0")
        header, length = bytearray(datagram.header), len(payload)
        if datagram.family == 4:  # scapy fails on options and fragments
            header[0] = 0x45
            header[2:4], header[6:8] = struct.pack("!H", 20 + length), b"\0\0"
        else:
            header[4:6] = struct.pack("!H", length)
        packet = self._ip[datagram.family](bytes(header) + payload)
        layer = next((packet[kind] for kind in self._vrrp if packet.haslayer(kind)), None)
        if layer is None:  # scapy could not decode it
            return f"{len(datagram.payload)} bytes"
        words = [f"vrid {layer.vrid}", f"v{layer.version}"]
        if layer.type != 1:
            words.append(f"type {layer.type}")
        words.append(f"priority {layer.priority}{_PRIORITIES.get(layer.priority, '')}")
        words.append(f"every {layer.adv if layer.version == 2 else layer.adv / 100:g} s")
        words.append(_addresses(layer, datagram))
        if layer.version == 2:
            words.append(_AUTHENTICATION.get(layer.authtype, f"auth type {layer.authtype}"))
        return " ".join(words)


_PRIORITIES = {0: " (resigns)", 255: " (owner)"}
_AUTHENTICATION = {0: "no auth", 1: "password", 2: "auth AH"}


def _addresses(layer: Any, datagram: Datagram) -> str:
    """Return the virtual addresses, or their number when the packet is damaged.

    With a wrong count or version, scapy may read the password as an address.
    """
    if isinstance(datagram.decoded(), PacketError):
        return f"{layer.ipcount} addresses"
    return ",".join(str(address) for address in layer.addrlist) or "no addresses"


def _headline(interface: str, config: Config | None, instances: Sequence[Instance]) -> str:
    if config is None:
        return f"Listening on {interface}. Ctrl-C ends.\n"
    names = ", ".join(f"{item.name} (vrid {item.virtual_router_id})" for item in instances)
    return f"Listening on {interface}, home of {names or 'no instance'}. Ctrl-C ends.\n"
