# SPDX-License-Identifier: GPL-2.0-or-later
"""Ownership: whose connections are whose, and what changes that; pure.

A router has one table of its own, which its kernel tells while the router is active, and holds one table of
each peer. These machines say when a table changes hands, and when the kernel has to get or to lose entries.

The router's states, for all groups together (TRANSITIONS; the events and steps stand behind them):

    following   backup: the kernel is kept equal to what is held
    restoring   backup, and a group becomes active: the kernel gets all that is held
    waiting     the same, and the kernel has it all; the peer that gave up the role has not told its last yet
    owning      active: what the kernel tells is our own, and every peer is told
    sharing     active, and another group becomes active: the kernel gets what is held and our own table lacks
    listening   the same as waiting, beside an active group
    merging     active, and another router was active too: the kernel gets what that router knows

The states of what is held of one peer (HOLDING):

    silent      the peer does not stream, and what is held may be a part of its table
    telling     the peer streams and has not told all of its table yet
    whole       the peer streams, and we hold all of its table
    ended       the peer has stopped streaming, and we hold all that it had then

Four ways in which a table changes hands:

    adopt    a backup becomes active and held one table: that is its own table now, without a byte on the
             wire. The former active does the same the other way round (`Held.adopt`)
    merge    what is held goes into the kernel of an active router. The kernel's dump finds it there
    retire   nobody holds the table any more: entries that are in no other table leave the kernel
    let go   the table is ours and in the kernel; it is forgotten, its entries stay
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.channel.events import (
    Closed,
    HeldInStep,
    HeldOutOfStep,
    Opened,
    PeerHandedOver,
    PeerStream,
)
from tandem.core.limits import (
    FORMER_LIMIT,
    FORMER_QUIET_LIMIT,
    LAST_RECORDS_LIMIT,
    LAST_RECORDS_SILENCE,
    STREAM_LIMIT,
    SURPLUS_LIMIT,
)
from tandem.core.timers import earliest
from tandem.replication.tables import Held, Own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tandem.channel.events import Event
    from tandem.replication.cache import Cache

# The router.
FOLLOWING, RESTORING, WAITING = "following", "restoring", "waiting"
OWNING, SHARING, LISTENING, MERGING = "owning", "sharing", "listening", "merging"
ACTIVE = frozenset((OWNING, SHARING, LISTENING, MERGING))

# Events of the router.
RESTORE = "restore"  # a group becomes active
COMPLETE = "complete"  # the kernel has all that was held
PENDING = "pending"  # the same, but the last records of a peer are still to come
SPOKEN = "spoken"  # these last records have come, or the wait for them has ended
MERGE = "merge"  # another router is active too, or was until now
ADOPTED = "adopted"  # a peer's stream begins with what was our own table
TOLD = "told"  # a peer has told all of its table
PROMOTED, DEMOTED = "promoted", "demoted"  # the first instance is MASTER, or none is any more

# (state, event): (next state, steps). A step is a method `_do_STEP`; other events change nothing.
TRANSITIONS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    (FOLLOWING, RESTORE): (RESTORING, ("complete",)),
    (FOLLOWING, MERGE): (FOLLOWING, ("merged",)),
    (FOLLOWING, ADOPTED): (FOLLOWING, ("follow_whole",)),
    (FOLLOWING, TOLD): (FOLLOWING, ("retire_own",)),
    (FOLLOWING, PROMOTED): (OWNING, ("adopt",)),
    (RESTORING, RESTORE): (RESTORING, ("complete",)),
    (RESTORING, COMPLETE): (FOLLOWING, ("restored",)),
    (RESTORING, PENDING): (WAITING, ()),
    (RESTORING, MERGE): (RESTORING, ("merged",)),
    (RESTORING, ADOPTED): (RESTORING, ("follow_whole", "complete")),
    (RESTORING, TOLD): (RESTORING, ("retire_own",)),
    (RESTORING, PROMOTED): (OWNING, ("restored", "adopt")),
    (WAITING, RESTORE): (RESTORING, ("complete",)),
    (WAITING, SPOKEN): (RESTORING, ("complete",)),
    (WAITING, MERGE): (WAITING, ("merged",)),
    (WAITING, ADOPTED): (RESTORING, ("follow_whole", "complete")),
    (WAITING, TOLD): (WAITING, ("retire_own",)),
    (WAITING, PROMOTED): (OWNING, ("restored", "adopt")),
    (OWNING, RESTORE): (SHARING, ("complete",)),
    (OWNING, MERGE): (MERGING, ("complete",)),
    (OWNING, DEMOTED): (FOLLOWING, ("disown",)),
    (SHARING, RESTORE): (SHARING, ("complete",)),
    (SHARING, COMPLETE): (OWNING, ("restored", "share", "merged")),
    (SHARING, PENDING): (LISTENING, ()),
    (SHARING, DEMOTED): (RESTORING, ("disown", "complete")),
    (LISTENING, RESTORE): (SHARING, ("complete",)),
    (LISTENING, SPOKEN): (SHARING, ("complete",)),
    (LISTENING, DEMOTED): (RESTORING, ("disown", "complete")),
    (MERGING, RESTORE): (SHARING, ("complete",)),
    (MERGING, COMPLETE): (OWNING, ("share", "merged")),
    (MERGING, MERGE): (MERGING, ("complete",)),
    (MERGING, DEMOTED): (FOLLOWING, ("disown",)),
}

# States and events of the table that is held for one peer.
SILENT, TELLING, WHOLE, ENDED = "silent", "telling", "whole", "ended"
BEGAN, IN_STEP, OUT_OF_STEP, STOPPED, LOST = "began", "in step", "out of step", "stopped", "lost"
OURS = "ours"  # what was told is our own table now, or is forgotten

HOLDING: dict[tuple[str, str], str] = {
    (SILENT, BEGAN): TELLING,
    (TELLING, IN_STEP): WHOLE,
    (TELLING, STOPPED): SILENT,
    (TELLING, LOST): SILENT,
    (WHOLE, BEGAN): TELLING,
    (WHOLE, OUT_OF_STEP): TELLING,
    (WHOLE, STOPPED): ENDED,
    (WHOLE, LOST): SILENT,
    (ENDED, BEGAN): TELLING,
    (ENDED, LOST): SILENT,
    (ENDED, OURS): SILENT,
}


# Actions, in the order in which they are to be done.


@dataclass(frozen=True, slots=True)
class Complete:
    """Put all that is held into the kernel, then say `completed`; `beside`: our own table has flows too."""

    beside: bool


@dataclass(frozen=True, slots=True)
class Follow:
    """Keep the kernel equal to what is held from now on; `whole`: it is equal now."""

    whole: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Change nothing in the kernel any more."""


