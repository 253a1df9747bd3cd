# SPDX-License-Identifier: GPL-2.0-or-later
"""The two halves of an open session: the stream of our table, and what we hold of the peer's.

`Outgoing` streams our own table. It sends deltas as they are pushed, coalesced by key, so that
what waits is never more than one record a key; when more than `queue_limit` waits, all of it is
dropped, counted, and healed by a bulk. A bulk is the whole table in slices, with the deltas of
that time between them; whatever the receiver held and was not told anew is gone at its end.
The receiver is *in step* when it has applied a whole bulk and lost nothing since.

Positions count records in the order in which they were pushed. A frame of records carries the
position up to which the receiver has everything once it has applied that frame, and the
receiver's acknowledgements repeat it.

When the roles swap, the new sender's table begins as what it held of the old one's, at a position
both know. It says so (`basis`); when that is where the old sender's stream ended, the old sender
adopts its own table as what it holds of the new one's, and no bulk is needed. Anything else, and
any digest that does not match, asks for one.
"""

from __future__ import annotations

from itertools import islice
from struct import Struct

from tandem.channel.frames import (
    ACK_NOW,
    BODY_MAX,
    BULK,
    BULK_BEGIN,
    BULK_END,
    DIGEST,
    HANDED_OVER,
    KEY_MAX,
    RECORDS,
    STREAM,
    ProtocolError,
    pack_digest,
    pack_records,
    unpack,
    unpack_digest,
    unpack_records,
)
from tandem.conntrack.record import DESTROY as GONE
from tandem.conntrack.record import NEW, UPDATE, merge

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from tandem.channel.frames import Digest
    from tandem.conntrack.record import Entry, Record

    class Source(Protocol):
        """Our own table, which the caller changes before it pushes the change.

        `digest` is asked for often and must not walk the table; None: not known, nothing is
        compared. It covers what is the same on both ends, so no time to live that runs down.
        """

        def slices(self) -> Iterator[list[Entry]]:
            """All entries, some hundreds at a time, while the table changes.

            An entry that stays is in some slice; an empty slice means: ask again later.
            """
            ...

        def digest(self) -> Digest | None: ...

    class Store(Protocol):
        """What we hold of the peer's table. Records are the peer's: their insides are not checked.

        An update of an unknown key makes the entry, and to destroy an unknown key does nothing.
        """

        def apply_all(self, records: list[Record], now: int) -> None: ...

        def begin_bulk(self) -> None:
            """What is not applied from here until `end_bulk` is stale; it may begin again."""
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


SECOND = 1_000_000_000
# Between two bulks, doubled while digests never match; or nine times what the last one took, if longer.
RESYNC_PAUSE, RESYNC_PAUSE_MAX = SECOND, 64 * SECOND
SOURCE_PAUSE = 1_000_000  # before a source that had an empty slice is asked again
BATCH = 512  # records in a frame
RECORD_COST = 200  # bytes of dict slot, tuple and two objects, beside key and body

STREAM_BODY = Struct("!BQIQ")  # flags, position, generation, basis
POSITION = Struct("!Q")
BULK_BEGIN_BODY = Struct("!I")  # generation
BULK_END_BODY = Struct("!QII")  # position, generation, records sent in this bulk
_ON, _ADOPTED = 1, 2

Frame = tuple[int, int, bytes]  # type, flags, payload


def coalesce(old: Record, new: Record) -> Record:
    """One record that does what `old` and then `new`, of the same key, would do."""
    if new[0] != UPDATE:
        return new
    body = new[2] if old[0] == GONE else merge(old[2], new[2])
    # After a DESTROY, nothing of what the receiver has may stay.
    return UPDATE if old[0] == UPDATE else NEW, new[1], body


