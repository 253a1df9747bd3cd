# SPDX-License-Identifier: GPL-2.0-or-later
"""Neighbour: another Tandem router that this one has a channel to, whatever its addresses are.

A neighbour has a name, and paths by which it is heard: the channel, and every segment (LAN) where both
routers have a virtual router. Two tables say what is known of it:

CONNECTIONS: do the two routers know each other's connections?

    UNKNOWN      they have never known them, or the neighbour has said goodbye
    KNOWN        one of them held all connections of the other, and no goodbye came since
    IN_STEP      the neighbour holds all connections of this router now

VERDICTS: is the neighbour there, as seen on one segment?

    ALIVE        it is heard on the segment
    SUSPECT      it is late
    PARTITIONED  the segment is silent, but the neighbour is heard by another path: the segment is broken
    DEAD         no path is left, or the neighbour has said goodbye

A path is silent when nothing came for its limit. The deadlines are fields: the owner calls `due` when
`next_deadline` has passed. All times are in ns.
"""

from __future__ import annotations

from enum import Enum
from itertools import islice

from tandem.core.events import Partner
from tandem.core.strangers import SOURCES_MAX
from tandem.core.timers import CENTISECOND, earliest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from tandem.core.packet import Advertisement
    from tandem.core.strangers import Source


class Connections(Enum):
    """Whether the two routers know each other's connections."""

    UNKNOWN = "unknown"
    KNOWN = "known"
    IN_STEP = "in step"


