# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirror: writes what the pacer says into the kernel of a backup, one step a turn of the loop.

Entries that this router's own traffic uses stay, whatever a peer says of their end: see
conntrack/own_traffic.py. At rest no entry is deleted until the survey knows which ones these are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from tandem.conntrack.bulk import TOUCH as TIMEOUT_ONLY
from tandem.conntrack.ctnetlink import table_size
from tandem.conntrack.encode import Builder, Chunk
from tandem.conntrack.writer import Figures, Restorer
from tandem.core.timers import MILLISECOND
from tandem.loop import Loop
from tandem.replication.cache import Cache
from tandem.replication.journal import Journal
from tandem.replication.pacer import CREATE, DELETE, LEAST, Pacer, Round

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tandem.conntrack.record import Entry
    from tandem.replication.pacer import Lookup, Size
    from tandem.replication.survey import Survey

SMALL = 8 * 1024  # bytes of a chunk at rest: records of the active router wait 0.3 ms for it
LARGE = 24 * 1024  # of a flood, where a turn of the loop for each 40 entries would cost a tenth: 1 ms
FULL = 64 * 1024
STEPS_KEPT = 8  # steps of one takeover
_TIMER = "conntrack mirror"


class Mirror:
    """The mirror obeys the pacer, which decides, and writes in turns of the loop; see `Pacer` for its life.

    `established`: s, the timeout of established TCP connections. `survey` knows the entries that this
    router's own traffic uses; None: there are none.
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
        self.steps: list[dict[str, Any]] = []  # steps of the last takeover or speculation, for people
        self.ended_at = 0  # when the last step ended
        self.refused = 0  # entries that the kernel did not take at rest
        self.kept = 0  # entries that have ended for a peer, and stay for our own traffic
        self.pacer = Pacer(journal, tables)
        self._loop = loop
        self._restorer = restorer
        self._survey = survey
        self._small, self._large, self._full = Builder(SMALL), Builder(LARGE), Builder(FULL)
        self._done: Callable[[], None] | None = None  # what to call when all is written
        self._began = 0

    # Life

    def follow(self, whole: bool) -> None:
        """Keep the kernel equal to the tables from now on; `whole`: it is now."""
        self._stop()
        self.pacer.follow(whole)
        if self._survey is not None:
            self._survey.start()

    def leave(self) -> None:
        """Do nothing any more; the kernel stays as it is."""
        self._stop()
        self.pacer.leave()

    def _stop(self) -> None:
        self._restorer.stop()
        if self._survey is not None:
            self._survey.stop()
        self._done = None
        self._loop.call_at(_TIMER, None)

    def second(self) -> None:
        """Work if it is worth a wake-up. To be called every second."""
        if self.pacer.due():
            self.work()

    def work(self) -> None:
        """Begin what waits, unless something is under way."""
        if self.pacer.following and self.pacer.round is None and not self.pacer.at_full_speed:
            self.pacer.second(_size() if self.pacer.asks_size else None, self._surveyed)
            if not self.pacer.rests:
                self._soon()  # records of the active router come first

    def catch_up(self) -> None:
        """Let `caught_up` say when the kernel, at rest, has everything that is held now."""
        self.pacer.catch_up()

    @property
    def caught_up(self) -> bool:
        """Whether the kernel has everything that was held at the last `catch_up`."""
        return self.pacer.caught_up

    def retire(self, table: Cache) -> None:
        """Delete from the kernel what is only in this table, which is no longer held."""
        if self.pacer.retire(table):
            self._soon()

    def loses(self) -> None:
        """The kernel begins to delete entries by itself."""
        self.pacer.loses(_size())

    def refresh(self, table: Cache) -> None:
        """Set the timeouts of a table, which ran down in our kernel while it was a peer's."""
        if self.pacer.refresh(table):
            self._soon()

    def speed_up(self, on: bool) -> None:
        """The active may be dead: get ready at full speed. Or it is alive: back to rest."""
        if self.pacer.speed_up(on) and on:
            self.steps.clear()
            self._began = self._loop.now()
            self._soon()

    def complete(self, done: Callable[[], None], own: Lookup | None = None) -> None:
        """Call `done`, from the loop, when the kernel has everything that is held; `own`: see the pacer."""
        if not self.pacer.at_full_speed:
            self.steps.clear()
        self.pacer.complete(own, _size())
        self._began, self._done = self._loop.now(), done
        self._soon()

    # Steps

    @property
    def _surveyed(self) -> bool:
        return self._survey is None or self._survey.ready

    def _soon(self) -> None:
        self._loop.call_at(_TIMER, self._loop.now(), self._step)

    def _step(self, now: int) -> None:
        pacer = self.pacer
        what = pacer.round
        if what is None:
            was = pacer.at_full_speed
            what = pacer.next_round(_size() if pacer.plans_next else None, self._surveyed)
            if what is None:
                self._written(was)
                return
            self._begin(what)
        written = self._restorer.figures.entries
        if self._restorer.step():
            self._ended(what)
            if pacer.rests:
                return
        later = self._loop.now()
        wrote = self._restorer.figures.entries - written
        self._loop.call_at(
            _TIMER, later + pacer.pause(later - now, wrote, self._restorer.waiting), self._step
        )

    def _begin(self, what: Round) -> None:
        if what.what == DELETE:
            self._restorer.delete(self._deletions(what.keys))
        elif what.what == CREATE:
            self._restorer.restore(self._creations(what), what.known)
        else:
            chunks = self._builder.chunks(
                what.entries, established=self.established, purpose=TIMEOUT_ONLY, least=LEAST
            )
            self._restorer.touch(chunks)

    def _creations(self, what: Round) -> Iterator[Chunk]:
        yield from self._chunks(what.entries)
        for part in what.parts:
            yield from self._chunks(part) if part else (Chunk(b"", 1, []),)

    def _deletions(self, parts: Iterable[list[bytes]]) -> Iterator[Chunk]:
        for keys in parts:
            if keys and self._survey is not None and (used := self._survey.used(keys, self._builder)):
                self.kept += len(used)
                keys = [key for key in keys if key not in used]
            yield from self._builder.deletes(keys) if keys else (Chunk(b"", 1, []),)

    def _chunks(self, entries: Iterable[Entry]) -> Iterator[Chunk]:
        return self._builder.chunks(entries, established=self.established, least=LEAST)

    @property
    def _builder(self) -> Builder:
        if self.pacer.at_full_speed:
            return self._full
        what = self.pacer.round
        return self._large if what is not None and what.many else self._small

    def _ended(self, what: Round) -> None:
        self.pacer.ended(self._restorer.missing)
        figures = self._restorer.figures
        if not self.pacer.at_full_speed:
            self.refused += figures.failed
        elif what.what == CREATE and figures.entries:
            self._note(figures)

    def _written(self, at_full_speed: bool) -> None:
        """Nothing is left to write."""
        self._loop.call_at(_TIMER, None)
        if not at_full_speed:
            return
        if not self.steps or self.steps[-1]["speculative"] != (self._done is None):
            self._note(Figures())  # there was nothing left to do
        done, self._done = self._done, None
        if done is not None:
            done()

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
            "speculative": self._done is None,
        }
        self.steps.append(step)
        del self.steps[:-STEPS_KEPT]
        self._began = self.ended_at = now

    def status(self) -> dict[str, Any] | None:
        """Return how far the kernel is behind; None while it is not kept equal."""
        journal = self.pacer.journal
        if not self.pacer.following:
            return None
        return {
            "whole": self.pacer.whole,
            "waiting": self.pacer.waiting(self._restorer.figures.entries),
            "refused": self.refused,
            "kept": self.kept,
            "forgotten": journal.forgotten,
        }


def _size() -> Size | None:
    try:
        return table_size()
    except OSError:
        return None