class Outgoing:
    """The stream of our own table.

    `on` is what the peer was told, `wanted` what the caller wants. `in_step` says whether the
    peer holds all of our table up to `acked`.
    """

    def __init__(self, source: Source, queue_limit: int, digest_interval: int) -> None:
        self.on = self.wanted = False
        self.position = 0  # of the last record pushed
        self.sent = 0  # up to which everything was sent
        self.acked = 0  # up to which the peer has everything, once it is in step
        self.dropped = self.coalesced = self.oversized = 0  # records
        self.bulks = 0
        self.overflows = 0
        self.bulk_ns = 0  # what the last bulk took until it was sent
        self._source = source
        self._queue_limit = queue_limit
        self._digest_interval = digest_interval
        self._pending: dict[bytes, Record] = {}
        self._queued = 0  # bytes
        self._basis: int | None = None  # of a stream that is about to begin
        self._announce = False  # the stream, to the peer
        self._urgent = False  # somebody waits for the acknowledgement of what is pending
        self._generation = 0
        self._acked_generation = 0
        self._needs_bulk = False
        self._lost = False  # deltas are dropped until the bulk begins
        self._bulk: Iterator[list[Entry]] | None = None
        self._bulk_sent = 0
        self._bulk_began = 0
        self._pause = RESYNC_PAUSE
        self._bulk_after = 0  # ns: no bulk begins earlier
        self._digest_at = 0
        self._handed_over = False  # and the peer was not told yet

    @property
    def in_step(self) -> bool:
        """Whether the peer has acknowledged our whole table, and nothing was lost since."""
        whole = not self._needs_bulk and self._bulk is None
        return self.on and whole and self._acked_generation == self._generation

    @property
    def waiting(self) -> int:
        """Records that were pushed and not sent yet."""
        return len(self._pending)

    @property
    def queued(self) -> int:
        """About how many bytes of memory the waiting records take."""
        return self._queued

    @property
    def in_bulk(self) -> bool:
        """Whether a bulk is being sent."""
        return self._bulk is not None

    def start(self, position: int, basis: int | None, now: int) -> None:
        """Begin to stream; with `basis`, the peer may adopt its own table and no bulk is sent."""
        self.wanted = self._announce = True
        self.position = self.sent = position
        self._basis = basis
        self._forget()
        self._needs_bulk = basis is None
        self._bulk_after = now
        self._digest_at = now
        self._handed_over = False

    def stop(self) -> None:
        """End the stream once what is pending is sent; a bulk is broken off."""
        self.wanted = False
        if self._bulk is not None:
            self._bulk, self._needs_bulk = None, True
        if self._announce:  # it never began
            self._announce = False
            self._forget()

    def push(self, records: Sequence[Record], position: int, urgent: bool) -> bool:
        """Send these; `position` is that of the last. False when they overflowed the queue."""
        if not self.wanted:
            return True
        self.position = position
        if self._lost:
            self.dropped += len(records)
            return True
        pending = self._pending
        before = len(pending)
        size = 0
        for record in records:
            key = record[1]
            pending[key] = record if key not in pending else coalesce(pending[key], record)
            size += len(record[2])
        self.coalesced += before + len(records) - len(pending)
        self._queued += size + len(records) * RECORD_COST
        self._urgent |= urgent
        if self._queued > self._queue_limit:
            self.overflows += 1
            self.dropped += len(pending)
            self._forget()
            self._lost = self._needs_bulk = True
            return False
        return True

    def hand_over(self) -> None:
        """Say, behind what was pushed so far, that this was the last of a group."""
        self._handed_over = self.wanted

    def repeat(self) -> None:
        """Send a bulk; it begins when the last one is long enough ago."""
        if self.on:
            self._needs_bulk = True
            self._bulk = None

    def resync(self) -> None:
        """The peer asks for a bulk: if that helps no more than the last one, the next comes later."""
        if self.on:
            self.repeat()
            self._pause = min(2 * self._pause, RESYNC_PAUSE_MAX)

    def acknowledged(self, position: int, generation: int) -> None:
        """The peer has applied everything up to `position`. ProtocolError for what was never sent."""
        if position > self.sent or generation > self._generation:
            raise ProtocolError("malformed", "an acknowledgement of what was not sent")
        self._acked_generation = generation
        self.acked = max(self.acked, position)

    def deadline(self) -> int | None:
        """When `frames` next has something to send that no push announces; ns."""
        if self._announce or (self.on and not self.wanted):
            return 0
        if self._bulk is not None:
            return self._bulk_after
        if self._needs_bulk and self.wanted:
            return self._bulk_after
        if self.in_step:
            return 0 if self._handed_over else self._digest_at
        return None

    def frames(self, limit: int, now: int) -> Iterator[Frame]:
        """Frames to send, until about `limit` bytes; more may wait."""
        if self._announce:
            self._announce = False
            self.on = True
            self._generation += 1
            flags = _ON | (_ADOPTED if self._basis is not None else 0)
            yield STREAM, 0, STREAM_BODY.pack(flags, self.sent, self._generation, self._basis or 0)
        if not self.on:
            return
        size = 0
        while self._pending and size < limit:
            for frame in self._deltas():
                size += len(frame[2])
                yield frame
        if self.wanted and self._needs_bulk and self._bulk is None and now >= self._bulk_after:
            yield self._begin_bulk(now)
        # At least one slice each time: a flood of deltas must not keep the bulk from its end.
        due = now >= self._bulk_after
        while due and self._bulk is not None and (entries := next(self._bulk, None)) is not None:
            for frame in self._slice(entries):
                size += len(frame[2])
                yield frame
            if not entries:
                if not self._bulk_sent:  # what the source takes to get ready is no work of the bulk
                    self._bulk_began = now
                self._bulk_after = now + SOURCE_PAUSE
                return
            if size >= limit:
                return
        if self._pending:  # what follows speaks of a position that is reached
            return
        if self._bulk is not None:
            if not due:
                return
            yield self._end_bulk(now)
        elif (self._handed_over and self.in_step) or (
            now >= self._digest_at and (self.in_step or self._basis is not None)
        ):
            yield from self._digest(now)
        if not self.wanted:
            if self.in_step:
                yield from self._digest(now)
            self.on = False
            yield STREAM, 0, STREAM_BODY.pack(0, self.position, self._generation, 0)

    def ended_at(self) -> int | None:
        """The position at which our stream ended with the peer in step; None: it goes on, or was not."""
        whole = not self._needs_bulk and self._acked_generation == self._generation > 0
        return self.position if not self.on and not self.wanted and whole else None

    def _deltas(self) -> list[Frame]:
        pending = self._pending
        if len(pending) <= BATCH:
            records = list(pending.values())
            pending.clear()
            self._queued = 0
        else:
            records = [pending.pop(key) for key in list(islice(pending, BATCH))]
            self._queued -= sum(len(body) for _, _, body in records) + RECORD_COST * len(records)
        flags = 0
        before = self.sent
        if not pending:
            self.sent = self.position
            if self._urgent:
                self._urgent, flags = False, ACK_NOW
        *first, last = self._pack(records)
        return [(RECORDS, 0, POSITION.pack(before) + packed) for packed in first] + [
            (RECORDS, flags, POSITION.pack(self.sent) + last)
        ]

    def _pack(self, records: list[Record]) -> list[bytes]:
        try:
            return pack_records(records)
        except ValueError:
            fit = [
                record for record in records if 0 < len(record[1]) <= KEY_MAX and len(record[2]) <= BODY_MAX
            ]
            self.oversized += len(records) - len(fit)
            return pack_records(fit)

    def _begin_bulk(self, now: int) -> Frame:
        self._needs_bulk = self._lost = False
        self._basis = None
        self._generation += 1
        self._bulk = self._source.slices()
        self._bulk_sent = 0
        self._bulk_began = now
        self.bulks += 1
        return BULK_BEGIN, 0, BULK_BEGIN_BODY.pack(self._generation)

    def _slice(self, entries: list[Entry]) -> Iterator[Frame]:
        # A key that waits as a delta has its newest state there, and that follows.
        for start in range(0, len(entries), BATCH):
            records = [(NEW, key, body) for key, body in entries[start : start + BATCH]]
            for packed in self._pack(records):
                yield RECORDS, BULK, POSITION.pack(self.sent) + packed
            self._bulk_sent += len(records)

    def _end_bulk(self, now: int) -> Frame:
        self._bulk = None
        self.sent = self.position  # nothing waits, and what was dropped is in the bulk
        self.bulk_ns = now - self._bulk_began
        self._bulk_after = now + max(self._pause, 9 * self.bulk_ns)
        self._digest_at = now + self._digest_interval
        body = BULK_END_BODY.pack(self.sent, self._generation, self._bulk_sent)
        return BULK_END, 0, body + pack_digest(self._source.digest())

    def _digest(self, now: int) -> Iterator[Frame]:
        self._digest_at = now + self._digest_interval
        self._basis = None
        if self.in_step:  # the last one matched
            self._pause = RESYNC_PAUSE
        digest = self._source.digest()
        flags = HANDED_OVER if self._handed_over else 0
        self._handed_over = False
        if digest is not None:
            yield DIGEST, flags, POSITION.pack(self.sent) + pack_digest(digest)

    def _forget(self) -> None:
        self._pending.clear()
        self._queued = 0
        self._lost = self._urgent = False
        self._bulk = None


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
    """What we hold of the peer's table.

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
        if flags & _ON:
            self.on = True
            self.position = position
            self.in_step = False
            self.abort()
            if not flags & _ADOPTED or not self._keeps:
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
