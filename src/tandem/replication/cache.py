# SPDX-License-Identifier: GPL-2.0-or-later
"""The bounded table of another router's flows: body by key, kept in the form in which they are restored.

No event says that a flow is still used: data refreshes the timeout in the active router's kernel silently.
So an entry whose timeout has run out since its last event may be alive. The active router says which flows
are alive: by DESTROY, by a digest of its table that equals ours (`confirm`), or by a bulk (`begin_bulk`,
`end_bulk`: entries that it leaves out are discarded). An entry expires when nothing has confirmed it for
max(its timeout, `hold`): then the active router is lost.

The table is split by a hash of the key into shards, each an ordinary dict from bytes to int, so that
the garbage collector has nothing to look through, and no walk is longer than a shard: slices for the
restore, expiry and the sweep after a bulk take some shards at a time.

Memory counts, so that both are small. A key is without its zone when that is 0, as nearly always. A value is
one integer: the body, and 4 bytes with the tick of its last record. An integer of such a size takes 16 bytes
less than bytes do. A shard that has lost most of its entries is copied, because a dict never shrinks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from zlib import crc32

from tandem.conntrack.record import (
    DESTROY,
    EXPECTATION,
    FIXED_SIZE,
    TAIL,
    TCP,
    TCP_AT,
    TCP_SIZE,
    TIMEOUT_AT,
    UPDATE,
    Entry,
    Record,
    complete,
    merge,
    valid,
)
from tandem.core.timers import SECOND
from tandem.replication.journal import Journal

SHARDS = 1024
LACKING_MAX = 16_384
# Bytes of memory beside key and body: two objects and a dict slot (measured with 64 bit).
ENTRY_COST = 112 if sys.maxsize >> 32 else 74

_TICK = SECOND // 10
_TICKS = 10  # in a second
_ROUND = 32 * SECOND  # the time in which `tidy` looks at every shard once
_SPARE = 4096  # bytes that a shard may have for entries that are gone
_SLOT = 56  # bytes of a dict for each entry, at most
_SHARDS_AT_ONCE = 32  # shards in one second
_DISCARDED_PART = 16  # and of what was cleared at least such a part, as tables may be cleared again and again
_MASK = (1 << 64) - 1
_STAMP = 4  # bytes behind a body
_LEAST = FIXED_SIZE[0] + _STAMP
_STAMP_BITS = (1 << 8 * _STAMP) - 1
_NO_ZONE = b"\0\0"
_SHORT = frozenset((14, 38, 27, 75))  # lengths of keys without their zone: flows and expectations, IPv4 and 6
_EMPTY: dict[bytes, int] = {}  # stands for every shard that never had an entry: 1024 dicts take 80 KiB


def entry_digest(key: bytes, body: bytes) -> int:
    """Return 64 bits for a flow, on which two routers must agree; a table's digest is their sum mod 2^64.

    Without the timeout, which runs down, and without what not every event and dump says: the state of
    TCP, the tail. The product keeps equal changes of several flows from cancelling each other out, as
    they would in a sum of CRCs alone.
    """
    kind = body[0]
    if kind & TAIL:
        if kind == EXPECTATION:
            return (crc32(key) + 0x9E3779B9) * 0x85EBCA6B & _MASK
        body = bytes((kind & ~TAIL,)) + body[1 : FIXED_SIZE[kind]]
    rest = crc32(body[TCP_AT + TCP_SIZE if kind & TCP else TCP_AT :], crc32(body[:TIMEOUT_AT]))
    return (crc32(key) + 0x9E3779B9) * (rest + 0xC2B2AE35) & _MASK


class Cache:
    """A table with limits: entries, and bytes of memory (estimated). Times are monotonic ns.

    Counters: `updated`, `invalid`, `overflow` (there was no room), `expired`, `swept` (after a bulk).

    `lacking` counts the flows without an entry because there was no room. The table keeps LACKING_MAX of
    their keys at most; `lacks_more` when there are more. A bulk brings these flows when there is room.
    """

    def __init__(
        self, limit_entries: int, limit_bytes: int, hold: int = 3600, journal: Journal | None = None
    ) -> None:
        """An entry stays for at least `hold` seconds after the last word from the active router."""
        self.limit_entries = limit_entries
        self.limit_bytes = limit_bytes
        self.hold = hold
        self._journal = journal or Journal()
        self._shards = [_EMPTY] * SHARDS
        self._discarded: list[dict[bytes, int]] = []  # freed little by little
        self._entries = self._bytes = self._digest = 0
        # Entries older than the last bulk: they are discarded if it ends before they are told again.
        self._stale_entries = self._stale_bytes = self._stale_digest = 0
        self._floor = 0  # entries of an earlier tick are stale
        # During a bulk: those that an earlier bulk has left behind, and that no sweep has removed yet.
        self._dead_entries = self._dead_bytes = self._dead_digest = 0
        self._visible = 0  # entries of an earlier tick are as good as removed
        self.in_bulk = False
        self._tick = 1
        self._confirmed = 0
        self._hand, self._hand_at = 0, 0
        self._filled_at = 0  # when `tidy` found entries last
        self._since = 0  # the tick when the first entry came
        self._oldest = [0] * SHARDS  # no entry of the shard has a lower stamp
        self._to_sweep = 0  # shards that may still have stale entries
        self._lacking: set[bytes] = set()
        self.lacks_more = False
        self.updated = self.invalid = self.overflow = self.expired = self.swept = 0

    # --- contents -------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._entries - (self._dead_entries if self.in_bulk else self._stale_entries)

    @property
    def lacking(self) -> int:
        """How many flows had no room and have not ended since."""
        return len(self._lacking)

    @property
    def room(self) -> int:
        """How many more entries fit, if they are small."""
        if self._bytes >= self.limit_bytes:
            return 0
        return max(0, self.limit_entries - self._entries)

    @property
    def memory(self) -> int:
        """The memory of the entries in bytes, about."""
        return self._bytes - (self._dead_bytes if self.in_bulk else self._stale_bytes)

    def digest(self) -> tuple[int, bytes]:
        """Return (entries, 8 bytes), which are equal for equal tables, whatever their history."""
        value = self._digest - (self._dead_digest if self.in_bulk else self._stale_digest)
        return len(self), (value & _MASK).to_bytes(8, "big")

    def get(self, key: bytes) -> bytes | None:
        """Return the body of a flow, or None."""
        if key.startswith(_NO_ZONE):
            key = key[2:]
        value = self._shards[hash(key) >> 20 & (SHARDS - 1)].get(key)
        if value is None or value & _STAMP_BITS < self._visible:
            return None
        return _body(value)

    def found(self, keys: Iterable[bytes]) -> Iterator[Entry]:
        """Yield the entries of these keys that are there when their turn comes; `get` takes twice as long."""
        for key in keys:
            short = key[2:] if key[:2] == _NO_ZONE else key
            value = self._shards[hash(short) >> 20 & (SHARDS - 1)].get(short)
            if value is not None and value & _STAMP_BITS >= self._visible:
                size = value.bit_length() + 7 >> 3  # as in `_body`
                yield key, value.to_bytes(size if size > _LEAST else _LEAST, "big")[:-_STAMP]

    def slices(self) -> Iterator[list[Entry]]:
        """Yield all entries, a thousandth at a time, while the table may change between two slices.

        What is there from the first slice to the last comes once, with the body of that moment.
        """
        for number in range(SHARDS):
            if self._shards[number]:
                yield self._slice(number)

    def shards(self, start: int, count: int) -> list[Entry]:
        """Return the entries of some shards; shard 0 follows the last one."""
        return [entry for number in range(start, start + count) for entry in self._slice(number % SHARDS)]

    def page(self, start: int, count: int) -> tuple[list[Entry], int | None]:
        """Return `count` entries, or a shard more, from shard `start` on, and where the rest begins."""
        found: list[Entry] = []
        for number in range(start, SHARDS):
            if len(found) >= count:
                return found, number
            found += self._slice(number)
        return found, None

    def _slice(self, number: int) -> list[Entry]:
        shard = self._shards[number]
        if self._dead_entries if self.in_bulk else self._stale_entries:
            visible = self._visible
            return [
                (_whole(key), _body(value)) for key, value in shard.items() if value & _STAMP_BITS >= visible
            ]
        return [(_whole(key), _body(value)) for key, value in shard.items()]

    # --- changes --------------------------------------------------------------------------

    def apply(self, record: Record, now: int) -> None:
        """Make one change. Records are checked: they may come from anywhere."""
        self.apply_all((record,), now)

    def apply_all(self, records: Iterable[Record], now: int) -> None:
        """Make changes, in this order."""
        tick = now // _TICK
        self._tick = max(self._tick, tick)
        if not self._entries:
            self._since = self._tick
        journal = self._journal if self._journal.on else None
        stamp, shards, integer = self._tick.to_bytes(_STAMP, "big"), self._shards, int.from_bytes
        for op, key, body in records:
            short = key[2:] if key[:2] == _NO_ZONE else key
            shard = shards[hash(short) >> 20 & (SHARDS - 1)]
            value = shard.get(short)
            known = None if value is None else _body(value)
            if op == DESTROY:
                if value is None or known is None:
                    self._lacking.discard(key)
                else:
                    del shard[short]
                    self._forget(key, known, value & _STAMP_BITS)
                    if journal:
                        journal.remove(key)
                continue
            if not valid(key, body):
                self.invalid += 1
                continue
            if value is None or known is None:
                if self._entries >= self.limit_entries or self._bytes >= self.limit_bytes:
                    self.overflow += 1
                    self._lack(key)
                    continue
                if self._lacking:
                    self._lacking.discard(key)
                if shard is _EMPTY:
                    shard = shards[hash(short) >> 20 & (SHARDS - 1)] = {}
            else:
                fresh = value & _STAMP_BITS >= self._visible
                if op == UPDATE and fresh and (known[0] & TAIL or not complete(body)):
                    body = merge(known, body)
                self.updated += 1
                if value & _STAMP_BITS >= self._floor and _same_totals(known, body):  # as when it closes
                    if journal and known != body:
                        journal.change(key, False)
                    shard[short] = integer(body + stamp, "big")
                    continue
                self._forget(key, known, value & _STAMP_BITS)
            if journal and known != body:
                journal.change(key, known is None)
            shard[short] = integer(body + stamp, "big")
            self._entries += 1
            self._bytes += len(key) + len(body) + ENTRY_COST
            self._digest += entry_digest(key, body)

    def _lack(self, key: bytes) -> None:
        if len(self._lacking) < LACKING_MAX:
            self._lacking.add(key)
        else:
            self.lacks_more = True

    def _forget_lacking(self) -> None:
        self._lacking = set()
        self.lacks_more = False

    def _forget(self, key: bytes, body: bytes, tick: int) -> None:
        """Subtract an entry from the totals; `tick`: of its last record."""
        size = len(key) + len(body) + ENTRY_COST
        digest = entry_digest(key, body)
        self._entries -= 1
        self._bytes -= size
        self._digest -= digest
        if tick < self._floor:
            self._stale_entries -= 1
            self._stale_bytes -= size
            self._stale_digest -= digest
        if self.in_bulk and tick < self._visible:
            self._dead_entries -= 1
            self._dead_bytes -= size
            self._dead_digest -= digest

    def clear(self) -> None:
        """Forget all entries; the counters stay."""
        self._discarded += [shard for shard in self._shards if shard]
        self._shards = [_EMPTY] * SHARDS
        self._entries = self._bytes = self._digest = 0
        self._stale_entries = self._stale_bytes = self._stale_digest = 0
        self._dead_entries = self._dead_bytes = self._dead_digest = 0
        self._to_sweep = 0
        self._forget_lacking()

    # --- bulks ----------------------------------------------------------------------------

    def begin_bulk(self) -> None:
        """All entries are stale unless they are applied again before `end_bulk`. It may begin again.

        Stale entries of the bulk before do not come back, whether they are swept or not.
        """
        if not self.in_bulk:
            self._dead_entries, self._dead_bytes = self._stale_entries, self._stale_bytes
            self._dead_digest = self._stale_digest
        self._tick += 1
        self._floor = self._tick
        self.in_bulk = True
        self._forget_lacking()  # the bulk tells these flows again
        self._stale_entries, self._stale_bytes, self._stale_digest = self._entries, self._bytes, self._digest

    def end_bulk(self) -> None:
        """Remove the stale entries from the table at once; `tidy` frees their memory."""
        if self.in_bulk:
            self.in_bulk = False
            self._visible = self._floor
            self._to_sweep = SHARDS if self._stale_entries else 0

    def abort_bulk(self) -> None:
        """Forget the bulk, which will not end: only what the bulk before has left behind is stale."""
        if not self.in_bulk:
            return
        self.in_bulk = False
        self._stale_entries, self._stale_bytes = self._dead_entries, self._dead_bytes
        self._stale_digest = self._dead_digest
        self._floor = self._visible

    def confirm(self, now: int) -> None:
        """The active router has confirmed all entries: the digests are equal."""
        self._confirmed = max(now // _TICK, self._tick)

    # --- work every second ---------------------------------------------------------------------

    def tidy(self, now: int, sweeps: bool = True) -> Iterator[None]:
        """Free some memory of deleted entries, and expire some dead ones: in steps of a shard.

        To be called every second. Without `sweeps`, what a bulk has left behind is left to `sweep`.
        """
        discarded = self._discarded
        for _ in range(min(len(discarded), max(_SHARDS_AT_ONCE, len(discarded) // _DISCARDED_PART))):
            discarded.pop()
            yield
        for _ in range(min(self._to_sweep, _SHARDS_AT_ONCE) if sweeps else 0):
            self._sweep_next()
            yield
        if self._entries:
            self._filled_at = now
        elif now - self._filled_at > 2 * _ROUND:
            return  # all shards have been looked at since they are empty
        due = (now - self._hand_at) * SHARDS // _ROUND
        self._hand_at = now if due > SHARDS else self._hand_at + due * _ROUND // SHARDS
        tick = now // _TICK
        for _ in range(min(due, _SHARDS_AT_ONCE)):
            hand, self._hand = self._hand, (self._hand + 1) % SHARDS
            shard = self._shards[hand]
            if shard is not _EMPTY:
                if shard:
                    self._expire(hand, tick)
                if sys.getsizeof(shard) > _SPARE + _SLOT * len(shard):
                    self._shards[hand] = dict(shard) if shard else _EMPTY
                yield

    @property
    def sweeping(self) -> bool:
        """Whether entries that a bulk has left behind are still in memory."""
        return self._to_sweep > 0

    def sweep(self, shards: int) -> list[bytes]:
        """Free the entries of so many shards that a bulk has left behind; return their keys."""
        found: list[bytes] = []
        while shards and self._to_sweep:
            shards -= 1
            found += self._sweep_next()
        return found

    def _sweep_next(self) -> list[bytes]:
        self._to_sweep -= 1
        shard, visible = self._shards[self._to_sweep], self._visible
        stale = [short for short, value in shard.items() if value & _STAMP_BITS < visible]
        for short in stale:
            self._remove(shard, short)
        self.swept += len(stale)
        if not (self._dead_entries if self.in_bulk else self._stale_entries):
            self._to_sweep = 0
        return [_whole(short) for short in stale]

    def _expire(self, number: int, tick: int) -> None:
        """Delete the entries of a shard that have not been confirmed for too long, if there may be any."""
        oldest = tick - self.hold * _TICKS
        if oldest <= max(self._confirmed, self._since, self._oldest[number]) or self.in_bulk:
            return
        shard = self._shards[number]
        for short, value in [item for item in shard.items() if item[1] & _STAMP_BITS < oldest]:
            heard = max(value & _STAMP_BITS, self._confirmed)
            if heard + _timeout(_body(value)) * _TICKS < tick:
                self._remove(shard, short)
                self.expired += 1
        self._oldest[number] = min((value & _STAMP_BITS for value in shard.values()), default=self._tick)

    def _remove(self, shard: dict[bytes, int], short: bytes) -> None:
        key, value = _whole(short), shard.pop(short)
        self._forget(key, _body(value), value & _STAMP_BITS)
        if self._journal.on:
            self._journal.remove(key)


def _same_totals(known: bytes, body: bytes) -> bool:
    """Whether two bodies of a flow have one size and one digest: only the timeout or TCP's part differs."""
    kind = body[0]
    if kind & TAIL or known[:TIMEOUT_AT] != body[:TIMEOUT_AT]:
        return False
    end = TCP_AT + TCP_SIZE if kind & TCP else TCP_AT
    return known[end:] == body[end:]


def _whole(short: bytes) -> bytes:
    """Return the key, with its zone."""
    return _NO_ZONE + short if len(short) in _SHORT else short


def _body(value: int) -> bytes:
    # Only the kind 0 begins with a zero, which an integer does not show, and all its bodies are the shortest.
    size = value.bit_length() + 7 >> 3
    return value.to_bytes(size if size > _LEAST else _LEAST, "big")[:-_STAMP]


def _timeout(body: bytes) -> int:
    """Return the timeout of a body in seconds."""
    at = 1 if body[0] == EXPECTATION else TIMEOUT_AT
    return int.from_bytes(body[at : at + 4], "big")
