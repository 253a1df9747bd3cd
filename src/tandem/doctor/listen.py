# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's ears: for some seconds they collect the packets that matter on the instances' networks.

Adverts are received twice: from the wire by a packet socket, and behind the firewall by a raw socket like
the daemon's. The router itself has dropped packets that only the first one gets.

A backup is silent, so each doctor also sends adverts for the other router's doctor to hear. They have a
virtual router id that nobody uses and priority 1, and daemons ignore them.

On the active router, the doctor asks on each IPv4 interface which other hosts answer for the virtual
addresses (ARP, RFC 5227 section 1.1), and which hosts offer leases (DHCPDISCOVER, RFC 2131); this router
answers neither question itself. For IPv6 the doctor asks who advertises itself as a router, and who serves
DHCPv6.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tandem.config.schema import Config
from tandem.core.packet import PROBE, Advertisement, PacketError, encode
from tandem.core.settings import Instance
from tandem.doctor.facts import ClaimFacts, HeardFacts, InstanceFacts, RouterFacts
from tandem.effects.endpoint import text
from tandem.effects.rtnl import dump_links
from tandem.effects.vrrp_socket import VrrpSocket, group_of, pack
from tandem.listen import arp, ndp
from tandem.listen.adverts import ETH_P_IP, instances_on, listen, take_apart, verdict

PROBE_EVERY_S = 0.4
FIRST_PROBE_S = 0.3
ARP_EVERY_S = 1.0
MOST = 256  # sources, claims or offers that are kept

_PROBE_IDS = range(255, 200, -1)
_DHCP_CLIENT, _DHCP_SERVER = 68, 67
_SO_BINDTODEVICE = 25

_Key = tuple[str, int, str, int]  # interface, family, source, virtual router id