@dataclass(frozen=True, slots=True)
class Retire:
    """Take the entries of this table out of the kernel, but for those that are held."""

    table: Cache


@dataclass(frozen=True, slots=True)
class Refresh:
    """Set the timeouts of this table's entries, which are ours and stay in the kernel."""

    table: Cache


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Note when the kernel has all that is held at this moment."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Listen to the kernel and tell every peer; `adopted`: our own table is what a peer's was."""

    adopted: bool


@dataclass(frozen=True, slots=True)
class Silence:
    """Take in what the kernel has told so far and tell it the peers; then say no more."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look through the kernel's table once, for what no event has told."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The kernel has the connections that this group was waiting for."""

    group: str


@dataclass(frozen=True, slots=True)
class Merged:
    """The kernel has what was held when `asked` was merged."""

    asked: Callable[[], None]


Action = (
    Complete | Follow | Leave | Retire | Refresh | CatchUp | Stream | Silence | Look | Restored | Merged
)  # fmt: skip


@dataclass(slots=True)
class Peer:
    """A peer and the table that is held for it; times in ns."""

    held: Held
    state: str = SILENT
    up: bool = False  # there is a session
    sharing: bool = False  # the peer gave a group up, and streams as the active router of another one
    taken_at: int = 0  # when this table became ours while the peer streamed
    quiet_since: int | None = None  # since when the peer has a table here and does not stream

    @property
    def streaming(self) -> bool:
        """Whether the peer streams."""
        return self.state in (TELLING, WHOLE)

    @property
    def in_step(self) -> bool:
        """Whether we hold all of its table, or all that it had when it stopped."""
        return self.state in (WHOLE, ENDED)


