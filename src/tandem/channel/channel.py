# SPDX-License-Identifier: GPL-2.0-or-later
"""The channel: what this router and its peers say to each other, over one session with each peer.

Both routers listen, and both connect, by every path to a peer; the first path in the list is the best.
While there is no session all paths are tried, each a little after the one before it; while the
session uses a lesser path, the better ones are tried now and then. peer_link.py says
which of several connections becomes the session.

The daemon owns the channel. Its users are subscribers of topics (topics.py) and the replication of
connections, which streams tables (stream.py); each of them works without the others.

Reading and writing take at most 32 KiB of each connection in a turn of the loop. What the network
does wrong is counted in `counters`, and the first of each kind is logged.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import replace

from tandem.channel.events import Closed, Message, Opened
from tandem.channel.frames import NODE_SIZE, UPGRADES
from tandem.channel.listeners import Listeners
from tandem.channel.peer_link import Link
from tandem.channel.peer_socket import Path, dismiss

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from tandem.channel.events import Event
    from tandem.channel.incoming import Store
    from tandem.channel.peer_link import Connection, Peer
    from tandem.channel.stream import Source
    from tandem.channel.topics import Subscriber
    from tandem.conntrack.record import Record
    from tandem.log import Logger
    from tandem.loop import Loop

    class Connections(Protocol):
        """The user that replicates connections."""

        def tables(self, peer: str) -> tuple[Source, Store] | None:
            """Return our own table and the one that holds the peer's; None: not replicated with this peer."""
            ...

        def happened(self, peer: str, event: Event) -> None:
            """Take what happens to the session with a peer: `Opened` first, `Closed` last.

            It may call any method of the channel.
            """
            ...


# Messages with a log budget of their own, so that no flood of strangers hides a wrong key.
LOG_BUDGETS = {
    "stranger": "channel-strangers",
    **dict.fromkeys(
        ("authentication", "unknown_key", "insecure", "mac", "identity"), "channel-authentication"
    ),
}


