# SPDX-License-Identifier: GPL-2.0-or-later
"""Pacer: what the kernel of a backup gets and loses next, and how soon; pure.

    held tables -> Journal: changed, gone -> Pacer: rounds -> Mirror: the kernel

The kernel is kept equal to what is held, so that little is left for a takeover: entries that no packet asks
for do no harm there, and a table of 100,000 is not written between two advertisements. Ends matter as much:
an entry that stays would be found and told again when this router is active (conntrack/kernel_table.py).

At rest changes wait until there are ENOUGH of them, or WAIT seconds, so that many short flows never reach the
kernel and few wakes do the rest. The pacer takes a fifth of the time then, and half of it for MANY entries
as long as it can keep up like that: a takeover would have to write them all. When the active may be dead, or
is, there is a step in every turn of the loop.

No packet refreshes the entries, so their timeouts run down. They get LEAST at least, and all are touched once
a ROUND; what the kernel has lost meanwhile comes back by that. While the kernel may be about to lose some
(`loses`, for LOSING), a takeover touches all of them first if the size of the table says so, and the pacer
touches all afterwards. After a takeover a dead entry stays LEAST at most. A table that somebody has flushed
(`conntrack -F`) is noticed sooner, by its size: when changes are written, and before a takeover ends.

Nothing is written at rest while the kernel's table is fuller than SHARE of its limit: the kernel makes room
by dropping entries of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tandem.conntrack.record import further, same_flow
from tandem.core.timers import MILLISECOND, SECOND
from tandem.replication.cache import SHARDS, Cache
from tandem.replication.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.conntrack.record import Entry

    Lookup = Callable[[bytes], bytes | None]
    Size = tuple[int, int]  # entries of the kernel's table, and how many it may have (0: not known)

HELPER_PAUSE = 2 * MILLISECOND  # between two questions whether a helper was found
REST, BRISK = 4, 1  # the pause after a step is so many times as long as the step
LEAST, ROUND = 300, 120  # s
WAIT, ENOUGH, MANY = 5, 512, 4096  # s, entries, entries
LOSING = 10  # s
SHARE = 3 / 4
LACKING, LACKING_SHARE = 4, 8  # the kernel may lack 4 entries, or an eighth; then all are written
SHARDS_A_STEP = SHARDS // 64
KEYS_A_STEP = 256
FEW = 256  # entries of tables that are touched in one step

DELETE, CREATE, TOUCH = "delete", "create", "touch"


@dataclass(slots=True)
class Round:
    """One thing to do, in steps: `entries` first, as many a step as fit, then one of `parts` a step.

    Both are lazy. A part may be empty, and is a step all the same: no step may look through a whole table.
    `keys` are parts of a round that deletes. `known`: the kernel has most of the entries.
    """

    what: str
    entries: Iterable[Entry] = ()
    parts: Iterable[list[Entry]] = ()
    keys: Iterable[list[bytes]] = ()
    count: int = 0  # of entries to create
    known: bool = False
    whole: bool = False  # everything that is held

    @property
    def many(self) -> bool:
        """Whether each step takes more entries, and the steps come sooner."""
        return self.count >= MANY


class Pacer:
    """Works between `follow` and `leave`; `complete` also without, for a takeover beside an active group.

    `tables()` are the held ones, the one that was told last first.
    """

    def __init__(self, journal: Journal, tables: Callable[[], Iterable[Cache]]) -> None:
        self.journal = journal
        self.following = False
        self.at_full_speed = False  # a group waits, or may soon: no pauses
        self.completing = False  # for a takeover or a merge, until `next_round` has nothing left
        self.caught_up = False
        self._tables = tables
        self._retired: list[Cache] = []  # tables that wait for the survey
        self._rounds: deque[Callable[[], Round]] = deque()
        self.round: Round | None = None  # the one that is under way
        self._noted = self._rate = 0  # changes until the last second, and in it
        self._known: dict[bytes, None] = {}  # keys of entries that have changed, whose round waits
        self._own: Lookup | None = None  # while the kernel has flows of its own
        self._touched = 0  # the shard that is touched next
        self._untouched = 0  # shards that are due to be touched
        self._losing = 0  # seconds for which the kernel may still lose entries
        self._before: Size | None = None  # of its table, before that
        self._lacked_before: int | None = None
        self._needed = False  # a takeover needs the untouched ones touched
        self._waited = 0  # seconds since the last plan
        self._planned = False  # there was a plan since `catch_up`
        self._lacked = 0  # entries that the kernel lacked when they were counted last
        self._counted = True  # the kernel's entries were counted for this takeover

    # Requests

    def follow(self, whole: bool) -> None:
        """Keep the kernel equal to the tables from now on; `whole`: it is now."""
        self._reset()
        self.following = True
        self.journal.start(whole)
        self._lacked_before = self._lacking(self._before)
        self._untouched = SHARDS if whole else 0

    def leave(self) -> None:
        """Do nothing any more; the kernel stays as it is."""
        self._reset()
        self.following = False
        self.journal.stop()

    def _reset(self) -> None:
        self._rounds.clear()
        self.round = None
        self._retired.clear()
        self._known = {}
        self.at_full_speed = self.completing = self._planned = self.caught_up = self._needed = False
        self._own = None

    def catch_up(self) -> None:
        """Let `caught_up` say when the kernel, at rest, has everything that is held now."""
        self._planned = self.caught_up = False

    def retire(self, table: Cache) -> bool:
        """Delete from the kernel what is only in this table; return whether there is something to do."""
        if not self.following or not len(table):
            return False
        self.journal.doubt()
        self._retired.append(table)
        return True

    def loses(self, size: Size | None) -> None:
        """The kernel begins to delete entries by itself, and does not say which, nor when it has ended.

        `size`: of its table, until then.
        """
        self._losing, self._before = LOSING, size
        self._lacked_before = self._lacking(size)

    def refresh(self, table: Cache) -> bool:
        """Set the timeouts of a table, which ran down while it was a peer's. Returns as `retire`."""
        if len(table):
            self._rounds.append(lambda: Round(TOUCH, entries=_flat(table.slices())))
        return bool(len(table))

    def speed_up(self, on: bool) -> bool:
        """Write at full speed because the active may be dead, or no longer; return whether that is new."""
        if on == self.at_full_speed or self.completing or not self.following:
            return False
        self.at_full_speed = on
        return True

    def complete(self, own: Lookup | None, size: Size | None = None) -> None:
        """Write everything that is held, as fast as possible.

        `own(key)`: what an active router knows of a flow itself. What is known alike, or better, is left
        alone, and nothing that is known is taken out. `size`: of the kernel's table.
        """
        self._own = own
        if not self.journal.on:
            self.journal.start(whole=False)
        self.at_full_speed = self.completing = True
        if self._losing and self.following and own is None:
            before, lacked = self._lacked_before, self._lacking(size)
            if before is None or lacked is None or lacked > before:
                self._untouched, self._needed = SHARDS, True
        self._counted = own is not None  # the count of an active router's own entries says nothing

    # Every second, and every step

    def due(self) -> bool:
        """Count one second, and return whether `second` is to be called: it is worth a wake-up."""
        self._waited += 1
        self._rate, self._noted = self.journal.noted - self._noted, self.journal.noted
        if self._losing:
            self._losing -= 1
            if not self._losing and self.following:
                self._untouched, self._waited = SHARDS, WAIT
        behind = not (self._planned and self.journal.whole) or bool(self._retired)
        return behind or self._waited >= WAIT or self.journal.waiting >= ENOUGH

    def second(self, size: Size | None, ready: bool) -> None:
        """Plan what has become due, while nothing is under way and nobody waits.

        `size`: of the kernel's table, None: not known. `ready`: the survey knows the router's own traffic.
        """
        waited, self._waited = max(1, self._waited), 0
        if any(map(len, self._tables())):
            self._untouched = max(self._untouched, min(-(-SHARDS * waited // ROUND), SHARDS))
        before = self._lacked
        if self.journal.whole and self._lacks(size) and self._lacked > before:
            self.journal.whole = False  # once, not every second: the kernel may refuse entries
        self._plan(size, ready)

    @property
    def asks_size(self) -> bool:
        """Whether `second` needs the size of the kernel's table."""
        journal = self.journal
        changed = journal.new or journal.changed or not journal.whole
        return bool(changed) or max(map(len, self._tables()), default=0) > LACKING

    @property
    def rests(self) -> bool:
        """Whether there is nothing to do, and `caught_up` says so, until the tables change."""
        return not self._left and self.caught_up == (self._planned and self.journal.whole)

    @property
    def _left(self) -> bool:
        return bool(self._rounds or self._retired or self._untouched or self.at_full_speed)

    @property
    def plans_next(self) -> bool:
        """Whether `next_round` makes a plan, for which it needs the size of the kernel's table."""
        return not self._rounds and (self.at_full_speed or bool(self._retired))

    def next_round(self, size: Size | None, ready: bool) -> Round | None:
        """Return what to do next; None: nothing is left (then `completing` has ended, if it went on)."""
        if self.plans_next:
            self._plan(size, ready)
        if not self._rounds and self._untouched and (self._needed or not self.at_full_speed):
            self._rounds.append(self._touch)  # last, and without need never while somebody waits
        if self._rounds:
            self.round = self._rounds.popleft()()
            return self.round
        self.caught_up = self._planned and self.journal.whole
        if self.completing:
            self.completing = self.at_full_speed = False
            self._own = None
        return None

    def ended(self, missing: Iterable[bytes]) -> None:
        """A round has ended; `missing`: keys of entries that were to be touched and are not in the kernel."""
        self.round = None
        # A new entry is not among the changed ones that wait, so their round leaves no doubt.
        doubtful = bool(self._retired) or any(one != self._put_known for one in self._rounds)
        self.journal.unsure = doubtful or not self.journal.whole
        for key in missing if self.following else ():
            self.journal.change(key, new=True)
        if not self._left:
            self.caught_up = self._planned and self.journal.whole

    def pause(self, took: int, wrote: int, waiting: bool) -> int:
        """Return how long to rest after a step that `took` so long and `wrote` so many entries.

        `waiting`: for a helper of the kernel.
        """
        if waiting:
            return HELPER_PAUSE
        if self.at_full_speed:
            return 0
        many = self.round is not None and self.round.many
        keeps_up = self._rate * took * (1 + BRISK) <= wrote * SECOND
        return (BRISK if many and keeps_up else REST) * took

    @property
    def whole(self) -> bool:
        """Whether the kernel has everything that is held, except for what `waiting` counts."""
        return self.journal.whole and not (self.round is not None and self.round.whole)

    def waiting(self, written: int) -> int:
        """Return how many entries are to be changed; of the round under way so many are `written`."""
        left = max(0, self.round.count - written) if self.round is not None else 0
        return self.journal.waiting + len(self._known) + left

    # Plans

    def _plan(self, size: Size | None, ready: bool) -> None:
        """Add rounds for everything that has to be done now."""
        journal = self.journal
        surveyed = self.at_full_speed or ready
        if not self._counted:
            self._counted = True
            journal.whole &= not self._lacks(size)
        changed = journal.new or journal.changed
        room = self.at_full_speed or not (changed or not journal.whole) or not _is_crowded(size)
        self._planned |= room
        if self._retired and surveyed:
            retired, self._retired = self._retired, []
            self._rounds += [self._retirement(table) for table in retired]
        if journal.gone and surveyed:
            self._rounds.append(self._delete)
        if room and not journal.whole:
            self._rounds.append(self._everything)
        elif room and changed:
            self._rounds.append(self._create)

    def _lacks(self, size: Size | None) -> bool:
        """Whether the kernel has too few entries for all that it was thought to have."""
        lacked = self._lacking(size)
        if lacked is None:
            return False
        self._lacked = lacked
        return lacked > max(LACKING, self._held // LACKING_SHARE)

    def _lacking(self, size: Size | None) -> int | None:
        """By how many entries a table of this size is too small; None: its size is not known."""
        noted = len(self.journal.new) + len(self.journal.changed)
        return None if size is None else self._held - noted - size[0]

    @property
    def _held(self) -> int:
        return max((len(table) for table in self._tables()), default=0)

    # Rounds

    def _delete(self) -> Round:
        self.journal.unsure = True  # the round leaves out entries that are held again
        keys = iter(self.journal.take_gone())
        return Round(DELETE, keys=map(self._not_held, iter(lambda: list(islice(keys, KEYS_A_STEP)), [])))

    def _retirement(self, table: Cache) -> Callable[[], Round]:
        parts = (table.shards(start, SHARDS_A_STEP) for start in range(0, SHARDS, SHARDS_A_STEP))
        return lambda: Round(DELETE, keys=(self._not_held([key for key, _ in part]) for part in parts))

    def _not_held(self, keys: Iterable[bytes]) -> list[bytes]:
        tables: list[Lookup] = [table.get for table in self._tables()]
        if self._own is not None:
            tables.append(self._own)
        return [key for key in keys if all(get(key) is None for get in tables)]

    def _create(self) -> Round:
        new, known = self.journal.take_changed()
        if self._own is not None:
            keys = iter([*new, *known])
            parts = iter(lambda: list(islice(keys, KEYS_A_STEP)), [])
            return Round(CREATE, parts=self._news(list(self._entries(part)) for part in parts))
        if known:
            self._known = known
            self._rounds.appendleft(self._put_known)
        return Round(CREATE, self._entries(new), count=len(new))

    def _put_known(self) -> Round:
        known, self._known = self._known, {}
        return Round(CREATE, self._entries(known), count=len(known), known=True)

    def _everything(self) -> Round:
        """Write everything that is news to the kernel; of a flow in several tables the first one counts."""
        self.journal.whole = True  # when this round has ended, unless entries are lost
        self.journal.forget_changes()
        self.journal.unsure = True  # this round may also write entries that come meanwhile
        tables = [table for table in self._tables() if len(table)]
        first = tables[:1] if self._own is None else []
        entries = _flat(part for table in first for part in table.slices())
        others = self._others(tables, first)
        return Round(CREATE, entries, others, count=sum(map(len, tables)), whole=True)

    def _others(self, tables: Sequence[Cache], first: Sequence[Cache]) -> Iterator[list[Entry]]:
        for number in range(len(first), len(tables)):
            yield from self._news(tables[number].slices(), tables[:number])

    def _news(self, parts: Iterable[list[Entry]], first: Sequence[Cache] = ()) -> Iterator[list[Entry]]:
        """Yield the entries that no table of `first` has, and that our own kernel does not know as well."""
        own = self._own
        for part in parts:
            entries = [entry for entry in part if all(table.get(entry[0]) is None for table in first)]
            if own is not None:
                entries = [entry for entry in entries if _is_news(own(entry[0]), entry[1])]
            yield entries

    def _touch(self) -> Round:
        few = sum(map(len, self._tables())) <= FEW
        count = self._untouched if few else min(SHARDS_A_STEP, self._untouched)
        self._untouched -= count
        self._needed = self._needed and self._untouched > 0
        start, self._touched = self._touched, (self._touched + count) % SHARDS
        entries = _flat(table.shards(start, count) for table in self._tables())
        waits = self.journal.waits  # its entry will be written, with its timeout
        return Round(TOUCH, (entry for entry in entries if not waits(entry[0])))

    def _entries(self, keys: Iterable[bytes]) -> Iterator[Entry]:
        """Yield the entries that are held under these keys now."""
        tables = list(self._tables())
        if len(tables) == 1:
            yield from tables[0].found(keys)
            return
        for key in keys:
            for table in tables:
                if (body := table.get(key)) is not None:
                    yield key, body
                    break


def _flat(parts: Iterable[list[Entry]]) -> Iterator[Entry]:
    return (entry for part in parts for entry in part)


def _is_crowded(size: Size | None) -> bool:
    return size is not None and size[1] > 0 and size[0] > SHARE * size[1]  # None: the kernel refuses


def _is_news(ours: bytes | None, theirs: bytes) -> bool:
    """Whether a body is news to our own kernel, which may know the same of the flow, or more."""
    return ours is None or not (same_flow(ours, theirs) or further(ours, theirs))
