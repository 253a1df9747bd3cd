# SPDX-License-Identifier: GPL-2.0-or-later
"""One peer of `channel.Channel`: the ways to it, its connections, and which of them is the session.

- The initiator of a connection opens it, or ends it as a duplicate: it keeps a session that it has
  with the same daemon, unless the new connection uses a better path.
- When both routers opened a connection at the same moment, the one of the greater node id stays. Only this
  router, or the initiator of the present session, looks for a better path.
- A daemon that was started anew has another node id, and its connection replaces the old one.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass, replace

from tandem.channel.connector import BACKOFF, BACKOFF_MAX, Connector
from tandem.channel.events import Authenticated, Closed, Opened
from tandem.channel.frames import NONCE_SIZE
from tandem.channel.handshake import State
from tandem.channel.patience import SLACK as PATIENCE
from tandem.channel.patience import Patience
from tandem.channel.peer_socket import Path, pack
from tandem.channel.session import Session
from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Sequence
    from typing import Any, Protocol

    from tandem.channel.events import Event
    from tandem.channel.incoming import Store
    from tandem.channel.settings import Settings
    from tandem.channel.stream import Source
    from tandem.log import Logger
    from tandem.loop import Loop

    class Owner(Protocol):
        """The channel, as its links need it."""

        loop: Loop
        log: Logger
        node: bytes
        position: int
        streaming: bool
        patient: bool

        def tables(self, name: str) -> tuple[Source, Store] | None:
            """Return our own table and the one that holds that peer's, if connections are replicated."""

        def tell(self, name: str, event: Event) -> None:
            """Take what happens to the session with that peer."""

        def count(self, name: str, level: str, message: str, of: str = "") -> None:
            """Count and log a problem."""


STAGGER = 300 * MILLISECOND  # between the first attempts on one path and the next
STEADY = 10 * SECOND  # a session that lasted as long is no failure
UNOPENED_MAX = 4  # accepted connections of one peer that are not the session (yet); the oldest goes
SESSIONS_TOLD = 8  # of one peer in a minute, in the log
SLACK = 8  # a heartbeat may be late by so many parts of its interval: it goes with what wakes the loop anyway
NOTHING = 10 * MILLISECOND  # until the session is asked again when it promised output and had none

_REPLACED = ("duplicate", "peer_duplicate")  # ends that are no failure
_COUNTED = ("dropped", "coalesced", "oversized", "bulks")  # by stream.Outgoing


@dataclass(frozen=True, slots=True)
class Peer:
    """Another router; `paths` in order of preference."""

    name: str
    paths: tuple[Path, ...]
    settings: Settings  # of the sessions; the channel fills in what is the same for all peers


