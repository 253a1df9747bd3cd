# SPDX-License-Identifier: GPL-2.0-or-later
"""When the kernel's events are read: few wake-ups at every rate, and no event waits longer than GATHER."""

from __future__ import annotations

import random

import pytest

from tandem.conntrack.gathering import (
    ALONE,
    BUSY,
    GATHER,
    PAUSE,
    PAUSE_MAX,
    PROMPT_BUSY,
    REST,
    VAIN,
    WORTH,
    Gathering,
)
from tandem.core.timers import MILLISECOND, SECOND

AT = 1_000 * SECOND


class Kernel:
    """Events at given times, and a router that is woken, looks and reads; to read one takes `cost` ns."""

    def __init__(self, events: list[int], cost: int = 0, prompt: bool = False) -> None:
        self.gathering = Gathering()
        self.gathering.prompt = prompt
        self.waits: list[int] = []  # how long each event has waited until it was told
        self.woken = self.looked = self.vain = 0
        left = sorted(events)
        while left:
            self.woken += 1
            when: int | None = self.gathering.woken(left[0])
            self.looked -= when == left[0]  # in the turn that it was woken for
            while when is not None:
                self.looked += 1
                now = when
                there = [at for at in left if at <= now][:256]
                left = left[len(there) :]
                self.vain += not there
                ended = now + cost * len(there)
                self.waits += [ended - at for at in there]
                when = self.gathering.read(now, ended, len(there), not left or left[0] > now)

    @property
    def turns(self) -> int:
        return self.woken + self.looked


def every(pause: int, count: int = 200) -> list[int]:
    return [AT + number * pause for number in range(count)]


def test_after_a_burst_as_many_events_as_before_have_to_come_alone() -> None:
    gathering, now = Gathering(), AT
    for count in (5, *(1 for _ in range(ALONE))):
        assert gathering.woken(now) == now + GATHER, "it may have company"
        gathering.read(now + GATHER, now + GATHER, count, True)
        now += SECOND
    assert gathering.woken(now) == now


def test_events_of_one_moment_are_read_together() -> None:
    """A handshake is several events, which come within milliseconds."""
    kernel = Kernel([AT, AT + MILLISECOND, AT + 3 * MILLISECOND])
    assert (kernel.woken, kernel.looked, kernel.waits[0]) == (1, 1, GATHER)


