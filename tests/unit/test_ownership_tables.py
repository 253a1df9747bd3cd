# SPDX-License-Identifier: GPL-2.0-or-later
"""Ownership of connections: every row of its two tables."""

from __future__ import annotations

from itertools import product

import pytest

from tandem.channel.events import (
    Event,
    HeldOutOfStep,
)
from tandem.replication.ownership import (
    ACTIVE,
    HOLDING,
    TRANSITIONS,
    Action,
    Complete,
    Follow,
    Leave,
    Look,
    Merged,
    Ownership,
    Restored,
    Retire,
    Silence,
    Stream,
)
from tests.unit.ownership_scene import ADOPTED, BEGUN, ENDED, GONE, WHOLE, Scene, nothing

STATES = sorted({state for state, _ in TRANSITIONS})

ROWS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("following", "restore"): ("restoring", ("complete",)),
    ("following", "merge"): ("following", ("merged",)),
    ("following", "adopted"): ("following", ("follow_whole",)),
    ("following", "told"): ("following", ("retire_own",)),
    ("following", "promoted"): ("owning", ("adopt",)),
    ("restoring", "restore"): ("restoring", ("complete",)),
    ("restoring", "complete"): ("following", ("restored",)),
    ("restoring", "pending"): ("waiting", ()),
    ("restoring", "merge"): ("restoring", ("merged",)),
    ("restoring", "adopted"): ("restoring", ("follow_whole", "complete")),
    ("restoring", "told"): ("restoring", ("retire_own",)),
    ("restoring", "promoted"): ("owning", ("restored", "adopt")),
    ("waiting", "restore"): ("restoring", ("complete",)),
    ("waiting", "spoken"): ("restoring", ("complete",)),
    ("waiting", "merge"): ("waiting", ("merged",)),
    ("waiting", "adopted"): ("restoring", ("follow_whole", "complete")),
    ("waiting", "told"): ("waiting", ("retire_own",)),
    ("waiting", "promoted"): ("owning", ("restored", "adopt")),
    ("owning", "restore"): ("sharing", ("complete",)),
    ("owning", "merge"): ("merging", ("complete",)),
    ("owning", "demoted"): ("following", ("disown",)),
    ("sharing", "restore"): ("sharing", ("complete",)),
    ("sharing", "complete"): ("owning", ("restored", "share", "merged")),
    ("sharing", "pending"): ("listening", ()),
    ("sharing", "demoted"): ("restoring", ("disown", "complete")),
    ("listening", "restore"): ("sharing", ("complete",)),
    ("listening", "spoken"): ("sharing", ("complete",)),
    ("listening", "demoted"): ("restoring", ("disown", "complete")),
    ("merging", "restore"): ("sharing", ("complete",)),
    ("merging", "complete"): ("owning", ("share", "merged")),
    ("merging", "merge"): ("merging", ("complete",)),
    ("merging", "demoted"): ("following", ("disown",)),
}


def in_state(state: str) -> Scene:
    """A router in this state, by what brings it there."""
    scene = Scene()
    if state in ACTIVE:
        scene.promote()
    scene.tells(3)
    if state in ("restoring", "waiting", "sharing", "listening"):
        scene.restore(handed_over=state in ("waiting", "listening"))
    if state in ("waiting", "listening"):
        scene.completed(scene.now)
    if state == "merging":
        scene.owns.merge(nothing, False, scene.now)
    assert scene.owns.state == state
    return scene


def happen(scene: Scene, event: str) -> list[Action]:
    """Let this event of the table come about."""
    owns, now = scene.owns, scene.now
    if event == "restore":
        return owns.restore("H", False, now)
    if event == "complete":
        return owns.completed(now, ())
    if event == "pending":
        owns._handed_at = now
        return owns.completed(now, (now,))
    if event == "spoken":
        return owns.peer("P", ENDED, now)
    if event == "merge":
        return owns.merge(nothing, False, now)
    if event in ("adopted", "told"):
        return owns.peer("P", ADOPTED if event == "adopted" else WHOLE, now)[:-1]
    return owns.promoted(now) if event == "promoted" else owns.demoted(now)


