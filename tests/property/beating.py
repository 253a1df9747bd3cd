# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulated LAN with heartbeats: every LAN is a path between each pair of routers, and so is a cable.

A router that leads reads heartbeats when its own are due. While the cable works, a session tells it of news.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tandem.core.heartbeats import DIES, Beats, Life
from tandem.core.standing import Entry, Standings, leads, matching, seats, standing_of
from tandem.core.state import Role
from tests.property.lan import MILLISECOND, Checked, Lan, Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.core.events import Event

    Heard = tuple[Router, Router, int, int, int, bytes, bool, int]  # the arguments of `_hear`

CABLE = -1  # as the number of a LAN
INTERVAL = 50 * MILLISECOND
MISS = 3


def directory(router: Router) -> list[Entry]:
    """The virtual routers of a router."""
    pairs = zip(router.instances, router.sources, strict=True)
    return [Entry(instance.name, 51, 4, source) for instance, source in pairs]


@dataclass
class Daemon:
    """One life of a router's daemon."""

    standings: Standings
    beats: dict[int, Beats]  # of the others
    node: int
    number: int = 0
    due: int = 0  # when its next heartbeat is due
    nodes: dict[int, int] = field(default_factory=dict)
    meets: dict[tuple[int, int], int] = field(default_factory=dict)  # since then, by number and node
    said: dict[int, bytes] = field(default_factory=dict)  # the others, last
    taken: dict[int, tuple[bool, bytes]] = field(default_factory=dict)  # what the groups know of the others
    unread: list[Heard] = field(default_factory=list)


