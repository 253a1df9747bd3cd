# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers and a witness, any link of which is cut at any time: never are both routers active.

The pure parts run in simulated time: groups, quorums, and the witness's grants. Heartbeats, adverts and
requests pass where a link is up. A router or the witness may lose its power and start again with an empty
memory.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.actions import Action, SendAdvert
from tandem.core.events import UNCOUNTED, AdvertReceived, SourceChanged, Start, Tick, TrackerChanged
from tandem.core.packet import Advertisement
from tandem.core.quorum import GRACE, REQUIRED, Quorum, Rules
from tandem.core.settings import Group
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND, SECOND
from tandem.witness.grants import Grants
from tandem.witness.wire import ANSWER, HOLDS, NOBODY, REQUEST, WANTS, Message
from tests.unit.scenario import instance

STEP = 10 * MILLISECOND
LIMIT = 150 * MILLISECOND  # without a heartbeat a peer is dead
LOOK, ASK, LEASE = 100 * MILLISECOND, 200 * MILLISECOND, SECOND
LINKS = ("ab", "ba", "aw", "bw")  # between the routers one for each direction


class Router:
    """One router: its group, its quorum, and what it knows of the other."""

    def __init__(self, name: str, number: int, offset: int, life: int = 0) -> None:
        self.name, self.life = name, life
        self.node = f"{name}{life:07}".encode()
        self.group = SyncGroup(Group("G", ("I",)), [instance("I", advert_int_cs=10, version=3)])
        self.group.ballot = UNCOUNTED
        self.quorum = Quorum(Rules(REQUIRED, ("other",), "w"))
        self.source = bytes((192, 168, 1, number))
        self.offset = offset  # it looks and beats at other moments than the other
        self.heard: int | None = None
        self.state = ""  # of the other, as it said last
        self.is_heard = False  # by the other, as it said last
        self.nonce, self.number = NOBODY, 0
        self.powered = True

    @property
    def serves(self) -> bool:
        return self.powered and self.group.role is Role.ACTIVE

    def handle(self, event: object, now: int) -> list[Action]:
        return self.group.handle(event, now)  # type: ignore[arg-type]

    def hears(self, now: int) -> bool:
        return self.heard is not None and now - self.heard < LIMIT

    def look(self, now: int) -> list[Action]:
        self.quorum.peer("other", (self.hears(now), {"G": self.state}, LIMIT, self.is_heard), now)
        ballot = self.quorum.ballot("G", self.group.role is Role.ACTIVE, now)
        return self.handle(ballot, now) if ballot != self.group.ballot else []

    def ask(self, witness: Grants, now: int) -> None:
        self.number += 1
        flags = WANTS | (HOLDS if self.quorum.holds("G", now) else 0)
        groups = ((flags, b"G"),) if self.group.claims else ()
        request = Message(REQUEST, b"cluster!", self.node, self.nonce, self.number, 0, groups)
        answer = witness.handle(request, self.number.to_bytes(16, "big"), now)
        assert answer is not None
        self.nonce = answer.nonce
        if answer.kind == ANSWER and groups:
            if answer.granted[0]:
                self.quorum.leased("G", now + LEASE - GRACE)
            else:
                self.quorum.refused("G")


