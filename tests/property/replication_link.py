# SPDX-License-Identifier: GPL-2.0-or-later
"""Two replication sessions on a fake link, with tables that are dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import count

from tandem.channel.events import Authenticated, Closed, Event, Opened
from tandem.channel.frames import Digest
from tandem.channel.session import Session
from tandem.channel.settings import Settings
from tandem.conntrack.record import DESTROY, NEW, UPDATE, Entry, Record, merge
from tandem.core.timers import MILLISECOND

SECRET = b"a secret of 24 bytes ..."
_nonces = count(1)


def key(number: int) -> bytes:
    """The key of a flow; every third is of IPv6."""
    family, size = (6, 40) if number % 3 == 0 else (4, 16)
    return bytes((0, 0, family, 17)) + number.to_bytes(size - 4, "big")


def body(number: int) -> bytes:
    """A body of UDP; there are several lengths."""
    return bytes(1) + number.to_bytes(6 + number % 3 * 6, "big")


def new(number: int, state: int = 0) -> Record:
    return NEW, key(number), body(state)


def update(number: int, state: int) -> Record:
    return UPDATE, key(number), body(state)


def destroy(number: int) -> Record:
    return DESTROY, key(number), b""


class Table:
    """Both a Source and a Store; `other` is the router's own table when this one holds the peer's."""

    def __init__(self, other: Table | None = None) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.slice_size = 50
        self.can_digest = True
        self.confirmed = 0
        self._stale: set[bytes] = set()
        self._other = other

    def apply_all(self, records: list[Record], now: int = 0) -> None:
        for op, at, content in records:
            self._stale.discard(at)
            if op == DESTROY:
                self.entries.pop(at, None)
            elif op == UPDATE and at in self.entries:
                self.entries[at] = merge(self.entries[at], content)
            else:
                self.entries[at] = content

    def slices(self) -> Iterator[list[Entry]]:
        keys = list(self.entries)
        for start in range(0, len(keys), self.slice_size):
            part = keys[start : start + self.slice_size]
            yield [(at, self.entries[at]) for at in part if at in self.entries]

    def begin_bulk(self) -> None:
        self._stale = set(self.entries)

    def end_bulk(self) -> None:
        for at in self._stale:
            self.entries.pop(at, None)
        self._stale = set()

    def abort_bulk(self) -> None:
        self._stale = set()

    def confirm(self, now: int) -> None:
        self.confirmed = now

    def adopt(self) -> bool:
        if self._other is None:
            return False
        self.entries = dict(self._other.entries)
        return True

    def digest(self) -> Digest | None:
        if not self.can_digest:
            return None
        content = b"".join(at + bytes((len(text),)) + text for at, text in sorted(self.entries.items()))
        return len(self.entries), blake2b(content, digest_size=16).digest()


class End:
    """One router: its tables, its session of the moment, and what happened to it."""

    def __init__(self, number: int, **settings: object) -> None:
        chosen: dict[str, object] = {"secrets": {1: SECRET}, "key_id": 1, "node": bytes([number] * 8)}
        self.settings = Settings(**{**chosen, **settings})  # type: ignore[arg-type]
        self.own = Table()
        self.held = Table(self.own)
        self.position = 0
        self.events: list[Event] = []
        self.replicates = True
        self.session: Session = None  # type: ignore[assignment]

    def begin(self, initiator: bool, now: int) -> None:
        nonce = next(_nonces).to_bytes(16, "big")
        tables = (self.own, self.held) if self.replicates else None
        self.session = Session(initiator, self.settings, nonce, tables, now)

    def change(self, records: list[Record], now: int, urgent: bool = False) -> int:
        """Change our own table and tell the peer; the position of the last record."""
        self.own.apply_all(records)
        self.position += len(records)
        self.events += self.session.push(records, self.position, now, urgent)
        return self.position

    def take(self, events: list[Event], now: int) -> None:
        self.events += events
        if any(isinstance(event, Opened) for event in events):
            self.take(self.session.receive_data(b"", now), now)
        if self.session.initiator and any(isinstance(event, Authenticated) for event in events):
            self.events += self.session.open(now)

    @property
    def closed(self) -> str | None:
        """Why the session has ended."""
        return self.session.closed and self.session.closed.reason

    def last(self, kind: type[Event]) -> Event | None:
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)


class Link:
    """Carries bytes between two ends at once, in pieces of `piece` bytes, and lets the time run."""

    def __init__(self, left: End, right: End, piece: int = 1 << 16) -> None:
        self.ends = left, right
        self.now = 1_000 * MILLISECOND
        self.piece = piece
        self.carried: tuple[list[bytes], list[bytes]] = [], []  # by whom it was sent
        self.connect()

    def connect(self) -> None:
        for end in self.ends:
            end.begin(end is self.ends[0], self.now)
        self.waiting = bytearray(), bytearray()

    def collect(self) -> bool:
        """Take from both what they have to send now."""
        some = False
        for number, end in enumerate(self.ends):
            when = end.session.output_at
            if when is not None and when <= self.now and (data := end.session.data_to_send(self.now)):
                self.carried[number].append(data)
                self.waiting[number].extend(data)
                some = True
        return some

    def deliver(self, sender: int, size: int) -> None:
        """Hand the next bytes of `sender` to the other end."""
        data = bytes(self.waiting[sender][:size])
        del self.waiting[sender][:size]
        end = self.ends[1 - sender]
        if data and end.closed is None:
            end.take(end.session.receive_data(data, self.now), self.now)

    def settle(self, limit: int = 100_000) -> None:
        """Carry until nobody has anything to say at this moment."""
        for _ in range(limit):
            some = self.collect()
            for sender in (0, 1):
                some |= bool(self.waiting[sender])
                self.deliver(sender, self.piece)
            if not some:
                return
        raise AssertionError("the two never settle")

    def run(self, duration: int) -> None:
        """Let the time run, from one deadline to the next."""
        until = self.now + duration
        while True:
            self.settle()
            times = [until]
            for end in self.ends:
                session = end.session
                times += [when for when in (session.next_deadline(), session.output_at) if when is not None]
            self.now = max(self.now, min(times))
            for end in self.ends:
                end.events += end.session.handle_timer(self.now)
            if self.now >= until:
                self.settle()
                return


def pair(
    left: dict[str, object] | None = None, right: dict[str, object] | None = None, piece: int = 1 << 16
) -> Link:
    """Two routers whose session is open, or has failed."""
    link = Link(End(1, **(left or {})), End(2, **(right or {})), piece)
    link.settle()
    return link


def streaming(entries: int = 0, **settings: object) -> Link:
    """A pair whose left end streams and is in step."""
    link = pair(settings, settings)
    left = link.ends[0]
    left.own.apply_all([new(number) for number in range(entries)])
    left.session.stream_on(left.position, link.now)
    link.settle()
    assert left.session.outgoing.in_step
    assert link.ends[1].held.entries == left.own.entries
    return link


def closed(link: Link) -> tuple[str | None, str | None]:
    """Why the sessions of both ends have ended."""
    return link.ends[0].closed, link.ends[1].closed


__all__ = [
    "Closed", "End", "Link", "Table", "body", "closed", "destroy", "key", "new", "pair", "streaming",
    "update",
]  # fmt: skip