@dataclass(slots=True)
class Ears:
    """The open sockets and the packets that they have heard so far. Call `close` at the end."""

    config: Config
    router: RouterFacts
    problems: list[str] = field(default_factory=list)
    _heard: dict[_Key, HeardFacts] = field(default_factory=dict)
    _claims: dict[ClaimFacts, None] = field(default_factory=dict)
    _offers: dict[ClaimFacts, None] = field(default_factory=dict)
    _advertisements: dict[ClaimFacts, None] = field(default_factory=dict)
    _offers6: dict[ClaimFacts, None] = field(default_factory=dict)
    _readers: dict[socket.socket | VrrpSocket, Callable[[], None]] = field(default_factory=dict)
    _probes: list[tuple[VrrpSocket, InstanceFacts, bytes]] = field(default_factory=list)
    _arp: list[tuple[socket.socket, bytes]] = field(default_factory=list)
    _dhcp: list[tuple[socket.socket, bytes]] = field(default_factory=list)
    _ipv6: list[tuple[socket.socket, tuple[bytes, tuple[str, int]]]] = field(default_factory=list)

    def open(self) -> None:
        """Open all sockets; an interface that is missing or down has none."""
        done: set[tuple[str, int]] = set()
        for instance, facts in zip(self.config.instances, self.router.instances, strict=True):
            device = self.router.device(instance.interface)
            if not (device.present and device.up):
                continue
            if (instance.interface, 0) not in done:
                done.add((instance.interface, 0))
                self._watch(instance.interface)
            if (instance.interface, instance.family) not in done:
                done.add((instance.interface, instance.family))
                self._take_part(instance, facts)
            if facts.state != "MASTER":
                continue
            if facts.family == 4:
                self._ask_arp(facts)
                if not facts.default_route:
                    self._ask_dhcp(instance.interface)
            if not facts.default_route and (instance.interface, 66) not in done:
                done.add((instance.interface, 66))
                self._ask_ipv6(instance.interface)

    def close(self) -> None:
        """Close the sockets."""
        for reader in self._readers:
            reader.close()
        for sock, _ in self._ipv6:
            sock.close()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: True) -> None:
        """Listen for so long, and longer until the condition is true, which is checked ten times a second."""
        start = time.monotonic()
        probe, arp = start + FIRST_PROBE_S, start
        while (now := time.monotonic()) < start + seconds or not until():
            if now >= probe:
                self._send_probes()
                probe = now + PROBE_EVERY_S
            if now >= arp:
                self._send_questions()
                arp = now + ARP_EVERY_S
            readable, _, _ = select.select(list(self._readers), [], [], 0.1)
            for reader in readable:
                self._readers[reader]()

    def facts(self) -> RouterFacts:
        """Return the router's facts with the packets that were heard."""
        return replace(
            self.router,
            heard=tuple(replace(found, way=self._way(found)) for found in self._heard.values()),
            claims=tuple(self._claims),
            offers=tuple(self._offers),
            advertisements=tuple(self._advertisements),
            offers6=tuple(self._offers6),
        )

    def _way(self, found: HeardFacts) -> str:
        """Return the device by which this router would send to the source of these adverts; "": not known."""
        if found.family == 6:
            return ""  # a link-local address: there is only one way
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect((found.source, 9))
            except OSError:
                return ""
            own = sock.getsockname()[0]
        return next((device.name for device in self.router.devices if own in device.addresses), "")

    # Adverts

    def _watch(self, interface: str) -> None:
        try:
            sock = listen(interface)
        except OSError as error:
            self.problems.append(f"{interface}: {error.strerror or error}")
            return
        sock.setblocking(False)
        self._readers[sock] = lambda: self._arrived(interface, sock)

    def _arrived(self, interface: str, sock: socket.socket) -> None:
        for data, address in _receive(sock):
            if address[2] in (socket.PACKET_OUTGOING, socket.PACKET_OTHERHOST):
                continue
            datagram = take_apart(data, 4 if address[1] == ETH_P_IP else 6)
            if datagram is None or datagram.fragment:
                continue
            advert = datagram.decoded()
            if isinstance(advert, PacketError):
                advert = _damaged(datagram.payload)
            judged = verdict(datagram, self.config, instances_on(interface, self.config))
            found = self._source(interface, datagram.family, datagram.source, advert)
            if found is not None:
                dropped = "" if judged.startswith("accepted") else judged
                self._keep(replace(found, arrived=found.arrived + 1, dropped=dropped))

    def _passed(self, interface: str, sock: VrrpSocket) -> None:
        for payload, source, _, _ in sock.receive():
            found = self._source(interface, sock.family, source, _damaged(payload))
            if found is not None:
                self._keep(replace(found, passed=found.passed + 1))

    def _source(self, interface: str, family: int, source: bytes, advert: Advertisement) -> HeardFacts | None:
        """Return the record of this source; None when there are too many sources."""
        key = (interface, family, text(source), advert.vrid)
        if key in self._heard:
            return self._heard[key]
        if len(self._heard) >= MOST:
            return None
        probe = (advert.priority, advert.interval_cs) == PROBE
        addresses = tuple(text(address) for address in advert.addresses)
        return HeardFacts(*key[:1], family, key[2], advert.vrid, advert.version, addresses, probe=probe)

    def _keep(self, found: HeardFacts) -> None:
        self._heard[found.interface, found.family, found.source, found.virtual_router_id] = found

    # Probes: adverts that the doctor sends

    def _take_part(self, instance: Instance, facts: InstanceFacts) -> None:
        """Open a socket like the daemon's, for adverts that pass the firewall and for sending probes."""
        interface, family = instance.interface, instance.family
        groups = {
            group
            for other in self.config.instances
            if (other.interface, other.family) == (interface, family) and (group := group_of(other))
        }
        try:
            sock = VrrpSocket(interface, socket.if_nametoindex(interface), family, sorted(groups))
        except OSError as error:
            self.problems.append(f"{interface}: {error.strerror or error}")
            return
        self._readers[sock] = lambda: self._passed(interface, sock)
        if (group := group_of(instance)) and facts.source:
            self._probes.append((sock, facts, group))

    def _send_probes(self) -> None:
        for sock, facts, group in self._probes:
            taken = {found.virtual_router_id for found in self._heard.values() if not found.probe}
            taken |= {instance.virtual_router_id for instance in self.config.instances}
            free = next((number for number in _PROBE_IDS if number not in taken), None)
            if free is None:
                continue
            source = pack(facts.source)
            advert = Advertisement(3, free, *PROBE, (source,))
            sock.send(encode(advert, source, group), source, group)

    # Other hosts that have our addresses, or give leases

    def _ask_arp(self, facts: InstanceFacts) -> None:
        mine = {link.mac.hex(":") for link in dump_links()}
        for address, place in zip(facts.addresses, facts.places, strict=True):
            device = self.router.device(place)
            if device.mac.count(":") != 5:
                continue  # no Ethernet
            try:
                sock = arp.open_arp(place)
            except OSError:
                continue
            sock.setblocking(False)
            self._readers[sock] = partial(self._arp_answer, sock, place, mine)
            mac = bytes.fromhex(device.mac.replace(":", ""))
            self._arp.append((sock, arp.probe(mac, address.partition("/")[0])))

    def _arp_answer(self, sock: socket.socket, place: str, mine: set[str]) -> None:
        ours = {
            address.partition("/")[0]
            for instance in self.router.instances
            if instance.state == "MASTER"
            for address in instance.addresses
        }
        for data, _ in _receive(sock):
            address, by = arp.answer(data) or ("", "")
            if address in ours and by not in mine:
                self._note(self._claims, ClaimFacts(place, address, by))

    def _ask_dhcp(self, interface: str) -> None:
        if any(name == interface for name in self._asked()):
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.bind(("", _DHCP_CLIENT))
        except OSError:
            sock.close()  # a DHCP client of this router has the port, so it is no server there
            return
        sock.setblocking(False)
        number = os.urandom(4)
        self._readers[sock] = lambda: self._offer(sock, interface, number)
        self._dhcp.append((sock, _discover(number)))

    def _asked(self) -> Iterator[str]:
        for sock, _ in self._dhcp:
            yield sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, 16).rstrip(b"\0").decode()

    def _offer(self, sock: socket.socket, interface: str, number: bytes) -> None:
        for data, address in _receive(sock):
            answers = len(data) > 240 and data[0] == 2 and data[4:8] == number
            if answers and address[0] not in self.router.addresses:
                self._note(self._offers, ClaimFacts(interface, "", address[0]))

    def _ask_ipv6(self, interface: str) -> None:
        try:
            answers = ndp.open_answers(interface)
        except OSError:
            return
        answers.setblocking(False)
        self._readers[answers] = lambda: self._ipv6_answer(answers, interface)
        for open_socket, question in (
            (ndp.open_solicitor, ndp.solicitation()), (ndp.open_client, ndp.information_request()),
        ):  # fmt: skip
            try:
                self._ipv6.append((open_socket(interface), question))
            except OSError:
                continue  # no IPv6, or a client of this router has the port, so it is no server there

    def _ipv6_answer(self, sock: socket.socket, interface: str) -> None:
        for data, address in _receive(sock):
            kind, by = ndp.answer(data) or ("", "")
            if kind and address[2] != socket.PACKET_OUTGOING and by not in self.router.addresses:
                where = self._advertisements if kind == ndp.ADVERTISEMENT else self._offers6
                self._note(where, ClaimFacts(interface, "", by))

    def _send_questions(self) -> None:
        for sock, (question, where) in self._ipv6:
            _try_send(sock, question, where)
        for sock, question in self._arp:
            _try_send(sock, question, (sock.getsockname()[0], arp.ETH_P_ARP, 0, 0, arp.BROADCAST))
        for sock, question in self._dhcp:
            _try_send(sock, question, ("255.255.255.255", _DHCP_SERVER))

    @staticmethod
    def _note(where: dict[ClaimFacts, None], claim: ClaimFacts) -> None:
        if len(where) < MOST:
            where[claim] = None


def _receive(sock: socket.socket) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    """Yield the packets that have arrived, up to a bound."""
    for _ in range(64):
        try:
            yield sock.recvfrom(65535)
        except OSError:
            return


def _try_send(sock: socket.socket, data: bytes, address: tuple[object, ...]) -> None:
    try:
        sock.sendto(data, address)
    except OSError:
        pass  # the interface went down: missing answers show it


def _damaged(payload: bytes) -> Advertisement:
    """Return the header of a packet, which may be damaged."""
    header = payload.ljust(8, b"\0")
    interval = struct.unpack_from("!H", header, 4)[0] & 0xFFF if header[0] >> 4 == 3 else header[5] * 100
    return Advertisement(header[0] >> 4, header[1], header[2], interval, ())


def _discover(number: bytes) -> bytes:
    """Return a DHCPDISCOVER of a client that does not exist and wants its answer as a broadcast."""
    mac = b"\x02" + number + b"\x01"
    head = struct.pack("!BBBB4sHH4s4s4s4s16s192s", 1, 1, 6, 0, number, 0, 0x8000, *[bytes(4)] * 4, mac, b"")
    return head + b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\x37\x02\x01\x03" + b"\xff"
