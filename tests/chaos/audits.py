# SPDX-License-Identifier: GPL-2.0-or-later
"""The audits: who answers for the virtual addresses, and whether each router is as it should be.

A router is as it should be when its kernel looks as it did when the router had this role first, and when its
daemon has no process, descriptor, memory or log line too many.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from tests.chaos.walk import LAN, WAN, World
from tests.lab import LAN_GATEWAY, PROVIDER, WAN_ADDRESS, Host, Router, Tandem
from tests.netns.live import CLIENT, CLIENT6, LAN_GATEWAY6, WAN_ADDRESS6

LISTEN_S = 0.15  # after a question, for all answers
DESCRIPTORS = 16  # more than at the first look: paths to a peer that was away then
MEMORY_KIB = 3072  # likewise; and the flows of a flood before its start, which a peer still holds
FLOOD_KIB = 800  # more for each flood, see faults.FLOOD
LOG_LINES = 120  # of a router after one step
VOLATILE = re.compile(  # not part of a state
    r"nf_conntrack_count|nf_conntrack_expect_count|\.(route\.flush|random|stable_secret)"
)
BLOCKED = re.compile(r"table inet chaos \{.*?\n\}\n", re.DOTALL)  # of the walk itself
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
    """Name the host of a MAC address of the lab: 02:00:00:00:NUMBER:PORT, after client and server."""
    return f"r{int(mac.split(':')[4], 16) - 2}" if mac.startswith("02:00:00:00:") else mac


class Condition:
    """The state of one router, held against its first look in the same role."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._kernel: dict[str, dict[str, Counter[str]]] = {}
        self._pid = 0
        self._first = (0, 0)  # descriptors and memory of this process at its first look
        self._log_at = 0
        self.memory_kib = 0

    def kernel(self, role: str, again: Callable[[], bool]) -> None:
        """Compare what the kernel has with the first look; `again` says whether to look once more."""
        while True:
            found = look(self._router)
            first = self._kernel.setdefault(role, found)
            if found == first:
                return
            if not again():
                break
        wrong = []
        for part in first:
            wrong += [f"{part} more: {line}" for line in (found[part] - first[part]).elements()]
            wrong += [f"{part} less: {line}" for line in (first[part] - found[part]).elements()]
        raise AssertionError(f"{self._router.name} as {role}: " + "\n  ".join(["", *wrong[:20]]))

    def flooded(self) -> None:
        """Flows have come that take memory, some of which the allocator keeps when they have gone."""
        self._first = self._first[0], self._first[1] + FLOOD_KIB

    def process(self) -> None:
        """One process, no more descriptors and memory than at first, no exception."""
        router = self._router
        pids = [pid for pid in router.family() if _program(pid).startswith("tandemd")]
        assert len(pids) == 1, f"{router.name}: processes {[(pid, _program(pid)) for pid in router.family()]}"
        [pid] = pids
        descriptors, memory = len(os.listdir(f"/proc/{pid}/fd")), _memory_kib(pid)
        self.memory_kib = memory
        if pid != self._pid:
            self._pid, self._first = pid, (descriptors, memory)
        assert descriptors <= self._first[0] + DESCRIPTORS, f"{router.name}: {descriptors} descriptors"
        limit = self._first[1] + MEMORY_KIB
        assert memory <= limit, f"{router.name}: {memory} KiB, {self._first[1]} KiB at first"
        status: dict[str, Any] = Tandem.request(router, "status")
        bugs = status["counters"].get("exceptions", 0)
        assert not bugs, f"{router.name}: {bugs} exceptions: {status['health']}"

    def log(self) -> None:
        """A step adds few lines, and no traceback."""
        path = self._router.file("log")
        data = path.read_bytes() if path.exists() else b""
        new, self._log_at = data[self._log_at :].decode(errors="replace"), len(data)
        assert "Traceback" not in new, f"{self._router.name}: {new[-3000:]}"
        lines = new.splitlines()
        assert len(lines) <= LOG_LINES, f"{self._router.name}: {len(lines)} lines of log:\n{new[-3000:]}"


def _memory_kib(pid: int) -> int:
    """Return the memory that is the process's own: pages of files come and go with what others read."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def _program(pid: int) -> str:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((Path(word.decode()).name for word in argv if word.endswith(b"tandemd")), str(argv[:3]))


def look(router: Router) -> dict[str, Counter[str]]:
    """Return what the kernel of a router has, without what changes by itself."""
    addresses = [
        f"{link['ifname']} {info['local']}/{info['prefixlen']} {info.get('scope')}"
        for link in json.loads(router.exec("ip", "-j", "address"))
        for info in link["addr_info"]
    ]
    routes = [
        " ".join(f"{key} {value}" for key, value in sorted(route.items()) if key not in ("flags", "expires"))
        for family in ("-4", "-6")
        for route in json.loads(router.exec("ip", "-j", family, "route", "show", "table", "all") or "[]")
    ]
    rules = [line for family in ("-4", "-6") for line in router.exec("ip", family, "rule").splitlines()]
    ruleset = BLOCKED.sub("", router.exec("nft", "-s", "list", "ruleset"))
    nft = [line.strip() for line in ruleset.splitlines()]
    sysctls = [
        line
        for line in router.exec("sysctl", "-a", "-e", "-r", r"^net\.", check=False).splitlines()
        if not VOLATILE.search(line)
    ]
    found = {"address": addresses, "route": routes, "rule": rules, "nft": nft, "sysctl": sysctls}
    return {name: Counter(lines) for name, lines in found.items()}