class World:
    """Both routers, the witness, and the links between them."""

    def __init__(self) -> None:
        self.now = 100 * SECOND
        self.links = dict.fromkeys(LINKS, True)
        self.witness = Grants(LEASE, self.now)
        self.routers = [self._boot("a"), self._boot("b")]

    def _boot(self, name: str, life: int = 0) -> Router:
        router = Router("a", 1, 0, life) if name == "a" else Router("b", 2, 30 * MILLISECOND, life)
        for event in (TrackerChanged("interface", "i", True), SourceChanged("I", router.source), Start()):
            router.handle(event, self.now)
        return router

    def happen(self, where: str, works: bool) -> None:
        """A link, a router or the witness fails, or works (again)."""
        if where in self.links:
            self.links[where] = works
        elif where == "w":  # it is back at once, and knows nothing
            self.witness = Grants(LEASE, self.now) if works else self.witness
        else:
            router = self.routers["ab".index(where)]
            if works and not router.powered:
                self.routers["ab".index(where)] = self._boot(where, router.life + 1)
            router.powered = works and router.powered

    def run(self, duration: int) -> None:
        until = self.now + duration
        while self.now < until:
            self.now += STEP
            for router, other in zip(self.routers, reversed(self.routers), strict=True):
                self._step(router, other)
            assert len(self.serving()) < 2, f"both are active after {self.now / SECOND - 100:.2f} s"

    def _step(self, router: Router, other: Router) -> None:
        if not router.powered:
            return
        phase, actions = self.now + router.offset, []
        carries = self.links[router.name + other.name] and other.powered
        if phase % (50 * MILLISECOND) == 0 and carries:
            other.heard, other.state = self.now, "MASTER" if router.group.role is Role.ACTIVE else "BACKUP"
            other.is_heard = router.hears(self.now)
        if phase % ASK == 0 and self.links[f"{router.name}w"]:
            router.ask(self.witness, self.now)
        if phase % LOOK == 0:
            actions += router.look(self.now)
        while (due := router.group.next_deadline()) is not None and due <= self.now:
            actions += router.handle(Tick(), self.now)
        for action in actions:
            if isinstance(action, SendAdvert) and carries:
                advert = Advertisement(3, 51, action.priority, 10, ())
                other.handle(AdvertReceived("I", advert, router.source), self.now)

    def serving(self) -> list[str]:
        return [router.name for router in self.routers if router.serves]


FAULTS = st.lists(
    st.tuples(st.integers(0, 3000), st.sampled_from((*LINKS, "a", "b", "w")), st.booleans()), max_size=12
)


@given(FAULTS)
def test_never_two_active_and_one_in_the_end(faults: list[tuple[int, str, bool]]) -> None:
    world = World()
    world.run(3 * SECOND)
    assert len(world.serving()) == 1
    for pause, where, works in faults:
        world.run(pause * MILLISECOND)
        world.happen(where, works)
    world.run(4 * SECOND)
    whole = (world.links["ab"] and world.links["ba"]) + world.links["aw"] + world.links["bw"]
    powered = all(router.powered for router in world.routers)
    assert len(world.serving()) == 1 or whole < 2 or not powered, "two links make a majority"
    for where in (*LINKS, "a", "b"):
        world.happen(where, True)
    world.run(4 * SECOND)
    assert len(world.serving()) == 1


def test_a_split_leaves_the_active_one_and_then_follows_it() -> None:
    world = World()
    world.run(3 * SECOND)
    [first] = world.serving()
    world.links["ab"] = world.links["ba"] = False
    world.run(10 * SECOND)
    assert world.serving() == [first]
    world.links[f"{first}w"] = False
    world.run(4 * SECOND)
    assert world.serving() and world.serving() != [first]
    world.links = dict.fromkeys(LINKS, False)
    world.run(4 * SECOND)
    assert not world.serving()


def test_who_holds_on_by_the_vote_of_the_peer_ends_before_the_peer_begins() -> None:
    world = World()
    world.run(3 * SECOND)
    [first] = world.serving()
    world.links[f"{first}w"] = False
    world.run(3 * SECOND)
    assert world.serving() == [first], "the peer's vote is enough"
    world.links["ab"] = world.links["ba"] = False
    world.run(5 * SECOND)  # and never are both active
    assert world.serving() and world.serving() != [first]


def test_the_vote_of_a_peer_that_does_not_hear_the_active_router_does_not_count_twice() -> None:
    world = World()
    world.links = {link: link == "bw" for link in LINKS}
    world.run(3 * SECOND)
    world.links = dict.fromkeys(LINKS, True) | {"bw": False}
    world.run(3 * SECOND)
    assert world.serving() == ["b"], "by the vote of a, which has the lower address"
    world.links["ba"] = False
    world.run(5 * SECOND)  # and never are both active
    assert world.serving() == ["a"]
