# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel of a backup, kept equal to what is held for its peers, so that little is left for a takeover.

    held tables -> Journal: changed, gone -> rounds of the Restorer -> the kernel

Entries that no packet asks for do no harm there, and a table of 100,000 is not put into the kernel between
two advertisements. Ends matter as much: an entry that stays would be found and told again when this
router is active (replication.py: the dump).

At rest it looks into the journal every second, so that many short flows never get here, and takes a fifth of
the time. In a hurry (the active may be dead, or is) there is a step in every turn of the loop.

Nobody's packets refresh the entries, so that their timeouts run down. They get LEAST at least, and are all
touched once a ROUND; what the kernel has lost meanwhile comes back by that. After a takeover a dead entry
stays LEAST at most. A table that somebody has flushed (`conntrack -F`) is noticed sooner, by its size: every
second, and before a takeover ends.

Entries that this router's own traffic uses stay, whatever a peer says of their end: see
conntrack/own_traffic.py. At rest no entry is deleted until the survey knows which ones these are.

Nothing is put there at rest while the kernel's table is fuller than SHARE of its limit: the kernel makes room
by dropping entries of its own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from tandem.conntrack.ctnetlink import table_size
from tandem.conntrack.encode import TOUCH, Builder, Chunk
from tandem.conntrack.record import further, same_flow
from tandem.conntrack.writer import Figures, Restorer
from tandem.loop import Loop
from tandem.replication.cache import SHARDS, Cache
from tandem.replication.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tandem.conntrack.record import Entry
    from tandem.replication.survey import Survey

    Lookup = Callable[[bytes], bytes | None]

MILLISECOND = 1_000_000
HELPER_PAUSE = 2_000_000  # ns between two looks at whether a helper was found
REST = 4  # times as long as a step takes, after it
LEAST, ROUND = 300, 120  # s
SHARE = 3 / 4
LACKING, LACKING_SHARE = 4, 8  # entries, and which part of all, it may lack before all are put there
SMALL = 8 * 1024  # bytes of a chunk at rest: 0.3 ms, for which what the active tells has to wait
FULL = 64 * 1024
SHARDS_A_STEP = SHARDS // 64
KEYS_A_STEP = 256
STEPS_KEPT = 8  # of one takeover
_TIMER = "conntrack mirror"


