# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables: our own, as the kernel tells it, and the one that we hold of each peer.

When the roles turn round, tables change hands and no byte has to cross the network: what was held of
the peer has been restored and is our own now, and what was our own is what we hold of the peer.
"""

from __future__ import annotations

from collections.abc import Iterator

from tandem.conntrack.record import Record
from tandem.replication.cache import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.conntrack.record import Entry

    Digest = tuple[int, bytes]


class Own:
    """Our own table has the flows of this router's kernel: the `stream.Source` of every session."""

    def __init__(self, make: Callable[[], Cache]) -> None:
        self._make = make
        self.cache = make()

    def slices(self) -> Iterator[list[Entry]]:
        """Yield all entries, some at a time, while the table changes; none while a dump goes on.

        Before the dump ends, this table may lack flows that the peers hold, and would discard.
        """
        while self.cache.in_bulk:
            yield []
        yield from self.cache.slices()

    def digest(self) -> Digest | None:
        """Return the digest that the peer's table must have; None while ends are still to be told."""
        return None if self.cache.sweeping else self.cache.digest()

    def take(self) -> Cache:
        """Give the table away and begin with an empty one."""
        taken, self.cache = self.cache, self._make()
        return taken


class Held:
    """A held table has the flows that one peer has told: the `stream.Store` of its session."""

    def __init__(self, own: Own, make: Callable[[], Cache], may_adopt: Callable[[], bool]) -> None:
        self.cache = make()
        self._make = make
        self._own = own
        self._may_adopt = may_adopt
        self._became_own = False  # the peer's next digest may cover entries that are our own now

    def apply_all(self, records: list[Record], now: int) -> None:
        """Apply changes of the peer's table, in this order."""
        self.cache.apply_all(records, now)

    def begin_bulk(self) -> None:
        """Begin a bulk: entries that do not come before `end_bulk` are stale."""
        self._became_own = False
        self.cache.begin_bulk()

    def end_bulk(self) -> None:
        """End the bulk: forget stale entries."""
        self.cache.end_bulk()

    def abort_bulk(self) -> None:
        """Forget the bulk, which was broken off: no entry is stale."""
        self.cache.abort_bulk()

    def confirm(self, now: int) -> None:
        """The peer's table equals ours."""
        self.cache.confirm(now)

    def adopt(self) -> bool:
        """Hold what was our own table; False: it has changed since our stream stopped."""
        if not self._may_adopt():
            return False
        self.cache = self._own.take()
        self._became_own = False
        return True

    def digest(self) -> Digest | None:
        """Return the digest to compare with the peer's; None, once, after `become_own`.

        The last digest of a peer that gave its role up may come after that, and covers what is our own now. A
        peer that goes on to stream sends another one, which does not match, and then a bulk.
        """
        became_own, self._became_own = self._became_own, False
        return None if became_own else self.cache.digest()

    def clear(self) -> None:
        """Forget all entries; their memory is freed little by little, for 300,000 of them take 50 ms."""
        self.cache.clear()

    def become_own(self) -> None:
        """Make the held table our own, which was empty, and go on with an empty one."""
        self._own.cache, self.cache = self.cache, self._own.cache
        self._became_own = True

    def take(self) -> Cache:
        """Give the table away and begin with an empty one."""
        taken, self.cache = self.cache, self._make()
        return taken
