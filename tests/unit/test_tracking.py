# SPDX-License-Identifier: GPL-2.0-or-later
"""The weights of trackers, by keepalived.conf(5)."""

from __future__ import annotations

import pytest

from tandem.core.settings import Track
from tandem.core.tracking import Tracking


def known(*tracks: tuple[Track, bool | None]) -> Tracking:
    tracking = Tracking(track for track, _ in tracks)
    for track, up in tracks:
        if up is not None:
            tracking.update(track.kind, track.name, up)
    return tracking


@pytest.mark.parametrize(
    ("weight", "reverse", "up", "priority", "faulty", "pending"),
    [
        (0, False, None, 100, False, True),
        (0, False, True, 100, False, False),
        (0, False, False, 100, True, False),
        (0, True, None, 100, False, True),
        (0, True, True, 100, True, False),
        (0, True, False, 100, False, False),
        (20, False, None, 100, False, False),
        (20, False, True, 120, False, False),
        (20, False, False, 100, False, False),
        (20, True, True, 100, False, False),
        (20, True, False, 120, False, False),
        (-20, False, None, 100, False, False),
        (-20, False, True, 100, False, False),
        (-20, False, False, 80, False, False),
        (-20, True, True, 80, False, False),
        (-20, True, False, 100, False, False),
    ],
)
def test_one_tracker(
    weight: int, reverse: bool, up: bool | None, priority: int, faulty: bool, pending: bool
) -> None:
    tracking = known((Track("script", "chk", weight, reverse), up))
    assert tracking.priority(100) == priority
    assert tracking.faults == (("script chk down",) if faulty else ())
    assert tracking.pending == (("script chk",) if pending else ())
    assert tracking.up(tracking.tracks[0]) is up


@pytest.mark.parametrize(
    ("base", "weights", "priority"),
    [
        (100, (10, 20), 130),
        (100, (10, -30), 80),
        (250, (10,), 254),  # 255 is the owner's alone
        (5, (-10,), 1),  # 0 means goodbye
        (254, (100, -100), 254),  # limited once, at the end
        (255, (-100,), 255),  # the owner stays the owner
    ],
)
def test_weights_add_up(base: int, weights: tuple[int, ...], priority: int) -> None:
    tracking = known(*((Track("script", f"chk{i}", weight), weight > 0) for i, weight in enumerate(weights)))
    assert tracking.priority(base) == priority
    assert tracking.changes == tuple((f"script chk{i}", weight) for i, weight in enumerate(weights))


def test_interface_and_script_of_one_name_are_two_things() -> None:
    tracking = known((Track("interface", "wan"), True), (Track("script", "wan"), False))
    assert tracking.faults == ("script wan down",)


def test_what_is_not_tracked_is_ignored() -> None:
    tracking = known((Track("interface", "lan"), True))
    tracking.update("interface", "wan", False)
    tracking.update("script", "lan", False)
    assert (tracking.faults, tracking.changes, tracking.pending) == ((), (), ())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_object_tracked_twice_counts_once_and_a_fault_wins(order: tuple[int, int]) -> None:
    tracks = (Track("script", "chk", 0), Track("script", "chk", -20))
    tracking = Tracking(tracks[i] for i in order)
    tracking.update("script", "chk", False)
    assert len(tracking.tracks) == 1
    assert tracking.faults == ("script chk down",)
    assert tracking.priority(100) == 100


def test_the_same_weight_for_two_members_counts_once() -> None:
    tracking = known((Track("script", "chk", -20), False), (Track("script", "chk", -20), False))
    assert tracking.priority(100) == 80


def test_replace_keeps_what_is_known_of_what_stays() -> None:
    tracking = known((Track("script", "chk", -20), False), (Track("interface", "lan"), False))
    tracking.replace([Track("script", "chk", -30), Track("interface", "wan")])
    assert tracking.priority(100) == 70
    assert tracking.faults == ()
    assert tracking.pending == ("interface wan",)
    tracking.replace([Track("interface", "lan")])
    assert tracking.pending == ("interface lan",), "what was dropped is forgotten"
