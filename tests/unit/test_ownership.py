# SPDX-License-Identifier: GPL-2.0-or-later
"""Ownership of connections: the stories that the rows of its tables make up."""

from __future__ import annotations

import pytest

from tandem.channel.events import (
    Event,
    Opened,
    PeerHandedOver,
)
from tandem.conntrack.record import DESTROY
from tandem.core.limits import (
    FORMER_LIMIT,
    FORMER_QUIET_LIMIT,
    LAST_RECORDS_LIMIT,
    LAST_RECORDS_SILENCE,
    STREAM_LIMIT,
    SURPLUS_LIMIT,
)
from tandem.core.timers import MILLISECOND, SECOND
from tandem.replication.ownership import (
    CatchUp,
    Complete,
    Follow,
    Leave,
    Look,
    Merged,
    Refresh,
    Restored,
    Retire,
    Silence,
    Stream,
)
from tests.unit.ownership_scene import ADOPTED, BEGUN, ENDED, GONE, WHOLE, Scene, nothing
from tests.unit.test_replication_cache import flow

# Taking over


def test_nobody_waits_for_a_dead_router() -> None:
    scene = Scene()
    scene.tells()
    assert scene.restore() == [Complete(False)]
    assert scene.completed(scene.now) == [Restored("G")]  # its session does not know yet
    assert scene.owns.state == "following"


def test_the_last_words_of_a_router_that_resigned() -> None:
    scene = Scene()
    scene.tells()
    scene.restore(handed_over=True)
    for _ in range(5):  # it goes on speaking
        assert scene.completed(scene.now) == []
        assert scene.owns.deadline == scene.now + LAST_RECORDS_SILENCE
        assert scene.after(LAST_RECORDS_SILENCE - 1) == []
        assert scene.after(1) == [Complete(False)]
    assert scene.completed(scene.now) == []
    assert scene.peer(ENDED) == [Complete(False)]  # what came last goes to the kernel first
    assert scene.completed() == [Restored("G")]
    assert scene.owns.deadline is None


def test_one_that_goes_on_with_another_group_says_when_it_has_told_all() -> None:
    scene = Scene()
    scene.tells()
    scene.restore(handed_over=True)
    assert scene.completed(scene.now) == []
    assert scene.peer(PeerHandedOver()) == [Complete(False)]
    assert scene.completed(scene.now) == [Restored("G")]
    scene.restore("H", handed_over=True)
    assert scene.completed(scene.now) == []  # that was about G


def test_it_may_say_so_before_we_take_over() -> None:
    scene = Scene()
    scene.tells()
    scene.peer(PeerHandedOver())
    scene.now += 900 * MILLISECOND  # the skew time
    scene.restore(handed_over=True)
    assert scene.completed(scene.now) == [Restored("G")]
    scene.peer(PeerHandedOver())
    scene.now += LAST_RECORDS_LIMIT
    scene.restore("H", handed_over=True)
    assert scene.completed(scene.now) == []  # that was too long ago


def test_the_path_was_what_it_lost() -> None:
    scene = Scene()
    scene.tells()
    scene.restore(handed_over=True)
    heard = scene.now - 900 * MILLISECOND
    assert scene.completed(heard) == []
    assert scene.after(LAST_RECORDS_SILENCE) == [Complete(False)]
    assert scene.completed(heard) == [Restored("G")]


def test_the_wait_is_bounded() -> None:
    scene = Scene()
    scene.tells()
    scene.restore(handed_over=True)
    began = scene.now
    while not (actions := scene.completed(scene.now)):  # it never ends
        deadline = scene.owns.deadline
        assert deadline is not None
        scene.now = deadline
        assert scene.after(0) == [Complete(False)]
    assert actions == [Restored("G")] and scene.now == began + LAST_RECORDS_LIMIT


