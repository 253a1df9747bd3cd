# SPDX-License-Identifier: GPL-2.0-or-later
"""The pacer works through the journal: which entries the kernel gets and loses."""

from __future__ import annotations

import pytest

from tandem.conntrack.record import DESTROY, NEW, UPDATE
from tandem.replication.cache import Cache
from tandem.replication.pacer import (
    CREATE,
    DELETE,
    LOSING,
    ROUND,
    TOUCH,
    WAIT,
)
from tests.unit.pacer_scene import Scene
from tests.unit.test_replication_cache import flow


def test_the_kernel_follows() -> None:
    scene = Scene()
    scene.hold(*range(50))
    scene.second()
    assert scene.equal() and len(scene.kernel) == 50 and scene.pacer.caught_up
    scene.hold(*range(10), op=UPDATE, state=4)
    scene.hold(*range(20, 30), op=DESTROY)
    scene.hold(100, 101)
    scene.hold(101, op=DESTROY)  # come and gone between two looks
    assert scene.journal.waiting == 21
    scene.second()
    assert scene.equal() and len(scene.kernel) == 41 and scene.journal.waiting == 0


def test_what_has_ended_goes_first_and_what_is_known_comes_last() -> None:
    scene = Scene()
    scene.hold(*range(10))
    scene.second()
    scene.pacer.second(scene.size(), True)
    scene.rounds.clear()
    scene.hold(1, op=DESTROY)
    scene.hold(2, op=UPDATE, state=5)
    scene.hold(20)
    scene.second()
    assert [what for what in scene.rounds if what != TOUCH] == [DELETE, CREATE, CREATE]
    scene.hold(3, op=UPDATE, state=5)
    scene.hold(21)
    scene.pacer.second(scene.size(), True)
    found = [one for one in scene.write() if one.what == CREATE]
    assert [one.known for one in found] == [False, True]


def test_all_entries_are_touched_once_a_round_and_what_is_lost_comes_back() -> None:
    scene = Scene()
    scene.hold(*range(300))
    scene.second()
    lost = [key for key, _ in (flow(7), flow(8))]
    for key in lost:
        del scene.kernel[key]
    scene.second(ROUND + 1)
    assert scene.equal()


@pytest.mark.parametrize("waited", [0, 1, LOSING - 1, LOSING])
def test_a_takeover_brings_back_what_the_kernel_has_deleted_with_a_device(waited: int) -> None:
    """Few of many, so that the size of the table does not show it, and nobody knows when it has ended."""
    scene = Scene()
    scene.hold(*range(2000))
    scene.second(ROUND)
    scene.pacer.loses(scene.size())
    for number, key in enumerate(list(scene.kernel)[:20]):
        del scene.kernel[key]
        if number == 10:
            scene.wait(waited)
    scene.pacer.complete(None, scene.size())
    scene.write()
    assert scene.equal() is (waited < LOSING) and not scene.pacer.completing
    scene.rounds.clear()
    scene.pacer.complete(None, scene.size())
    scene.write()
    assert TOUCH not in scene.rounds  # this takeover waits for nothing


@pytest.mark.parametrize("known", [True, False])
def test_a_takeover_does_not_wait_when_the_size_of_the_table_shows_no_loss(known: bool) -> None:
    """A role that comes back soon: the entries were restored, and are not of the device that went."""
    scene = Scene(follow=False)
    scene.hold(*range(2000))
    scene.kernel = {key: body for part in scene.tables[0].slices() for key, body in part}
    scene.kernel |= {b"of our own": b""}
    scene.pacer.loses(scene.size() if known else None)  # the role goes: the device first
    scene.pacer.follow(whole=True)
    scene.hold(3000)
    scene.hold(5, op=DESTROY)
    scene.pacer.complete(None, scene.size())
    scene.write()
    assert (TOUCH in scene.rounds) is not known and len(scene.kernel) == 2001


def test_what_the_kernel_has_deleted_with_a_device_is_back_when_that_has_ended() -> None:
    scene = Scene()
    scene.hold(*range(2000))
    scene.second(ROUND)
    scene.pacer.loses(scene.size())
    scene.wait(LOSING - 1)
    for key in list(scene.kernel)[:20]:
        del scene.kernel[key]
    scene.wait(1 + WAIT)
    assert scene.equal()


def test_what_waits_to_be_written_is_not_touched() -> None:
    scene = Scene()
    scene.hold(*range(20))
    scene.second()
    scene.pacer.follow(whole=True)
    scene.hold(*range(20, 30))
    scene.hold(5, op=UPDATE, state=5)
    found = scene.pacer.next_round(scene.size(), True)
    assert found is not None and found.what == TOUCH
    assert {key for key, _ in found.entries} == {flow(number)[0] for number in range(20) if number != 5}


