# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's answers to the gate's process, which a test plays; the process itself: tests/netns."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from tandem.core.timers import MILLISECOND, SECOND
from tandem.gate import link
from tandem.gate.hold import FIGURES
from tandem.gate.link import GateLink
from tandem.log import Logger
from tests.lab.log import Lines

TIMEOUT = 100 * MILLISECOND
NAMES = (
    "on", "held", "acked", "timed_out", "bypassed", "unknown", "overload", "lost", "limited", "waiting",
    "p50", "p99", "max",
)  # fmt: skip


class Process:
    """The gate's process, from the daemon's side: what it was told, and whether it runs."""

    def __init__(self, *arguments: Any) -> None:
        self.command: Callable[[int], list[str]] = arguments[1]
        self.says: Callable[[bytes], None] = arguments[2]
        self.ends: Callable[[], None] = arguments[3]
        self.told: list[bytes] = []
        self.starts = self.kills = 0
        self.closed = self.missing = False

    def start(self) -> None:
        if self.missing:
            raise FileNotFoundError(2, "no such file")
        self.starts += 1

    def send(self, message: bytes) -> None:
        self.told.append(message)

    def kill(self) -> None:
        self.kills += 1

    def close(self) -> None:
        self.closed = True


class Clock:
    """A loop whose time a test sets."""

    def __init__(self) -> None:
        self.time = 100 * SECOND
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}

    def now(self) -> int:
        return self.time

    def call_at(self, key: Hashable, when: int | None, call: Callable[[int], None] | None = None) -> None:
        self.timers.pop(key, None)
        if when is not None and call is not None:
            self.timers[key] = when, call

    def to(self, time: int) -> None:
        """Go on to this time, and call what is due, in order."""
        while self.timers:
            key = min(self.timers, key=lambda one: self.timers[one][0])
            when, call = self.timers[key]
            if when > time:
                break
            del self.timers[key]
            self.time = max(self.time, when)
            call(self.time)
        self.time = time


class Bench:
    """A gate that is started; `position` is what the peers must acknowledge, None: nobody has to know."""

    def __init__(self) -> None:
        self.clock, self.lines = Clock(), Lines()
        self.position: int | None = None
        self.committed: list[bytes] = []
        log = Logger("info", self.lines)
        self.link = GateLink(self.clock, log, TIMEOUT, 3780, self.commit)  # type: ignore[arg-type]
        process = self.link._process
        assert isinstance(process, Process)
        self.process: Process = process
        self.link.start()

    def commit(self, messages: list[bytes]) -> int | None:
        self.committed += messages
        return self.position

    def told(self) -> list[bytes]:
        """What the process was told since the last call."""
        told, self.process.told[:] = list(self.process.told), []
        return told

    def flows(self, *numbers: int) -> None:
        """The process holds these packets, and has asked for their entries."""
        self.process.says(b"F" + b"".join(struct.pack("=I", number) + entry(number) for number in numbers))

    def figures(self, **counts: int) -> None:
        self.process.says(b"S" + FIGURES.pack(*(counts.get(name, 0) for name in NAMES)))


def entry(number: int) -> bytes:
    """A netlink message of a length that differs from one to the next."""
    body = bytes(4 * (number % 3))
    return struct.pack("=I", 16 + len(body)) + struct.pack("=III", 0, number, 0) + body


