# SPDX-License-Identifier: GPL-2.0-or-later
"""Anything may happen at any time: nothing raises, and the invariants of `lan.Checked` hold."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.actions import Action, SendAdvert
from tandem.core.events import (
    AdvertReceived,
    EffectFailed,
    Event,
    Failover,
    Partner,
    Restored,
    Resume,
    Reunited,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Synchronised,
    Tick,
    TrackerChanged,
)
from tandem.core.packet import Advertisement
from tandem.core.settings import Garp, Group, Instance, Track
from tandem.core.state import Role
from tests.property.lan import Checked

NAMES = ("A", "B", "C")
SOURCES = (b"\x0a\0\0\1", b"\x0a\0\0\2", b"\x0a\0\0\3")
OWN = SOURCES[1]

tracks = st.lists(
    st.builds(
        Track,
        st.sampled_from(("interface", "script")),
        st.sampled_from(("eth0", "eth1", "chk")),
        st.sampled_from((0, 0, 30, -30, 253, -253)),
        st.booleans(),
    ),
    max_size=3,
).map(tuple)

garps = st.builds(
    Garp,
    delay_ms=st.sampled_from((0, 1, 5000)),
    repeat=st.integers(0, 5),
    refresh_ms=st.sampled_from((0, 1, 700)),
    refresh_repeat=st.integers(0, 2),
    lower_prio_delay_ms=st.sampled_from((0, 5000)),
    lower_prio_repeat=st.sampled_from((0, 5)),
)


@st.composite
def configurations(draw: st.DrawFn, names: tuple[str, ...]) -> Configuration:
    """A group of these members, with anything that may be set."""
    version = draw(st.sampled_from((2, 3)))
    instances = [
        Instance(
            name, f"eth{number}", 51, version,
            priority=draw(st.sampled_from((1, 100, 100, 254, 255))),
            advert_int_cs=draw(st.sampled_from((1, 10, 100, 4095) if version == 3 else (100, 25500))),
            initial_master=draw(st.booleans()), preempt=draw(st.booleans()),
            preempt_delay_ms=draw(st.sampled_from((0, 1000))), track_primary=draw(st.booleans()),
            tracks=draw(tracks), garp=draw(garps),
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    return Group("G", names, draw(tracks), implicit=len(names) == 1), instances


def events(names: tuple[str, ...]) -> st.SearchStrategy[Event]:
    """Any event that the shell may deliver for a group of these members."""
    name = st.sampled_from(names)
    advert = st.builds(
        Advertisement,
        st.sampled_from((2, 3)),
        st.just(51),
        st.sampled_from((0, 1, 99, 100, 101, 254, 255)) | st.integers(0, 255),
        st.sampled_from((1, 10, 100, 4095)),
        st.just(()),
    )
    return st.one_of(
        st.builds(Tick),
        st.builds(AdvertReceived, name, advert, st.sampled_from((SOURCES[0], SOURCES[2]))),
        st.builds(
            TrackerChanged,
            st.sampled_from(("interface", "script")),
            st.sampled_from(("eth0", "eth1", "eth2", "chk", "none")),
            st.booleans() | st.just(True),
        ),
        st.builds(SourceChanged, name, st.sampled_from((OWN, OWN, OWN, None))),
        st.builds(EffectFailed, name, st.sampled_from(("refused", "no such device"))),
        st.builds(Start, st.sampled_from((0, 0, 1_000_000_000))),
        st.sampled_from((Failover(), Standby(), Resume(), Resume())),
        st.builds(Synchronised, st.booleans()),
        st.builds(Partner, st.booleans(), st.booleans()),
        st.sampled_from((Restored(), Reunited())),
    )


@dataclass(frozen=True)
class Wait:
    """Time passes; None: until the next deadline, and then the tick."""

    ns: int | None


Configuration = tuple[Group, list[Instance]]
Step = Event | Wait | Configuration
DEADLINE = Wait(None)


@st.composite
def histories(draw: st.DrawFn) -> tuple[Configuration, list[Step]]:
    """A configuration, and then events, time and reloads."""
    names = NAMES[: draw(st.integers(1, 3))]
    steps: list[Step] = draw(
        st.lists(
            st.one_of(
                events(names),
                st.sampled_from((0, 1, 1_000, 1_000_000, 500_000_000, 4_000_000_000, 400_000_000_000)).map(
                    Wait
                ),
                st.just(DEADLINE),
                st.just(DEADLINE),
                configurations(names) if draw(st.booleans()) else st.just(DEADLINE),
            ),
            max_size=60,
        )
    )
    return draw(configurations(names)), steps


def play(checked: Checked, steps: list[Step], now: int) -> list[Action]:
    """Return the actions of all the steps, beginning at `now`."""
    actions: list[Action] = []
    for step in steps:
        if isinstance(step, tuple):
            actions += checked.reconfigure(*step, now)
        elif not isinstance(step, Wait):
            actions += checked.handle(step, now)
        elif step.ns is not None:
            now += step.ns
        else:
            now = max(now, checked.group.next_deadline() or now)
            actions += checked.handle(Tick(), now)
    return [*actions, *checked.handle(Stop(), now)]


@given(histories(), st.booleans(), st.sampled_from((0, 0, 500_000_000, 60_000_000_000)))
def test_any_history_keeps_the_invariants(
    history: tuple[Configuration, list[Step]], settled: bool, patience: int
) -> None:
    (settings, instances), steps = history
    now = 1_000_000_000
    checked = Checked(settings, instances, patience)
    if settled:  # otherwise the steps have to bring it there
        for track in checked.group.tracking.tracks:
            checked.handle(TrackerChanged(track.kind, track.name, not track.reverse), now)
        for instance in instances:
            checked.handle(SourceChanged(instance.name, OWN), now)
        checked.handle(Start(), now)
    play(checked, steps, now)
    assert (checked.group.role, checked.group.state) == (Role.INITIALIZE, "STOP")


@given(histories())
def test_the_same_history_gives_the_same_actions(history: tuple[Configuration, list[Step]]) -> None:
    configuration, steps = history
    assert play(Checked(*configuration), steps, 0) == play(Checked(*configuration), steps, 0)


@given(st.lists(st.tuples(st.integers(0, 3_000_000), events(("A",))), min_size=20, max_size=200))
def test_an_active_router_answers_a_flood_at_a_bounded_rate(flood: list[tuple[int, Event]]) -> None:
    """However fast the adverts come: one answer in 10 ms, beside its own in each interval."""
    checked = Checked(
        Group("A", ("A",), implicit=True), [Instance("A", "eth0", 51, 3, priority=254, track_primary=False)]
    )
    checked.handle(Start(), 0)
    checked.handle(Tick(), 4_000_000_000)
    now = begin = 4_000_000_000
    sent = 0
    for gap, event in flood:
        now += gap
        if isinstance(event, AdvertReceived) and event.advert.priority < 254:
            sent += sum(isinstance(action, SendAdvert) for action in checked.handle(event, now))
    assert checked.group.role is Role.ACTIVE
    assert sent <= 1 + (now - begin) // 10_000_000
