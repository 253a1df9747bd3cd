# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats to and from all peers: the sockets, one timer, and what becomes of it for the groups.

Each peer with a secret gets a heartbeat by every path in each interval: by the paths of its channel, and by
each segment where both routers have a virtual router, between their primary addresses. A session has to exist
once: it tells the nodes, of which the keys are made, and the directories. Then heartbeats go on without it.

Nothing here decides: core/heartbeats.py says who is alive, and core/standing.py what that is for the groups.
"""

from __future__ import annotations

from tandem.channel.beat_socket import BeatSocket, Route
from tandem.channel.frames import HEARTBEATS, MAC_SIZE
from tandem.channel.heartbeat import (
    BACK,
    FRONT,
    GOODBYE,
    HEAD,
    HEARS,
    IN_STEP,
    STALE,
    TOPIC,
    VERSION,
    key_of,
    microseconds,
    pack_directory,
    round_trip,
    seal,
    unpack_directory,
    unseal,
)
from tandem.channel.peer_socket import local_address
from tandem.core.events import Company
from tandem.core.heartbeats import BEGINS, DIES, ENDS, NEVER, BeatPath, Beats, Life, Pace, next_wake
from tandem.core.neighbour import ACTIVE as MASTER
from tandem.core.neighbour import BACKUP, BEATS
from tandem.core.neighbour import NEVER as NO_LIMIT
from tandem.core.standing import HOLDERS, STANDINGS_MAX, Entry, Post, Standings, matching, seats, standing_of
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.endpoint import text
from tandem.loop import TIMER_SLACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
    from tandem.status_schema import HeartbeatPath, PeerHeartbeats

    Said = tuple[int, int, bytes]  # flags, number of the directory, standings

INTERVAL_MIN = 10 * MILLISECOND
REFRESH = 5 * SECOND  # between two looks at addresses and routes, which come and go
_SAID = HEARS | GOODBYE


class _Peer:
    """One peer that takes heartbeats."""

    def __init__(self, name: str, node: bytes, keys: tuple[bytes, bytes], beats: Beats) -> None:
        self.name = name
        self.node = node
        self.key_out, self.key_in = keys
        self.beats = beats
        self.sockets: dict[str, BeatSocket] = {}
        self.directory: tuple[int, tuple[Entry, ...]] = (0, ())
        self.said: Said | None = None
        self.position = 0
        self.stale = False


class Heartbeats:
    """The subscriber of the topic `heartbeat`. `stale` says whether replication is behind."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        channel: Channel,
        router: Router,
        links: Links,
        settings: Globals,
        stale: Callable[[], bool],
    ) -> None:
        self.refused = 0  # datagrams that were no heartbeat of a peer
        self._loop = loop
        self._log = log
        self._channel = channel
        self._router = router
        self._links = links
        self._stale = stale
        self._peers: dict[str, _Peer] = {}
        self._entries: tuple[Entry, ...] = ()
        self._members: list[tuple[SyncGroup, VirtualRouter]] = []  # that these are about
        self._directory = 0  # its number
        self._number = 0  # of the last heartbeat
        self._standings = b""
        self._wake_at = 0
        self._timer_key, self._refresh_key = ("heartbeat", id(self)), ("heartbeat paths", id(self))
        self._core = Standings(False)
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
        self.changed()

    def close(self) -> None:
        """Tell the peers that no more heartbeats come, which is no death."""
        self._standings = self._own_standings()
        self._send(self._loop.now(), GOODBYE)
        self._loop.call_at(self._timer_key, None)
        self._loop.call_at(self._refresh_key, None)
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
                self._pace.due = self._loop.now()  # nothing was due before there was a peer
            peer = self._peers[name] = _Peer(name, theirs.node, keys, Beats(self._miss))
        peer.key_out, peer.key_in = keys
        self._open_paths(peer)
        self._channel.send(name, TOPIC, pack_directory(self._directory, self._entries))
        self._set_timer(self._loop.now())

    def peer_closed(self, name: str) -> None:
        """Heartbeats go on without a session."""

    def received(self, name: str, data: bytes) -> None:
        """Take a peer's directory; a malformed one counts as empty."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.directory = unpack_directory(data) or (0, ())
            self._hear(peer)
            self._open_paths(peer)

    # News of this router

    def acted(self) -> None:
        """A group may have changed its role: tell the peers at once."""
        standings = self._own_standings()
        if standings != self._standings:
            self._standings = standings
            self._send(self._loop.now())

    def changed(self) -> None:
        """Groups, interfaces or addresses have changed: make the directory and the paths anew."""
        before, names = self._entries, [entry.name for entry in self._entries]
        groups = self._router.groups.values()
        self._members = [(group, member) for group in groups for member in group.members][:STANDINGS_MAX]
        self._entries = tuple(_entry(member) for _, member in self._members)
        if self._entries != before:
            # While the names stay, so does the number: what was said before is understood as well.
            self._directory += names != [entry.name for entry in self._entries]
            message = pack_directory(self._directory, self._entries)
            for name in self._peers:
                if name in self._channel.links:
                    self._channel.send(name, TOPIC, message)
        for name in list(self._peers):
            if name in self._channel.links:
                self._open_paths(self._peers[name])
                self._hear(self._peers[name])
            else:
                self._forget(name)
        self.acted()
        self._set_timer(self._loop.now())

    def _refresh(self, now: int) -> None:
        self.changed()
        self._loop.call_at(self._refresh_key, now + REFRESH, self._refresh, TIMER_SLACK)

    def _own_standings(self) -> bytes:
        usable = self._links.usable
        return b"".join(
            standing_of(group, member, usable(member.settings.interface)) for group, member in self._members
        )

    # Paths

    def _open_paths(self, peer: _Peer) -> None:
        wanted = dict(self._routes(peer))
        for name in [name for name, sock in peer.sockets.items() if wanted.get(name) != sock.route]:
            self._shut(peer, name)
        for name, route in wanted.items():
            if name not in peer.sockets:
                try:
                    sock = BeatSocket(route)
                except OSError as error:
                    problem = f"heartbeat: no path {name} to {peer.name}: {error.strerror or error}"
                    self._log.limited(("heartbeat", peer.name, name), "info", problem)
                    continue
                peer.sockets[name] = sock
                self._loop.add_reader(sock.fileno(), self._reader(peer, name, sock))

    def _routes(self, peer: _Peer) -> Iterator[tuple[str, Route]]:
        """Yield all ways to a peer by their names: segments first, which a path of the channel may be too."""
        link = self._channel.links[peer.name]
        seen = set()
        _, entries = peer.directory
        matched = matching(self._entries, entries)
        for entry in self._entries:
            remote = entries[matched[entry.name]].source if entry.name in matched else b""
            endpoint = self._router.endpoints.get(entry.name)
            if endpoint is None or not entry.source or len(remote) != len(entry.source):
                continue
            device = self._links.device(endpoint.settings.interface)
            index = self._links.index(endpoint.settings.interface)
            if device is None or index is None or (entry.source, remote) in seen:
                continue
            seen.add((entry.source, remote))
            zone = f"%{device}" if remote[:2] in (b"\xfe\x80",) and len(remote) == 16 else ""
            hops = 256 - endpoint.expected.min_hop_limit if endpoint.settings.unicast_peers else 1
            local, far = text(entry.source) + zone, text(remote) + zone
            yield f"{text(remote)} dev {device}", Route(local, far, link.paths[0].port, device, index, hops)
        for path in link.paths:
            try:
                route = Route(
                    local_address(path), path.address, path.port, path.interface,
                    self._links.index(path.interface) if path.interface else None, path.max_hops,
                )  # fmt: skip
                if route.key in seen:
                    continue
            except OSError:
                continue  # there is no route to it now
            seen.add(route.key)
            yield path.address + (f" dev {path.interface}" if path.interface else ""), route

    def _reader(self, peer: _Peer, name: str, sock: BeatSocket) -> Callable[[], None]:
        return lambda: self._readable(peer, name, sock)

    def _shut(self, peer: _Peer, name: str) -> None:
        sock = peer.sockets.pop(name)
        self._loop.remove_reader(sock.fileno())
        sock.close()
        peer.beats.lose(name)

    def _forget(self, name: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        for path in list(peer.sockets):
            self._shut(peer, path)
        if (neighbour := self._router.neighbours.get(name)) is not None:
            neighbour.lost(BEATS)
        self._dispatch(self._core.forget(name, self._router.groups))

    # Sending

    def _send(self, now: int, flags: int = 0) -> None:
        """Send a heartbeat to every peer by every path."""
        self._number += 1
        late = min(self._pace.late // MILLISECOND, 0xFFFF)
        flags |= STALE * self._stale()
        count, clock = len(self._standings) // 3, microseconds(now)
        ready: list[tuple[BeatSocket, bytes]] = []
        for name, peer in self._peers.items():
            link = self._channel.links.get(name)
            current = link.current if link is not None else None
            ours = flags | HEARS * (peer.beats.life is Life.ALIVE)
            ours |= IN_STEP * (current is not None and current.session.outgoing.in_step)
            back = BACK.pack(
                self._interval_ms, late, ours, self._channel.position, self._directory, count
            ) + self._standings  # fmt: skip
            for path, sock in peer.sockets.items():
                echo, age = 0, NEVER
                if (heard := peer.beats.paths.get(path)) is not None:
                    echo = heard.clock
                    if heard.speaks:
                        age = min((now - heard.heard) // 1000, NEVER - 1)
                front = FRONT.pack(VERSION, self._channel.node, self._number, clock, echo, age)
                ready.append((sock, seal(peer.key_out, sock.outward, front + back)))
        for sock, datagram in ready:  # one behind the other, so that they wake the peer once
            try:
                sock.send(datagram)
            except OSError:
                sock.errors += 1  # the path does not work now, which its silence says at the other end

    def _set_timer(self, now: int) -> None:
        if not self._peers:
            self._loop.call_at(self._timer_key, None)
            return
        self._wake_at = max(now, next_wake(self._pace, [peer.beats for peer in self._peers.values()]))
        self._loop.call_at(self._timer_key, self._wake_at, self._timer)

    def _timer(self, now: int) -> None:
        pace = self._pace
        if 2 * (now - self._wake_at) > pace.interval:
            # The sockets were read in this turn of the loop, but more may be on its way up.
            for peer in self._peers.values():
                peer.beats.spare(now + pace.interval)
        if now >= pace.due:
            pace.beat(now)
            self._send(now)
        for peer in list(self._peers.values()):
            if actions := peer.beats.due(now):
                self._act(peer, actions, now)
        self._dispatch(self._core.lasting(self._router.groups, self._miss * pace.interval, now))
        self._set_timer(now)

    # Receiving

    def _readable(self, peer: _Peer, name: str, sock: BeatSocket) -> None:
        datagram = sock.receive()
        if not datagram:
            return
        head = unseal(peer.key_in, sock.inward, datagram, peer.node)
        if head is None:
            self.refused += 1
            return
        now = self._loop.now()
        beats = peer.beats
        fresh = head[2] > beats.newest
        actions = beats.heard(name, head[2], head[6] * MILLISECOND, head[7] * MILLISECOND, now)
        if actions is None:
            return
        path = beats.paths[name]
        path.clock, path.round_trip = head[3], head[4:6]
        if actions:
            self._act(peer, actions, now)
        if not fresh:
            return  # another path was faster, and has told this
        said = head[8] & _SAID, head[10], datagram[HEAD.size : -MAC_SIZE]
        peer.position, peer.stale = head[9], bool(head[8] & STALE)
        if said != peer.said:
            peer.said = said
            if said[0] & GOODBYE:
                self._act(peer, beats.goodbye(), now)
            self._hear(peer)
        if self._pace.answers(now):
            self._pace.beat(now, answer=True)
            self._send(now)
            self._set_timer(now)

    def _act(self, peer: _Peer, actions: Iterable[str], now: int) -> None:
        neighbour = self._router.neighbours.get(peer.name)
        for action in actions:
            if action == BEGINS:
                if neighbour is not None:
                    neighbour.heard(BEATS, now, NO_LIMIT, NO_LIMIT)
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
                self._dispatch(self._core.died(peer.name, self._router.groups, now))
            elif action == ENDS:
                if neighbour is not None:
                    neighbour.lost(BEATS)
                self._dispatch(self._core.forget(peer.name, self._router.groups))

    def _hear(self, peer: _Peer) -> None:
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
        peer, now = self._peers.get(name), self._loop.now()
        if peer is None:
            return None
        beats = peer.beats
        failure, at = beats.last_failure or (None, now)
        return {
            "state": beats.life.value,
            "limit_ms": beats.limit / MILLISECOND,
            "paths": [
                _path(name, sock.errors, beats.paths.get(name), now) for name, sock in peer.sockets.items()
            ],
            "last_failure": failure,
            "last_failure_s": round((now - at) / SECOND, 3) if failure else None,
            "stale": peer.stale,
            "repeated": beats.refused,
        }

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


def _path(name: str, errors: int, path: BeatPath | None, now: int) -> HeartbeatPath:
    path = path or BeatPath()
    rtt = round_trip(*path.round_trip, path.heard)
    return {
        "name": name,
        "up": path.speaks,
        "up_s": None if path.since is None else round((now - path.since) / SECOND, 3),
        "rtt_ms": None if rtt is None else rtt / MILLISECOND,
        "received": path.received,
        "lost": path.lost,
        "failures": path.failures,
        "errors": errors,
    }


def _entry(member: VirtualRouter) -> Entry:
    settings = member.settings
    return Entry(member.name, settings.virtual_router_id, settings.family, member.source or b"")
