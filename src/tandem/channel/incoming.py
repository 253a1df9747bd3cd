# SPDX-License-Identifier: GPL-2.0-or-later
"""Incoming: what we hold of a peer's table, as its stream tells it. stream.py is the other end of it."""

from __future__ import annotations

from tandem.channel.frames import BULK, ProtocolError, unpack, unpack_digest, unpack_records
from tandem.channel.stream import ADOPTED, BULK_BEGIN_BODY, BULK_END_BODY, ON, POSITION, STREAM_BODY

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Iterator
    from typing import Protocol

    from tandem.channel.frames import Digest
    from tandem.conntrack.record import Entry, Record

    class Store(Protocol):
        """The table that we hold for the peer. The insides of its records are not checked.

        An update of an unknown key makes the entry, and to destroy an unknown key does nothing.
        """

        def apply_all(self, records: list[Record], now: int) -> None: ...

        def begin_bulk(self) -> None:
            """A bulk begins, or begins anew: entries that are not applied until `end_bulk` are stale."""
            ...

        def end_bulk(self) -> None:
            """Forget what is stale."""
            ...

        def abort_bulk(self) -> None:
            """The bulk will not end; nothing is stale."""
            ...

        def confirm(self, now: int) -> None:
            """The peer has all of these entries: the digests are equal."""
            ...

        def adopt(self) -> bool:
            """Hold our own table as it was when our stream stopped; False: that can't be done."""
            ...

        def digest(self) -> Digest | None: ...


class NoTable:
    """The table of a router that replicates no connections: empty, and keeps nothing."""

    def slices(self) -> Iterator[list[Entry]]:
        return iter(())

    def digest(self) -> Digest | None:
        return None

    def apply_all(self, records: list[Record], now: int) -> None: ...
    def begin_bulk(self) -> None: ...
    def end_bulk(self) -> None: ...
    def abort_bulk(self) -> None: ...
    def confirm(self, now: int) -> None: ...

    def adopt(self) -> bool:
        return False


class Incoming:
    """The receiving side of a stream: it fills the table that we hold for the peer.

    Each method takes a payload and returns whether the peer must send a bulk, as a reason, or None.
    ProtocolError when the frame does not fit.
    """

    def __init__(self, store: Store, keeps: bool = True) -> None:
        self._keeps = keeps  # False: `store` keeps nothing, so we are never in step
        self.on = False  # the peer streams
        self.in_step = False  # what we hold is all that the peer had at `position`
        self.position = 0
        self.generation = 0  # of the stream or bulk that brought us in step
        self.records = self.bulks = self.adopted = self.drifts = 0
        self.in_bulk = False
        self._bulk_generation = 0
        self._bulk_received = 0
        self._store = store

    def stream(self, payload: memoryview, ended_at: int | None) -> str | None:
        """The peer's stream begins or ends; ours `ended_at` that position, if it did."""
        flags, position, generation, basis = unpack(STREAM_BODY, payload)
        if flags & ON:
            self.on = True
            self.position = position
            self.in_step = False
            self.abort()
            if not flags & ADOPTED or not self._keeps:
                return None  # its bulk follows
            if ended_at is None or basis != ended_at or not self._store.adopt():
                return "basis"
            self.adopted += 1
            self.in_step = True
            self.generation = generation
            return None
        if not self.on or position < self.position:
            raise ProtocolError("unexpected", "the end of a stream that was not going on")
        self.on = False
        if self.in_bulk or position != self.position:
            self.in_step = False
        self.abort()
        return None

    def abort(self) -> None:
        """A bulk that goes on will not end."""
        if self.in_bulk:
            self.in_bulk = False
            self._store.abort_bulk()

    def apply(self, flags: int, payload: memoryview, now: int) -> None:
        """Apply records."""
        if len(payload) < POSITION.size:
            raise ProtocolError("malformed", "records without a position")
        if not self.on or (flags & BULK and not self.in_bulk):
            raise ProtocolError("unexpected", "records outside of a stream")
        position: int = POSITION.unpack_from(payload)[0]
        self._advance(position)
        records = unpack_records(payload[POSITION.size :])
        self._store.apply_all(records, now)
        self.records += len(records)
        if flags & BULK:
            self._bulk_received += len(records)

    def begin_bulk(self, payload: memoryview) -> None:
        """A bulk begins."""
        (generation,) = unpack(BULK_BEGIN_BODY, payload)
        if not self.on:
            raise ProtocolError("unexpected", "a bulk outside of a stream")
        self.in_bulk, self.in_step = True, False
        self._bulk_generation = generation
        self._bulk_received = 0
        self._store.begin_bulk()

    def end_bulk(self, payload: memoryview, now: int) -> str | None:
        """A bulk has ended."""
        position, generation, sent = unpack(BULK_END_BODY, payload[: BULK_END_BODY.size])
        digest = unpack_digest(payload[BULK_END_BODY.size :])
        if not self.in_bulk or generation != self._bulk_generation or sent != self._bulk_received:
            raise ProtocolError("unexpected", "a bulk that does not end as it began")
        self._advance(position)
        self.in_bulk = False
        self._store.end_bulk()
        self.bulks += 1
        self.generation = generation
        self.in_step = self._keeps
        return self._compare(digest, now) if self._keeps else None

    def compare(self, payload: memoryview, now: int) -> str | None:
        """The peer's digest at a position."""
        (position,) = unpack(POSITION, payload[: POSITION.size])
        digest = unpack_digest(payload[POSITION.size :])
        if not self.on or position != self.position:
            raise ProtocolError("unexpected", "a digest of another position")
        return self._compare(digest, now) if self.in_step else None

    def _compare(self, theirs: Digest | None, now: int) -> str | None:
        ours = self._store.digest()
        if theirs is None or ours is None:
            return None
        if theirs == ours:
            self._store.confirm(now)
            return None
        self.drifts += 1
        self.in_step = False
        return "digest"

    def _advance(self, position: int) -> None:
        if position < self.position:
            raise ProtocolError("unexpected", "a position that goes back")
        self.position = position