class Ownership:
    """Holds the tables. Each method takes what happened and returns what is to be done, in this order."""

    def __init__(self, make: Callable[[], Cache]) -> None:
        self.state = FOLLOWING
        self.own = Own(make)
        """The own table, also after a demotion: then `Held.adopt` may use it again."""
        self.peers: dict[str, Peer] = {}  # the peer that began to stream last is the first
        self._make = make
        self._groups: list[str] = []  # groups that become active
        self._handed_at: int | None = None  # when a group was handed over and its last records were missing
        self._told_at: int | None = None  # when a peer said that it had told the last of a group
        self._wait_until: int | None = None
        self._surplus_at: int | None = None
        self._adopt_at: int | None = None  # this router serves, and the former active one still streams
        self._merging: list[Callable[[], None]] = []
        self._last = False  # nothing follows what is being merged
        self._now = 0

    # Questions

    @property
    def active(self) -> bool:
        """Whether our own table is what the kernel tells."""
        return self.state in ACTIVE

    @property
    def in_step(self) -> bool:
        """Whether we hold the whole table of some peer."""
        return any(peer.in_step for peer in self.peers.values())

    @property
    def deadline(self) -> int | None:
        """When `timer` is to be called."""
        return earliest(self._wait_until, self._surplus_at, self._adopt_at)

    def held(self, name: str) -> Held:
        """Return what is held of a peer, from now on if it was not."""
        if name not in self.peers:
            self.peers[name] = Peer(Held(self.own, self._make, self._may_adopt))
        return self.peers[name].held

    def tables(self) -> list[Cache]:
        """Return the held tables; of a flow that is in several, the first one's entry counts."""
        return [peer.held.cache for peer in self.peers.values()]

    def _may_adopt(self) -> bool:
        """Whether our own table is still what the only peer has been told."""
        return not self.active and len(self.peers) == 1

    # Events of this router

    def restore(self, group: str, handed_over: bool, now: int) -> list[Action]:
        """A group becomes active; `handed_over`: by a router that is alive, and tells the last of it."""
        self._groups.append(group)
        self._last = True
        told, self._told_at = self._told_at, None
        if handed_over and self._handed_at is None and (told is None or now >= told + LAST_RECORDS_LIMIT):
            self._handed_at = now
        return self._go(RESTORE, now)

    def completed(self, now: int, heard: Iterable[int]) -> list[Action]:
        """The kernel has all that was held; `heard`: when each peer that streams was last heard."""
        heard = list(heard)
        if self.state in (RESTORING, SHARING) and self._handed_at is not None and heard:
            since = self._handed_at
            until = min(max(since, *heard) + LAST_RECORDS_SILENCE, since + LAST_RECORDS_LIMIT)
            if now < until:
                actions = self._go(PENDING, now)
                self._wait_until = until
                return actions
        return self._go(COMPLETE, now)

    def merge(self, asked: Callable[[], None], last: bool, now: int) -> list[Action]:
        """Another router is active too, or was: its connections are to become ours; `last`: it has ended."""
        if self._groups or not any(len(table) for table in self.tables()):
            return [Merged(asked)]
        self._merging.append(asked)
        self._last = last
        return self._go(MERGE, now)

    def promoted(self, now: int) -> list[Action]:
        """The first instance is MASTER.

        The router that has offered the role goes on until it knows this. What it tells until its stream ends
        goes to the kernel as before, and what is held is adopted then.
        """
        if any(peer.sharing and peer.streaming for peer in self.peers.values()):
            self._adopt_at = now + STREAM_LIMIT
            return []
        return self._go(PROMOTED, now)

    def demoted(self, now: int) -> list[Action]:
        """No instance is MASTER any more."""
        self._adopt_at = None
        return self._go(DEMOTED, now)

    def _adopt(self, now: int) -> list[Action]:
        """The former active router has told its last: adopt what was to be adopted."""
        due, self._adopt_at = self._adopt_at is not None, None
        return self._go(PROMOTED, now) if due else []

    # Events of a peer

    def peer(self, name: str, event: Event, now: int, heard: int = 0) -> list[Action]:
        """The session with a peer says something; `heard`: when a session that has ended was last heard."""
        peer = self.peers[name]
        if isinstance(event, HeldInStep):
            self._change(peer, IN_STEP)
            return [*self._go(ADOPTED if event.adopted else TOLD, now), CatchUp()]
        if isinstance(event, HeldOutOfStep):
            self._change(peer, OUT_OF_STEP)
        elif isinstance(event, PeerStream) and event.on:
            self._change(peer, BEGAN)
            self.peers = {name: peer} | self.peers
        elif isinstance(event, PeerStream):
            peer.sharing = False
            self._change(peer, STOPPED)
            if self.active:
                self._change(peer, OURS)
            return [*self._go(SPOKEN, now), *self._adopt(now)]
        elif isinstance(event, PeerHandedOver):
            peer.sharing = True
            self._handed_at = None
            self._told_at = None if self._groups else now
            return self._go(SPOKEN, now)
        elif isinstance(event, Opened):
            peer.up = True
        elif isinstance(event, Closed):
            peer.up = peer.sharing = False
            self._change(peer, LOST)
            actions = [*self._go(SPOKEN, now), *self._adopt(now)]
            if self.active and heard < peer.taken_at:  # the peer was dead when we took over from it
                actions += self._let_go(peer)
            return actions
        return []

    def forget_but(self, names: Iterable[str]) -> list[Action]:
        """Keep only the tables of these peers; the sessions of all others have ended."""
        gone = [self.peers.pop(name) for name in self.peers.keys() - set(names)]
        return [Retire(peer.held.take()) for peer in gone]

    # The time

    def timer(self, now: int) -> list[Action]:
        """The deadline has come."""
        if self._adopt_at is not None and now >= self._adopt_at:
            return self._adopt(now)
        if self._surplus_at is not None and now >= self._surplus_at:
            self._surplus_at = None
            if self._follows():
                return self._retire(self.own)
        if self._wait_until is not None and now >= self._wait_until:
            return self._go(SPOKEN, now)
        return []

    def second(self, now: int) -> list[Action]:
        """Hold no more what a router told that is not active any more, once another has told everything.

        A router that says nothing may be active for another group, and dead: what it told will be needed.
        """
        actions: list[Action] = []
        for peer in self.peers.values():
            if peer.streaming or not len(peer.held.cache):
                peer.quiet_since = None
                continue
            if peer.quiet_since is None:
                peer.quiet_since = now
            quiet = now - peer.quiet_since
            if self.active:
                if peer.up and quiet >= FORMER_LIMIT:  # nothing is active there; the kernel has it all
                    peer.held.clear()
            elif quiet >= (FORMER_QUIET_LIMIT if peer.up else FORMER_LIMIT) and self._follows():
                self._change(peer, OURS)
                actions += self._retire(peer.held)
        return actions

    def _follows(self) -> bool:
        """Whether a peer streams and has told all of its table."""
        return any(peer.state == WHOLE for peer in self.peers.values())

    # Steps

    def _go(self, event: str, now: int) -> list[Action]:
        row = TRANSITIONS.get((self.state, event))
        if row is None:
            return []
        self.state, steps = row
        self._now = now
        self._wait_until = None if self.state not in (WAITING, LISTENING) else self._wait_until
        actions: list[Action] = []
        for step in steps:
            actions += getattr(self, f"_do_{step}")()
        return actions

    def _change(self, peer: Peer, event: str) -> None:
        peer.state = HOLDING.get((peer.state, event), peer.state)

    def _do_complete(self) -> list[Action]:
        return [Complete(beside=self.active)]

    def _do_restored(self) -> list[Action]:
        groups, self._groups = self._groups, []
        self._handed_at = None
        return [Restored(group) for group in groups]

    def _do_merged(self) -> list[Action]:
        merging, self._merging = self._merging, []
        return [Merged(asked) for asked in merging]

    def _do_follow_whole(self) -> list[Action]:
        return [Follow(whole=True)]

    def _do_retire_own(self) -> list[Action]:
        return self._retire(self.own)

    def _do_adopt(self) -> list[Action]:
        """Make the one table that is held our own; peers that stream go on with empty tables."""
        full = [peer for peer in self.peers.values() if len(peer.held.cache)]
        adopted = len(full) == 1 and not len(self.own.cache) and not full[0].sharing
        if adopted:
            full[0].held.become_own()
        for peer in self.peers.values():
            if peer.streaming:
                peer.taken_at = self._now
            else:
                peer.held.clear()  # the kernel has these entries
                self._change(peer, OURS)
        self._surplus_at = None
        return [Leave(), Stream(adopted)]

    def _do_share(self) -> list[Action]:
        """Let go of the tables that are in the kernel now, except those of peers that stream."""
        actions: list[Action] = []
        if self._last or not any(peer.streaming for peer in self.peers.values()):
            actions.append(Leave())
        for peer in self.peers.values():
            if peer.streaming:
                peer.taken_at = self._now
            else:
                actions += self._let_go(peer)
        return [*actions, Look()]

    def _do_disown(self) -> list[Action]:
        """Keep our own table, which the next active router may adopt."""
        self._merging.clear()
        if self._follows():  # two routers were active
            self._surplus_at = self._now + SURPLUS_LIMIT
        return [Silence(), Follow(whole=False)]

    def _let_go(self, peer: Peer) -> list[Action]:
        return [Refresh(peer.held.take())]

    def _retire(self, table: Own | Held) -> list[Action]:
        return [Retire(table.take())] if len(table.cache) else []
