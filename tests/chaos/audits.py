# SPDX-License-Identifier: GPL-2.0-or-later
"""The audit of what the hosts see: who answers for the virtual addresses."""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from collections.abc import Iterable

from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from tests.chaos.walk import LAN, WAN, World
from tests.lab import LAN_GATEWAY, PROVIDER, WAN_ADDRESS, Host, Router
from tests.netns.live import CLIENT, CLIENT6, LAN_GATEWAY6, WAN_ADDRESS6

LISTEN_S = 0.15  # after a question, for all answers
ETH_P_ALL = 3


class Segment:
    """Asks, from a host on one segment, who has the virtual addresses there."""

    def __init__(self, host: Host, own: tuple[str, str], addresses: tuple[str, str]) -> None:
        """Addresses are pairs of IPv4 and IPv6."""
        self.addresses = addresses
        self._socket = host.enter(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        self._socket.bind(("eth0", ETH_P_ALL))
        mac = self._socket.getsockname()[4]
        text = ":".join(f"{byte:02x}" for byte in mac)
        self._packed = {ipaddress.ip_address(address).packed for address in addresses}
        group = (
            ipaddress.ip_address("ff02::1:ff00:0").packed[:13]
            + ipaddress.ip_address(addresses[1]).packed[13:]
        )
        to = "33:33:" + ":".join(f"{byte:02x}" for byte in group[12:])
        self._questions = [
            bytes(
                Ether(src=text, dst="ff:ff:ff:ff:ff:ff")
                / ARP(op=1, hwsrc=text, psrc=own[0], pdst=addresses[0])
            ),
            bytes(
                Ether(src=text, dst=to)
                / IPv6(src=own[1], dst=str(ipaddress.IPv6Address(group)), hlim=255)
                / ICMPv6ND_NS(tgt=addresses[1])
                / ICMPv6NDOptSrcLLAddr(lladdr=text)
            ),
        ]

    def holders(self) -> dict[str, set[str]]:
        """Ask once; return the MAC addresses that answer, by address."""
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(2048)
        for question in self._questions:
            self._socket.send(question)
        found: dict[str, set[str]] = {address: set() for address in self.addresses}
        deadline = time.monotonic() + LISTEN_S
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                frame = self._socket.recv(2048)
                address = _answered(frame)
                if address in self._packed:
                    found[str(ipaddress.ip_address(address))].add(frame[6:12].hex(":"))
        return found

    def close(self) -> None:
        self._socket.close()


def _answered(frame: bytes) -> bytes:
    """Return the address that a frame says to be at its sender; b"": none."""
    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
        return frame[28:32]
    if frame[12:14] == b"\x86\xdd" and frame[20] == socket.IPPROTO_ICMPV6 and frame[54] == 136:
        return frame[62:78]
    return b""


class Answers:
    """Who answers on both segments."""

    def __init__(self, client: Host, server: Host) -> None:
        self._segments = (
            Segment(client, (CLIENT, CLIENT6), (LAN_GATEWAY, LAN_GATEWAY6)),
            Segment(server, (PROVIDER, "fd00::1"), (WAN_ADDRESS, WAN_ADDRESS6)),
        )

    def audit(self, world: World, routers: Iterable[Router]) -> set[str]:
        """Return the routers that are active for the hosts. AssertionError: they are not the right ones."""
        powered = [router for router in routers if router.powered]
        active = {router.name for router in powered if router.active}
        wrong = [f"{one.name} has some addresses" for one in powered if not (one.active or one.passive)]
        chosen = [active & election for election in world.elections]
        if any(len(one) != 1 for one in chosen) or active != set().union(*chosen):
            wrong.append(f"active: {sorted(active) or 'nobody'}")
        for port, segment in zip((LAN, WAN), self._segments, strict=True):
            due = world.answers(port, active)
            for address, macs in segment.holders().items():
                names = sorted(map(_owner, macs))
                if names != sorted(due):
                    wrong.append(f"{address} is answered by {names or 'nobody'}")
        assert not wrong, f"{'; '.join(wrong)}; one of each can be active: {world.elections}"
        return active & world.near

    def close(self) -> None:
        for segment in self._segments:
            segment.close()


def _owner(mac: str) -> str:
    """Name the host of a MAC address of the lab (`Host.mac`), where routers come after client and server."""
    return f"r{int(mac.split(':')[4], 16) - 2}" if mac.startswith("02:00:00:00:") else mac
