# SPDX-License-Identifier: GPL-2.0-or-later
"""Hearing: which routers' adverts the kernel lets pass, and what becomes of an advert that has arrived."""

from __future__ import annotations

from collections.abc import Callable

from tandem.admission import Admission, Place
from tandem.core.events import AdvertReceived, Event
from tandem.core.neighbour import Neighbours
from tandem.core.state import Role
from tandem.core.strangers import Strangers
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND
from tandem.core.trouble import Trouble
from tandem.core.virtual_router import VirtualRouter
from tandem.effects.endpoint import Endpoint, text
from tandem.effects.interfaces import Interfaces
from tandem.effects.reception import Wanted
from tandem.effects.vrrp_socket import NO_ADDRESS, Received, VrrpSocket
from tandem.log import Logger
from tandem.loop import Loop

SORT_PAUSE = 1_000 * MILLISECOND  # between two looks at which routers are known


class Hearing:
    """The adverts of all instances; `group_of` has the group of each, and `dispatch` gives it an event."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        interfaces: Interfaces,
        strangers: Strangers,
        neighbours: Neighbours,
        group_of: dict[str, SyncGroup],
        dispatch: Callable[[SyncGroup, Event], None],
    ) -> None:
        self.drops: dict[str, int] = {}  # packets for no instance of ours
        self.trouble = Trouble()
        self._loop = loop
        self._log = log
        self._interfaces = interfaces
        self._strangers = strangers
        self._neighbours = neighbours
        self._group_of = group_of
        self._dispatch = dispatch
        self._admission = Admission(log, self.drops, self.trouble, loop.now)
        self._sorting = False

    def expect(self, endpoints: dict[Place, Endpoint]) -> None:
        """Take adverts for these endpoints from now on."""
        self._admission.expect(endpoints)

    # Adverts

    def packets(self, sock: VrrpSocket, most: int, flooded: bool, familiar: bool = False) -> int:
        """Handle up to `most` packets that have arrived on a socket; return how many there were.

        `flooded`: other packets were not read. The resignation of an unknown router then counts as unread
        too, because packets of the active router, which contradict it, may be among the unread ones.
        `familiar`: take, once each, only the packets that were accepted before; the others are unread.
        """
        packets = sock.receive(most)
        taken = (
            [one for one in dict.fromkeys(packets) if (sock, one) in self._admission.known]
            if familiar
            else packets
        )
        for packet in taken:
            self._packet(sock, packet, flooded)
        unread = sock.lost() + len(packets) - len(taken)
        for name, count in (("malformed", sock.malformed), ("unread", unread)):
            if count:
                self.drops[name] = self.drops.get(name, 0) + count
        sock.malformed = 0
        return len(packets)

    def _packet(self, sock: VrrpSocket, packet: Received, flooded: bool = False) -> None:
        admitted = self._admission.known.get((sock, packet)) or self._admission.admit(sock, packet)
        if admitted is not None:
            endpoint, event = admitted
            if self._ignores(endpoint, event):
                return
            if flooded and not event.advert.priority and event.source not in endpoint.known:
                self.drops["unread"] = self.drops.get("unread", 0) + 1
                return
            endpoint.count("adverts_received" if event.advert.priority else "priority_zero_received")
            self._dispatch(self._group_of[event.instance], event)
            if event.source not in endpoint.known:
                if not endpoint.known and self._member(event.instance).peer is not None:
                    self.sort()  # the first active router that is heard: no flood must drown it from now on
                else:
                    self.sort_soon()
            if self._neighbours.sources:
                settings, now = endpoint.settings, self._loop.now()
                source = settings.virtual_router_id, event.source
                self._neighbours.advert(event.instance, source, event.advert, settings.advert_int_cs, now)
            if endpoint.installed and event.advert.priority:
                interval_ms = event.advert.interval_cs * 10
                self.trouble.contested(event.instance, text(event.source), interval_ms, self._loop.now())

    def _ignores(self, endpoint: Endpoint, event: AdvertReceived) -> bool:
        """Whether an advert is a stranger's, and only counted because an authenticated peer is there."""
        settings, advert, source = endpoint.settings, event.advert, event.source
        if settings.strangers != "ignore":
            return False
        if not self._strangers.is_stranger(settings.family, settings.virtual_router_id, source):
            return False
        endpoint.count("strangers_ignored")
        endpoint.stranger = source, advert.priority, advert.interval_cs, self._loop.now()
        said = f"priority {advert.priority}, interval {advert.interval_cs / 100:g} s"
        message = f"{settings.name}: {text(source)} is no Tandem peer, its adverts are ignored ({said})"
        self._log.limited(("strangers", settings.name, source), "warning", message)
        return True

    # Known routers

    def sort_soon(self) -> None:
        """Call `sort` in a while, because the known routers may have changed."""
        if not self._sorting:
            self._sorting = True
            self._loop.call_at("sort", self._loop.now() + SORT_PAUSE, lambda _now: self.sort())

    def sort(self) -> None:
        """Give the kernel the known routers, whose adverts are read at once."""
        self._sorting = False
        found: dict[tuple[str, int], list[Endpoint]] = {}
        for (device, family, vrid), endpoint in self._admission.endpoints.items():
            found.setdefault((device, family), []).append(endpoint)
            peer = self._member(endpoint.settings.name).peer
            heard = frozenset([peer.source]) if peer is not None else frozenset()
            endpoint.known = endpoint.configured | heard | self._strangers.peers(family, vrid) or NO_ADDRESS
        self._interfaces.hear({key: self._wanted(endpoints) for key, endpoints in found.items()})

    def _wanted(self, endpoints: list[Endpoint]) -> Wanted:
        settings = [endpoint.settings for endpoint in endpoints]
        # A backup that knows no active router has to hear all routers.
        listening = any(
            not endpoint.known and self._group_of[endpoint.settings.name].role is not Role.ACTIVE
            for endpoint in endpoints
        )
        known: frozenset[bytes] = frozenset()
        return Wanted(
            frozenset((instance.version, instance.virtual_router_id) for instance in settings),
            min(endpoint.expected.min_hop_limit for endpoint in endpoints),
            None if listening else known.union(*(endpoint.known for endpoint in endpoints)),
            sum(100 // instance.advert_int_cs + 1 for instance in settings),
        )

    def _member(self, name: str) -> VirtualRouter:
        return next(member for member in self._group_of[name].members if member.name == name)
