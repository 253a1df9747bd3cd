# SPDX-License-Identifier: GPL-2.0-or-later
"""Our own table as the kernel tells it, by events and by dumps; what changes is pushed to the peers.

A dump finds entries that no event has reported: those older than our socket, and those lost in an overrun.
New or changed entries are pushed like events, and so is the end of one that is missing: otherwise the peer's
digest would differ, and the whole table be sent. The kernel writes a piece of a dump when the previous one is
read. A flow with an event since then may be newer than the piece, which is not believed. A slow router takes
in a piece over several turns.

When our own table has room again, a dump looks for the flows that it had no room for.

A filter with `settled` wants some flows for a reason that can pass: a helper, a flow table. No event says
that such a flow has ended: `work` asks the kernel. A flow that a flow table takes away before it has settled
gives no event either: where there are flow tables, the kernel's table is looked through for those.

No event says that a helper has changed an expectation (Linux 6.18): the answer to a telephone's registration
makes it count, each new registration prolongs it. While there are some, they are looked through now and then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from tandem.conntrack.ctnetlink import ASKED_AT_ONCE, Dump, Events, lookup, lookups
from tandem.conntrack.encode import Builder
from tandem.conntrack.expectation import master_key
from tandem.conntrack.filter import YOUNG, Filter, checker
from tandem.conntrack.gathering import Gathering
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import (
    DESTROY,
    DNAT,
    EXPECTATION,
    IPPROTO_TCP,
    IPS_ASSURED,
    IPS_EXPECTED,
    NEW,
    STATUS_AT,
    same_flow,
)
from tandem.core.timers import MILLISECOND
from tandem.effects.nftables import has_flow_tables
from tandem.log import Logger
from tandem.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.conntrack.record import Record

    class Table(Protocol):
        """Our own table: what the kernel tells is applied to it."""

        in_bulk: bool
        limit_entries: int

        @property
        def sweeping(self) -> bool:
            """Whether entries that a bulk has left behind are still in memory."""

        @property
        def lacking(self) -> int:
            """How many flows had no room and have not ended since."""

        @property
        def room(self) -> int:
            """How many more entries fit."""

        def get(self, key: bytes) -> bytes | None: ...

        def apply_all(self, records: Iterable[Record], now: int) -> None: ...

        def begin_bulk(self) -> None: ...

        def end_bulk(self) -> None: ...

        def abort_bulk(self) -> None: ...

        def sweep(self, shards: int) -> list[bytes]:
            """Free the entries of so many shards that a bulk has left behind; return their keys."""

        def confirm(self, now: int) -> None: ...

    class Holder(Protocol):
        """Has our own table, which is another one when tables change hands."""

        @property
        def cache(self) -> Table: ...


OWNER = "conntrack_sync"
EVENTS_A_TURN = 256
PORTION = 32  # entries of a dump between two looks at the clock
PIECE_SHARE = 3 * MILLISECOND  # of a turn for entries of a dump, and likewise for ends that it has found
MASTERS_A_TURN = 16
LOOK_LATER = 1_000 * MILLISECOND
EXPECTATIONS_AGAIN = 2_000 * MILLISECOND
LACKING_AGAIN = 5_000 * MILLISECOND
LACKING_SHARE = 64  # a 64th of the table has to be free, or room for all that lack
LONGER = 5  # s; an expectation whose timeout has grown by more was prolonged
UNSETTLED_MAX = 1024  # flows whose end is asked for
UNSETTLED_AGAIN, OFFLOADED_AGAIN = 5_000 * MILLISECOND, 10_000 * MILLISECOND
OFFLOADED = 1 << 14  # IPS_OFFLOAD
_IPTABLES_OFFLOAD = "/sys/module/xt_FLOWOFFLOAD"  # OpenWrt's fw3 had this
ENTRY_COST = MILLISECOND  # by which the next look is later, for each entry of the last one
EXPECTATION_KIND = bytes((EXPECTATION,))
_LOOK, _SWEEP = "conntrack look", "conntrack sweep"


class KernelTable:
    """The kernel's table, heard between `listen` and `deafen`; `own` has records before `push` gets them.

    `ignore_ports`: netlink port ids whose changes are our own. OSError when the kernel lacks a required part.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        own: Holder,
        rules: Filter,
        ignore_ports: tuple[int, ...],
        receive_buffer: int,
        push: Callable[[list[Record]], object],
    ) -> None:
        self.unreadable = 0  # messages of the kernel that are no record
        self._loop = loop
        self._log = log
        self._own = own
        self._push = push
        self._rules = rules
        self._parser = Parser()
        self._builder = Builder()
        self.events = Events(rules, ignore_ports, receive_buffer=receive_buffer)
        self.events.pause()
        self.events.use_bell(True)
        self._wanted = checker(rules)
        self._listening = False
        self._gathering = Gathering()
        self._rung = 0  # events that have rung the bell, since events were read last
        self._overruns = 0
        self._overrun = False  # there was an overrun, and no dump since
        self._dump: Dump | None = None
        self._expectations_next = False
        self._piece: list[bytes] = []  # messages of the last piece that are not taken in yet
        self._newer: set[bytes] = set()  # keys that events have named since the kernel wrote that piece
        self._touched: set[bytes] = set()  # keys that events have named since that piece was read
        self._undumped = False
        self._dumped: Callable[[], None] | None = None
        self._expected = 0  # expectations that had been parsed when all were last looked through
        self._expected_at = 0  # when all were looked through
        self._unsettled: dict[bytes, None] = {}  # keys of flows whose end no event says
        self._unsettled_at = 0  # when they were asked for
        self._offloaded_at = 0  # when flows are looked for that a flow table has taken away
        self._fetched = 0  # when flows were looked for that had no room

    # Life

    def listen(self, known: bool = False) -> None:
        """Listen to events, and look through the whole table once: later, if most of it is `known`.

        Where there are few entries, the kernel walks all hash buckets in one go, and the processor forwards
        nothing meanwhile: 25 ms with 262,144 buckets. Hosts that have just found this router don't wait so
        long in addition to the takeover.
        """
        self._listening = True
        self.events.resume()
        self._loop.add_reader(self.events.fileno(), self._woken, once=True)
        if known:
            self._loop.call_at(_LOOK, self._loop.now() + LOOK_LATER, lambda _now: self.dump())
        else:
            self.dump()

    def deafen(self) -> None:
        """Stop listening; events that are queued are still read."""
        if not self._listening:
            return
        self.events.pause()  # so that the queue does not grow any more
        self.drain()
        self._listening = False
        self._loop.remove_reader(self.events.fileno())
        for key in ("conntrack overrun", "conntrack events", _LOOK, _SWEEP):
            self._loop.call_at(key, None)
        self._overrun = False
        self._rung = 0
        self._end_dump()

    def close(self) -> None:
        """Close the sockets."""
        self.deafen()
        self.events.close()

    def set_filter(self, rules: Filter) -> None:
        """Use another filter from now on."""
        self._rules = rules
        self._wanted = checker(rules)
        self.events.set_filter(rules)

    def be_prompt(self, yes: bool) -> None:
        """Whether somebody waits for what an event says, as with the guarantee: then every event wakes us."""
        if yes == self._gathering.prompt:
            return
        self._gathering.prompt = yes
        events, loop = self.events, self._loop
        if self._listening:
            loop.remove_reader(events.fileno())
            loop.call_at("conntrack events", None)
            events.pause()
        events.use_bell(not yes)
        if self._listening:
            events.resume()
            loop.add_reader(events.fileno(), self._woken, once=True)
            self.dump()  # of what has happened in between

    # Events

    def _woken(self) -> None:
        now = self._loop.now()
        self._rung = self.events.hush()
        when = self._gathering.woken(now)
        if when > now:
            self._loop.call_at("conntrack events", when, self._look)
        else:
            self._fetch(now)

    def _look(self, now: int) -> None:
        if self.events.drained:
            self._rung += self.events.hush()  # before the read, which finds all that has rung
        self._fetch(now)

    def _fetch(self, now: int) -> None:
        events, loop, gathering = self.events, self._loop, self._gathering
        received = events.received
        self.read()
        count, self._rung = self._rung, 0
        if gathering.prompt:
            count = events.received - received
        when = gathering.read(now, loop.now(), count, events.drained)
        if when is None:
            loop.wake_again(events.fileno())
        else:
            loop.call_at("conntrack events", when, self._look)

    def read(self) -> None:
        """Read some events, apply them to our own table and push them."""
        events, parser = self.events, self._parser
        expectations = parser.expectations
        records = self._parse(events.read(EVENTS_A_TURN))
        if parser.expectations != expectations:
            records += self._masters(records)
        if records:
            self._take_in(records)
            self._push(records)
        if events.overruns != self._overruns:
            self._overruns = events.overruns
            lost = (
                "events were lost: the whole table is read again (if it happens often, raise receive_buffer)"
            )
            self._log.limited(OWNER, "warning", f"{OWNER}: {lost}")
            self._overrun = True
        if self._overrun:  # the kernel drops events until its queue is empty: a dump before that misses them
            if self.events.drained:
                self._overrun = False
                self.dump()
            else:
                self._loop.call_at("conntrack overrun", self._loop.now(), lambda _now: self.read())

    def drain(self, most: int = 1 << 20) -> None:
        """Read the events of all that has happened so far, at most `most`."""
        for _ in range(0, most, EVENTS_A_TURN):
            self.read()
            if self.events.drained:
                return

    def take(self, messages: Iterable[bytes]) -> list[Record]:
        """Apply messages about wanted flows to our own table; return their records, which are not pushed."""
        records = self._parse(filter(self._wanted, messages))
        self._take_in(records)
        return records

    def work(self, now: int) -> None:
        """To be called every second: look for what no event says."""
        if not self._listening:
            return
        self.read()  # what has not rung the bell
        if self._own.cache.sweeping:  # as a table that was a peer's may be
            self._sweep()
        if self._dump is None and not self._overrun:
            self._own.cache.confirm(now)  # the end of a flow would have been told
        self._fetch_lacking(now)
        if self._rules.settled:
            self._ask_unsettled(now)
            self._look_for_offloaded(now)
        due = now - self._expected_at >= EXPECTATIONS_AGAIN
        if due and self._parser.expectations != self._expected and self._dump is None:
            self._open_dump(expectations=True)

    def _fetch_lacking(self, now: int) -> None:
        """Look through the table again when there is room for flows that came when there was none."""
        own = self._own.cache
        if self._dump is not None or not own.lacking or now < self._fetched + LACKING_AGAIN:
            return
        if own.room >= min(own.lacking, own.limit_entries // LACKING_SHARE or 1):
            self._fetched = now
            self.dump()

    def _ask_unsettled(self, now: int) -> None:
        """Tell the end of flows of which no event does; the kernel is asked for some of them at a time."""
        if not self._unsettled or now < self._unsettled_at + UNSETTLED_AGAIN:
            return
        self._unsettled_at = now
        keys = [
            key for key in list(self._unsettled)[:ASKED_AT_ONCE] if self._unsettled.pop(key, True) is None
        ]
        requests, order = self._builder.asks(keys)
        found = lookups(requests)
        there = {order[number - 1] for number in found}
        self._unsettled.update(dict.fromkeys(there))
        own = self._own.cache
        gone: list[Record] = [(DESTROY, key, b"") for key in keys if key not in there and own.get(key)]
        if gone:
            self._take_in(gone)
            self._push(gone)

    def _look_for_offloaded(self, now: int) -> None:
        if self._dump is None and now >= self._offloaded_at:
            self._offloaded_at = now + OFFLOADED_AGAIN
            if _may_offload():
                self._open_dump(False, OFFLOADED)

    def _watch_unsettled(self, records: Iterable[Record]) -> None:
        for op, key, body in records:
            if op == DESTROY:
                self._unsettled.pop(key, None)
            elif (key[3] in YOUNG or key[3] == IPPROTO_TCP) and body[:1] != EXPECTATION_KIND:
                forward = body[0] & DNAT and key[3] in YOUNG
                if body[STATUS_AT + 1] & (IPS_ASSURED | IPS_EXPECTED) or forward:
                    self._unsettled.pop(key, None)
                elif len(self._unsettled) < UNSETTLED_MAX:
                    self._unsettled[key] = None

    def _take_in(self, records: list[Record]) -> None:
        self._own.cache.apply_all(records, self._loop.now())
        if self._rules.settled:
            self._watch_unsettled(records)
        if self._dump is not None:
            keys = [key for _, key, _ in records]
            self._touched.update(keys)
            self._newer.update(keys)

    def _parse(self, messages: Iterable[bytes]) -> list[Record]:
        parse = self._parser.parse
        records = []
        for message in messages:
            record = parse(message)
            if record is None:
                self.unreadable += 1
            else:
                records.append(record)
        return records

    def _masters(self, records: Iterable[Record]) -> list[Record]:
        """Return the records of the flows that new expectations belong to, as the kernel has them now.

        A helper that rewrote an address has shifted the flow's sequence numbers: no event says by how much.
        """
        expected = [key for op, key, body in records if op == NEW and body[:1] == EXPECTATION_KIND]
        asked = (lookup(self._builder.get(master_key(key))) for key in expected[:MASTERS_A_TURN])
        return self._parse(message for message in asked if message is not None)

    # Dumps

    def dump(self, then: Callable[[], None] | None = None) -> None:
        """Look through the kernel's table while events go on; `then` is called when it is done."""
        self._dumped = then or self._dumped
        self._loop.call_at(_LOOK, None)
        if self._dump is not None:
            self._undumped = True  # again, when this one is done
        elif self._open_dump(expectations=False):
            self._own.cache.begin_bulk()

    def _open_dump(self, expectations: bool, status: int = 0) -> bool:
        try:
            self._dump = Dump(self._rules, expectations=expectations, status=status)
        except OSError as error:
            self._log.error(f"{OWNER}: {error}")
            return False
        self._expectations_next = not expectations and not status
        if expectations:
            self._expected, self._expected_at = self._parser.expectations, self._loop.now()
        self._touched.clear()
        self._loop.add_reader(self._dump.fileno(), self._read_dump)
        return True

    def _read_dump(self) -> None:
        dump = self._dump
        assert dump is not None
        try:
            self._piece = dump.read(1)
        except OSError as error:
            self._log.warning(f"{OWNER}: {error}")
            self._end_dump()
            return
        self._newer, self._touched = self._touched, set()
        self._loop.remove_reader(dump.fileno())
        self._take_piece(self._loop.now())

    def _take_piece(self, now: int) -> None:
        """Take in what one turn of the loop has time for, and the rest in the next one."""
        dump = self._dump
        assert dump is not None
        until = now + PIECE_SHARE
        while self._piece and now < until:
            portion, self._piece = self._piece[:PORTION], self._piece[PORTION:]
            self._take_dumped(portion)
            now = self._loop.now()
        if self._piece:
            self._loop.call_at("conntrack dump", now, self._take_piece)
        elif not dump.done:
            self._loop.add_reader(dump.fileno(), self._read_dump)
        else:
            self._offloaded_at += dump.entries * ENTRY_COST  # a kernel before 5.15 tells them all
            self._close_dump()
            self._dumped_all()

    def _take_dumped(self, messages: list[bytes]) -> None:
        records = [record for record in self._parse(messages) if record[1] not in self._newer]
        own = self._own.cache
        news = [record for record in records if _is_news(own.get(record[1]), record[2])]
        own.apply_all(records, self._loop.now())
        if self._rules.settled:
            self._watch_unsettled(records)
        if news:
            self._push(news)

    def _dumped_all(self) -> None:
        if self._expectations_next and self._open_dump(expectations=True):
            return
        self._own.cache.end_bulk()
        self._sweep()
        if self._undumped:
            self._undumped = False
            self.dump()
        elif self._dumped is not None:
            then, self._dumped = self._dumped, None
            then()

    def _sweep(self) -> None:
        """Tell the ends that no event has told, some in each turn of the loop."""
        self._loop.spread(_SWEEP, self._ends(), PIECE_SHARE)

    def _ends(self) -> Iterator[None]:
        while self._own.cache.sweeping:
            if gone := self._own.cache.sweep(1):
                self._push([(DESTROY, key, b"") for key in gone])
            yield

    def _close_dump(self) -> None:
        if self._dump is not None:
            self._loop.remove_reader(self._dump.fileno())
            self._loop.call_at("conntrack dump", None)
            self._dump.close()
            self._dump = None
            self._piece = []
            self._touched.clear()

    def _end_dump(self) -> None:
        """Break the dump off."""
        self._dumped = None
        self._undumped = False
        if self._dump is not None:
            self._close_dump()
            self._own.cache.abort_bulk()


def _may_offload() -> bool:
    """Whether flows may be in a flow table: to look for them takes 15 ms with 262,144 hash buckets."""
    try:
        return os.path.exists(_IPTABLES_OFFLOAD) or has_flow_tables()
    except OSError:  # there is no nftables
        return True


def _is_news(known: bytes | None, found: bytes) -> bool:
    """Whether a dump says something that peers have not been told."""
    if not same_flow(known, found):
        return True
    return known is not None and found[:1] == EXPECTATION_KIND and _left(found) > _left(known) + LONGER


def _left(body: bytes) -> int:
    """Seconds until an expectation ends."""
    return int.from_bytes(body[1:5], "big")