def test_two_groups_and_one_that_became_active_without_us() -> None:
    scene = Scene()
    scene.restore("G")
    scene.restore("H")
    assert scene.completed() == [Restored("G"), Restored("H")]
    scene.restore("K", handed_over=True)
    assert scene.promote() == [Restored("K"), Leave(), Stream(False)]
    assert scene.owns.deadline is None


# Adopting


def test_the_one_table_that_is_held_is_our_own_when_we_become_active() -> None:
    scene = Scene()
    scene.tells(5)
    scene.peer(ENDED)
    assert scene.promote() == [Leave(), Stream(True)]
    assert scene.sizes() == (5, 0) and not scene.owns.in_step


def test_the_same_while_its_dead_owner_seems_to_stream() -> None:
    scene = Scene()
    scene.tells(5)
    assert scene.promote() == [Leave(), Stream(True)]
    assert scene.sizes() == (5, 0) and scene.owns.in_step
    told = scene.peer(GONE, heard=scene.now - 1)  # it was dead before
    assert [type(action) for action in told] == [Refresh] and scene.sizes() == (5, 0)


def test_its_last_digest_may_come_after_that() -> None:
    """It covers entries that are our own by then. The next digest is of a router that goes on to stream."""
    scene = Scene()
    scene.tells(5)
    scene.promote()
    held = scene.owns.held("P")
    assert held.digest() is None
    assert held.digest() == (0, bytes(8))


def test_what_comes_after_is_held_on_when_its_session_is_lost() -> None:
    scene = Scene()
    scene.tells(5)
    scene.promote()
    scene.hold(2, first=50)
    assert scene.peer(GONE, heard=scene.now + 1) == [] and scene.sizes() == (5, 2)


@pytest.mark.parametrize("why", ["two tables", "a table of our own", "it shares", "none"])
def test_else_the_kernel_is_looked_through(why: str) -> None:
    scene = Scene("P", "Q")
    if why != "none":
        scene.tells(5)
    if why == "two tables":
        scene.tells(2, "Q", first=50)
    elif why == "a table of our own":
        scene.owned(2)
    elif why == "it shares":
        scene.peer(PeerHandedOver(), name="P")
    promoted = scene.promote() or scene.after(STREAM_LIMIT)
    assert promoted == [Leave(), Stream(False)]
    assert scene.sizes()[0] == (2 if why == "a table of our own" else 0)


def test_an_offered_role_is_adopted_when_the_stream_of_the_former_active_ends() -> None:
    """It goes on until this router serves: what it tells meanwhile goes to the kernel, and is adopted too."""
    scene = Scene()
    scene.tells(5)
    scene.restore(handed_over=True)
    scene.peer(PeerHandedOver())
    assert scene.completed() == [Restored("G")]
    assert scene.promote() == [] and scene.owns.deadline == scene.now + STREAM_LIMIT
    scene.hold(2, first=50)
    assert scene.peer(ENDED) == [Leave(), Stream(True)]
    assert scene.sizes() == (7, 0) and scene.owns.deadline is None
    assert scene.demote() == [Silence(), Follow(False)]


def test_a_role_that_is_lost_before_that_changes_no_table() -> None:
    scene = Scene()
    scene.tells(5)
    scene.peer(PeerHandedOver())
    assert scene.promote() == scene.demote() == []
    assert scene.peer(ENDED) == [] and scene.owns.deadline is None and scene.sizes() == (0, 5)


def test_what_a_silent_peer_had_told_is_forgotten_when_we_are_active() -> None:
    scene = Scene("P", "Q")
    scene.tells(5)
    scene.tells(2, "Q", first=50)
    scene.peer(ENDED, name="Q")
    table = scene.owns.held("Q").cache
    scene.promote()
    assert dict(zip(scene.owns.peers, scene.sizes()[1:], strict=True)) == {"Q": 0, "P": 5}
    # A table of 300,000 entries that nobody refers to any more is freed in one turn of the loop, of 50 ms.
    assert scene.owns.held("Q").cache is table