class Verdict(Enum):
    """Whether a neighbour is there, as seen on one segment."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    PARTITIONED = "partitioned"
    DEAD = "dead"


# Events of the session
OPENED = "the session begins"
STREAMS = "its stream begins"
QUIET = "its stream ends"
# and of CONNECTIONS
HOLDS_OURS = "it holds all of ours"
LACKS_OURS = "it lacks some of ours"
WE_HOLD = "we hold all of its"
STREAM_OFF = "our stream ends"
LOST = "the session ends"
GOODBYE = "it says goodbye"

CONNECTIONS: dict[tuple[Connections, str], Connections] = {
    (Connections.UNKNOWN, HOLDS_OURS): Connections.IN_STEP,
    (Connections.UNKNOWN, LACKS_OURS): Connections.UNKNOWN,
    (Connections.UNKNOWN, WE_HOLD): Connections.KNOWN,
    (Connections.UNKNOWN, STREAM_OFF): Connections.UNKNOWN,
    (Connections.UNKNOWN, LOST): Connections.UNKNOWN,
    (Connections.UNKNOWN, GOODBYE): Connections.UNKNOWN,
    (Connections.KNOWN, HOLDS_OURS): Connections.IN_STEP,
    (Connections.KNOWN, LACKS_OURS): Connections.KNOWN,
    (Connections.KNOWN, WE_HOLD): Connections.KNOWN,
    (Connections.KNOWN, STREAM_OFF): Connections.KNOWN,
    (Connections.KNOWN, LOST): Connections.KNOWN,
    (Connections.KNOWN, GOODBYE): Connections.UNKNOWN,  # it gave its role up before, and its connections
    (Connections.IN_STEP, HOLDS_OURS): Connections.IN_STEP,
    (Connections.IN_STEP, LACKS_OURS): Connections.KNOWN,
    (Connections.IN_STEP, WE_HOLD): Connections.IN_STEP,
    (Connections.IN_STEP, STREAM_OFF): Connections.KNOWN,
    (Connections.IN_STEP, LOST): Connections.KNOWN,
    (Connections.IN_STEP, GOODBYE): Connections.UNKNOWN,
}

# Events of VERDICTS
HEARD = "heard here"
LATE = "late here"
SILENT = "silent here only"
GONE = "silent on every path"
SPEAKS = "heard by another path"

VERDICTS: dict[tuple[Verdict, str], Verdict] = {
    (Verdict.ALIVE, HEARD): Verdict.ALIVE,
    (Verdict.ALIVE, LATE): Verdict.SUSPECT,
    (Verdict.ALIVE, SILENT): Verdict.PARTITIONED,
    (Verdict.ALIVE, GONE): Verdict.DEAD,
    (Verdict.ALIVE, SPEAKS): Verdict.ALIVE,
    (Verdict.SUSPECT, HEARD): Verdict.ALIVE,
    (Verdict.SUSPECT, LATE): Verdict.SUSPECT,
    (Verdict.SUSPECT, SILENT): Verdict.PARTITIONED,
    (Verdict.SUSPECT, GONE): Verdict.DEAD,
    (Verdict.SUSPECT, SPEAKS): Verdict.SUSPECT,  # the segment's own limit decides
    (Verdict.PARTITIONED, HEARD): Verdict.ALIVE,
    (Verdict.PARTITIONED, LATE): Verdict.PARTITIONED,
    (Verdict.PARTITIONED, SILENT): Verdict.PARTITIONED,
    (Verdict.PARTITIONED, GONE): Verdict.DEAD,
    (Verdict.PARTITIONED, SPEAKS): Verdict.PARTITIONED,
    (Verdict.DEAD, HEARD): Verdict.ALIVE,
    (Verdict.DEAD, LATE): Verdict.DEAD,
    (Verdict.DEAD, SILENT): Verdict.PARTITIONED,
    (Verdict.DEAD, GONE): Verdict.DEAD,
    (Verdict.DEAD, SPEAKS): Verdict.PARTITIONED,
}

ACTIVE, BACKUP = "MASTER", "BACKUP"  # the states of a group that can have the role, see state.py
GROUPS_MAX = 512  # of a neighbour that are remembered
ADVERTS = 4  # intervals without an advert, and the segment is silent: RFC 9568 waits for three and the skew
NEVER = 0
CHANNEL = "channel"  # the path of the channel's session, which says itself when it ends
BEATS = "heartbeats"  # all paths of heartbeats together; core/heartbeats.py says when they end
NO_SEGMENTS = (CHANNEL, BEATS)


class _Path:
    """When a neighbour was heard by one path."""

    __slots__ = ("heard", "late", "limit", "speaks")

    heard: int
    late: int  # so long after `heard` the next word is late; NEVER: it never is
    limit: int  # so long after `heard` the path is silent; NEVER: until it is lost

    def __init__(self) -> None:
        self.speaks = False


class Neighbour:
    """One neighbour: its addresses, its connections, and its paths."""

    def __init__(self, addresses: frozenset[bytes]) -> None:
        self.addresses = addresses  # packed, by which the channel reaches it
        self.connections = Connections.UNKNOWN
        self.streams = False  # it tells its connections
        self.connected = False  # by a session of the channel
        self.replicates = False  # connections are exchanged with it
        # The states of its groups, as it says; None: an older release says none.
        self.states: dict[str, str] | None = None
        self.verdicts: dict[str, Verdict] = {}  # by segment, of those where it was heard
        self._paths: dict[str, _Path] = {}

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        found = None
        for name, path in self._paths.items():
            if path.speaks and path.limit:
                found = earliest(found, path.heard + path.limit)
                if path.late and self.verdicts.get(name) is Verdict.ALIVE:
                    found = earliest(found, path.heard + path.late)
        return found

    def handle(self, event: str, now: int) -> None:
        """Take an event of the session, or of CONNECTIONS."""
        if event in (STREAMS, QUIET):
            self.streams = event == STREAMS
            return
        if event == OPENED:
            self.connected, self.states = True, None
            self.heard(CHANNEL, now, NEVER, NEVER)
            return
        self.connections = CONNECTIONS[self.connections, event]
        if event in (LOST, GOODBYE):
            self.streams = self.connected = False
            self.lost(CHANNEL)
        if event == GOODBYE:
            self.died()

    def died(self) -> None:
        """Nothing comes by any path any more."""
        for path in self._paths.values():
            path.speaks = False
        self._judge_silent()

    def heard(self, path: str, now: int, late: int, limit: int) -> None:
        """Something came by this path. The next is late after `late`, and the path silent after `limit`.

        Every path that is not in NO_SEGMENTS is a segment.
        """
        found = self._paths.get(path)
        if found is None:
            found = self._paths[path] = _Path()
            if path not in NO_SEGMENTS:
                self.verdicts[path] = Verdict.ALIVE
        found.heard, found.late, found.limit = now, late, limit
        if not found.speaks or self.verdicts.get(path, Verdict.ALIVE) is not Verdict.ALIVE:
            found.speaks = True
            for name in self.verdicts:
                self._judge(name, HEARD if name == path else SPEAKS)

    def say(self, states: Mapping[str, str] | None) -> None:
        """The neighbour has said the states of some of its groups; None: its message was malformed."""
        if states is None:
            self.states = None
        else:
            self.states = dict(islice({**(self.states or {}), **states}.items(), GROUPS_MAX))

    def keep(self, segments: Collection[str]) -> None:
        """Forget all segments but these."""
        self.verdicts = {name: verdict for name, verdict in self.verdicts.items() if name in segments}
        self._paths = {
            name: path for name, path in self._paths.items() if name in (*NO_SEGMENTS, *self.verdicts)
        }

    def lost(self, path: str) -> None:
        """Nothing comes by this path any more."""
        found = self._paths.get(path)
        if found is not None and found.speaks:
            found.speaks = False
            self._judge_silent()

    def due(self, now: int) -> None:
        """Judge what has become late or silent."""
        silent = False
        for name, path in self._paths.items():
            if not path.speaks or not path.limit:
                continue
            if path.heard + path.limit <= now:
                path.speaks, silent = False, True
            elif path.late and path.heard + path.late <= now and name in self.verdicts:
                self._judge(name, LATE)
        if silent:
            self._judge_silent()

    def _judge_silent(self) -> None:
        event = SILENT if any(path.speaks for path in self._paths.values()) else GONE
        for name in self.verdicts:
            if not self._paths[name].speaks:
                self._judge(name, event)

    def _judge(self, segment: str, event: str) -> None:
        self.verdicts[segment] = VERDICTS[self.verdicts[segment], event]


class Neighbours:
    """All neighbours, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Neighbour] = {}
        self.sources: dict[Source, Neighbour] = {}  # whose adverts come from there

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self._known.values())

    def get(self, name: str) -> Neighbour | None:
        """Return a neighbour; None when no peer of the configuration has this name."""
        return self._known.get(name)

    def expect(self, peers: Mapping[str, frozenset[bytes]], segments: Collection[str]) -> None:
        """Take the peers of the configuration, with their addresses, and the segments; forget all others."""
        known = {name: self._known.get(name) or Neighbour(addresses) for name, addresses in peers.items()}
        for name, addresses in peers.items():
            known[name].addresses = addresses
            known[name].keep(segments)
        self._known = known
        self.sources = {key: one for key, one in self.sources.items() if one in known.values()}

    def say(self, name: str, states: Mapping[str, str] | None) -> None:
        """A neighbour has said states of its groups, see `Neighbour.say`."""
        if (found := self._known.get(name)) is not None:
            found.say(states)

    def told(self, name: str, sources: Iterable[Source]) -> None:
        """Take the sources of a neighbour's adverts; none when its session has ended."""
        self.sources = {key: one for key, one in self.sources.items() if one is not self._known.get(name)}
        if (found := self._known.get(name)) is not None:
            self.sources |= dict.fromkeys(islice(sources, SOURCES_MAX), found)

    def advert(self, segment: str, source: Source, advert: Advertisement, own_cs: int, now: int) -> None:
        """An advertisement came on this segment, from whatever router; `own_cs`: our own interval."""
        found = self.sources.get(source)
        if found is None:
            return
        if advert.priority:
            interval = max(advert.interval_cs, own_cs) * CENTISECOND
            found.heard(segment, now, interval * 5 // 4, ADVERTS * interval)
        else:
            found.lost(segment)

    def unheard(self, group: str, segment: str) -> tuple[str, ...]:
        """Return the neighbours that are active for the group, as they say, and unheard on the segment."""
        return tuple(
            name
            for name, one in self._known.items()
            if one.connected
            and (one.states or {}).get(group) == ACTIVE
            and one.verdicts.get(segment) not in (Verdict.ALIVE, Verdict.SUSPECT)
        )

    def refusal(self, groups: Iterable[str]) -> str | None:
        """Return why no neighbour would take over one of the groups; None: one would, or there is none.

        A neighbour that does not know a group of that name, or has said no states, counts as ready.
        """
        connected = {name: one.states or {} for name, one in self._known.items() if one.connected}
        if self._known and not connected:
            return "no peer is connected"
        for group in groups:
            said = {name: states.get(group, BACKUP) for name, states in connected.items()}
            if said and not any(state in (ACTIVE, BACKUP) for state in said.values()):
                return f"{group}: {', '.join(f'{name} is {state}' for name, state in sorted(said.items()))}"
        return None

    def due(self, now: int) -> None:
        """Judge all neighbours."""
        for one in self:
            one.due(now)

    def replicate(self, names: Iterable[str]) -> None:
        """Connections are exchanged with these: forget what was known of those of others."""
        wanted = set(names)
        for name, one in self._known.items():
            one.replicates = name in wanted
            if not one.replicates:
                one.connections = Connections.UNKNOWN

    @property
    def partner(self) -> Partner:
        """Return, for the groups, whether the neighbours' connections are known here.

        It is not enough that one neighbour holds all of ours. That neighbour may follow this router, while
        the router that is active as well lacks them. Such a router streams as soon as there is a session.
        """
        known = [one for one in self if one.connections is not Connections.UNKNOWN]
        in_step = [one for one in known if one.connections is Connections.IN_STEP]
        settled = bool(in_step) and (len(in_step) == len(known) or any(one.streams for one in in_step))
        fills = any(one.connected and one.replicates and one not in in_step for one in self)
        return Partner(bool(known), settled, frozenset().union(*(one.addresses for one in in_step)), fills)
