# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared parts of the interoperability tests: ways to speak VRRP, a failover's story, a client's view."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet
from scapy.utils6 import in6_getnsma, in6_getnsmac

from tests.lab import Daemon, Host, Instance, LanLab, Router, Tandem, netns, stays, wait_until
from tests.lab import Frr as LabFrr
from tests.lab import Keepalived as LabKeepalived

GATEWAY4 = "192.168.1.254"
GATEWAY6 = "fd00:1::fe"
LINK_LOCAL6 = "fe80::51"
ADVERT_S = 0.1
_ETH_P_ALL = 3

# Log lines of keepalived 2.2.7 and FRR 8.4 about an advertisement that they discard.
_COMPLAINT = re.compile(
    r"nvalid|mismatch|unexpected|too (long|short)|wrong version|Expected \w+cast|expecting"
    r"|Bad VRRP checksum|undersized|oversized|Datagram has"
)
# Counters of a tandemd that has dropped no packet and done all it wanted.
_PEACEFUL = {
    "adverts_received", "adverts_sent", "priority_zero_received", "priority_zero_sent", "announcements_sent",
    "log_lines_dropped",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One way to speak VRRP, the same on all routers of a LAN."""

    name: str
    version: int = 3
    ipv6: bool = False
    unicast: bool = False
    vmac: bool = False
    auth_pass: str | None = None
    virtual_router_id: int = 51
    advert_s: float = ADVERT_S  # VRRPv2 has whole seconds
    addresses: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)  # of tandemd
    keepalived: tuple[str, ...] = ()  # the same for keepalived

    def instance(self, number: int, priority: int, *, routers: int = 2, preempt: bool = True) -> Instance:
        """The instance of router `number` (from 1) of so many."""
        hosts = [f"fd00:1::{n + 1}" if self.ipv6 else f"192.168.1.{n + 1}" for n in range(1, routers + 1)]
        source = hosts.pop(number - 1)
        default = (f"{LINK_LOCAL6}/64", f"{GATEWAY6}/64") if self.ipv6 else (f"{GATEWAY4}/24",)
        return Instance(
            self.name,
            "eth0",
            self.virtual_router_id,
            self.addresses or default,
            priority=priority,
            version=self.version,
            advert_s=1 if self.version == 2 else self.advert_s,
            preempt=preempt,
            auth_pass=self.auth_pass,
            unicast_src=source if self.unicast else None,
            unicast_peers=tuple(hosts) if self.unicast else (),
            vmac=f"vrrp{self.virtual_router_id}" if self.vmac else None,
            options=dict(self.options),
            keepalived=self.keepalived,
        )


def both_families(ipv6: dict[str, Any] | None = None, **options: Any) -> list[Variant]:
    """IPv4 and IPv6 the same way on one LAN; `ipv6`: options of that one alone."""
    six = Variant("ipv6", ipv6=True, virtual_router_id=52, **options | (ipv6 or {}))
    return [Variant("ipv4", **options), six]


class Keepalived(LabKeepalived):
    """keepalived that tells of every priority 0 it hears."""

    def commands(self, router: Router) -> list[list[str]]:
        return [[*argv, "--log-detail"] for argv in super().commands(router)]


class Frr(LabFrr):
    """FRR as an administrator has to set it up to share a LAN with others.

    Its addresses stay on macvlans that are down while in backup: without arp_ignore the kernel
    answers for them on the base interface, and on the macvlans of the other family.
    """

    def prepare(self, router: Router) -> None:
        super().prepare(router)
        netns.write_sysctls(router.namespace, {"ipv4/conf/all/arp_ignore": 1})


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    path = "/usr/lib/frr:/usr/sbin:/usr/bin:/sbin:/bin"
    missing = [name for name in programs if not shutil.which(name, path=path)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def pair(one: type[Daemon], other: type[Daemon], *variants: Variant, preempt: bool = True) -> LanLab:
    """A LAN with two routers: `one`, on r1, has the higher priority."""
    return LanLab(
        [
            daemon([variant.instance(number, priority, preempt=preempt) for variant in variants])
            for number, daemon, priority in ((1, one, 110), (2, other, 90))
        ]
    )


# The state of the LAN


def settled(lab: LanLab, active: Router, others: Sequence[Router]) -> None:
    """Wait until `active` alone is the gateway, and everybody says so; then see that it rests so.

    `others` are the routers that are alive. Clients reach every address, and one machine answers
    for each.
    """

    def agreed() -> None:
        now = lab.active
        assert now is active, f"active: {now.name if now else None}"
        assert active.all_in("MASTER"), f"{active.name}: {active.states()}"
        for router in others:
            assert router.all_in("BACKUP"), f"{router.name}: {router.states()}"

    def reached(address: str) -> bool:
        agreed()
        return reaches(lab.client, address)

    wait_until(lambda: agreed() is None, 12, f"{active.name} is the active router")
    addresses = [item.split("/")[0] for vr in active.daemon.instances for item in vr.addresses]
    for address in addresses:
        wait_until(lambda address=address: reached(address), 10, f"the client reaches {address}")
    # A dead active router is missed after three to four intervals: by then a hidden one has shown.
    slow = any(vr.advert_s >= 1 for vr in active.daemon.instances)
    stays(lambda: lab.active is active, 1 if slow else 4 * ADVERT_S, f"{active.name} is active")
    agreed()
    for address in addresses:
        assert len(answering(lab.client, address)) == 1, f"who has {address}?"


def undisturbed(*routers: Router) -> None:
    """No daemon has refused a packet of another one."""
    for router in routers:
        if isinstance(router.daemon, Tandem):
            status = Tandem.request(router, "status")
            for counters in (status["counters"], *(item["counters"] for item in status["instances"])):
                unusual = {name: count for name, count in counters.items() if count and name not in _PEACEFUL}
                assert not unusual, f"{router.name}: {unusual}"
        else:
            complaints = [line for line in router.log().splitlines() if _COMPLAINT.search(line)]
            assert not complaints, f"{router.name}: {complaints}"


def resigned(router: Router) -> bool:
    """Whether the daemon has heard a priority 0 from its peer."""
    if isinstance(router.daemon, Tandem):
        status = Tandem.request(router, "status")
        return all(item["counters"].get("priority_zero_received") for item in status["instances"])
    if isinstance(router.daemon, LabKeepalived):
        said = "({}) Backup received priority 0 advertisement"
        return all(said.format(vr.name) in router.log() for vr in router.daemon.instances)
    return True  # FRR does not tell


def story(lab: LanLab, *, again: bool = True) -> None:
    """Election, death and return, farewell and return: r1 has the higher priority and always wins.

    Without `again` it ends with the farewell, which is no other return than the first.
    """
    one, other = lab.routers
    lab.start()
    settled(lab, one, [other])
    one.power_off()
    settled(lab, other, [])
    one.power_on()
    settled(lab, one, [other])
    undisturbed(one, other)
    assert one.stop() == 0
    settled(lab, other, [])
    assert resigned(other)
    if again:
        one.start()
        settled(lab, one, [other])
    undisturbed(*lab.routers if again else [other])


# The view of a client


def reaches(client: Host, address: str) -> bool:
    """Whether the client gets an answer from the address within a second."""
    device = ("-I", "eth0") if address.startswith("fe80") else ()
    return " bytes from " in client.exec("ping", "-c1", "-W1", *device, address, check=False)


def answering(client: Host, address: str, quiet_s: float = 0.1) -> set[str]:
    """The MAC addresses that answer when the client asks its LAN who has the address.

    It waits up to 2 s for an answer and then `quiet_s` for another one.
    """
    prefix = "fe80" if ":" in address else "192."
    source = next(own for own in client.addresses() if own.startswith(prefix))

    def ask() -> set[str]:
        found: set[str] = set()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as sock:
            sock.bind(("eth0", _ETH_P_ALL))
            mac = sock.getsockname()[4].hex(":")
            sock.send(bytes(_question(mac, source, address)))
            deadline = time.monotonic() + 2
            while (left := deadline - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    frame = Ether(sock.recv(2048))
                except TimeoutError:
                    break
                arp, advert = frame.getlayer(ARP), frame.getlayer(ICMPv6ND_NA)
                if (arp and arp.op == 2 and arp.psrc == address) or (advert and advert.tgt == address):
                    deadline = deadline if found else time.monotonic() + quiet_s
                    found.add(frame.src)
        return found

    return client.enter(ask)


def _question(mac: str, source: str, address: str) -> Packet:
    """An ARP request or neighbour solicitation for the address."""
    if ":" not in address:
        return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac, psrc=source, pdst=address)
    group = in6_getnsma(socket.inet_pton(socket.AF_INET6, address))
    ip = IPv6(src=source, dst=socket.inet_ntop(socket.AF_INET6, group), hlim=255)
    solicitation = ICMPv6ND_NS(tgt=address) / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return Ether(src=mac, dst=in6_getnsmac(group)) / ip / solicitation