def test_a_table_that_was_flushed_is_written_again() -> None:
    scene = Scene()
    scene.hold(*range(100))
    scene.second()
    scene.kernel.clear()
    scene.second()
    assert scene.equal()
    for key in list(scene.kernel)[:12]:  # an eighth may be missing
        del scene.kernel[key]
    scene.pacer.second(scene.size(), True)
    assert scene.journal.whole
    del scene.kernel[next(iter(scene.kernel))]
    scene.pacer.second(scene.size(), True)
    assert not scene.journal.whole


@pytest.mark.parametrize(("missing", "noticed"), [(4, False), (5, True)])
def test_of_a_small_table_four_may_be_missing(missing: int, noticed: bool) -> None:
    scene = Scene()
    scene.hold(*range(10))
    scene.second()
    for key in list(scene.kernel)[:missing]:
        del scene.kernel[key]
    scene.pacer.complete(None)
    scene.write()
    assert scene.equal() is noticed


def test_what_the_kernel_does_not_take_is_not_offered_every_second() -> None:
    scene = Scene()
    scene.hold(*range(100))
    scene.second()
    scene.kernel.clear()
    scene.pacer.second(scene.size(), True)
    scene.write()
    scene.kernel.clear()  # it refused them all
    scene.refuses, scene.offered = True, 0
    scene.second(5)
    assert scene.journal.whole and scene.offered <= 300  # not 500, though a touch has found some missing


@pytest.mark.parametrize(("entries", "crowded"), [(75, False), (76, True)])
def test_a_kernel_that_is_nearly_full_is_left_room(entries: int, crowded: bool) -> None:
    scene = Scene()
    scene.second()
    scene.hold(1, 2)
    scene.pacer.catch_up()
    scene.pacer.second((entries, 100), True)
    scene.write()
    assert (not scene.kernel) is crowded and scene.pacer.caught_up is not crowded
    scene.pacer.complete(None)  # a takeover does not ask for room
    assert scene.pacer.next_round((entries, 100), True) is not None or not crowded


def test_a_kernel_that_is_nearly_full_has_everything_when_nothing_is_left_to_write() -> None:
    scene = Scene()
    scene.second()
    scene.pacer.catch_up()
    scene.pacer.second((100, 100), True)
    scene.write()
    assert scene.pacer.caught_up
    scene.hold(1, 2)
    scene.journal.start(whole=False)
    scene.pacer.second((76, 100), True)
    scene.write()
    assert not scene.kernel and not scene.pacer.caught_up  # all is left to write


@pytest.mark.parametrize("size", [None, (1_000_000, 0)])
def test_who_does_not_know_the_size_writes(size: tuple[int, int] | None) -> None:
    scene = Scene()
    scene.hold(1, 2)
    scene.pacer.second(size, True)
    scene.write()
    assert scene.equal()


def test_nothing_is_deleted_before_the_survey_is_ready_unless_somebody_waits() -> None:
    scene = Scene()
    scene.hold(1, 2)
    scene.second()
    scene.ready = False
    scene.hold(1, op=DESTROY)
    scene.second()
    assert len(scene.kernel) == 2
    scene.pacer.speed_up(True)
    scene.write()
    assert scene.equal()


def test_a_retired_table_leaves_the_kernel_but_for_what_is_held() -> None:
    scene = Scene(2)
    scene.hold(*range(100))
    scene.second()
    scene.hold(*range(50, 150), table=1)
    retired, scene.tables[0] = scene.tables[0], Cache(1000, 1 << 20, journal=scene.journal)
    assert scene.pacer.retire(retired) and not scene.pacer.retire(Cache(1, 1))
    scene.write()
    scene.second()
    assert scene.equal() and len(scene.kernel) == 100
    scene.pacer.leave()
    assert not scene.pacer.retire(retired)


def test_no_retired_table_leaves_the_kernel_before_the_survey_is_ready() -> None:
    scene = Scene(2)
    scene.hold(1, 2)
    scene.second()
    retired, scene.tables[0] = scene.tables[0], Cache(1000, 1 << 20, journal=scene.journal)
    scene.ready = False
    scene.pacer.retire(retired)
    scene.second(2)
    assert len(scene.kernel) == 2
    scene.ready = True
    scene.second()
    assert scene.equal()


def test_an_entry_of_a_retired_table_that_ends_elsewhere_leaves_the_kernel() -> None:
    """The kernel had the entry, though it was new in the other table."""
    scene = Scene(2)
    scene.hold(5)
    scene.second()
    retired, scene.tables[0] = scene.tables[0], Cache(1000, 1 << 20, journal=scene.journal)
    scene.hold(5, table=1)
    scene.pacer.retire(retired)
    scene.pacer.second(scene.size(), True)
    [found] = scene.write(1)
    assert found.what == DELETE and len(scene.kernel) == 1  # it is held
    scene.hold(5, table=1, op=DESTROY)
    scene.second()
    assert not scene.kernel