def test_the_former_active_adopts_its_own_table_as_what_it_holds() -> None:
    scene = Scene()
    scene.promote()
    scene.owned(7)
    assert scene.owns.held("P").adopt() is False  # while active
    assert scene.demote() == [Silence(), Follow(False)]
    assert scene.owns.held("P").adopt() is True
    assert scene.sizes() == (0, 7)
    assert scene.peer(BEGUN, ADOPTED) == [Follow(True), CatchUp()]


def test_of_three_routers_none_adopts() -> None:
    scene = Scene("P", "Q")
    scene.owned(7)
    assert scene.owns.held("P").adopt() is False and scene.sizes()[0] == 7


def test_what_was_our_own_is_retired_when_the_next_active_has_told_all() -> None:
    scene = Scene()
    scene.promote()
    scene.owned(7)
    scene.demote()
    table = scene.owns.own.cache
    scene.peer(BEGUN)
    assert scene.peer(WHOLE) == [Retire(table), CatchUp()] and scene.sizes() == (0, 0)
    assert scene.peer(WHOLE) == [CatchUp()]


# Sharing and merging


def test_a_second_group_gets_what_is_held_beside_our_own() -> None:
    scene = Scene("P", "Q")
    scene.promote()
    scene.tells(5)
    scene.hold(2, "Q", first=50)
    table = scene.owns.held("Q").cache
    assert scene.restore() == [Complete(True)]
    scene.now += SECOND
    assert scene.completed(scene.now) == [Restored("G"), Leave(), Refresh(table), Look()]
    assert scene.sizes()[1:] == (5, 0) and scene.owns.peers["P"].taken_at == scene.now


def test_of_a_router_that_is_active_too_more_is_expected() -> None:
    scene = Scene()
    scene.promote()
    scene.tells(5)
    assert scene.owns.merge(nothing, False, scene.now) == [Complete(True)]
    assert scene.completed(scene.now) == [Look(), Merged(nothing)]  # the mirror goes on
    assert scene.sizes() == (0, 5)
    table = scene.owns.held("P").cache
    scene.peer(ENDED)
    assert not scene.owns.in_step
    assert scene.owns.merge(nothing, True, scene.now) == [Complete(True)]
    assert scene.completed() == [Leave(), Refresh(table), Look(), Merged(nothing)]
    assert scene.owns.merge(nothing, True, scene.now) == [Merged(nothing)]  # nothing is left


def test_all_who_asked_are_told_and_a_group_that_becomes_active_is_more() -> None:
    scene = Scene()
    scene.promote()
    scene.tells(5)
    later = list[str]().clear
    scene.owns.merge(nothing, False, scene.now)
    scene.owns.merge(later, False, scene.now)
    scene.restore()
    assert scene.owns.merge(nothing, False, scene.now) == [Merged(nothing)]  # that will do it
    assert scene.completed() == [Restored("G"), Leave(), Look(), Merged(nothing), Merged(later)]


def test_one_group_lost_while_another_one_waits() -> None:
    """The wait begins anew: its mirror was another one."""
    scene = Scene()
    scene.promote()
    scene.tells(5)
    scene.restore(handed_over=True)
    assert scene.demote() == [Silence(), Follow(False), Complete(False)]
    assert scene.completed() == [Restored("G")]


def test_nobody_is_told_of_a_merge_that_the_role_did_not_outlast() -> None:
    scene = Scene()
    scene.promote()
    scene.tells(5)
    scene.owns.merge(nothing, False, scene.now)
    scene.demote()
    assert scene.completed() == []
    scene.promote()
    scene.restore()
    assert Merged(nothing) not in scene.completed()


# Retiring


def test_both_were_active_and_the_other_one_had_the_time_to_learn_ours() -> None:
    scene = Scene()
    scene.promote()
    scene.owned(3)
    scene.tells(5)
    scene.demote()
    table = scene.owns.own.cache
    assert scene.owns.deadline == scene.now + SURPLUS_LIMIT
    assert scene.after(SURPLUS_LIMIT - 1) == []
    assert scene.after(1) == [Retire(table)]
    assert scene.owns.deadline is None


