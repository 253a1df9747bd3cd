# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables: what a session reads of our own, what it does to a held one, and how they change hands."""

from __future__ import annotations

from itertools import islice

from tandem.conntrack.record import NEW, Record
from tandem.replication.cache import SHARDS, Cache
from tandem.replication.tables import Held, Own
from tests.unit.test_replication_cache import SECOND, flow, rounds


def make() -> Cache:
    return Cache(1000, 1 << 20, hold=300)


def records(*numbers: int) -> list[Record]:
    return [(NEW, *flow(number)) for number in numbers]


def of(*numbers: int) -> Cache:
    """A table with these flows."""
    cache = make()
    cache.apply_all(records(*numbers), 0)
    return cache


def held(own: Own | None = None, may_adopt: bool = True) -> Held:
    return Held(own or Own(make), make, lambda: may_adopt)


def test_our_own_table_is_told_when_the_dump_has_ended() -> None:
    own = Own(make)
    own.cache.apply_all(records(1, 2), 0)
    own.cache.begin_bulk()
    slices = own.slices()
    assert list(islice(slices, 3)) == [[], [], []]
    own.cache.apply_all(records(2, 3), 0)
    own.cache.end_bulk()
    told = [entry for part in slices for entry in part]
    assert sorted(told) == sorted([flow(2), flow(3)])
    assert own.digest() is None, "the end of the first one is still to be told"
    assert own.cache.sweep(SHARDS) == [flow(1)[0]]
    assert own.digest() == of(2, 3).digest()


def test_a_bulk_replaces_the_held_table() -> None:
    table = held()
    table.apply_all(records(1, 2), 0)
    table.begin_bulk()
    table.apply_all(records(2, 3), 0)
    assert table.digest() == of(1, 2, 3).digest()
    table.end_bulk()
    assert table.digest() == of(2, 3).digest()


def test_a_bulk_that_is_broken_off_takes_nothing_away() -> None:
    table = held()
    table.apply_all(records(1, 2), 0)
    table.begin_bulk()
    table.abort_bulk()
    table.end_bulk()
    assert table.digest() == of(1, 2).digest()


def test_what_is_confirmed_is_held_on() -> None:
    confirmed, forgotten = held(), held()
    for table in (confirmed, forgotten):
        table.apply_all(records(1), 0)
    confirmed.confirm(400 * SECOND)
    for table in (confirmed, forgotten):
        rounds(table.cache, 401 * SECOND, 129)
    assert (len(confirmed.cache), len(forgotten.cache)) == (1, 0)


def test_adopting_takes_our_own_table_and_leaves_an_empty_one() -> None:
    own = Own(make)
    own.cache.apply_all(records(1, 2), 0)
    changed = held(own, may_adopt=False)
    assert changed.adopt() is False and len(changed.cache) == 0 and len(own.cache) == 2
    table = held(own)
    assert table.adopt() is True
    assert table.digest() == of(1, 2).digest() and own.digest() == of().digest()


def test_a_table_that_is_given_away_is_followed_by_an_empty_one() -> None:
    own, table = Own(make), held()
    for one in (own, table):
        one.cache.apply_all(records(1), 0)
        assert one.take().digest() == of(1).digest()
        assert one.digest() == of().digest()
        assert one.take() is not one.cache