@pytest.mark.parametrize("leaves", [True, False])
def test_a_new_role_begins_with_nothing_planned(leaves: bool) -> None:
    scene = Scene()
    scene.hold(1)
    scene.second()
    scene.pacer.refresh(scene.tables[0])
    scene.pacer.retire(scene.tables[0])
    scene.pacer.speed_up(True)
    assert scene.pacer.plans_next is False and scene.pacer.caught_up
    scene.pacer.complete(scene.kernel.get)
    if leaves:
        scene.pacer.leave()
    else:
        scene.pacer.follow(whole=False)
    assert scene.pacer.following is not leaves and scene.journal.on is not leaves
    assert not (scene.pacer.at_full_speed or scene.pacer.completing or scene.pacer.caught_up)
    assert not scene.pacer.plans_next
    left = scene.pacer.next_round(scene.size(), True)
    assert left is None or (left.what == TOUCH and not list(left.entries))
    scene.pacer.follow(whole=False)
    scene.kernel.clear()
    scene.second()
    assert scene.equal() and len(scene.kernel) == 1  # no lookup of an active router is left


def test_what_comes_while_something_else_is_to_be_written_may_be_in_the_kernel() -> None:
    """Its end is written then. While only changed entries wait, what comes is none of them."""
    scene = Scene(2)
    scene.hold(*range(10))
    scene.second()
    scene.hold(3, op=UPDATE, state=5)
    scene.hold(21)
    scene.pacer.second(scene.size(), True)
    scene.write(1)
    assert not scene.journal.unsure
    scene.hold(22)
    scene.hold(22, op=DESTROY)
    assert flow(22)[0] not in scene.journal.gone
    scene.write()
    scene.hold(4, op=DESTROY)
    scene.hold(23)
    scene.pacer.second(scene.size(), True)
    scene.write(1)
    assert scene.journal.unsure  # a round that creates waits
    scene.write()
    assert not scene.journal.unsure
    scene.pacer.retire(scene.tables[0])
    scene.pacer.ended([])
    assert scene.journal.unsure


def test_there_is_nothing_to_do_at_the_beginning() -> None:
    scene = Scene(follow=False)
    assert scene.pacer.next_round(scene.size(), True) is None and not scene.pacer.caught_up
    scene.pacer.follow(whole=False)
    assert scene.pacer.next_round(scene.size(), True) is None and not scene.pacer.caught_up


def test_what_has_changed_does_not_lack() -> None:
    """The kernel has it as it was before; what is new it can't have."""
    scene = Scene()
    scene.hold(*range(100))
    scene.second()
    scene.hold(*range(30), op=UPDATE, state=4)
    scene.pacer.second(scene.size(), True)
    assert scene.journal.whole
    scene.write()
    scene.hold(*range(200, 250))
    scene.pacer.second(scene.size(), True)
    assert scene.journal.whole


def test_of_a_flow_in_several_tables_the_first_one_counts() -> None:
    scene = Scene(3)
    for table in (2, 1, 0):
        scene.hold(*range(40 * table, 40 * table + 60), table=table, state=3 + table)
    scene.pacer.complete(None)
    scene.write()
    assert scene.equal() and len(scene.kernel) == 140


def test_beside_an_active_group_only_news_is_written_and_nothing_of_ours_is_deleted() -> None:
    scene = Scene(follow=False)
    ours = dict([flow(1, state=3), flow(2, state=7), flow(3, state=3)])
    scene.kernel.update(ours)
    scene.hold(1, 2, 3, 4)  # 2 has got further here
    scene.hold(3, op=UPDATE, state=5)
    scene.pacer.complete(ours.get)
    assert scene.pacer.completing and scene.pacer.at_full_speed
    scene.write()
    assert scene.kernel == ours | dict([flow(3, state=5), flow(4)])
    assert not scene.pacer.completing and not scene.pacer.at_full_speed
    scene.pacer.complete(ours.get)
    scene.hold(1, 4, op=DESTROY)
    scene.write()
    assert flow(1)[0] in scene.kernel and flow(4)[0] not in scene.kernel


def test_refreshed_entries_are_touched() -> None:
    scene = Scene(follow=False)
    table = Cache(100, 1 << 20)
    table.apply_all([(NEW, *flow(1))], 0)
    assert scene.pacer.refresh(table) and not scene.pacer.refresh(Cache(1, 1))
    found = scene.pacer.next_round(scene.size(), True)
    assert found is not None and found.what == TOUCH and list(found.entries) == [flow(1)]


def test_a_change_of_what_only_an_older_table_holds_is_written() -> None:
    scene = Scene(2)
    scene.hold(*range(10), table=1)
    scene.second()
    scene.hold(3, table=1, op=UPDATE, state=5)
    scene.hold(30, table=1)
    scene.hold(40, table=0)
    scene.second()
    assert scene.equal() and len(scene.kernel) == 12