@pytest.mark.parametrize("event", [ENDED, GONE])
def test_our_own_table_stays_when_the_other_one_is_gone_by_then(event: Event) -> None:
    scene = Scene()
    scene.promote()
    scene.owned(3)
    scene.tells(5)
    scene.demote()
    scene.peer(event)
    assert scene.after(SURPLUS_LIMIT) == [] and scene.sizes() == (3, 5)


def test_a_new_role_makes_the_surplus_ours_again() -> None:
    scene = Scene()
    scene.promote()
    scene.owned(3)
    scene.tells(5)
    scene.demote()
    scene.promote()
    assert scene.owns.deadline is None and scene.sizes() == (3, 5)


@pytest.mark.parametrize("up", [True, False])
def test_what_a_former_router_told_is_held_until_another_one_has_told_all(up: bool) -> None:
    scene = Scene("P", "Q")
    scene.tells(5)
    scene.peer(ENDED if up else GONE, name="P")
    table = scene.owns.held("P").cache
    assert scene.seconds(100) == []  # nobody else streams
    scene.tells(2, "Q", first=50)
    assert scene.seconds(1) == [Retire(table)]
    assert scene.owns.peers["P"].state == "silent"


@pytest.mark.parametrize(("up", "limit"), [(True, FORMER_QUIET_LIMIT), (False, FORMER_LIMIT)])
def test_for_how_long(up: bool, limit: int) -> None:
    scene = Scene("P", "Q")
    scene.tells(5)
    scene.tells(2, "Q", first=50)
    scene.peer(ENDED if up else GONE, name="P")
    assert scene.seconds(limit // SECOND) == []  # since it was seen to be quiet
    assert len(scene.seconds(1)) == 1


def test_who_streams_again_is_quiet_no_more() -> None:
    scene = Scene("P", "Q")
    scene.tells(5)
    scene.tells(2, "Q", first=50)
    scene.peer(GONE, name="P")
    scene.seconds(60)
    scene.peer(Opened(), BEGUN, name="P")
    scene.seconds(1)
    scene.peer(GONE, name="P")
    assert scene.seconds(60) == [] and len(scene.seconds(1)) == 1


def test_an_active_router_forgets_what_a_peer_told_that_is_active_for_nothing() -> None:
    scene = Scene()
    scene.promote()
    scene.tells(5)
    scene.peer(ENDED)
    assert scene.seconds(60) == [] and scene.sizes() == (0, 5)
    assert scene.seconds(1) == [] and scene.sizes() == (0, 0)
    scene.tells(5)
    scene.peer(GONE, heard=scene.now)
    assert scene.seconds(300) == [] and scene.sizes() == (
        0,
        5,
    )  # it may be active for another group, and dead


def test_other_peers() -> None:
    scene = Scene("P", "Q")
    scene.tells(5)
    scene.tells(2, "Q", first=50)
    scene.peer(PeerHandedOver(), name="Q")
    table = scene.owns.held("P").cache
    assert scene.owns.forget_but(["Q", "R"]) == [Retire(table)]
    assert scene.owns.peers.keys() == {"Q"} and scene.owns.in_step
    assert scene.owns.peers["Q"].sharing  # its session goes on
    assert len(scene.owns.held("R").cache) == 0 and scene.owns.peers.keys() == {"Q", "R"}


def test_who_began_to_stream_last_is_believed_first() -> None:
    scene = Scene("P", "Q")
    scene.tells(1)
    assert list(scene.owns.peers) == ["P", "Q"]
    scene.tells(1, "Q")
    assert list(scene.owns.peers) == ["Q", "P"]
    scene.owns.held("P").apply_all([(DESTROY, flow(0)[0], b"")], 0)
    assert [len(table) for table in scene.owns.tables()] == [1, 0]
