# SPDX-License-Identifier: GPL-2.0-or-later
"""The pace of the pacer: how soon entries are written, and how far the kernel is behind."""

from __future__ import annotations

from tandem.conntrack.record import DESTROY, UPDATE
from tandem.core.timers import MILLISECOND
from tandem.replication.pacer import (
    CREATE,
    ENOUGH,
    FEW,
    LEAST,
    MANY,
    ROUND,
    TOUCH,
    WAIT,
)
from tests.unit.pacer_scene import Scene
from tests.unit.test_replication_cache import flow


def test_a_flood_takes_more_entries_a_step() -> None:
    for count in (MANY - 1, MANY):
        scene = Scene()
        scene.second()
        scene.hold(*range(count))
        scene.pacer.second(scene.size(), True)
        (found,) = [one for one in scene.write() if one.what == CREATE]
        assert found.many is (count >= MANY)


def test_many_entries_take_half_of_the_time_while_that_is_enough() -> None:
    scene = Scene()
    scene.second()
    scene.hold(*range(MANY))
    scene.pacer.second(scene.size(), True)
    assert scene.pacer.pause(MILLISECOND, 100, False) == 4 * MILLISECOND, "nothing is under way"
    assert scene.pacer.next_round(scene.size(), True) is not None
    for first, count, pause in (5000, 500, 1), (6000, 501, 4), (7000, 0, 1):
        scene.pacer.due()  # a second is over
        scene.hold(*range(first, first + count))
        scene.pacer.due()
        assert scene.pacer.pause(MILLISECOND, 1, False) == pause * MILLISECOND, f"{count} came in a second"
    scene.pacer.ended(())
    assert scene.pacer.pause(MILLISECOND, 10, False) == 4 * MILLISECOND


def test_the_kernel_is_behind_until_a_round_has_ended() -> None:
    """The journal forgets what a round takes: 300,000 entries were told as written 30 s before they were."""
    scene = Scene()
    scene.hold(*range(10))
    scene.pacer.follow(whole=False)
    assert not scene.pacer.whole
    scene.pacer.second(scene.size(), True)
    walk = scene.pacer.next_round(scene.size(), True)
    assert walk is not None and walk.what == CREATE and scene.journal.whole
    assert not scene.pacer.whole and scene.pacer.waiting(written=4) == 6
    scene.kernel.update(walk.entries)
    scene.pacer.ended(())
    assert scene.pacer.whole and scene.pacer.waiting(written=0) == 0
    scene.hold(*range(20, 25))
    scene.hold(3, op=UPDATE, state=5)
    assert scene.pacer.waiting(written=0) == 6
    scene.pacer.second(scene.size(), True)
    while (found := scene.pacer.next_round(scene.size(), True)) is not None and found.what != CREATE:
        scene.pacer.ended(())
    assert scene.pacer.whole and scene.pacer.waiting(written=2) == 4, "three new ones, and a changed one"
    scene.pacer.ended(())
    assert scene.pacer.waiting(written=0) == 1
    scene.pacer.leave()
    assert scene.pacer.waiting(written=0) == 0


def test_a_step_touches_some_shards_only() -> None:
    scene = Scene()
    scene.hold(*range(FEW + 1))
    scene.kernel.update(map(flow, range(FEW + 1)))
    scene.pacer.follow(whole=True)
    scene.pacer.second(scene.size(), True)
    assert len(scene.write()) == 64
    scene.hold(0, op=DESTROY)
    scene.pacer.follow(whole=True)  # this forgets the end
    scene.pacer.second(scene.size(), True)
    assert [one.what for one in scene.write()] == [TOUCH], "a few are touched at once"
    scene.pacer.second(scene.size(), True)
    assert len(scene.write()) == 1  # a ROUNDth of them is due


