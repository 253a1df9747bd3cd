# SPDX-License-Identifier: GPL-2.0-or-later
"""WireWatch: looks every few seconds for problems between the routers, for the log and `health`.

core/trouble.py decides what a problem is. This module collects the facts and asks it.
"""

from __future__ import annotations

from tandem.core.state import Role
from tandem.core.timers import SECOND
from tandem.core.tracking import OWNER
from tandem.core.trouble import SETTLE, Situation
from tandem.effects.announce import probe_frame
from tandem.effects.claims import Claims
from tandem.effects.endpoint import Endpoint, text
from tandem.effects.vrrp_socket import pack
from tandem.loop import TIMER_SLACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tandem.core.trouble import Report
    from tandem.core.virtual_router import VirtualRouter
    from tandem.effects.announce import Announcer
    from tandem.effects.claims import Place
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.router import Router

LOOK = 3 * SECOND
ASK = 30 * SECOND  # who else has a virtual address?
_TIMER = "wire watch"


class WireWatch:
    """Collects facts every LOOK; `report` has the problems of the last look."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        router: Router,
        announcer: Announcer,
    ) -> None:
        self.report: Report = {}
        self._loop = loop
        self._log = log
        self._router = router
        self._announcer = announcer
        self._claims = Claims(loop, self._claimed)
        self._asked: dict[str, int] = {}  # the time of the last question, by instance

    def start(self) -> None:
        """Begin to look."""
        self._loop.call_at(_TIMER, self._loop.now() + LOOK, self._look)

    def close(self) -> None:
        """Stop, and close the sockets."""
        self._loop.call_at(_TIMER, None)
        self._claims.close()

    def _look(self, now: int) -> None:
        self._loop.call_at(_TIMER, now + LOOK, self._look, TIMER_SLACK)
        before = {line for lines in self.report.values() for line in lines}
        self.report = self._router.trouble.look(now, list(self._situations(now)))
        found = {line for lines in self.report.values() for line in lines}
        for line in sorted(found - before):
            self._log.limited(("wire", line), "warning", line)
        for line in sorted(before - found):
            self._log.limited(("wire over", line), "info", f"no longer: {line}")
        self._ask(now)

    def _situations(self, now: int) -> Iterator[Situation]:
        links, neighbours = self._router.links, self._router.neighbours
        present = links.addresses()
        neighbours.due(now)
        for group in self._router.groups.values():
            for member in group.members:
                endpoint = self._router.endpoints[member.name]
                settings = endpoint.settings
                held = endpoint.installed or settings.priority == OWNER
                strays = () if held else tuple(a for a in endpoint.virtual_addresses if a in present)
                yield Situation(
                    name=member.name,
                    active=endpoint.installed,
                    since=self._router.changed.get(member.name, now),
                    interval_ms=settings.advert_int_cs * 10,
                    learns_interval=settings.version == 3,
                    peer=_peer(member, now),
                    unheard=neighbours.unheard(group.settings.name, member.name),
                    strays=tuple((text(stray), self._device_of(stray)) for stray in strays),
                )

    def _device_of(self, address: bytes) -> str:
        links = self._router.links
        return next((name for name in links.names() if links.has_address(name, address)), "?")

    # Other hosts that have our addresses

    def _ask(self, now: int) -> None:
        """Listen where this router is active. Ask SETTLE after it became active, and then every ASK."""
        wanted: dict[Place, set[bytes]] = {}
        questions: list[tuple[int, list[bytes]]] = []
        for name, endpoint in self._router.endpoints.items():
            since = self._router.changed.get(name, now)
            due = now - since >= SETTLE and not since < self._asked.get(name, 0) > now - ASK
            for (device, index, mac), addresses in self._places(endpoint).items():
                for address in addresses:
                    wanted.setdefault((device, index, 4 if len(address) == 4 else 6), set()).add(address)
                if due:
                    questions.append((index, [probe_frame(mac, address) for address in addresses]))
                    self._asked[name] = now
        for problem in self._claims.watch({place: frozenset(some) for place, some in wanted.items()}):
            self._log.limited(("wire", "listen"), "warning", f"{problem}: other hosts' ARP is not heard")
        for index, frames in questions:
            self._announcer.send(index, frames)

    def _places(self, endpoint: Endpoint) -> dict[tuple[str, int, bytes], list[bytes]]:
        """Return an active instance's virtual addresses by device, index and MAC address; Ethernet only."""
        found: dict[tuple[str, int, bytes], list[bytes]] = {}
        links, settings = self._router.links, endpoint.settings
        for address in settings.virtual_addresses + settings.excluded_addresses if endpoint.installed else ():
            name = address.device or endpoint.home
            device, index, mac = links.device(name), links.index(name), links.mac(name)
            if device and index is not None and mac is not None and len(mac) == 6 and any(mac):
                found.setdefault((device, index, mac), []).append(pack(address.address))
        return found

    def _claimed(self, address: bytes, mac: bytes) -> None:
        links = self._router.links
        if any(links.mac(name) == mac for name in links.names()):
            return
        for name, endpoint in self._router.endpoints.items():
            # A router with the same virtual MAC address shows in its adverts.
            if endpoint.installed and address in endpoint.virtual_addresses:
                now = self._loop.now()
                since = self._router.changed.get(name, now)
                self._router.trouble.claimed(name, text(address), mac.hex(":"), since, now)


def _peer(member: VirtualRouter, now: int) -> tuple[str, int] | None:
    """Return the active router that a backup hears, and its interval in ms."""
    peer = member.peer
    if peer is None or member.role is not Role.BACKUP or now - peer.heard > member.active_down_interval():
        return None
    return text(peer.source), peer.interval_cs * 10
