# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats to and from all peers: the sockets, one timer, and what becomes of it for the groups.

Each peer with a secret gets a heartbeat by every path in each interval: by the paths of its channel, and by
each segment where both routers have a virtual router, between their primary addresses. A session has to exist
once: it tells the nodes, of which the keys are made, and the directories. Then heartbeats go on without it.

Nothing here decides: core/heartbeats.py says who is alive, and core/standing.py what that is for the groups.
"""

from __future__ import annotations

from tandem.beat_routes import BeatRoutes
from tandem.channel.beat_peer import BeatPeer
from tandem.channel.beat_socket import BeatSocket
from tandem.channel.frames import HEARTBEATS, MAC_SIZE
from tandem.channel.heartbeat import (
    CLOCK_MAX,
    DATAGRAM_MAX,
    GOODBYE,
    HEAD,
    HEARS,
    IN_STEP,
    STALE,
    TOPIC,
    VERSION,
    Head,
    key_of,
    pack_directory,
    seal,
    unpack_directory,
    unseal,
)
from tandem.core.events import Company
from tandem.core.heartbeats import BEGINS, DIES, ENDS, NEVER, Beats, Life, Pace
from tandem.core.neighbour import ACTIVE as MASTER
from tandem.core.neighbour import BACKUP, BEATS
from tandem.core.neighbour import NEVER as NO_LIMIT
from tandem.core.standing import (
    ACTIVE,
    HOLDERS,
    ROLE,
    STANDINGS_MAX,
    Entry,
    Post,
    Standings,
    entry_of,
    leadership,
    matching,
    seats,
    standing_of,
)
from tandem.core.timers import MILLISECOND, SECOND
from tandem.loop import TIMER_SLACK
from tandem.scheduling import quota_pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tandem.channel.channel import Channel
    from tandem.config.schema import Globals
    from tandem.core.events import Event
    from tandem.core.quorum import Presence
    from tandem.core.sync_group import SyncGroup
    from tandem.core.virtual_router import VirtualRouter
    from tandem.effects.links import Links
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.router import Router
    from tandem.status_schema import PeerHeartbeats

INTERVAL_MIN = 10 * MILLISECOND
REFRESH = 5 * SECOND  # between two looks at addresses and routes, which come and go
FACTS = SECOND  # between two looks at what heartbeats say of replication
READS_MAX = 256  # heartbeats of one path that are read at a time: more than its buffer holds
PROBES = 2  # heartbeats of a router that leads, in each REFRESH, whose answers it waits for: the round trip
_SAID = HEARS | GOODBYE


class Heartbeats:
    """The subscriber of the topic `heartbeat`. `stale` says whether replication is behind.

    `lives(peer, alive)` gets the news that a peer is heard, or silent on every path.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        channel: Channel,
        router: Router,
        links: Links,
        settings: Globals,
        stale: Callable[[], bool],
        lives: Callable[[str, bool], None],
    ) -> None:
        self.refused = 0  # datagrams that were no heartbeat of a peer
        self._loop = loop
        self._log = log
        self._channel = channel
        self._router = router
        self._links = links
        self._stale = stale
        self._lives = lives
        self._peers: dict[str, BeatPeer] = {}
        self._entries: tuple[Entry, ...] = ()
        self._members: list[tuple[SyncGroup, VirtualRouter]] = []  # that these are about
        self._directory = 0  # its number
        self._number = self._clock = 0  # of the last heartbeat
        self._probes = PROBES
        self._standings = b""
        self._facts_at = 0
        self._quota_pause = 0  # ns; 0: no quota of CPU time
        self._active = False  # for a group
        self._watches = False  # something may last that a group has to know
        self._wake_at = 0
        self._timer_key, self._refresh_key = ("heartbeat", id(self)), ("heartbeat paths", id(self))
        self._news_key = ("heartbeat news", id(self))
        self._routes = BeatRoutes(channel, router, links)
        self._core = Standings(False)
        self._pace = Pace(settings.heartbeat_interval_ms * MILLISECOND, loop.now())
        self._take(settings)

    def _take(self, settings: Globals) -> None:
        self._core.holds = settings.partition_policy == "hold"
        self._core.compares = settings.fault_policy == "compare"
        self._settings = (
            settings.heartbeat_interval_ms,
            settings.heartbeat_miss,
            self._core.holds,
            self._core.compares,
        )
        self._interval_ms, self._miss = settings.heartbeat_interval_ms, settings.heartbeat_miss
        if self._pace.interval != self._interval_ms * MILLISECOND:
            self._pace = Pace(self._interval_ms * MILLISECOND, self._loop.now())

    # Life

    def start(self) -> None:
        """Make the directory, and begin with the peers that have a session."""
        self._channel.subscribe(TOPIC, self)
        self._refresh(self._loop.now())

    def reload(self, settings: Globals) -> None:
        """Take the settings of a reload, and its groups."""
        before = self._settings
        self._take(settings)
        if self._settings != before:
            for peer in self._peers.values():
                peer.beats.miss, peer.said = self._miss, None
            self._lead()
        self.changed()

    def close(self) -> None:
        """Tell the peers that no more heartbeats come, which is no death."""
        self._standings = self._own_standings()
        self._send(self._loop.now(), GOODBYE)
        self._loop.call_at(self._timer_key, None)
        self._loop.call_at(self._refresh_key, None)
        self._loop.call_at(self._news_key, None)
        for name in list(self._peers):
            self._forget(name)
        self._dispatch((name, Company()) for name in list(self._router.groups))

    # The session

    def peer_opened(self, name: str) -> None:
        """Make the keys with the nodes that the session has told, and send the directory."""
        link = self._channel.links[name]
        session = link.current.session if link.current is not None else None
        if session is None or session.peer is None:
            return
        if not session.peer.capabilities & HEARTBEATS or link.settings.insecure:
            self._forget(name)
            return
        ours, theirs = link.settings, session.peer
        keys = (
            key_of(ours.secrets[ours.key_id], ours.node, theirs.node),
            key_of(ours.secrets[theirs.key_id], theirs.node, ours.node),
        )
        peer = self._peers.get(name)
        if peer is None or peer.node != theirs.node:
            self._forget(name)
            if not self._peers:
                self._quota_pause = quota_pause()
                self._pace.begin(self._loop.now(), self._loop.turn_max)
            peer = BeatPeer(self._loop, name, theirs.node, Beats(self._miss), self._read)
            self._peers[name] = peer
        peer.use(keys)
        self._open_paths(peer)
        self._lead()
        self._channel.send(name, TOPIC, pack_directory(self._directory, self._entries))
        self._set_timer(self._loop.now())

    def peer_closed(self, name: str) -> None:
        """Heartbeats go on without a session."""

    def received(self, name: str, data: bytes) -> None:
        """Take a peer's directory; a malformed one counts as empty.

        A directory comes also when the peer's standings have changed: a router that leads reads them now.
        """
        peer = self._peers.get(name)
        if peer is None:
            return
        directory = unpack_directory(data) or (0, ())
        if directory != peer.directory:
            peer.directory = directory
            self._hear(peer)
            self._open_paths(peer)
        self._read(peer, everything=True)

    # News of this router

    def acted(self) -> None:
        """A group may have changed its role: tell the peers at once.

        A router that has stood still does so when it has read all that has happened: in this turn as well.
        """
        standings = self._own_standings()
        if standings != self._standings:
            self._standings = standings
            self._active = ACTIVE in {state & ROLE for state in standings[::3]}
            now = self._loop.now()
            if now - self._pace.due <= self._pace.interval:
                self._send(now)
            self._lead()
            self._loop.call_at(self._news_key, now, self._after_news)

    def _after_news(self, _now: int) -> None:
        """Let the peers that lead read the heartbeat that has just left: see `received`."""
        self._tell_directory()
        self._look_at_paths()

    def changed(self) -> None:
        """Groups, interfaces or addresses have changed: make the directory and the paths anew."""
        before, names = self._entries, [entry.name for entry in self._entries]
        groups = self._router.groups.values()
        self._members = [(group, member) for group in groups for member in group.members][:STANDINGS_MAX]
        self._entries = tuple(entry_of(member) for _, member in self._members)
        if self._entries != before:
            # While the names stay, so does the number: what was said before is understood as well.
            self._directory += names != [entry.name for entry in self._entries]
            self._tell_directory()
        for name in list(self._peers):
            if name in self._channel.links:
                self._open_paths(self._peers[name])
                self._hear(self._peers[name])
            else:
                self._forget(name)
        self.acted()
        self._set_timer(self._loop.now())

    def _tell_directory(self) -> None:
        message = pack_directory(self._directory, self._entries)
        for name in self._peers:
            if name in self._channel.links:
                self._channel.send(name, TOPIC, message)

    def _refresh(self, now: int) -> None:
        self._probes = PROBES
        self._lead()
        self._look_at_paths()
        self.changed()
        self._loop.call_at(self._refresh_key, now + REFRESH, self._refresh, TIMER_SLACK)

    def _own_standings(self) -> bytes:
        usable = self._links.usable
        return b"".join(
            standing_of(group, member, usable(member.settings.interface)) for group, member in self._members
        )

    # Paths

    def _open_paths(self, peer: BeatPeer) -> None:
        wanted = dict(self._routes.to(peer, self._entries))
        peer.keep(wanted)
        opened = {name for name, _ in peer.paths}
        for name in [name for name in wanted if name not in opened]:
            try:
                peer.open(name, wanted[name])
            except OSError as error:
                problem = f"heartbeat: no path {name} to {peer.name}: {error.strerror or error}"
                self._log.limited(("heartbeat", peer.name, name), "info", problem)

    def _look_at_paths(self) -> None:
        """Take whether a peer that comes back could open a session: a path of the channel is usable."""
        self._dispatch(self._core.reach(self._routes.usable, self._router.groups))

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        peer.close()
        self._lead()
        if (neighbour := self._router.neighbours.get(name)) is not None:
            neighbour.lost(BEATS)
        self._dispatch(self._core.forget(name, self._router.groups))

    # Sending

    def _send(self, now: int, flags: int = 0) -> None:
        """Send a heartbeat to every peer by every path."""
        self._number += 1
        self._clock = clock = now // 1000 & CLOCK_MAX
        if now >= self._facts_at:
            self._look_at_facts(now)
        standings, node = self._standings, self._channel.node
        late = min(self._pace.told // MILLISECOND, 0xFFFF)
        ready: list[tuple[BeatSocket, bytes]] = []
        for peer in self._peers.values():
            heard = peer.beats.paths
            said = peer.flags | flags
            for name, sock in peer.paths:
                echo, age = 0, NEVER
                if (path := heard.get(name)) is not None:
                    echo = path.clock
                    if path.speaks:
                        age = min((now - path.clocked) // 1000, NEVER - 1)
                data = HEAD.pack(
                    VERSION, node, self._number, clock, echo, age, self._interval_ms, late, said,
                    self._channel.position, self._directory, len(standings) // 3,
                ) + standings  # fmt: skip
                ready.append((sock, seal(sock.outward, data)))
        if self._probes:
            self._probes -= 1
            self._lead()
        if self._loop.now() - now > self._miss * self._pace.interval:
            return  # it has stood still in these lines, and may be something else now
        for sock, datagram in ready:  # one behind the other, so that they wake the peer once
            try:
                sock.send(datagram)
            except OSError:
                sock.errors += 1  # the path does not work now, which its silence says at the other end

    def _look_at_facts(self, now: int) -> None:
        """Take what heartbeats say beside the roles, and what the peer's life decides."""
        self._facts_at = now + FACTS
        if self._quota_pause:  # work that needs more than the quota is stopped again and again
            self._pace.allow(max(self._quota_pause, self._loop.turn_max))
        stale = STALE * self._stale()
        for name, peer in self._peers.items():
            link = self._channel.links.get(name)
            current = link.current if link is not None else None
            peer.flags = stale | HEARS * (peer.beats.life is Life.ALIVE)
            peer.flags |= IN_STEP * (current is not None and current.session.outgoing.in_step)

    def _beat(self, now: int, answer: bool = False) -> None:
        self._pace.beat(now, answer)
        self._send(now)
        if self._watches:
            patience = self._miss * self._pace.interval
            self._dispatch(self._core.lasting(self._router.groups, patience, now))

    def _set_timer(self, now: int) -> None:
        if not self._peers:
            self._loop.call_at(self._timer_key, None)
            return
        pace, wake_at = self._pace, self._pace.due
        for peer in self._peers.values():
            deadline = peer.beats.deadline
            if deadline is not None and deadline < wake_at:
                wake_at = deadline
        self._wake_at = wake_at if wake_at > now else now
        self._loop.call_at(self._timer_key, self._wake_at - pace.slack, self._timer, pace.slack)

    def _timer(self, now: int) -> None:
        pace, peers = self._pace, list(self._peers.values())
        if 2 * (now - self._wake_at) > pace.interval:
            # The sockets were read in this turn of the loop, but more may be on its way up.
            for peer in peers:
                peer.beats.spare(now + pace.interval)
        # A router that has stood still may have been the leader until this turn, and has read nothing then.
        if pace.leads or now - pace.due > pace.interval:
            for peer in peers:
                self._read(peer)
        if now >= pace.due - pace.slack:
            self._beat(now)
        for peer in peers:
            if now >= peer.beats.look_at and (actions := peer.beats.due(now)):
                self._act(peer, actions, now)
        self._set_timer(now)

    def _lead(self) -> None:
        """Read heartbeats when this router's own are due, or when they come."""
        peers = self._peers.values()
        lead, follows = leadership(
            self._standings,
            [
                (said[2], peer.beats.life is Life.ALIVE and bool(said[0] & HEARS))
                if (said := peer.said) is not None
                else (None, False)
                for peer in peers
            ],
        )
        lead = lead and not self._probes
        self._pace.lead(lead, follows)
        self._watches = not lead and (self._active or self._core.deaf)
        for peer in peers:
            peer.listen(not lead)

    # Receiving

    def _read(self, peer: BeatPeer, everything: bool = False) -> None:
        """Take a heartbeat of each path; a router that leads takes all up to the answer to its last one.

        More may be there when the peer has news (`everything`). A router that has stood still takes all.
        """
        now = self._loop.now()
        old = peer.beats.overslept(self._pace.due, now)
        for name, sock in peer.paths:
            for _ in range(READS_MAX):
                try:
                    datagram = sock.receive(DATAGRAM_MAX + 1)
                except BlockingIOError:
                    break
                except OSError:
                    sock.errors += 1  # the kernel's, of this path
                    break
                newest = self._take_in(peer, name, sock, datagram, now, old)
                if ((newest and not everything) or peer.listens) and not old:
                    break  # epoll tells what is left while this router listens

    def _take_in(
        self, peer: BeatPeer, name: str, sock: BeatSocket, datagram: bytes, now: int, old: bool
    ) -> bool:
        """Take a datagram; return whether it is the newest, which answers this router's last heartbeat.

        One that is old says that the peer lived, and no more.
        """
        head = unseal(sock.inward, datagram, peer.node)
        if head is None:
            self.refused += 1
            return False
        beats, number = peer.beats, head[2]
        fresh = number > beats.newest
        actions = beats.heard(name, number, head[6] * MILLISECOND, head[7] * MILLISECOND, now)
        if head[4] == self._clock:
            peer.answer = number  # it has other echoes on the paths that the peer reads later
        if actions is None:
            return number == peer.answer
        if peer.listens and not old:
            path = beats.paths[name]
            path.clock, path.clocked, path.round_trip = head[3], now, head[4:6]
        if fresh and not old:  # otherwise another path was faster, and has told what follows
            self._learn(peer, head, datagram[HEAD.size : -MAC_SIZE], actions, now)
        elif actions:
            self._act(peer, actions, now)
        return number == peer.answer

    def _learn(
        self, peer: BeatPeer, head: Head, standings: bytes, actions: tuple[str, ...], now: int
    ) -> None:
        """Take what the newest heartbeat says, and answer it."""
        if actions:
            self._act(peer, actions, now)
        said = head[8] & _SAID, head[10], standings
        peer.stale = bool(head[8] & STALE)
        if said != peer.said:
            peer.said = said
            if said[0] & GOODBYE:
                self._act(peer, peer.beats.goodbye(), now)
            self._hear(peer)
            self._lead()
        if not self._pace.leads:
            if self._pace.answers(now):
                self._beat(now, answer=True)
            self._set_timer(now)

    def _act(self, peer: BeatPeer, actions: Iterable[str], now: int) -> None:
        neighbour = self._router.neighbours.get(peer.name)
        self._facts_at = 0  # the next heartbeat says whether this router hears the peer
        for action in actions:
            if action == BEGINS:
                if neighbour is not None:
                    neighbour.heard(BEATS, now, NO_LIMIT, NO_LIMIT)
                self._lives(peer.name, True)
                self._log.limited(
                    ("heartbeat", peer.name, action), "info", f"heartbeat: {peer.name} is alive"
                )
            elif action == DIES:
                if neighbour is not None:
                    neighbour.died()
                limit = peer.beats.limit // MILLISECOND
                message = f"heartbeat: {peer.name} is dead: nothing was heard for {limit} ms by any path"
                self._log.limited(("heartbeat", peer.name, action), "warning", message)
                peer.said = None
                self._lead()
                self._dispatch(self._core.died(peer.name, self._router.groups, now, peer.beats.silent))
                self._lives(peer.name, False)
            elif action == ENDS:
                if neighbour is not None:
                    neighbour.lost(BEATS)
                self._dispatch(self._core.forget(peer.name, self._router.groups))

    def _hear(self, peer: BeatPeer) -> None:
        """Take what a peer has said last of its virtual routers, and tell the groups what follows."""
        if peer.said is None or peer.beats.life is not Life.ALIVE:
            return
        _, directory, standings = peer.said
        number, entries = peer.directory
        known = number == directory and len(standings) >= 3 * len(entries)
        found = {}
        if known:
            matched = matching(self._entries, entries)
            found = seats(self._router.groups.values(), entries, matched, standings)
        hears = bool(peer.said[0] & HEARS)
        self._dispatch(self._core.take(peer.name, found, hears, self._router.groups, self._loop.now()))

    def status(self, name: str) -> PeerHeartbeats | None:
        """Return what is known of a peer's heartbeats; None: the peer sends none."""
        peer = self._peers.get(name)
        return None if peer is None else peer.status(self._loop.now())

    def presence(self, name: str) -> Presence | None:
        """Return whether a peer is there, and the states of its groups; None: it sends no heartbeats."""
        peer = self._peers.get(name)
        if peer is None or peer.beats.life not in (Life.ALIVE, Life.DEAD):
            return None
        posts = {group: self._core.seat(name, group).post for group in self._router.groups}
        states = {
            group: MASTER if post in HOLDERS else BACKUP
            for group, post in posts.items()
            if post is not Post.UNKNOWN
        }
        hears = peer.said is not None and bool(peer.said[0] & HEARS)
        return peer.beats.life is Life.ALIVE, states, peer.beats.limit, hears

    @property
    def held_ms(self) -> float:
        """The shortest interval that this router can hold, so that it is not dead by its own lateness."""
        return round(max(INTERVAL_MIN, self._pace.late / (self._miss - 1)) / MILLISECOND, 1)

    def _dispatch(self, events: Iterable[tuple[str, Event]]) -> None:
        for name, event in events:
            if name in self._router.groups:
                self._router.dispatch(self._router.groups[name], event)