def ids(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(link, "Companion", Process)
    return Bench()


@pytest.fixture
def on(bench: Bench) -> Bench:
    bench.link.switch(True)
    bench.process.says(b"R")
    assert bench.told() == [b"+"]
    return bench


def test_packets_wait_for_the_position_at_which_their_flows_were_told(on: Bench) -> None:
    on.position = 7
    on.flows(1, 2)
    on.position = 8
    on.flows(3)
    assert on.committed == [entry(1), entry(2), entry(3)] and on.told() == []
    on.link.acked(6)
    assert on.told() == []
    on.link.acked(7)
    assert on.told() == [b"A" + ids(1, 2)]
    on.link.acked(None)
    assert on.told() == [b"P" + ids(3)], "no peer is in step any more"


def test_packets_whose_flows_nobody_has_to_know_pass_at_once(on: Bench) -> None:
    on.flows(1, 2)
    assert on.told() == [b"P" + ids(1, 2)]
    on.position = 7
    on.link.switch(False)
    assert on.told() == [b"-"]
    on.flows(3)
    assert on.told() == [b"P" + ids(3)] and on.committed == [entry(1), entry(2)], "it is off"


def test_what_was_held_before_it_was_off_stalls_nothing_later(on: Bench) -> None:
    """The process releases what it holds when it is switched off."""
    on.position = 7
    on.flows(1)
    on.link.switch(False)
    on.clock.to(on.clock.time + SECOND)
    on.link.switch(True)
    assert on.told() == [b"-", b"+"]
    on.position = 8
    on.flows(2)
    assert on.told() == [], "it waits"
    on.link.acked(8)
    assert on.told() == [b"A" + ids(2)]


def test_packets_do_not_wait_while_a_peer_does_not_answer(on: Bench) -> None:
    on.position = 7
    on.flows(1)
    on.clock.to(on.clock.time + TIMEOUT + 1)
    on.position = 8
    on.flows(2)
    assert on.told() == [b"L" + ids(2)]
    on.link.acked(8)
    assert on.told() == [b"A" + ids(1)]
    on.position = 9
    on.flows(3)
    assert on.told() == []


def test_a_message_to_the_process_holds_4096_packets(on: Bench) -> None:
    on.position = 7
    numbers = range(1, 5001)
    on.flows(*numbers)
    on.link.acked(7)
    assert on.told() == [b"A" + ids(*numbers[:4096]), b"A" + ids(*numbers[4096:])]


def test_flows_that_are_cut_off_are_harmless(on: Bench) -> None:
    on.process.says(b"F" + ids(1) + struct.pack("=I", 0) + ids(2) + b"\1\2\3")
    assert on.committed == [b""] and on.told() == [b"P" + ids(1)]


def test_the_process_is_switched_when_it_is_ready(bench: Bench) -> None:
    bench.link.switch(True)
    bench.link.switch(True)
    bench.link.check()
    assert bench.told() == [] and bench.link.status()["state"] == "not running"
    assert bench.link.trouble() == ["the gate is not ready"]
    bench.process.says(b"R")
    bench.figures(on=1)
    assert bench.told() == [b"+"] and bench.link.trouble() == []
    assert bench.link.status()["state"] == "on"
    bench.link.check()
    bench.link.switch(False)
    bench.link.check()
    assert bench.told() == [b"C", b"-"], "it looks for its rules only while they should be there"
    bench.figures()
    assert bench.link.status()["state"] == "off" and bench.link.trouble() == []


def test_a_process_that_says_nothing_for_three_seconds_is_killed(on: Bench) -> None:
    start = on.clock.time
    on.clock.to(start + 2 * SECOND)
    on.figures(on=1)
    on.clock.to(start + 5 * SECOND - 1)
    assert not on.process.kills
    on.clock.to(start + 5 * SECOND)
    assert on.process.kills == 1 and any("hangs" in line for line in on.lines.lines)


@pytest.mark.parametrize("why", ["off", "ended"])
def test_a_process_that_need_not_speak_is_not_killed(on: Bench, why: str) -> None:
    if why == "off":
        on.link.switch(False)
    else:
        on.process.ends()
    on.clock.to(on.clock.time + 60 * SECOND)
    assert not on.process.kills


def test_the_next_process_starts_after_a_second_and_then_later_and_later(on: Bench) -> None:
    for pause in (1, 2, 4, 8, 16, 32, 64, 64):
        on.process.ends()
        ended, starts = on.clock.time, on.process.starts
        on.clock.to(ended + pause * SECOND - 1)
        assert on.process.starts == starts
        on.clock.to(ended + pause * SECOND)
        assert on.process.starts == starts + 1
    on.process.says(b"R")
    on.process.ends()
    starts = on.process.starts
    on.clock.to(on.clock.time + SECOND)
    assert on.process.starts == starts + 1, "one that was ready begins anew"


def test_a_process_that_comes_and_goes_is_in_the_log(on: Bench) -> None:
    assert on.lines.lines == ["info conntrack_sync: gate: ready"]
    on.process.ends()
    assert on.lines.lines[1:] == [
        "error conntrack_sync: gate: the process has ended:"
        " no answer waits for a peer until the next one is ready"
    ]


def test_nothing_waits_for_the_next_process(on: Bench) -> None:
    on.position = 7
    on.flows(1)
    on.process.ends()
    on.link.acked(7)
    assert on.told() == [] and on.link.status()["state"] == "not running"
    on.link.check()
    assert on.told() == []


def test_a_process_that_does_not_start_is_tried_again(bench: Bench) -> None:
    bench.process.missing = True
    bench.process.ends()
    bench.clock.to(bench.clock.time + SECOND)
    assert any(line == "error conntrack_sync: gate: no such file" for line in bench.lines.lines)
    bench.process.missing, before = False, bench.clock.time
    bench.clock.to(before + 64 * SECOND - 1)
    assert bench.process.starts == 1
    bench.clock.to(before + 64 * SECOND)
    assert bench.process.starts == 2


def test_a_gate_that_cannot_work_is_started_no_more(on: Bench) -> None:
    on.process.says(b"Uno queue")
    on.process.ends()
    on.clock.to(on.clock.time + 100 * SECOND)
    assert on.process.starts == 1
    status = on.link.status()
    assert (status["state"], status["error"], status["trouble"]) == ("unable", "no queue", ["no queue"])


def test_a_gate_that_is_stopped_starts_no_more(on: Bench) -> None:
    on.process.ends()
    on.link.stop()
    on.clock.to(on.clock.time + 100 * SECOND)
    assert on.process.starts == 1 and on.process.closed


def test_what_the_process_warns_of_is_logged(on: Bench) -> None:
    on.process.says(b"Wthe rules are gone")
    assert on.lines.lines[-1] == "warning conntrack_sync: the rules are gone"


def test_connections_without_the_guarantee_are_counted_and_told(on: Bench) -> None:
    on.figures(on=1, held=9, timed_out=1, overload=2)
    assert on.lines.lines[-1].endswith("the guarantee was not kept for 3 connections")
    assert on.link.trouble() == ["not kept for 3 connections within a minute"]
    assert on.link.status()["unkept_lately"] == on.link.status()["unkept"] == 3
    on.clock.to(on.clock.time + SECOND)
    lines = len(on.lines.lines)
    on.figures(on=1, held=10, timed_out=1, overload=2)
    assert len(on.lines.lines) == lines
    on.clock.to(on.clock.time + 60 * SECOND)
    assert on.link.trouble() == [] and on.link.status()["unkept"] == 3


def test_counts_go_on_when_a_process_follows_another(on: Bench) -> None:
    on.figures(on=1, held=5, acked=4, lost=1, waiting=3, p50=20, p99=30, max=40)
    on.process.ends()
    on.process.says(b"R")
    status = on.link.status()
    assert (status["held"], status["acked"], status["lost"], status["waiting"]) == (5, 4, 1, 0)
    assert status["latency_us"] == {"p50": 20, "p99": 30, "max": 40}, "the new one has held nothing yet"
    on.figures(on=1, held=2, acked=1, waiting=1, p50=2, p99=3, max=4)
    status = on.link.status()
    assert (status["held"], status["acked"], status["lost"], status["waiting"]) == (7, 5, 1, 1)
    assert status["latency_us"] == {"p50": 2, "p99": 3, "max": 40}
    assert status["unkept"] == 1


def test_figures_of_another_length_are_left_alone(on: Bench) -> None:
    on.figures(on=1, held=5)
    on.process.says(b"S" + bytes(FIGURES.size + 8))
    assert on.link.status()["held"] == 5


def test_the_process_is_told_queue_port_and_timeout(bench: Bench) -> None:
    assert bench.process.command(9)[-4:] == ["9", "3780", "3780", "100"]