def test_after_events_that_came_alone_a_handshake_is_told_in_two_parts_once() -> None:
    handshake = AT + 60 * SECOND
    parts = [handshake, handshake + MILLISECOND, handshake + 3 * MILLISECOND]
    kernel = Kernel([*every(SECOND // 20), *parts, *(at + SECOND for at in parts)])
    waits = [wait // MILLISECOND for wait in kernel.waits[200:]]
    assert waits == [0, 8, 6, 9, 8, 6] and kernel.woken == 200 + 3


@pytest.mark.parametrize("rate", [20, 50])
def test_a_quiet_router_is_woken_and_reads_once_for_an_event(rate: int) -> None:
    kernel = Kernel(every(SECOND // rate))
    assert kernel.woken == 200 and kernel.looked <= 200 + VAIN
    assert kernel.waits == [GATHER] * ALONE + [0] * (200 - ALONE), "what comes alone is told at once"


@pytest.mark.parametrize(("rate", "most"), [(300, 0.45), (1000, 0.14), (10_000, 0.02)])
def test_a_busy_router_looks_by_itself(rate: int, most: float) -> None:
    """Otherwise it would be woken, and wait, and read: two turns of the loop for an event."""
    kernel = Kernel(every(SECOND // rate, 1000))
    assert kernel.turns <= most * 1000 and kernel.woken <= 3
    assert max(kernel.waits) <= GATHER


@pytest.mark.parametrize(("rate", "most"), [(20, 1.8), (100, 1.3), (300, 0.5), (1000, 0.15)])
def test_events_at_random_moments(rate: int, most: float) -> None:
    """Two turns for what waits for company, one for what is read at once, or found by a look."""
    moments, at = random.Random(11), AT
    events = [at := at + int(moments.expovariate(rate) * SECOND) for _ in range(2000)]
    kernel = Kernel(events)
    assert kernel.turns <= most * 2000 and max(kernel.waits) <= GATHER


def test_a_router_that_has_become_quiet_looks_in_vain_so_often() -> None:
    assert Kernel([*every(4 * MILLISECOND), AT + 60 * SECOND]).woken == 3
    gathering = Gathering()
    assert (VAIN, WORTH) == (2, 2)
    gathering.read(AT, AT, 1, True)
    assert gathering.read(AT + GATHER, AT + GATHER, 2, True) == AT + 2 * GATHER
    assert gathering.read(AT + 2 * GATHER, AT + 2 * GATHER, 1, True) == AT + 3 * GATHER
    assert gathering.read(AT + 3 * GATHER, AT + 3 * GATHER, 0, True) is None


def test_what_several_turns_found_counts_as_one_read() -> None:
    gathering = Gathering()
    gathering.read(AT, AT, 1, True)
    assert gathering.read(AT + GATHER, AT + GATHER, 2, False) == AT + GATHER
    assert gathering.read(AT + GATHER, AT + GATHER, 0, True) == AT + 2 * GATHER


def test_in_a_flood_the_peer_knows_an_event_within_10_ms() -> None:
    """The peer takes as long as this router: the pause is shorter, and the portions are still large."""
    took, pause = 8_000, SECOND // 60_000
    kernel = Kernel(every(pause, 30_000), cost=took)
    longest = max(kernel.waits[3000:])
    assert longest + longest * took // (pause + took) <= 10 * MILLISECOND
    assert kernel.turns < 30_000 // 150


def test_what_takes_longer_than_gather_is_read_all_the_same() -> None:
    """A pause remains, in which adverts and the peer have their turn."""
    gathering = Gathering()
    gathering.read(AT, AT + MILLISECOND, 256, True)
    began, ended = AT + 10 * MILLISECOND, AT + 30 * MILLISECOND
    assert gathering.read(began, began + GATHER, 256, False) == began + GATHER
    assert gathering.read(began + GATHER, ended, 256, True) == ended + PAUSE


def test_a_prompt_router_reads_the_first_event_at_once() -> None:
    """The gate holds the first answer of a connection meanwhile."""
    kernel = Kernel(every(10 * MILLISECOND), prompt=True)
    assert set(kernel.waits) == {0} and kernel.woken == 200 and kernel.looked == 0


def test_a_prompt_router_looks_by_itself_when_many_events_come() -> None:
    kernel = Kernel(every(PROMPT_BUSY // 10, 1000), prompt=True)
    assert kernel.turns < 1000 // 2 and max(kernel.waits) <= PAUSE_MAX
    slow = Gathering()
    slow.prompt = True
    slow.read(AT, AT, 1, True)
    took = 2 * PAUSE // REST
    assert slow.read(AT + 1, AT + 1 + took, 9, True) == AT + 1 + took + REST * took
    assert slow.read(AT + PAUSE, AT + PAUSE + MILLISECOND, 9, True) == AT + PAUSE + MILLISECOND + PAUSE_MAX
    assert slow.read(AT + 2 * PAUSE, AT + 2 * PAUSE, 0, True) is None


def test_busy_ends_with_the_pause_between_events() -> None:
    gathering = Gathering()
    assert gathering.read(AT, AT, 1, True) is None
    assert gathering.read(AT + BUSY, AT + BUSY, 2, True) is None
    assert gathering.read(AT + 2 * BUSY - 1, AT + 2 * BUSY - 1, 1, True) is None
    assert gathering.read(AT + 3 * BUSY - 2, AT + 3 * BUSY - 2, 2, True) is not None
