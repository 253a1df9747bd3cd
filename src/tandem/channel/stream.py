# SPDX-License-Identifier: GPL-2.0-or-later
"""Outgoing: the stream of our own table to one peer. incoming.py is the other end of it.

It sends deltas as they are pushed, coalesced by key, so that
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
    LATER,
    RECORDS,
    STREAM,
    ProtocolError,
    pack_digest,
    pack_records,
)
from tandem.conntrack.record import DESTROY as GONE
from tandem.conntrack.record import NEW, UPDATE, merge
from tandem.core.timers import SECOND

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


# Between two bulks, doubled while digests never match; or nine times what the last one took, if longer.
RESYNC_PAUSE, RESYNC_PAUSE_MAX = SECOND, 64 * SECOND
SOURCE_PAUSE = 1_000_000  # before a source that had an empty slice is asked again
BATCH = 512  # records in a frame
RECORD_COST = 200  # bytes of dict slot, tuple and two objects, beside key and body

STREAM_BODY = Struct("!BQIQ")  # flags, position, generation, basis
POSITION = Struct("!Q")
BULK_BEGIN_BODY = Struct("!I")  # generation
BULK_END_BODY = Struct("!QII")  # position, generation, records sent in this bulk
ON, ADOPTED = 1, 2

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
        self.bulk_ns = 0  # what the last bulk took until it was sent
        self._source = source
        self._queue_limit = queue_limit
        self._digest_interval = digest_interval
        self._pending: dict[bytes, Record] = {}
        self.queued = 0  # about how many bytes of memory the waiting records take
        self._basis: int | None = None  # of a stream that is about to begin
        self._announce = False  # the stream, to the peer
        self._urgent = False  # somebody waits for the acknowledgement of what is pending
        self.later = False  # nobody does, nor will for what follows
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
            # An earlier stream may still be on for the peer, which lacks what was forgotten.
            self._basis, self._needs_bulk = None, self._needs_bulk or self.on

    def push(self, records: Sequence[Record], position: int, urgent: bool) -> bool:
        """Send these; `position` is that of the last. False when they overflowed the queue."""
        if not self.wanted:
            return True
        self.position = position
        if self._lost:
            self.dropped += len(records)
            return True
        pending, count = self._pending, len(records)
        if pending or count > 1:
            before, size = len(pending), 0
            for record in records:
                key = record[1]
                pending[key] = record if key not in pending else coalesce(pending[key], record)
                size += len(record[2])
            self.coalesced += before + count - len(pending)
        else:  # as mostly
            [record] = records
            pending[record[1]] = record
            size = len(record[2])
        self.queued += size + count * RECORD_COST
        if urgent:
            self._urgent = True
        if self.queued > self._queue_limit:
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
        if self.on and self._acked_generation == self._generation and not self._needs_bulk:
            return 0 if self._handed_over else self._digest_at
        return None

    def frames(self, limit: int, now: int) -> Iterator[Frame]:
        """Frames to send, until about `limit` bytes; more may wait."""
        if self._announce:
            self._announce = False
            self.on = True
            self._generation += 1
            flags = ON | (ADOPTED if self._basis is not None else 0)
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
            self.queued = 0
        else:
            records = [pending.pop(key) for key in list(islice(pending, BATCH))]
            self.queued -= sum(len(body) for _, _, body in records) + RECORD_COST * len(records)
        flags = LATER if self.later else 0
        before = self.sent
        if not pending:
            self.sent = self.position
            if self._urgent:
                self._urgent, flags = False, flags | ACK_NOW
        *first, last = self._pack(records)
        if not first:
            return [(RECORDS, flags, POSITION.pack(self.sent) + last)]
        return [(RECORDS, flags & LATER, POSITION.pack(before) + packed) for packed in first] + [
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
        self.queued = 0
        self._lost = self._urgent = False
        self._bulk = None