def test_the_tables() -> None:
    assert TRANSITIONS == ROWS
    assert {row: HOLDING.get(row, row[0]) for row in BECOMES} == BECOMES
    assert HOLDING.keys() <= BECOMES.keys()


@pytest.mark.parametrize("row", sorted(ROWS), ids="-".join)
def test_every_row(row: tuple[str, str]) -> None:
    state, event = row
    following, steps = ROWS[row]
    scene = in_state(state)
    scene.owned(2)
    groups = [*scene.owns._groups, *(["H"] if event == "restore" else [])]
    actions = happen(scene, event)
    assert scene.owns.state == following
    expected: dict[str, list[type]] = {
        "complete": [Complete],
        "restored": [Restored] * len(groups),
        "merged": [Merged] * (state == "merging" or event == "merge"),
        "follow_whole": [Follow],
        "retire_own": [Retire],
        "adopt": [Leave, Stream],
        "share": [*([Leave] if state != "merging" else []), Look],
        "disown": [Silence, Follow],
    }
    assert [type(action) for action in actions] == [kind for step in steps for kind in expected[step]]
    for action in actions:
        if isinstance(action, Complete):
            assert action.beside is (following in ACTIVE)
        if isinstance(action, Follow):
            assert action.whole is (event == "adopted")
    assert (scene.owns.deadline is not None) >= (following in ("waiting", "listening"))


@pytest.mark.parametrize(("state", "event"), sorted(product(STATES, {event for _, event in ROWS})))
def test_what_is_not_in_the_table_changes_nothing(state: str, event: str) -> None:
    if (state, event) in ROWS:
        return
    scene = in_state(state)
    if event == "merge" or (state, event) == ("merging", "pending"):
        return  # answered at once; and who is handed nothing waits for nothing
    before = scene.owns.state
    assert happen(scene, event) == [] and scene.owns.state == before


def test_every_step_exists_and_every_state_can_be_left() -> None:
    for (state, _), (following, steps) in TRANSITIONS.items():
        assert following in STATES and state in STATES
        assert all(callable(getattr(Ownership, f"_do_{step}")) for step in steps)
    for state in STATES:
        assert any(following != state for (at, _), (following, _) in TRANSITIONS.items() if at == state)


HELD: dict[str, list[Event]] = {
    "silent": [],
    "telling": [BEGUN],
    "whole": [BEGUN, WHOLE],
    "ended": [BEGUN, WHOLE, ENDED],
}
HAPPENS: dict[str, Event] = {
    "began": BEGUN, "in step": WHOLE, "out of step": HeldOutOfStep("digest"), "stopped": ENDED, "lost": GONE
}  # fmt: skip
AFTER: dict[str, tuple[str, str, str, str]] = {  # in each state of HELD
    "began": ("telling", "telling", "telling", "telling"),
    "in step": ("silent", "whole", "whole", "ended"),
    "out of step": ("silent", "telling", "telling", "ended"),
    "stopped": ("silent", "silent", "ended", "ended"),
    "lost": ("silent", "silent", "silent", "silent"),
    "ours": ("silent", "telling", "whole", "silent"),
}
BECOMES = {
    (state, event): after for event, row in AFTER.items() for state, after in zip(HELD, row, strict=True)
}


@pytest.mark.parametrize(("state", "event"), sorted(BECOMES))
def test_what_is_held_of_a_peer(state: str, event: str) -> None:
    scene = Scene()
    scene.peer(*HELD[state])
    peer = scene.owns.peers["P"]
    assert peer.state == state
    if event == "ours":
        scene.promote()
    else:
        scene.peer(HAPPENS[event])
    assert peer.state == BECOMES[state, event]
    assert peer.streaming is (peer.state in ("telling", "whole"))
    assert scene.owns.in_step is peer.in_step is (peer.state in ("whole", "ended"))
