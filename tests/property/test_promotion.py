# SPDX-License-Identifier: GPL-2.0-or-later
"""Promotion under adverse orders of events: no address before its connections, none without the role.

Nor is a line taken that another router has still, unless that one says nothing for too long.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Follow,
    Install,
    Remove,
    Restore,
    SendAdvert,
    Transition,
    Unfollow,
    Withdraw,
)
from tandem.core.events import Company, Event, Restored, Reunited, Synchronised, Tick
from tandem.core.limits import LINE_LIMIT, RESTORE_LIMIT
from tandem.core.promotion import IDLE, SERVING, Demotion, Farewell, Promotion, Reason
from tandem.core.settings import Group, Instance
from tandem.core.virtual_router import VirtualRouter

NAMES = ("A", "B")


class Pair:
    """A group of two instances that replicates or not, and a model of what it has done."""

    name = "G"
    follows = True
    settings = Group("G", NAMES)

    def __init__(self, restores: bool) -> None:
        self.restores = restores
        self.members = tuple(VirtualRouter(Instance(name, name, 51)) for name in NAMES)
        self.installed = self.told = self.follows_now = False
        self.asked_at: int | None = None  # for connections that are not there yet
        self.line_taken = False
        self.beat_at: int | None = None  # when it began to wait for the line

    def promoted(self, reason: Reason) -> list[Action]:
        return [Transition("A", "MASTER", 100, reason.why)]

    def take(self, actions: list[Action], now: int, ended: bool, waits: bool) -> None:
        """Carry out the actions. `ended`: the wait may end now; `waits`: for the line."""
        for action in actions:
            match action:
                case Restore():
                    assert self.restores and not self.installed
                    self.asked_at = now
                case Beat() if waits:
                    assert self.line_taken and not self.installed
                    assert self.asked_at is None or ended or now >= self.asked_at + RESTORE_LIMIT
                    self.asked_at, self.beat_at = None, now
                case Install(names):
                    overdue = self.beat_at is not None and now >= self.beat_at + LINE_LIMIT
                    assert self.installed or not self.line_taken or overdue, "two routers speak on the line"
                    self.beat_at = None
                    late = self.asked_at is not None and now >= self.asked_at + RESTORE_LIMIT
                    assert names == NAMES and (ended or late or self.asked_at is None)
                    self.installed, self.asked_at = True, None
                case Announce():
                    assert self.installed, "hosts come at once"
                case Transition():
                    assert self.installed, "nobody is told before the addresses are there"
                    self.told = True
                case Remove(names):
                    assert names == NAMES
                    self.installed = self.told = False
                    self.asked_at = self.beat_at = None
                case Follow():
                    assert self.installed, "the provider comes after the LAN"
                    self.follows_now = True
                case Unfollow():
                    self.follows_now = False
                case SendAdvert(_, 0):
                    assert not (self.installed or self.follows_now), (
                        "both are silent before a backup takes over"
                    )
                case Withdraw():
                    assert not self.installed, "the goodbye follows the addresses"


STEPS = st.one_of(
    st.tuples(st.just("begin"), st.booleans(), st.booleans()),
    st.tuples(st.just("event"), st.sampled_from((Restored(), Reunited(), Tick(), Synchronised(True)))),
    st.tuples(st.just("demote"), st.sampled_from(Farewell)),
    st.tuples(st.just("wait"), st.sampled_from((0, 1, RESTORE_LIMIT // 2, RESTORE_LIMIT))),
    st.tuples(st.just("late"), st.integers(0, 3)),
    st.tuples(st.just("replicate"), st.booleans()),
    st.tuples(st.just("line"), st.booleans()),
    st.tuples(st.just("copy"), st.none()),
)


@given(st.booleans(), st.lists(STEPS, max_size=40))
def test_any_order_of_events(restores: bool, steps: list[tuple[object, ...]]) -> None:
    group, promotion, now = Pair(restores), Promotion(), 0
    for step in steps:
        before, actions, ended = promotion.phase, list[Action](), False
        match step:
            case ("begin", bool() as handed_over, bool() as again):
                reason = Reason("", None, handed_over, again and before is SERVING)
                if before is SERVING and not reason.again:
                    continue  # the core begins anew only in a reload
                actions = promotion.begin(group, reason, now)
            case ("event", event):
                assert isinstance(event, Event)
                ended = isinstance(event, Restored)
                actions = promotion.take_in(event, group, now)
            case ("demote", Farewell() as farewell):
                demotion = Demotion(group.name, group.members, group.restores, farewell, True)
                actions = promotion.demote(demotion)
                assert promotion.phase is IDLE and actions[0] == Remove(NAMES)
                assert actions[-1] == Withdraw(NAMES)
            case ("wait", int() as ns):
                now += ns
                actions = promotion.due(group, now)
            case ("late", int() as ns):
                now = max(now, promotion.deadline or 0) + ns
                actions = promotion.due(group, now)
            case ("replicate", bool() as yes):
                group.restores, ended = yes, not yes
                actions = [] if yes else promotion.skip(group, now)
            case ("line", bool() as taken):
                group.line_taken = taken and promotion.phase is not SERVING
                actions = [] if taken else promotion.take_in(Company(), group, now)
            case ("copy", None):
                promotion = promotion.copy()
        group.take(actions, now, ended, promotion.phase.ends is Company)
        assert promotion.waiting is (group.asked_at is not None or group.beat_at is not None)
        assert promotion.deadline is None or promotion.deadline > now or step[0] == "wait"
        assert (promotion.phase is SERVING) is (group.installed and group.told)
        assert promotion.waiting or promotion.phase in (IDLE, SERVING), "rests only where it waits"
