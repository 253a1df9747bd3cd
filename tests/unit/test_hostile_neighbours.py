# SPDX-License-Identifier: GPL-2.0-or-later
"""Forged adverts of a stranger on the LAN: the harm that they can do, and the harm that they cannot do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.channel import vrrp_sources
from tandem.channel.vrrp_sources import VrrpSources
from tandem.control.history import reason
from tandem.core.actions import Cause, Transition
from tandem.core.bounds import learned_interval
from tandem.core.damping import Damping
from tandem.core.events import AdvertReceived, Partner, Resume, Start, Tick
from tandem.core.packet import Advertisement
from tandem.core.settings import Group, Instance
from tandem.core.state import Role
from tandem.core.strangers import SOURCES_MAX, Strangers
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import SECOND

OURS, PEER, STRANGER = (bytes((192, 168, 1, number)) for number in (2, 3, 66))
LAN = Instance("lan", "br-lan", 51, version=3, priority=100, track_primary=False)


class Run:
    """A group of one instance with a fake clock."""

    def __init__(self, settings: Instance = LAN) -> None:
        self.now = 0
        self.group = SyncGroup(Group("lan", ("lan",), implicit=True), [settings])
        self.member = self.group.members[0]
        self.member.source = OURS
        self.told: list[Transition] = []
        self.actions = self.group.handle(Start(), self.now)

    def hear(self, source: bytes, priority: int, interval_cs: int = 100) -> None:
        advert = Advertisement(3, 51, priority, interval_cs, ())
        self._take(self.group.handle(AdvertReceived("lan", advert, source), self.now))

    def until(self, when: int) -> None:
        """Let the time pass, with all deadlines on the way."""
        while (deadline := self.group.next_deadline()) is not None and deadline <= when:
            self.now = max(self.now, deadline)
            self._take(self.group.handle(Tick(), self.now))
        self.now = when

    def _take(self, actions: list[object]) -> None:
        self.told += [action for action in actions if isinstance(action, Transition)]


def test_one_forged_advert_takes_the_gateway_away_for_a_bounded_time() -> None:
    run = Run()
    run.until(5 * SECOND)
    assert run.group.role is Role.ACTIVE
    run.hear(STRANGER, 255, 4095)
    assert run.group.role is Role.BACKUP
    run.until(5 * SECOND + 37 * SECOND)  # not 147: ten times the own interval is learned
    assert run.group.role is Role.ACTIVE


def test_an_interval_is_not_learned_shorter_than_a_tenth() -> None:
    run = Run()
    run.hear(PEER, 200, 1)
    run.until(35 * SECOND // 100)
    assert run.group.role is Role.BACKUP
    run.until(45 * SECOND // 100)
    assert run.group.role is Role.ACTIVE


@pytest.mark.parametrize(
    ("heard", "own", "longest", "learned"),
    [
        (100, 100, 1000, 100),
        (4095, 100, 1000, 1000),
        (4095, 100, 4095, 4095),
        (1, 100, 1000, 10),
        (1, 5, 50, 1),
    ],
)
def test_bounds(heard: int, own: int, longest: int, learned: int) -> None:
    assert learned_interval(heard, own, longest) == learned


def test_a_transition_names_who_has_caused_it() -> None:
    run = Run()
    run.hear(PEER, 150)
    run.until(10 * SECOND)
    run.hear(STRANGER, 255, 4095)
    assert [(item.state, item.cause) for item in run.told[-2:]] == [
        ("MASTER", Cause(PEER, 150, 100)),  # by its silence
        ("BACKUP", Cause(STRANGER, 255, 4095)),
    ]
    assert reason(run.told[-1]).endswith("192.168.1.66, priority 255, interval 40.95 s")
    assert reason(replace(run.told[-1], cause=None)) == "a better router is active"


def test_a_stranger_is_who_is_no_peer_while_one_is_there() -> None:
    strangers = Strangers()
    assert not strangers.is_stranger(4, 51, STRANGER)
    strangers.told("r2", ((51, PEER), (61, bytes(15) + b"\2")))
    assert strangers.is_stranger(4, 51, STRANGER)
    assert not strangers.is_stranger(4, 51, PEER)
    assert not strangers.is_stranger(4, 52, STRANGER)  # the peer has no such virtual router
    assert strangers.is_stranger(6, 61, bytes(16))
    strangers.told("r3", ((51, STRANGER),))
    assert not strangers.is_stranger(4, 51, STRANGER)
    strangers.told("r2", ())
    strangers.told("r3", ())
    assert not strangers.is_stranger(4, 51, PEER)


def test_a_peer_without_a_session_is_no_stranger() -> None:
    """The link for connections of one of two peers is down; it may be the active router all the same."""
    third, other = PEER[:3] + b"\4", PEER[:3] + b"\5"
    strangers = Strangers()
    strangers.expect(["r2", "r3"])
    strangers.told("r2", ((51, PEER),))
    assert not strangers.is_stranger(4, 51, third)  # nobody knows yet that it is not r3
    strangers.told("r3", ((51, third),))
    assert strangers.is_stranger(4, 51, STRANGER)
    strangers.told("r3", ())
    assert not strangers.is_stranger(4, 51, third)
    assert strangers.is_stranger(4, 51, STRANGER)
    strangers.told("r3", ((51, other),))
    assert strangers.is_stranger(4, 51, third)
    strangers.told("r3", ())
    strangers.expect(["r2"])
    assert strangers.is_stranger(4, 51, other)


def test_what_a_peer_tells_of_its_sources_is_bounded() -> None:
    strangers = Strangers()
    strangers.told("r2", tuple((51, number.to_bytes(4, "big")) for number in range(10_000)))
    assert len(strangers.peers(4, 51)) == SOURCES_MAX


def test_peers_tell_each_other_where_their_adverts_come_from() -> None:
    own = [(51, OURS)]
    sent: list[tuple[str, bytes]] = []
    told: dict[str, object] = {}
    topic = VrrpSources(lambda: own, lambda peer, data: sent.append((peer, data)), told.__setitem__)
    topic.tell()
    assert sent == []
    topic.peer_opened("r2")
    topic.tell()  # nothing has changed
    own.append((61, bytes(16)))
    topic.tell()
    assert [vrrp_sources.unpack(data) for _, data in sent] == [((51, OURS),), tuple(own)]
    topic.received("r2", sent[-1][1])
    assert told == {"r2": tuple(own)}
    topic.peer_closed("r2")
    assert told == {"r2": ()}


@pytest.mark.parametrize("data", [b"", b"\1\x33", b"\1\x33\4abc", b"\1\x33\5abcde", b"\2\x33\4abcd", b"\1x"])
def test_what_is_not_understood_tells_nothing(data: bytes) -> None:
    assert vrrp_sources.unpack(data) == ()


def test_changes_are_too_many_within_a_time() -> None:
    damping = Damping(3, 60 * SECOND)
    for second in (0, 50, 70):
        damping.note(second * SECOND)
        assert damping.until(second * SECOND) is None
    damping.note(90 * SECOND)
    assert damping.until(90 * SECOND) == 110 * SECOND
    assert damping.until(110 * SECOND) is None
    off = Damping()
    off.note(0)
    assert off.until(0) is None


def flapping() -> Run:
    """A preferred router whose peer takes over and goes, again and again."""
    run = Run(replace(LAN, max_learned_interval_cs=100))
    run.group.damping = Damping(5, 60 * SECOND)
    run.until(4 * SECOND)
    for _ in range(2):
        run.hear(PEER, 150)
        run.hear(PEER, 0)
        run.until(run.now + SECOND)
    assert run.group.role is Role.ACTIVE
    assert run.group.damping.until(run.now) is not None
    return run


def test_a_group_that_flaps_does_not_preempt_until_it_has_rested() -> None:
    run = flapping()
    run.hear(PEER, 150)
    assert run.group.role is Role.BACKUP  # it still yields to a better router
    began = run.now
    while run.now < began + 90 * SECOND and run.group.role is Role.BACKUP:
        run.hear(PEER, 50)
        run.until(run.now + SECOND)
    assert run.group.role is Role.ACTIVE
    assert run.now - began > 50 * SECOND


def test_a_group_that_flaps_waits_for_silence_and_not_for_a_goodbye() -> None:
    run = flapping()
    run.hear(PEER, 150)
    run.hear(PEER, 0)
    run.until(run.now + SECOND)
    assert run.group.role is Role.BACKUP
    run.until(run.now + 4 * SECOND)
    assert run.group.role is Role.ACTIVE


def attacked(run: Run, priority: int, interval_cs: int, seconds: int) -> int:
    """How often the role changes while somebody forges adverts of the active router, beside its own."""
    before = len(run.told)
    for _ in range(seconds * 4):
        run.hear(PEER, 150)
        run.until(run.now + SECOND // 20)
        run.hear(PEER, priority, interval_cs)  # not PEER's own
        run.until(run.now + SECOND // 5)
        if run.group.role is Role.ACTIVE:
            run.hear(PEER, 150)  # it answers at once
    return len(run.told) - before


def backup(changes: int = 5) -> Run:
    """A backup of PEER."""
    run = Run()
    run.group.damping = Damping(changes, 60 * SECOND)
    run.hear(PEER, 150)
    return run


@pytest.mark.parametrize("partner", [False, True])
def test_goodbyes_forged_in_the_name_of_the_active_router_are_damped(partner: bool) -> None:
    run = backup()
    run.group.handle(Partner(known=partner, in_step=partner), run.now)
    assert attacked(run, 0, 100, 50) <= 6
    assert run.group.role is Role.BACKUP
    run.until(run.now + 4 * SECOND)  # now it is really dead
    assert run.group.role is Role.ACTIVE


def test_a_true_goodbye_of_the_partner_is_believed_by_a_damped_group() -> None:
    run = flapping()
    run.group.handle(Partner(known=True, in_step=True), run.now)
    for _ in range(3):
        run.hear(PEER, 150)
        run.until(run.now + 2 * SECOND)
        run.hear(PEER, 0)
        run.until(run.now + 2 * SECOND)
        assert run.group.role is Role.ACTIVE
        assert run.group.damping.until(run.now) is not None


def test_short_intervals_forged_in_the_name_of_the_active_router_are_damped() -> None:
    run = backup()
    before = len(run.told)
    for _ in range(50):
        run.hear(PEER, 150)
        run.until(run.now + SECOND // 10)
        run.hear(PEER, 150, 1)  # not PEER's own
        run.until(run.now + SECOND * 9 // 10)
    assert len(run.told) - before <= 6
    run.until(run.now + 4 * SECOND)
    assert run.group.role is Role.ACTIVE


def test_resume_ends_the_damping() -> None:
    """An operator who has tried the hand-over a few times wants the preferred router back."""
    run = flapping()
    run.hear(PEER, 150)
    run.group.handle(Resume(), run.now)
    run.hear(PEER, 50)
    run.until(run.now + 4 * SECOND)
    assert run.group.role is Role.ACTIVE


def test_a_damped_group_does_not_hurry_at_a_stranger_s_goodbye() -> None:
    run = flapping()
    run.hear(PEER, 150)
    run.hear(STRANGER, 0)
    run.until(run.now + 2 * SECOND)
    assert run.group.role is Role.BACKUP
    run.until(run.now + 2 * SECOND)
    assert run.group.role is Role.ACTIVE