class Mirror:
    """Works between `follow` and `leave`; `complete` also without, for a takeover beside an active group.

    `tables()` are the held ones, the one that was told last first. `established`: s, the timeout of
    established TCP connections. `survey` knows the entries that our own traffic uses; None: there are none.
    """

    def __init__(
        self,
        loop: Loop,
        restorer: Restorer,
        journal: Journal,
        tables: Callable[[], Iterable[Cache]],
        survey: Survey | None = None,
    ) -> None:
        self.established: int | None = None
        self.steps: list[dict[str, Any]] = []  # of the last takeover or speculation, for people
        self.ended_at = 0  # the last of them
        self.refused = 0  # entries that the kernel did not take at rest
        self.kept = 0  # entries that have ended for a peer, and stay for our own traffic
        self._loop = loop
        self._restorer = restorer
        self._journal = journal
        self._tables = tables
        self._survey = survey
        self._retired: list[Cache] = []  # tables that wait for the survey
        self._small, self._full = Builder(SMALL), Builder(FULL)
        self._rounds: deque[Callable[[], None]] = deque()
        self._known: dict[bytes, None] = {}  # keys of entries that have changed, whose round waits
        self._busy = False  # a round is under way
        self._creating = False  # and puts entries into the kernel
        self._hurried = False
        self._complete: Callable[[], None] | None = None
        self._own: Lookup | None = None  # while the kernel has flows of its own
        self._began = 0
        self._touched = 0  # shard that is touched next
        self._untouched = 0  # shards that are due to be touched
        self._following = False
        self._planned = False  # since `catch_up`
        self.caught_up = False
        self._lacked = 0  # entries that the kernel lacked when they were counted last
        self._counted = True  # for the present takeover

    # Life

    def follow(self, whole: bool) -> None:
        """Keep the kernel equal to the tables from now on; `whole`: it is now."""
        self._reset()
        self._following = True
        self._journal.start(whole)
        self._untouched = SHARDS if whole else 0
        if self._survey is not None:
            self._survey.start()

    def leave(self) -> None:
        """Do nothing any more; the kernel stays as it is."""
        self._reset()
        self._following = False
        self._journal.stop()

    def _reset(self) -> None:
        self._restorer.stop()
        if self._survey is not None:
            self._survey.stop()
        self._rounds.clear()
        self._retired.clear()
        self._known = {}
        self._busy = self._hurried = self._planned = self.caught_up = False
        self._complete = self._own = None
        self._loop.call_at(_TIMER, None)

    def work(self) -> None:
        """To be called every second: begin what has become due, unless something is under way."""
        if self._following and not self._busy and not self._hurried:
            self._untouched = max(self._untouched, -(-SHARDS // ROUND))
            before = self._lacked
            if self._journal.whole and self._lacks() and self._lacked > before:
                self._journal.whole = False  # what it does not take is not offered every second
            self._plan()
            self._loop.call_at(_TIMER, self._loop.now(), self._step)  # what the active tells comes first

    def catch_up(self) -> None:
        """Say by `caught_up` when the kernel, at rest, has got everything that is held now."""
        self._planned = self.caught_up = False

    def retire(self, cache: Cache) -> None:
        """What is in this table, but not held, is to leave the kernel: the table is held no more."""
        if self._following and len(cache):
            self._journal.doubt()
            self._retired.append(cache)
            self._loop.call_at(_TIMER, self._loop.now(), self._step)

    def refresh(self, cache: Cache) -> None:
        """Set the timeouts of what is in this table: in our kernel they ran down while it was of a peer."""
        if len(cache):
            self._rounds.append(lambda: self._restorer.touch(self._touches(cache.slices())))
            self._loop.call_at(_TIMER, self._loop.now(), self._step)

    def hurry(self, on: bool) -> None:
        """The active may be dead: get ready at full speed. Or it is alive: back to rest."""
        if on == self._hurried or self._complete is not None or not self._following:
            return
        self._hurried = on
        if on:
            self.steps.clear()
            self._began = self._loop.now()
            self._loop.call_at(_TIMER, self._began, self._step)

    def complete(self, done: Callable[[], None], own: Lookup | None = None) -> None:
        """Call `done`, from the loop, when the kernel has everything that is held.

        `own(key)`: what an active router knows of a flow itself. What is known alike, or better, is left
        alone, and nothing that is known is taken out.
        """
        self._own = own
        if not self._journal.on:
            self._journal.start(whole=False)
        if not self._hurried:
            self.steps.clear()
        self._began = self._loop.now()
        self._hurried, self._complete = True, done
        self._counted = own is not None  # what is its own does not tell
        self._loop.call_at(_TIMER, self._began, self._step)

    # Steps

    def _plan(self) -> None:
        """What there is to do now, as rounds."""
        journal = self._journal
        surveyed = self._hurried or self._survey is None or self._survey.ready
        if not self._counted:
            self._counted = True
            journal.whole &= not self._lacks()
        changed = journal.new or journal.changed
        room = self._hurried or not (changed or not journal.whole) or not self._is_crowded()
        self._planned |= room
        if self._retired and surveyed:
            retired, self._retired = self._retired, []
            self._rounds += [self._retirement(cache) for cache in retired]
        if journal.gone and surveyed:
            self._rounds.append(self._delete)
        if room and not journal.whole:
            self._rounds.append(self._everything)
        elif room and changed:
            self._rounds.append(self._create)

    def _step(self, now: int) -> None:
        if not self._busy:
            if not self._rounds and (self._hurried or self._retired):
                self._plan()
            if not self._rounds and self._untouched and not self._hurried:
                self._rounds.append(self._touch)  # last, and never while somebody waits
            if not self._rounds:
                self._done(now)
                return
            self._busy, self._creating = True, False
            self._rounds.popleft()()
        if self._restorer.step():
            self._busy = False
            self._ended_round()
        later = self._loop.now()
        pause = HELPER_PAUSE if self._restorer.waiting else 0 if self._hurried else REST * (later - now)
        self._loop.call_at(_TIMER, later + pause, self._step)

    def _done(self, now: int) -> None:
        self._loop.call_at(_TIMER, None)
        self.caught_up = self._planned and self._journal.whole
        if not self._hurried:
            return
        if not self.steps or self.steps[-1]["speculative"] != (self._complete is None):
            self._note(Figures())  # there was nothing left to do
        done, self._complete = self._complete, None
        if done is not None:
            self._hurried = False
            self._own = None
            done()

    def _lacks(self) -> bool:
        """Whether the kernel has too few entries for all that it was thought to have."""
        held = max((len(table) for table in self._tables()), default=0)
        try:
            entries, _ = table_size()
        except OSError:
            return False
        self._lacked = held - len(self._journal.new) - len(self._journal.changed) - entries
        return self._lacked > max(LACKING, held // LACKING_SHARE)

    def _is_crowded(self) -> bool:
        try:
            entries, most = table_size()
        except OSError:
            return False  # then it will refuse them
        return most > 0 and entries > SHARE * most

    # Rounds

    def _delete(self) -> None:
        self._journal.unsure = True  # what is held again is left out
        keys = iter(self._journal.take_gone())
        self._restorer.delete(self._deletions(iter(lambda: list(islice(keys, KEYS_A_STEP)), [])))

    def _retirement(self, cache: Cache) -> Callable[[], None]:
        parts = (cache.shards(start, SHARDS_A_STEP) for start in range(0, SHARDS, SHARDS_A_STEP))
        return lambda: self._restorer.delete(self._deletions([key for key, _ in part] for part in parts))

    def _deletions(self, parts: Iterable[list[bytes]]) -> Iterator[Chunk]:
        for part in parts:
            keys = self._not_held(part)
            if keys and self._survey is not None and (used := self._survey.used(keys, self._builder)):
                self.kept += len(used)
                keys = [key for key in keys if key not in used]
            # An empty chunk is a step too: no step may look through the whole table.
            yield from self._builder.deletes(keys) if keys else (Chunk(b"", 1, []),)

    def _not_held(self, keys: Iterable[bytes]) -> list[bytes]:
        tables: list[Lookup] = [table.get for table in self._tables()]
        if self._own is not None:
            tables.append(self._own)
        return [key for key in keys if all(get(key) is None for get in tables)]

    def _create(self) -> None:
        new, known = self._journal.take_changed()
        if self._own is not None:
            keys = iter([*new, *known])
            parts = iter(lambda: list(islice(keys, KEYS_A_STEP)), [])
            self._creating = True
            self._restorer.restore(self._news(list(self._entries(part)) for part in parts))
            return
        if known:
            self._known = known
            self._rounds.appendleft(self._put_known)
        self._put(self._entries(new))

    def _put_known(self) -> None:
        known, self._known = self._known, {}
        self._put(self._entries(known), known=True)

    def _everything(self) -> None:
        self._journal.whole = True  # once this is done, and if nothing is lost on the way
        self._journal.forget_changes()
        self._journal.unsure = True  # what comes meanwhile may be put there, too
        self._creating = True
        self._restorer.restore(self._all())

    def _all(self) -> Iterator[Chunk]:
        """Everything that is news to the kernel; of a flow in several tables, what the first of them says."""
        first: list[Cache] = []
        for table in self._tables():
            if self._own is None and not first:
                yield from self._chunks(entry for part in table.slices() for entry in part)
            else:
                yield from self._news(table.slices(), first)
            if len(table):
                first.append(table)

    def _news(self, parts: Iterable[list[Entry]], first: Sequence[Cache] = ()) -> Iterator[Chunk]:
        """What of these entries no table of `first` has, and our own kernel has not got as far with."""
        own = self._own
        for part in parts:
            entries = [entry for entry in part if all(table.get(entry[0]) is None for table in first)]
            if own is not None:
                entries = [entry for entry in entries if _is_news(own(entry[0]), entry[1])]
            # An empty chunk is a step too: no step may look through the whole table.
            yield from self._chunks(entries) if entries else (Chunk(b"", 1, []),)

    def _chunks(self, entries: Iterable[Entry]) -> Iterator[Chunk]:
        return self._builder.chunks(entries, established=self.established, least=LEAST)

    def _put(self, entries: Iterable[Entry], known: bool = False) -> None:
        self._creating = True
        self._restorer.restore(self._chunks(entries), known)

    def _touch(self) -> None:
        count = min(SHARDS_A_STEP, self._untouched)
        self._untouched -= count
        start, self._touched = self._touched, (self._touched + count) % SHARDS
        self._restorer.touch(self._touches(table.shards(start, count) for table in self._tables()))

    def _touches(self, parts: Iterable[list[Entry]]) -> Iterator[Chunk]:
        entries = (entry for part in parts for entry in part)
        return self._builder.chunks(entries, established=self.established, purpose=TOUCH, least=LEAST)

    @property
    def _builder(self) -> Builder:
        return self._full if self._hurried else self._small

    def _entries(self, keys: Iterable[bytes]) -> Iterator[Entry]:
        """What is held under these keys now."""
        tables = list(self._tables())
        for key in keys:
            for table in tables:
                if (body := table.get(key)) is not None:
                    yield key, body
                    break

    def _ended_round(self) -> None:
        # What comes while those wait that changed is none of them.
        doubtful = bool(self._retired) or any(one != self._put_known for one in self._rounds)
        self._journal.unsure = doubtful or not self._journal.whole
        for key in self._restorer.missing if self._following else ():
            self._journal.change(key, new=True)
        figures = self._restorer.figures
        if not self._hurried:
            self.refused += figures.failed
        elif self._creating and figures.entries:
            self._note(figures)

    def _note(self, figures: Figures) -> None:
        now = self._loop.now()
        step: dict[str, Any] = {
            "entries": figures.entries,
            "updated": figures.updated,
            "replaced": figures.replaced,
            "clashed": figures.clashed,
            "alone": figures.alone,
            "failed": figures.failed,
            "errors": {os.strerror(number): count for number, count in figures.errors.items()},
            "ms": round((now - self._began) / MILLISECOND, 2),
            "busy_ms": round(figures.busy / MILLISECOND, 2),
            "longest_step_ms": round(figures.longest / MILLISECOND, 2),
            "speculative": self._complete is None,
        }
        self.steps.append(step)
        del self.steps[:-STEPS_KEPT]
        self._began = self.ended_at = now

    def status(self) -> dict[str, Any] | None:
        """How far the kernel is; None while nobody wants it to be equal to anything."""
        if not self._following:
            return None
        journal = self._journal
        return {
            "whole": journal.whole,
            "waiting": journal.waiting,
            "refused": self.refused,
            "kept": self.kept,
            "forgotten": journal.forgotten,
        }


def _is_news(ours: bytes | None, theirs: bytes) -> bool:
    """Whether our own kernel does not know this of a flow, nor more."""
    return ours is None or not (same_flow(ours, theirs) or further(ours, theirs))