class Link:
    """One peer: its session, and the ways to it."""

    def __init__(self, channel: Owner, peer: Peer) -> None:
        self.channel = channel
        self.name = peer.name
        self.settings: Settings = peer.settings
        self.current: Connection | None = None
        self.node: bytes | None = None  # of the daemon of the present or last session
        self.sessions = 0
        self.heard = 0  # when the last session that has ended was last heard of, ns
        self.connections: list[Connection] = []  # accepted or connected, the oldest first
        self.last_error = ""
        self.crashed = False  # the other kernel ended the last session: its daemon said no goodbye
        self.totals: dict[str, int] = {}  # of the sessions that have ended
        self._connectors = [
            Connector(self, channel.loop, index, path) for index, path in enumerate(peer.paths)
        ]
        self._closed = False
        self._short = 0  # sessions in a row that did not last

    @property
    def paths(self) -> list[Path]:
        """The ways to this peer, the best first."""
        return [connector.path for connector in self._connectors]

    def reload(self, peer: Peer | None) -> bool:
        """Take new settings and return True, unless the sessions of this peer must end because of them.

        A session knows the secrets that it began with; it ends only if one of those is no longer valid.
        """
        if peer is None or list(peer.paths) != self.paths:
            return False
        before, after = self.settings, peer.settings
        same = after.secrets.get(after.key_id) == before.secrets.get(before.key_id)
        if not same or replace(after, secrets=before.secrets) != before:
            return False
        self.settings = after
        for connection in list(self.connections):
            if not connection.session.knows(after.secrets):
                connection.close("reconfigured")
        return True

    def renew(self) -> None:
        """End all connections and begin anew."""
        for connection in list(self.connections):
            connection.close("reconfigured")

    def wants(self, index: int) -> bool:
        """Whether a connection by this path would be of use."""
        if self._closed:
            return False
        if self.current is None:
            return True
        return index < self.current.index and (self.current.initiator or self._we_are_greater())

    def look_out(self) -> None:
        """There is no session: try all paths, each a little after the one before it."""
        delay = min(BACKOFF << self._short - 1, BACKOFF_MAX) if self._short else 0
        for number, connector in enumerate(self._connectors):
            connector.restart(delay + number * STAGGER)

    def try_now(self) -> None:
        """Make the next attempt, or send the next heartbeat, at once."""
        if self.current is not None:
            self.current.probe()
        else:
            self._short = 0
            for number, connector in enumerate(self._connectors):
                connector.try_now(number * STAGGER)

    def path_of(self, sock: socket.socket, address: bytes) -> int | None:
        """Return the path that a connection from `address` came by; None: it is not from this peer."""
        try:
            local = pack(sock.getsockname()[0])
        except OSError:
            return None
        for index, path in enumerate(self.paths):
            if path.packed == address and (path.source is None or pack(path.source) == local):
                return index
        return None

    def accepted(self, sock: socket.socket, index: int) -> None:
        """The peer connected to us."""
        unopened = [one for one in self.connections if not one.initiator and one is not self.current]
        if len(unopened) >= UNOPENED_MAX:
            self.channel.count("crowded", "warning", f"too many connections of {self.name}", self.name)
            unopened[0].close("duplicate")
        self.begin(sock, index, initiator=False)

    def begin(self, sock: socket.socket, index: int, initiator: bool) -> Connection:
        """Talk on this socket."""
        connection = Connection(self, sock, index, initiator)
        self.connections.append(connection)
        connection.service(self.channel.loop.now())
        return connection

    def authenticated(self, connection: Connection) -> bool:
        """We made this connection: whether it is to be the session."""
        current = self.current
        if self._closed:
            return False
        if current is None or current.node != connection.node:
            return True
        return connection.index < current.index and (current.initiator or self._we_are_greater(connection))

    def opened(self, connection: Connection) -> bool:
        """The session is `connection` from now on; False: a duplicate, which must end."""
        current = self.current
        crossing = current is not None and current.initiator and not connection.initiator
        if crossing and current and current.node == connection.node and self._we_are_greater(connection):
            return False
        if current is not None:
            current.close("duplicate")
        self.current = connection
        self.node = connection.node
        self.sessions += 1
        self.last_error = ""
        self.crashed = False
        for connector in self._connectors:
            connector.settle()
        self.tell("connected", f"connected with {self.name} ({self.paths[connection.index]})")
        return True

    def ended(self, connection: Connection, closed: Closed) -> None:
        """A connection is closed."""
        self.connections.remove(connection)
        session = connection.session
        for name in ("bytes_in", "bytes_out"):
            self._add(name, getattr(session, name))
        for reason, number in session.resyncs.items():
            self._add(f"resync_{reason}", number)
        for name in _COUNTED:
            self._add(name, getattr(session.outgoing, name))
        self._add("messages_refused", session.outbox.refused)
        self._add("drifts", session.incoming.drifts)
        current = connection is self.current
        if closed.reason not in _REPLACED and not self._closed:
            self.failed(closed.reason, closed.detail)
        for connector in self._connectors:
            connector.ended(connection, again=not current)
        if not current:
            return
        self.current = None
        self.heard = session.pulse.heard
        reset = closed.reason == "lost" and closed.detail == os.strerror(errno.ECONNRESET)
        self.crashed = closed.reason == "eof" or reset
        if closed.reason != "duplicate" and not self._closed:  # else another takes its place
            lasted = self.channel.loop.now() - connection.opened_at >= STEADY
            self._short = 0 if lasted else min(self._short + 1, 8)
            self.look_out()

    def failed(self, reason: str, detail: str, path: str = "") -> None:
        """Remember and count what went wrong with this peer, or with one of the ways to it."""
        self.last_error = f"{reason}: {detail}" if detail else reason
        self.channel.count(reason, "warning", f"{self.name}: {detail or reason}", f"{self.name} {path}")

    def tell(self, what: str, text: str) -> None:
        """Log an event that a peer can cause as often as it likes."""
        key = "conntrack_sync", self.name, what, self.sessions % SESSIONS_TOLD
        self.channel.log.limited(key, "info", f"conntrack_sync: {text}")

    def close(self, reason: str) -> None:
        """End all connections, for good."""
        self._closed = True
        for connector in self._connectors:
            connector.stop()
        for connection in list(self.connections):
            connection.close(reason)

    def status(self) -> dict[str, Any]:
        """Plain values for people."""
        result: dict[str, Any] = {
            "name": self.name,
            "state": "down" if self.current is None else "up",
            "sessions": self.sessions,
            "last_error": self.last_error,
        }
        totals = dict(self.totals)
        if (connection := self.current) is not None:
            session = connection.session
            assert session.peer is not None
            now = self.channel.loop.now()
            outgoing, incoming = session.outgoing, session.incoming
            result |= {
                "path": str(self.paths[connection.index]),
                "preferred": connection.index == 0,
                "initiator": connection.initiator,
                "up_ms": (now - connection.opened_at) // MILLISECOND,
                "router_id": session.peer.router_id,
                "word_size": session.peer.word_size,
                "little_endian": session.peer.little_endian,
                "authenticated": not session.peer.insecure,
                "rtt_ms": session.pulse.rtt / MILLISECOND,
                "streaming": outgoing.on,
                "in_step": outgoing.in_step,
                "in_bulk": outgoing.in_bulk,
                "bulk_ms": outgoing.bulk_ns / MILLISECOND,
                "acked": outgoing.acked,
                "lag_records": outgoing.position - outgoing.acked if outgoing.wanted else 0,
                "lag_ms": session.lag.now(now) / MILLISECOND,
                "lag_max_ms": session.lag.longest / MILLISECOND,
                "queued_records": outgoing.waiting,
                "queued_bytes": outgoing.queued,
                "peer_streaming": incoming.on,
                "held_in_step": incoming.in_step,
                "records_received": incoming.records,
            }
            live = {f"resync_{reason}": number for reason, number in session.resyncs.items()}
            live |= {name: getattr(outgoing, name) for name in _COUNTED}
            live |= {"bytes_in": session.bytes_in, "bytes_out": session.bytes_out, "drifts": incoming.drifts}
            live["messages_refused"] = session.outbox.refused
            for name, number in live.items():
                totals[name] = totals.get(name, 0) + number
        result["totals"] = totals
        result["resyncs"] = sum(number for name, number in totals.items() if name.startswith("resync_"))
        return result

    def _add(self, name: str, number: int) -> None:
        if number:
            self.totals[name] = self.totals.get(name, 0) + number

    def _we_are_greater(self, connection: Connection | None = None) -> bool:
        node = self.node if connection is None else connection.node
        return node is None or self.channel.node > node


