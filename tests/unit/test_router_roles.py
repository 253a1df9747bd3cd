# SPDX-License-Identifier: GPL-2.0-or-later
"""The router tells its neighbours what its groups do, and waits for groups that offer their role."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from tandem.core.events import (
    AdvertReceived,
    Ballot,
    Company,
    EffectFailed,
    Event,
    Failover,
    Moved,
    Partner,
    Rebound,
    SourceChanged,
    Standby,
    Stop,
    Synchronised,
    Taken,
    Tick,
    TrackerChanged,
    Unheard,
    Vacancy,
    Vacated,
)
from tandem.core.standing import standing_of
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.log import Logger
from tandem.router import Router
from tests.lab.log import Lines
from tests.unit.scenario import HIGHER, active, heard, instance, started, sync_group

SECOND = 1_000_000_000
ARGUMENTS: dict[type, tuple[Any, ...]] = {
    TrackerChanged: ("interface", "lan", False),
    SourceChanged: ("LAN", None),
    Moved: ("LAN",),
    Rebound: ("LAN",),
    EffectFailed: ("LAN", "refused"),
    Synchronised: (True,),
    Partner: (True, True),
    Vacated: (Vacancy.DIED, ()),
    Taken: (True,),
    Unheard: (True,),
    Ballot: (False, False, False),
}


class Bench:
    """A router with one group; `told`: what its heartbeats have said of the group."""

    def __init__(self, group: SyncGroup) -> None:
        self.group, self.now = group, SECOND
        self.told = [self.standing]
        self.next_turn: Callable[[int], None] = lambda _now: None
        executor = SimpleNamespace(execute=lambda *_: [])
        loop = SimpleNamespace(now=lambda: self.now, call_at=self.call_at)
        links = SimpleNamespace(device=lambda name: name)
        parts: list[Any] = [
            loop,
            None,
            executor,
            SimpleNamespace(links=links),
            None,
            Logger("error", Lines()),
        ]
        self.router = Router(*parts, self.caught, acted=lambda: self.told.append(self.standing))
        self.router.groups["LAN"] = group

    def call_at(self, key: object, _when: object, callback: Callable[[int], None] | None) -> None:
        if key == "acted" and callback is not None:
            self.next_turn = callback

    def dispatch(self, event: Event) -> None:
        """Let the router dispatch an event, and do what it leaves for the next turn of the loop."""
        self.router.dispatch(self.group, event)
        callback, self.next_turn = self.next_turn, lambda _now: None
        callback(self.now)

    def caught(self, error: Exception) -> None:
        raise error

    @property
    def standing(self) -> bytes:
        return standing_of(self.group, self.group.members[0], True)


def events() -> list[Event]:
    """One of each kind, but those that come all the time."""
    kinds = [kind for kind in get_args(Event) if kind not in (AdvertReceived, Tick)]
    return [kind(True) if kind.__name__ == "Claimed" else kind(*ARGUMENTS.get(kind, ())) for kind in kinds]


@pytest.mark.parametrize("event", events(), ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("is_active", [True, False])
def test_the_neighbours_hear_at_once_of_every_change(event: Event, is_active: bool) -> None:
    bench = Bench((active if is_active else started)(sync_group(instance())))
    bench.dispatch(event)
    assert bench.told[-1] == bench.standing


@pytest.mark.parametrize("is_active", [True, False])
def test_adverts_and_timers_change_nothing_that_is_not_told(is_active: bool) -> None:
    bench = Bench((active if is_active else started)(sync_group(instance())))
    bench.dispatch(heard(200, HIGHER))
    bench.dispatch(heard(0, HIGHER))
    for _ in range(50):
        due = bench.group.next_deadline()
        if due is None:
            break
        bench.now = max(bench.now, due)
        bench.dispatch(Tick())
        assert bench.told[-1] == bench.standing
    assert len(bench.told) < 6, "and they are frequent"


@pytest.mark.parametrize("event", [Failover(), Standby(), Stop()], ids=str)
def test_who_asks_for_the_role_waits_until_it_is_given_up(event: Event) -> None:
    bench, left = Bench(active(sync_group(instance()))), []
    bench.dispatch(Company(takes=True))
    bench.router.leave([bench.group], event, lambda: left.append(bench.group.role))
    assert left == [] and bench.group.role is Role.ACTIVE
    bench.dispatch(Taken(True))
    assert len(left) == 1 and left[0] is not Role.ACTIVE
    bench.dispatch(Tick())
    assert len(left) == 1


def test_nobody_waits_where_the_role_is_given_up_at_once() -> None:
    bench, left = Bench(active(sync_group(instance()))), []
    bench.router.leave([bench.group], Failover(), lambda: left.append(True))
    assert left == [True]
