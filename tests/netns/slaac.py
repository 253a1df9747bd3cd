# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that makes its addresses of router advertisements, and who answers for an IPv6 address there."""

from __future__ import annotations

import json

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether

from tests.lab import Host
from tests.lab.frames import say
from tests.lab.netns import write_sysctls

ALONE = "fd00:8::4"  # a virtual address in whose prefix no router of the lab has another one


def listen(host: Host) -> None:
    """Let the host take router advertisements."""
    write_sysctls(host.namespace, {"ipv6/conf/eth0/accept_ra": 2})


def own_addresses(host: Host) -> frozenset[str]:
    """The addresses that the host has made of the prefixes it was told."""
    found = json.loads(host.exec("ip", "-6", "-j", "addr", "show", "dev", "eth0", "mngtmpaddr", "dynamic"))
    return frozenset(item["local"] for entry in found for item in entry["addr_info"] if item.get("local"))


def answers(host: Host, address: str) -> set[str]:
    """Return the link-layer addresses that answer a neighbour solicitation within half a second."""
    mac = host.exec("cat", "/sys/class/net/eth0/address").strip()
    ask = ICMPv6ND_NS(tgt=address) / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    frame = Ether(src=mac, dst="33:33:ff:00:00:04") / IPv6(src="fd00:1::10", dst="ff02::1:ff00:4") / ask
    found = say(host, frame, 0.5)
    return {packet.src for packet in found if ICMPv6ND_NA in packet and packet[ICMPv6ND_NA].tgt == address}