class BeatingLan(Lan):
    """The simulation; `cables`: pairs of routers whose cable works. Every router has one sync group.

    `holds`, `compares`: see core/standing.py. The routers in `old` send no heartbeats.
    """

    def __init__(
        self, routers: list[Router], lans: int, seed: int, holds: bool = True, compares: bool = True
    ) -> None:
        super().__init__(routers, lans, seed)
        self.holds, self.compares = holds, compares
        self.session = 0  # ns, until a session tells the keys of a daemon that has started anew
        self.old: set[int] = set()
        self.cables = {frozenset((a.number, b.number)) for a in routers for b in routers if a is not b}
        self.lives: dict[int, Daemon] = {}
        self.deaths: list[tuple[int, int, int]] = []  # when, who found, whom
        self.bare: list[int] = []  # moments when no router had the addresses

    def power_on(self, router: Router) -> None:
        if router.groups:
            return
        super().power_on(router)
        if router.number in self.old:
            return
        others = [other.number for other in self.routers if other is not router]
        beats = {number: Beats(MISS) for number in others}
        self.lives[router.number] = Daemon(Standings(self.holds, self.compares), beats, router.life)
        self._look_at_paths(router)
        self._beat(router, router.life, self.now)

    def power_off(self, router: Router) -> None:
        super().power_off(router)
        self.lives.pop(router.number, None)

    def _beat(self, router: Router, life: int, due: int) -> None:
        """Send a heartbeat by every path, judge the others, and do so again in the next interval."""
        if router.life != life or not router.groups:
            return
        mine, group = self.lives[router.number], router.groups[0].group
        local = self.now + router.offset
        mine.due = due + router.offset
        self._read(mine)
        if self.now - due > INTERVAL // 2:
            for beats in mine.beats.values():
                beats.spare(local + INTERVAL)
        self.beat_now(router)
        for number, beats in mine.beats.items():
            if DIES in beats.due(local):
                self.deaths.append((self.now, router.number, number))
                mine.taken.pop(number, None)
                self._happen(router, mine.standings.died(str(number), {"G": group}, local, beats.silent))
        self._happen(router, mine.standings.lasting({"G": group}, MISS * INTERVAL, local))
        following = max(due + INTERVAL, self.now)
        mine.due = following + router.offset
        when = following + self.random.randint(0, router.lateness)
        self._at(when, router, lambda: self._beat(router, life, following), timer=True)

    def reaches(self, router: Router) -> bool:
        """Whether a path by which others begin to speak to a router works; here the cable."""
        return True

    def set_link(self, router: Router, lan: int, up: bool) -> None:
        super().set_link(router, lan, up)
        self._do(router, lambda: self._look_at_paths(router))

    def _look_at_paths(self, router: Router) -> None:
        if router.number in self.lives:
            standings, group = self.lives[router.number].standings, router.groups[0].group
            self._happen(router, standings.reach(self.reaches(router), {"G": group}))

    def beat_now(self, router: Router) -> None:
        """Send a heartbeat by every path."""
        if router.number not in self.lives:
            return
        mine, group = self.lives[router.number], router.groups[0].group
        mine.number += 1
        said = b"".join(
            standing_of(group, member, router.links[lan]) for lan, member in enumerate(group.members)
        )
        late = router.lateness
        for other in self.routers:
            if other is not router:
                hears = mine.beats[other.number].life is Life.ALIVE
                for path in (*range(len(self.wires)), CABLE):
                    if self._carries(router, other, path):
                        delay = self.random.randint(20_000, 200_000)
                        args = (router, other, path, mine.node, mine.number, said, hears, late)
                        self._at(self.now + delay, other, lambda args=args: self._come(*args))  # type: ignore[misc]

    def _carries(self, sender: Router, receiver: Router, path: int) -> bool:
        if not receiver.groups:
            return False
        if path == CABLE:
            return frozenset((sender.number, receiver.number)) in self.cables
        wire = self.wires[path]
        apart = wire.sides.get(sender.number, 0) != wire.sides.get(receiver.number, 0)
        deaf = (sender.number, receiver.number) in wire.deaf
        linked = sender.links[path] and receiver.links[path]
        return linked and not apart and not deaf and self.random.random() >= wire.loss

    def _come(
        self, sender: Router, receiver: Router, path: int, node: int, number: int, said: bytes, hears: bool,
        late: int,
    ) -> None:  # fmt: skip
        """A heartbeat is there: it is read now, or later by a router that leads."""
        mine = self.lives.get(receiver.number)
        if mine is None or not receiver.groups:
            return
        mine.unread.append((sender, receiver, path, node, number, said, hears, late))
        group = receiver.groups[0].group
        own = b"".join(
            standing_of(group, member, receiver.links[lan]) for lan, member in enumerate(group.members)
        )
        others = [one.number for one in self.routers if one is not receiver]
        known = all(number in mine.said and leads(own, mine.said[number]) for number in others)
        news = said != mine.said.get(sender.number) and self._carries(sender, receiver, CABLE)
        if news or not known:
            self._read(mine)

    def _read(self, mine: Daemon) -> None:
        unread, mine.unread = mine.unread, []
        for one in unread:
            self._hear(*one)

    def _hear(
        self, sender: Router, receiver: Router, path: int, node: int, number: int, said: bytes, hears: bool,
        late: int,
    ) -> None:  # fmt: skip
        mine = self.lives.get(receiver.number)
        if mine is None or not receiver.groups:
            return
        group, local = receiver.groups[0].group, self.now + receiver.offset
        if mine.nodes.get(sender.number) != node:  # the session of a daemon that has started anew
            if local - mine.meets.setdefault((sender.number, node), local) < self.session:
                return
            mine.nodes[sender.number] = node
            mine.beats[sender.number] = Beats(MISS)
            mine.taken.pop(sender.number, None)
            self._happen(receiver, mine.standings.forget(str(sender.number), {"G": group}))
        beats = mine.beats[sender.number]
        old = beats.overslept(mine.due, local)
        if beats.heard(str(path), number, INTERVAL, late, local) is None or number < beats.newest or old:
            return
        mine.said[sender.number] = said
        if mine.taken.get(sender.number) == (hears, said):
            return
        mine.taken[sender.number] = hears, said
        entries = directory(sender)
        found = seats([group], entries, matching(directory(receiver), entries), said)
        self._happen(receiver, mine.standings.take(str(sender.number), found, hears, {"G": group}, local))

    def _handle(self, router: Router, checked: Checked, event: Event) -> None:
        """As in `Lan`; a change of the role is told at once."""
        before = checked.group.role
        super()._handle(router, checked, event)
        mine = self.lives.get(router.number)
        told = checked.group.role is not before and mine is not None
        if told and self.now + router.offset - mine.due <= INTERVAL:  # otherwise with what it reads now
            self.beat_now(router)
        if not any(other.groups[0].kernel for other in self.routers if other.groups):
            self.bare.append(self.now)

    def _happen(self, router: Router, events: list[tuple[str, Event]]) -> None:
        for _, event in events:
            if router.groups:
                self._handle(router, router.groups[0], event)

    @property
    def active(self) -> list[int]:
        """The active routers."""
        return [router.number for router in self.routers if router.role(0) is Role.ACTIVE]