class Connection:
    """A socket and the session on it."""

    def __init__(self, link: Link, sock: socket.socket, index: int, initiator: bool) -> None:
        self.index = index  # of the path
        self.initiator = initiator
        self.opened_at = 0
        self._link = link
        self._channel = link.channel
        self._loop = link.channel.loop
        self._sock = sock
        self._fd = sock.fileno()
        self._unsent = memoryview(b"")  # what the socket did not take; it is then blocked
        self._ended = False
        self._key, self._look_key = ("conntrack_sync", id(self)), ("conntrack_sync look", id(self))
        self._patience = Patience()
        self._least = 1  # bytes that wake us
        self._slack = link.settings.heartbeat // SLACK
        self.session = Session(
            initiator,
            link.settings,
            os.urandom(NONCE_SIZE),
            link.channel.tables(link.name),
            self._loop.now(),
        )
        self._loop.add_reader(self._fd, self._readable)

    @property
    def node(self) -> bytes:
        """The node of the daemon at the other end; b"" while it is not known."""
        return b"" if self.session.peer is None else self.session.peer.node

    def take(self, events: Sequence[Event]) -> None:
        """Act on what the session says."""
        for event in events:
            if isinstance(event, Authenticated):
                if self.initiator:
                    if self._link.authenticated(self):
                        self.take(self.session.open(self._loop.now()))
                    else:
                        self.close("duplicate")
                continue
            if isinstance(event, Closed):
                self._end(event)
                return
            if isinstance(event, Opened):
                if not self._link.opened(self):
                    self.close("duplicate")
                    return
                now = self.opened_at = self._loop.now()
                if self._channel.streaming:
                    self.session.stream_on(self._channel.position, now)
            if self._link.current is self:
                self._channel.tell(self._link.name, event)
            if isinstance(event, Opened):
                self.take(self.session.receive_data(b"", self._loop.now()))

    def service(self, now: int, due: int | None = None) -> None:
        """Send what is due, and set the timer; `due`: when deltas are that were just pushed."""
        if self._ended:
            return
        session = self.session
        if self._unsent:
            due = None  # while the socket is blocked, being writable is what counts
        elif due is None or due > now:
            due = session.output_at
        if due is not None and due <= now:
            soonest = now
            if data := session.data_to_send(now):
                self._send(memoryview(data))
            else:
                soonest += NOTHING
            if (due := None if self._unsent else session.output_at) is not None:
                due = max(due, soonest)  # output that is due once more waits for the next turn of the loop
        when, slack = session.next_deadline(), self._slack
        if due is not None and (when is None or due < when):
            when, slack = due, 0
        self._loop.call_at(self._key, when, self._timer, slack)

    def probe(self) -> None:
        """See whether the peer is still there."""
        now = self._loop.now()
        self.session.pulse.probe_now(now)
        self._timer(now)

    def close(self, reason: str) -> None:
        """Say why, and end."""
        self.take(self.session.close(reason))

    def look(self, now: int) -> None:
        """Read what waits to be read, if there is something."""
        if self._least > 1:
            self._readable()

    def _readable(self) -> None:
        now, session = self._loop.now(), self.session
        records = session.incoming.records
        try:
            data = self._sock.recv(session.read_size)
        except BlockingIOError:
            self._rest(False, now)
            return
        except OSError as error:
            self._broken(error)
            return
        if events := session.receive_data(data, now) if data else session.receive_eof():
            self.take(events)
        self.service(now)
        self._rest(session.incoming.records != records, now)

    def _rest(self, found: bool, now: int) -> None:
        """Say when to read again, after records were `found` or not."""
        may_wait = self._channel.patient and self.session.may_wait
        if self._ended or not (may_wait or self._least > 1):
            return
        when, least = self._patience.read(found, may_wait, now), self._patience.least
        self._loop.call_at(self._look_key, when, self.look, PATIENCE)
        if least != self._least:
            self._least = least
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
            except OSError:
                pass  # what the socket has to say, it says to `recv` as well

    def _writable(self) -> None:
        self._loop.remove_writer(self._fd)
        data, self._unsent = self._unsent, memoryview(b"")
        self._send(data)
        self.service(self._loop.now())

    def _timer(self, now: int) -> None:
        self.look(now)
        self.take(self.session.handle_timer(now))
        self.service(now)

    def _send(self, data: memoryview) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # what the socket has to say, it says to `recv` as well
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.add_writer(self._fd, self._writable)

    def _broken(self, error: OSError) -> None:
        state = self.session.state
        events = self.session.receive_eof()
        reason = "lost" if state is State.OPENED else "refused"
        detail = error.strerror or str(error)
        self.take([Closed(reason, detail) if isinstance(event, Closed) else event for event in events])

    def _end(self, closed: Closed) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._unsent:
            try:
                self._sock.send(self.session.data_to_send(self._loop.now()))  # the goodbye, or nothing
            except OSError:
                pass  # it will find out by itself
        self._loop.call_at(self._key, None)
        self._loop.call_at(self._look_key, None)
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._unsent = memoryview(b"")
        current = self._link.current is self
        self._link.ended(self, closed)
        if current:
            self._channel.tell(self._link.name, closed)
