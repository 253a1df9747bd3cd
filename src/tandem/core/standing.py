# SPDX-License-Identifier: GPL-2.0-or-later
"""Standing: what the neighbours are for the groups of this router, as their heartbeats say.

A neighbour has a post in each group that both routers have:

    UNKNOWN    it has said nothing of this group
    ACTIVE     it is active
    UNLINKED   it is active, and one of its own links is down
    OFFERING   it is active, and leaves when another router serves, see offer.py
    ENTERING   it becomes active, and its addresses are not there yet
    READY      it is backup, and would take over
    OUT        it takes no part: a fault, an operator's standby, or it has stopped
    DEAD       its heartbeats have stopped on every path

POSTS says which changes leave the role to the others. The best of those that are READY takes it at once.
The others wait for VRRP's timers: when the best one has not taken the role by then, they do.

Under the partition policy `hold` a group stays backup while a neighbour is ACTIVE, though no adverts come:
the segment is broken, and a second active router would not mend it.

Two routers that are both active and do not hear each other's adverts still hear heartbeats by another path.
When that lasts, each takes the other one's post for an advert (`lasting`), so that RFC 9568 decides. A router
that is active, and that another active router does not hear by any path, yields.

A router that came up and could hear nobody leaves the role to one that was active before (`give_way`). It
says so, and the other one does not yield to it, though it may be better: otherwise both would leave the role.
Of two such routers the better one stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from tandem.core.events import AdvertReceived, Claimed, Company, Taken, Unheard, Vacancy, Vacated
from tandem.core.packet import Advertisement
from tandem.core.state import Role

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from tandem.core.events import Event
    from tandem.core.sync_group import SyncGroup
    from tandem.core.virtual_router import VirtualRouter

STANDINGS_MAX = 128  # virtual routers of one router that heartbeats tell of


class Post(Enum):
    """The role of a neighbour, as a group sees it."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    UNLINKED = "active, and its link is down"
    OFFERING = "active, and offers the role"
    ENTERING = "becomes active"
    READY = "ready"
    OUT = "out of service"
    DEAD = "dead"


_UNKNOWN, _ACTIVE, _UNLINKED, _OFFERING, _ENTERING, _READY, _OUT, _DEAD = Post
HOLDERS = (_ACTIVE, _UNLINKED, _OFFERING, _ENTERING)
SERVERS = (_ACTIVE, _UNLINKED)
_GONE = (_UNKNOWN, _DEAD)

_LEAVES: dict[Post, Vacancy] = {_READY: Vacancy.LEFT, _OUT: Vacancy.LEFT, _DEAD: Vacancy.DIED}

# A neighbour in a post says, or is found, to be in another one: the post, whether the role is free for a
# backup, and whether an active router has a successor.
POSTS: dict[tuple[Post, Post], tuple[Post, tuple[Vacancy | Taken, ...]]] = {
    **{(before, after): (after, ()) for before in Post for after in Post},
    **{(before, _OFFERING): (_OFFERING, (Vacancy.OFFERED,)) for before in Post if before is not _OFFERING},
    **{
        (before, after): (after, (Taken(True),))
        for before in Post
        for after in SERVERS
        if before not in SERVERS
    },
    **{(before, _ENTERING): (_ENTERING, (Taken(False),)) for before in Post if before not in HOLDERS},
    (_ACTIVE, _UNLINKED): (_UNLINKED, (Vacancy.UNLINKED,)),
    **{(before, after): (after, (why,)) for before in HOLDERS for after, why in _LEAVES.items()},
}

# The byte for the state of a virtual router in a heartbeat: its role, and flags.
ROLE, LINK = 0x07, 0x08
TAKES = 0x10  # a backup takes a role that is offered; an active router offers its own to a better one
GIVES_WAY = 0x20  # it is active because it could hear nobody, and leaves the role to another active router
INITIALIZE, BACKUP, ACTIVE, OFFERING, ENTERING = range(5)
# The byte for its faults
STANDBY, INTERFACE, SCRIPT, ADDRESS, EFFECT = 1, 2, 4, 8, 16