def test_a_mirror_that_has_nothing_to_do_rests() -> None:
    """A router spends its life there: no step wakes it, and nobody asks for the size of the table."""
    scene = Scene()
    scene.second(2)
    assert scene.pacer.rests and scene.pacer.caught_up and not scene.pacer.asks_size
    scene.hold(1)
    assert scene.pacer.asks_size
    scene.pacer.second(scene.size(), True)
    assert not scene.pacer.rests
    scene.write()
    assert scene.pacer.rests and scene.pacer.caught_up
    scene.pacer.catch_up()
    assert not scene.pacer.caught_up
    scene.second()
    assert scene.pacer.caught_up


def test_the_pauses() -> None:
    pacer = Scene().pacer
    assert pacer.pause(MILLISECOND, 0, False) == 4 * MILLISECOND  # it takes a fifth of the time
    assert pacer.pause(MILLISECOND, 0, True) == 2 * MILLISECOND
    assert pacer.speed_up(True) and not pacer.speed_up(True)
    assert pacer.pause(MILLISECOND, 0, False) == 0
    assert pacer.speed_up(False) and not pacer.at_full_speed
    pacer.complete(None)
    assert not pacer.speed_up(False) and pacer.at_full_speed
    pacer.leave()
    assert not pacer.speed_up(True)


def test_no_part_is_larger_than_a_step() -> None:
    scene = Scene()
    scene.hold(*range(513))
    scene.second()
    scene.hold(*range(513), op=DESTROY)
    scene.pacer.second(scene.size(), True)
    found = scene.pacer.next_round(scene.size(), True)
    assert found is not None and [len(keys) for keys in found.keys] == [256, 256, 1]


def test_few_changes_wait_for_others() -> None:
    """Each write is some wakes of the loop, whether there is one entry or a hundred."""
    scene = Scene()
    scene.hold(*range(10))
    assert scene.pacer.due(), "the kernel was never equal"
    scene.second()
    scene.hold(20)
    assert [scene.pacer.due() for _ in range(WAIT)] == [False] * (WAIT - 1) + [True]
    scene.second()
    assert scene.equal()
    scene.hold(*range(100, 100 + ENOUGH))
    assert scene.pacer.due(), "a takeover would take long"
    scene.second()
    scene.hold(21)
    scene.pacer.catch_up()
    assert scene.pacer.due(), "who wants to preempt waits for it"
    scene.second()
    scene.hold(22)
    [table] = scene.tables
    scene.pacer.retire(table)
    assert scene.pacer.due()


def test_all_is_touched_in_a_round_however_seldom_the_pacer_works() -> None:
    scene = Scene()
    scene.hold(*range(1000))
    scene.second()
    touched: set[bytes] = set()
    for _ in range(ROUND + WAIT):
        if scene.pacer.due():
            scene.pacer.second(scene.size(), True)
            while (found := scene.pacer.next_round(scene.size(), True)) is not None:
                touched.update(key for key, _ in found.entries)
                scene.pacer.ended(())
    assert touched == scene.kernel.keys()


def test_it_has_caught_up_when_the_last_round_has_ended_and_not_before() -> None:
    scene = Scene()
    scene.hold(*range(10))
    scene.second()
    scene.pacer.catch_up()
    scene.hold(1, op=DESTROY)
    scene.hold(20)
    scene.pacer.second(scene.size(), True)
    while scene.pacer.next_round(scene.size(), True) is not None:
        assert not scene.pacer.caught_up and not scene.pacer.rests
        scene.pacer.ended(())
        if scene.pacer.rests:
            break
    assert scene.pacer.caught_up and scene.pacer.rests


def test_how_long_things_take_at_rest() -> None:
    """The figures of the docstring in the units that a person counts in."""
    scene = Scene()
    scene.hold(*range(10))
    scene.second()
    scene.hold(20)
    assert [scene.pacer.due() for _ in range(5)] == [False] * 4 + [True], "seconds until a change is written"
    scene.second()
    scene.hold(*range(100, 100 + 511))
    assert not scene.pacer.due()
    scene.hold(999)
    assert scene.pacer.due(), "512 changes do not wait"
    assert scene.pacer.pause(1 * MILLISECOND, 0, waiting=False) == 4 * MILLISECOND, "a fifth of the time"
    assert LEAST == 300 and ROUND == 120, "an entry is touched twice, and more, before it may run out"