class Channel:
    """Sessions with all peers.

    `told(name, event)` gets what happens to sessions that no connections are replicated over: `Opened` and
    `Closed`. `node` stands for this run of the daemon, see `Settings.node`.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        peers: Sequence[Peer],
        told: Callable[[str, Event], None],
        node: bytes = b"",
    ) -> None:
        self.loop = loop
        self.log = log
        self._told = told
        self.node = node or os.urandom(NODE_SIZE)
        self.position = 0  # of the last record that was pushed to any peer
        self.streaming = False
        self.patient = False  # what peers stream may wait a little until it is read
        self._awaited = False  # somebody waits for acknowledgements
        self.counters: dict[str, int] = {}
        self._connections: Connections | None = None
        self._subscribers: dict[str, Subscriber] = {}  # by topic
        self.links = {peer.name: Link(self, self._complete(peer)) for peer in peers}
        self._listeners = Listeners(loop, self._paths(), self)

    def start(self) -> None:
        """Listen and connect."""
        self._listeners.start()
        for link in self.links.values():
            link.look_out()

    def reload(self, peers: Sequence[Peer]) -> None:
        """Have these peers from now on: sessions end only where the peer's paths or settings have changed."""
        wanted = {peer.name: self._complete(peer) for peer in peers}
        for name in [name for name, link in self.links.items() if not link.reload(wanted.get(name))]:
            self.links[name].close("reconfigured")
            del self.links[name]
        before = self.links
        self.links = {name: before.get(name) or Link(self, peer) for name, peer in wanted.items()}
        self._listeners.reload(self._paths())
        for name, link in self.links.items():
            if name not in before:
                link.look_out()

    def _complete(self, peer: Peer) -> Peer:
        word_size, little = 8 * struct.calcsize("P"), sys.byteorder == "little"
        own = replace(peer.settings, node=self.node, word_size=word_size, little_endian=little)
        return replace(peer, settings=own)

    def _paths(self) -> list[Path]:
        return [path for link in self.links.values() for path in link.paths]

    def close(self, reason: str = "stopped") -> None:
        """Say goodbye to all peers and stop; no event follows."""
        self._connections = None
        for name, link in self.links.items():
            for subscriber in self._subscribers.values() if link.current is not None else ():
                subscriber.peer_closed(name)
        self._subscribers.clear()
        self._listeners.close()
        for link in self.links.values():
            link.close(reason)

    # Connections

    def join(self, connections: Connections) -> None:
        """Replicate connections: sessions begin anew, because their hellos say so."""
        self._exchange(connections)

    def leave(self, connections: Connections) -> None:
        """End the replication of connections, unless another user has joined meanwhile."""
        if self._connections is connections:
            self.streaming = False
            self._exchange(None)

    def _exchange(self, connections: Connections | None) -> None:
        before, self._connections = self._connections, connections
        users = [user for user in (before, connections) if user is not None]
        self.renew({name for name in self.links for user in users if user.tables(name) is not None})

    def renew(self, names: set[str]) -> None:
        """End the sessions with these peers and begin anew."""
        for name in names & self.links.keys():
            self.links[name].renew()

    def tables(self, name: str) -> tuple[Source, Store] | None:
        """Return our own table and what holds that peer's; None: no connections are replicated with it."""
        return self._connections.tables(name) if self._connections else None

    def stream_on(self, adopt: bool = False) -> None:
        """Stream our table to every peer, also to those that come later; see `Session.stream_on`."""
        self.streaming = True
        now = self.loop.now()
        for connection in self._sessions():
            connection.session.stream_on(self.position, now, adopt)
            connection.service(now)

    def stream_off(self) -> None:
        """End the stream, once everything that was pushed is sent."""
        self.streaming = False
        now = self.loop.now()
        for connection in self._sessions():
            connection.session.stream_off()
            connection.service(now)

    def push(self, records: Sequence[Record], urgent: bool = False) -> int:
        """Send changes that our table has taken already; the position of the last record.

        `urgent`: at once, and acknowledged at once.
        """
        self.position += len(records)
        now = self.loop.now()
        for link in self.links.values():
            connection = link.current
            if connection is not None and (session := connection.session).replicates:
                if events := session.push(records, self.position, now, urgent, not self._awaited):
                    connection.take(events)
                connection.service(now, session.deltas_at)
        return self.position

    def be_awaited(self, yes: bool) -> None:
        """Whether somebody waits for the acknowledgement of our stream: then peers read it at once."""
        self._awaited = yes

    def be_patient(self, yes: bool) -> None:
        """Whether what peers stream may wait a little (patience.py); otherwise it is read now and at once."""
        if yes != self.patient:
            self.patient = yes
            if not yes:
                self.look()

    def look(self) -> None:
        """Read what has come from the peers and waits to be read."""
        now = self.loop.now()
        for connection in self._sessions():
            connection.look(now)

    def hand_over(self) -> None:
        """Tell every peer, behind what was pushed, that a group was given up; see `Session.hand_over`."""
        for connection in self._sessions():
            connection.session.hand_over()
            connection.service(self.loop.now())

    def repeat(self, reason: str) -> None:
        """Send every peer the whole table once more, see `Session.repeat`."""
        for connection in self._sessions():
            connection.take(connection.session.repeat(reason))
            connection.service(self.loop.now())

    def acked_position(self) -> int | None:
        """Up to where some peer in step holds our table; None: no peer is in step."""
        acked = [
            connection.session.outgoing.acked
            for connection in self._sessions()
            if connection.session.outgoing.in_step
        ]
        return max(acked, default=None)

    def streams(self) -> list[int]:
        """When each peer that streams was last heard, ns."""
        return [
            connection.session.pulse.heard
            for connection in self._sessions()
            if connection.session.incoming.on
        ]

    def is_up(self, name: str) -> bool:
        """Whether there is a session with that peer."""
        return self.links[name].current is not None

    def obeys(self, name: str) -> bool:
        """Whether that peer says that it obeys the orders of an upgrade."""
        connection = self.links[name].current
        peer = None if connection is None else connection.session.peer
        return peer is not None and bool(peer.capabilities & UPGRADES)

    def flushed(self) -> bool:
        """Whether every peer has acknowledged the end of our stream."""
        return all(
            connection.session.outgoing.acked >= connection.session.outgoing.sent
            and not connection.session.outgoing.on
            for connection in self._sessions()
        )

    def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Let `subscriber` have this topic from now on; it replaces an earlier one."""
        self._subscribers[topic] = subscriber
        for name, link in self.links.items():
            if link.current is not None:
                subscriber.peer_opened(name)

    def send(self, name: str, topic: str, data: bytes) -> bool:
        """Send a message to that peer; False when it will not go, see `Session.send`."""
        connection = self.links[name].current
        if connection is None:
            return False
        taken = connection.session.send(topic, data)
        connection.service(self.loop.now())
        return taken

    def tell(self, name: str, event: Event) -> None:
        """Something happened to the session with a peer."""
        if isinstance(event, Message):
            subscriber = self._subscribers.get(event.topic)
            if subscriber is None:
                text = f"{name} speaks of {event.topic}, which is not used here"
                self.count("unknown_topic", "info", text, name)
            else:
                subscriber.received(name, event.data)
            return
        if (user := self._connections) is not None and user.tables(name) is not None:
            user.happened(name, event)
        elif isinstance(event, Opened | Closed):
            self._told(name, event)
        for subscriber in list(self._subscribers.values()):
            if isinstance(event, Opened):
                subscriber.peer_opened(name)
            elif isinstance(event, Closed):
                subscriber.peer_closed(name)

    def try_now(self) -> None:
        """Look for the peers at once, and test the sessions that there are."""
        for link in self.links.values():
            link.try_now()

    def are_known(self) -> bool:
        """Whether we hold all that peers stream; when none streams, whether every peer has a session."""
        sessions = [connection.session for connection in self._sessions()]
        streaming = [session for session in sessions if session.incoming.on]
        if not all(session.pulse.answered for session in sessions):
            return False
        if streaming:
            return all(session.incoming.in_step for session in streaming)
        return len(sessions) == sum(self.tables(name) is not None for name in self.links)

    def in_step(self) -> set[str]:
        """The peers that hold our whole table."""
        return {
            name
            for name, link in self.links.items()
            if link.current is not None and link.current.session.outgoing.in_step
        }

    def addresses(self, names: set[str]) -> frozenset[bytes]:
        """Packed addresses by which these peers are reached."""
        return frozenset(path.packed for name in names for path in self.links[name].paths)

    def request_bulk(self, name: str) -> None:
        """Ask that peer for its whole table, if it streams."""
        connection = self.links[name].current
        if connection is not None:
            connection.take(connection.session.request_bulk())
            connection.service(self.loop.now())

    def status(self) -> dict[str, Any]:
        """For people: lists and dictionaries of plain values; times in ms."""
        return {
            "streaming": self.streaming,
            "position": self.position,
            "counters": dict(self.counters),
            "listening": self._listeners.places(),
            "peers": [link.status() for link in self.links.values()],
        }

    def count(self, name: str, level: str, message: str, of: str = "") -> None:
        """Count an event, and log the first one in a while for each peer or path `of`."""
        self.counters[name] = self.counters.get(name, 0) + 1
        key = LOG_BUDGETS.get(name, "conntrack_sync"), name, of
        self.log.limited(key, level, f"conntrack_sync: {message}")

    def accepted(self, sock: socket.socket, address: bytes) -> None:
        """A connection came in."""
        for link in self.links.values():
            if (index := link.path_of(sock, address)) is not None:
                link.accepted(sock, index)
                return
        dismiss(sock)
        family = socket.AF_INET6 if len(address) == 16 else socket.AF_INET
        text = socket.inet_ntop(family, address)
        self.count("stranger", "warning", f"refused {text}, no peer has this address", text)

    def _sessions(self) -> list[Connection]:
        """The sessions that connections are replicated over."""
        return [
            link.current
            for link in self.links.values()
            if link.current is not None and link.current.session.replicates
        ]