COUNT_SHIFT, COUNT_MAX = 5, 7  # the number of faults that can be compared, in the upper bits

_SAID = {INITIALIZE: _OUT, BACKUP: _READY, OFFERING: _OFFERING, ENTERING: _ENTERING}

FAULTS = {
    STANDBY: "standby",
    INTERFACE: "interface down",
    SCRIPT: "script",
    ADDRESS: "no address",
    EFFECT: "refused by the kernel",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A virtual router in a directory: what its standing is about."""

    name: str
    vrid: int
    family: int  # 4 or 6
    source: bytes  # primary address, packed; b"": it has none


@dataclass(frozen=True, slots=True)
class Seat:
    """A neighbour in one of our groups."""

    post: Post
    rank: tuple[int, bytes] = (0, b"")  # effective priority, and the primary address that breaks a tie
    sources: tuple[tuple[str, bytes], ...] = ()  # our instances, and where its adverts there come from
    takes: bool = False  # it knows offers: see TAKES
    faults: int | None = 0  # so many that can be compared, see faults.py; None: others
    gives_way: bool = False  # see GIVES_WAY


NOBODY = Seat(Post.UNKNOWN)
_ALONE = Company()


def leads(own: bytes, theirs: bytes) -> bool:
    """Whether a router with these standings sets the pace for a neighbour with those.

    It is active, the neighbour for nothing, and no role is under way. So the neighbour needs to know at once
    what the router says, and the router may read later what the neighbour says.
    """
    roles = {state & ROLE for state in own[::3]}
    others = {state & ROLE for state in theirs[::3]}
    return ACTIVE in roles and roles <= {ACTIVE, BACKUP, INITIALIZE} and others <= {BACKUP, INITIALIZE}


def leadership(own: bytes, said: Iterable[tuple[bytes | None, bool]]) -> tuple[bool, bool]:
    """Return whether a router with these standings leads all its peers, and whether it follows one.

    `said` has each peer's standings, None when they are not known, and whether the peer is alive and hears
    this router: it does not lead others.
    """
    peers = list(said)
    lead = all(theirs is not None and hears and leads(own, theirs) for theirs, hears in peers)
    return lead, any(theirs is not None and leads(theirs, own) for theirs, _ in peers)


def matching(own: Iterable[Entry], theirs: Iterable[Entry]) -> dict[str, int]:
    """Return the entry of a neighbour's directory for each of our virtual routers that it has as well.

    A VRID is the same virtual router on one LAN only. Where a router has it on several, names decide.
    """
    listed = list(theirs)
    places: dict[tuple[int, int], list[int]] = {}
    for number, entry in enumerate(listed):
        places.setdefault((entry.vrid, entry.family), []).append(number)
    ours = list(own)
    keys = [(entry.vrid, entry.family) for entry in ours]
    found = {}
    for entry, key in zip(ours, keys, strict=True):
        numbers = places.get(key, [])
        named = [number for number in numbers if listed[number].name == entry.name]
        if named or (len(numbers) == 1 and keys.count(key) == 1):
            found[entry.name] = (named or numbers)[0]
    return found


def seats(
    groups: Iterable[SyncGroup], entries: Sequence[Entry], matched: Mapping[str, int], standings: bytes
) -> dict[str, Seat]:
    """Return a neighbour's seat in each of our groups, from the standings of its heartbeat."""
    found = {}
    for group in groups:
        numbers = [(member.name, matched[member.name]) for member in group.members if member.name in matched]
        if not numbers:
            continue
        states = [standings[3 * number] for _, number in numbers]
        post = _SAID.get(states[0] & ROLE, _ACTIVE)
        if post is _ACTIVE and not all(state & LINK for state in states):
            post = _UNLINKED
        sources = tuple((name, entries[number].source) for name, number in numbers)
        first = numbers[0][1]
        rank = standings[3 * first + 1], entries[first].source
        takes, faults = bool(states[0] & TAKES), _count([standings[3 * number + 2] for _, number in numbers])
        gives_way = post in SERVERS and all(state & GIVES_WAY for state in states)
        addresses = tuple(one for one in sources if one[1])
        found[group.name] = Seat(post, rank, addresses, takes, faults, gives_way)
    return found


def _count(members: Iterable[int]) -> int | None:
    """Return the number of faults in the bytes of a group's members; None: some can't be compared."""
    most = 0
    for faults in members:
        if faults & (STANDBY | EFFECT):
            return None
        most = max(most, faults >> COUNT_SHIFT or int(faults != 0))  # an older release says no number
    return most


class Standings:
    """The seats of all neighbours; each change returns events for the groups, by name.

    `holds`: the partition policy is `hold`. `compares`: the fault policy is `compare`. It counts where a
    neighbour is heard, or one that comes back would be. Otherwise a router with faults would keep the role
    from a better one for ever.
    """

    def __init__(self, holds: bool, compares: bool = False) -> None:
        self.holds = holds
        self.compares = compares
        self._reaches = True  # a neighbour that comes back would be heard
        self._met: set[str] = set()  # groups in which a neighbour has been known
        self._seats: dict[str, dict[str, Seat]] = {}  # by neighbour and group
        self._deaf: dict[str, int] = {}  # neighbours that hear nothing of this router, as they say since then
        self._told: dict[str, tuple[bool, bool]] = {}  # by group: claimed, unheard
        self._company: dict[str, Company] = {}  # by group, as it was told
        self._contested: dict[tuple[str, str], int] = {}  # both are active since then, by neighbour and group

    def seat(self, neighbour: str, group: str) -> Seat:
        """Return a neighbour's seat in a group."""
        return self._seats.get(neighbour, {}).get(group, NOBODY)

    def take(
        self,
        neighbour: str,
        seats: Mapping[str, Seat],
        hears: bool,
        groups: Mapping[str, SyncGroup],
        now: int,
    ) -> list[tuple[str, Event]]:
        """Take a neighbour's seats; groups that are not among them are UNKNOWN.

        `hears`: it hears this router's heartbeats, as it says.
        """
        before, self._seats[neighbour] = self._seats.get(neighbour, {}), dict(seats)
        if hears:
            self._deaf.pop(neighbour, None)
        else:
            self._deaf.setdefault(neighbour, now)
        self._met.update(seats)
        taken: list[tuple[str, Event]] = []
        vacated: list[tuple[str, Event]] = []
        for name, seat in seats.items():
            old = before.get(name, NOBODY)
            for news in POSTS[old.post, seat.post][1] if name in groups else ():
                event = self._event(news, neighbour, old, seat, groups[name])
                if event is not None:
                    (taken if isinstance(event, Taken) else vacated).append((name, event))
        claims = self._claims(groups)
        heard = [one for one in claims if one[1] == Unheard(False)]
        # An offer ends by its success, and not because nobody takes the role any more. A router in fault
        # must know that no other one is better before it can take the role. One that takes the role over
        # must not believe that it is unheard, or it gives the role up again. The reason of a takeover comes
        # before the end of the claim: a group whose timers have ended takes the role then anyway.
        others = [one for one in claims if one not in heard]
        return taken + self._companies(groups) + heard + vacated + others

    def died(
        self, neighbour: str, groups: Mapping[str, SyncGroup], now: int, silent: int
    ) -> list[tuple[str, Event]]:
        """The heartbeats of a neighbour have stopped on every path; `silent`: since when that counts.

        If an advert has come since, the neighbour only sends no heartbeats any more.
        """
        known = self._seats.get(neighbour, {})
        if any(_advertises(seat, groups[name], silent) for name, seat in known.items() if name in groups):
            return self.forget(neighbour, groups)
        dead = {name: replace(seat, post=_DEAD) for name, seat in known.items()}
        return self.take(neighbour, dead, True, groups, now)

    def forget(self, neighbour: str, groups: Mapping[str, SyncGroup]) -> list[tuple[str, Event]]:
        """A neighbour sends no more heartbeats, and is not dead."""
        self._seats.pop(neighbour, None)
        self._deaf.pop(neighbour, None)
        return self._companies(groups) + self._claims(groups)

    def reach(self, yes: bool, groups: Mapping[str, SyncGroup]) -> list[tuple[str, Event]]:
        """A path by which neighbours begin to speak works, or none does."""
        if yes == self._reaches:
            return []
        self._reaches = yes
        return self._companies(groups)

    def lasting(self, groups: Mapping[str, SyncGroup], patience: int, now: int) -> list[tuple[str, Event]]:
        """Return events for what has lasted for `patience` ns.

        A neighbour is active and does not hear this router; or it is active beside this router, and its
        post then counts as an advert.
        """
        deaf = {name for name, since in self._deaf.items() if now - since >= patience}
        events = self._claims(groups, deaf) if deaf else []
        found: dict[tuple[str, str], int] = {}
        for neighbour, known in self._seats.items() if self.holds else ():
            for name, seat in known.items():
                if seat.post is not _ACTIVE or name not in groups or groups[name].role is not Role.ACTIVE:
                    continue
                since = found[neighbour, name] = self._contested.get((neighbour, name), now)
                if now - since >= patience:
                    events += [(name, one) for one in _adverts(seat, groups[name])]
        self._contested = found
        return events

    def _event(
        self, news: Vacancy | Taken, neighbour: str, old: Seat, seat: Seat, group: SyncGroup
    ) -> Event | None:
        """Return what a change of post is for our own group; None: nothing."""
        if isinstance(news, Taken):
            # Under `split`, who can't hear this router may be active beside it.
            concerns = news.serves or group.offer.pending or (self.holds and seat.rank > _rank(group))
            return news if group.role is Role.ACTIVE and concerns else None
        if news is Vacancy.UNLINKED and _claims(seat, group.fault_state.count):
            return None
        sources = seat.sources if news is Vacancy.OFFERED else old.sources
        return Vacated(news, sources) if self._is_best(neighbour, group) else None

    def _is_best(self, leaver: str, group: SyncGroup) -> bool:
        """Whether this router is the best of those that are left, and none of them is active."""
        own = _rank(group)
        for neighbour, known in self._seats.items():
            seat = known.get(group.name, NOBODY)
            if neighbour == leaver:
                continue
            if seat.post in (_ACTIVE, _ENTERING) or (seat.post is _READY and seat.rank > own):
                return False
        return True

    @property
    def deaf(self) -> bool:
        """Whether a neighbour hears nothing of this router."""
        return bool(self._deaf)

    def company(self, group: str) -> Company:
        """Return what the neighbours would do with the role of a group."""
        seats = [known[group] for known in self._seats.values() if group in known]
        entering = [seat for seat in seats if seat.post is _ENTERING]
        ready = [seat for seat in seats if seat.post is _READY]
        best = entering or ([max(ready, key=lambda seat: seat.rank)] if ready else [])
        rivals = any(seat.post in SERVERS for seat in seats)
        offers = any(seat.post in (_ACTIVE, _OFFERING) and seat.takes for seat in seats)
        takes = not rivals and any(seat.takes for seat in best)
        reaches = self._reaches or any(seat.post not in _GONE for seat in seats)
        compares = self.compares and group in self._met and reaches
        least = min(_usable(seats), default=None) if compares else None
        give_way = frozenset(address for seat in seats if seat.gives_way for _, address in seat.sources)
        return Company(takes, offers, least, compares, give_way)

    def _companies(self, groups: Mapping[str, SyncGroup]) -> list[tuple[str, Event]]:
        """Return what has changed of the company of our groups."""
        found = {name: self.company(name) for name in groups}
        before, self._company = self._company, found
        return [(name, company) for name, company in found.items() if company != before.get(name, _ALONE)]

    def _claims(self, groups: Mapping[str, SyncGroup], deaf: Collection[str] = ()) -> list[tuple[str, Event]]:
        """Return what has changed: whether a neighbour claims a group, and does not hear this router.

        `deaf`: the neighbours that have not heard it for long.
        """
        events: list[tuple[str, Event]] = []
        told: dict[str, tuple[bool, bool]] = {}
        for name in groups:
            faults = groups[name].fault_state.count
            active = [
                one for one, known in self._seats.items() if name in known and _claims(known[name], faults)
            ]
            before = self._told.get(name, (False, False))
            claimed = self.holds and bool(active)
            unheard = self.holds and any(one in deaf or (before[1] and one in self._deaf) for one in active)
            told[name] = claimed, unheard
            if claimed != before[0]:
                events.append((name, Claimed(claimed)))
            if unheard != before[1]:
                events.append((name, Unheard(unheard)))
        self._told = told
        return events


def _claims(seat: Seat, faults: int) -> bool:
    """Whether a neighbour in this seat claims the role, so that a router with so many faults stays backup."""
    as_good = bool(seat.faults) and faults >= (seat.faults or 0)
    return seat.post in (_ACTIVE, _ENTERING) or (seat.post is _UNLINKED and as_good)


def _usable(seats: Iterable[Seat]) -> Iterator[int]:
    """Yield the number of faults of each neighbour that could have the role if it had the fewest.

    Who is out of the elections without a fault that can be compared has another reason.
    """
    for seat in seats:
        if seat.faults is not None and seat.post not in _GONE and (seat.post, seat.faults) != (_OUT, 0):
            yield seat.faults


def _rank(group: SyncGroup) -> tuple[int, bytes]:
    """Our own rank, as `Seat.rank`."""
    first = group.members[0]
    return first.priority, first.source or b""


def _advertises(seat: Seat, group: SyncGroup, since: int) -> bool:
    """Whether the last advert that came to a member, after that time, was of the neighbour in this seat."""
    peers = [(group.by_name[name].peer, source) for name, source in seat.sources]
    return any(peer is not None and peer.source == source and peer.heard > since for peer, source in peers)


def _adverts(seat: Seat, group: SyncGroup) -> Iterator[AdvertReceived]:
    """Yield the adverts that a neighbour in this seat sends, whether they come or not."""
    for instance, source in seat.sources:
        settings = group.by_name[instance].settings
        version, interval = settings.version, settings.advert_int_cs
        advert = Advertisement(version, settings.virtual_router_id, seat.rank[0], interval, ())
        yield AdvertReceived(instance, advert, source)


def entry_of(member: VirtualRouter) -> Entry:
    """Return the entry of one of our virtual routers in the directory."""
    settings = member.settings
    return Entry(member.name, settings.virtual_router_id, settings.family, member.source or b"")


def standing_of(group: SyncGroup, member: VirtualRouter, link: bool) -> bytes:
    """Return the standing of one of our virtual routers; `link`: its own link is up."""
    faults = group.fault_state
    role = {Role.BACKUP: BACKUP, Role.ACTIVE: ACTIVE}.get(group.role, INITIALIZE)
    if role == ACTIVE and group.offer.pending:
        role = OFFERING
    elif role == ACTIVE and group.promotion.waiting:
        role = ENTERING
    takes = role != INITIALIZE and group.ballot.succeed
    reasons = STANDBY * faults.standby | EFFECT * bool(faults.effects) | ADDRESS * (member.source is None)
    for track in faults.tracking.failed:
        reasons |= INTERFACE if track.kind == "interface" else SCRIPT
    reasons |= min(faults.count, COUNT_MAX) << COUNT_SHIFT
    state = role | LINK * link | TAKES * takes | GIVES_WAY * group.gives_way
    return bytes((state, member.priority, reasons))
