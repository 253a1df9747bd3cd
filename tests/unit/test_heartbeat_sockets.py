# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats between two routers in one process, over real sockets of the loopback interface."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.channel.frames import HEARTBEATS
from tandem.channel.peer_socket import Path
from tandem.config.schema import Globals
from tandem.core.events import (
    Claimed,
    Company,
    Event,
    Failover,
    Resume,
    SourceChanged,
    Standby,
    Start,
    Tick,
    TrackerChanged,
    Vacancy,
    Vacated,
)
from tandem.core.neighbour import Neighbour
from tandem.core.settings import Group, Instance
from tandem.core.standing import Post
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND, SECOND
from tandem.heartbeats import Heartbeats
from tandem.log import Logger
from tandem.loop import Loop
from tests.unit.scenario import feed

SECRET = b"between these two"
WAYS = ("127.0.1.", "127.0.2.")  # two paths: networks of the loopback interface


class Side:
    """One router: its heartbeats, a group of one, and what the group was told."""

    def __init__(
        self, loop: Loop, number: int, port: int, secret: bytes = SECRET, priority: int = 100
    ) -> None:
        other = 3 - number
        self.loop = loop
        self.told: list[Event] = []
        self.sent: list[bytes] = []
        self.node = bytes((number,)) * 8
        self.group = SyncGroup(
            Group("G", ("I1",), implicit=True), [Instance("I1", "lan", 51, priority=priority)]
        )
        source = bytes((192, 0, 2, number))
        feed(self.group, loop.now(), TrackerChanged("interface", "lan", True), SourceChanged("I1", source))
        self.group.handle(Start(), loop.now())
        self.neighbour = Neighbour(frozenset())
        self.paths = [Path(f"{way}{other}", port, f"{way}{number}") for way in WAYS]
        hello = SimpleNamespace(node=bytes((other,)) * 8, capabilities=HEARTBEATS, key_id=1)
        session = SimpleNamespace(peer=hello, outgoing=SimpleNamespace(in_step=False))
        settings = SimpleNamespace(insecure=False, secrets={1: secret}, key_id=1, node=self.node)
        self.link = SimpleNamespace(
            current=SimpleNamespace(session=session), settings=settings, paths=self.paths
        )
        channel: Any = SimpleNamespace(
            links={"peer": self.link}, node=self.node, position=7, subscribe=lambda *_: None,
            send=lambda _peer, _topic, data: self.sent.append(data),
        )  # fmt: skip
        router: Any = SimpleNamespace(
            groups={"G": self.group}, endpoints={}, dispatch=lambda _group, event: self.told.append(event),
            neighbours={"peer": self.neighbour},
        )  # fmt: skip
        self.usable = True  # the network of the channel
        links: Any = SimpleNamespace(
            usable=lambda _: self.usable, carries=lambda _: self.usable,
            device=lambda name: name, index=lambda _: 1,
        )  # fmt: skip
        log = Logger("error", SimpleNamespace(write=lambda *_: True))  # type: ignore[arg-type]
        self.judged: list[tuple[str, bool]] = []
        self.beats = Heartbeats(
            loop,
            log,
            channel,
            router,
            links,
            Globals(heartbeat_interval_ms=10),
            lambda: False,
            lambda name, alive: self.judged.append((name, alive)),
        )
        self.beats.start()
        self.beats.peer_opened("peer")

    def meet(self, other: Side) -> None:
        """Take the other one's directory."""
        self.beats.received("peer", other.sent[-1])

    @property
    def status(self) -> Any:
        return self.beats.status("peer")

    @property
    def hears_all(self) -> bool:
        return self.status["state"] == "alive" and all(path["up"] for path in self.status["paths"])


Pair = tuple[Side, Side]


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.1.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def turn(loop: Loop, until: Callable[[], object]) -> None:
    """Run the loop until the condition holds."""
    deadline = loop.now() + 20 * SECOND
    while not until():
        assert loop.now() < deadline, "not reached"
        loop.turn(10 * MILLISECOND)


@pytest.fixture
def pair(loop: Loop, port: int) -> Iterator[Pair]:
    one, two = Side(loop, 1, port), Side(loop, 2, port)
    one.meet(two)
    two.meet(one)
    turn(loop, lambda: one.hears_all and two.hears_all)
    yield one, two
    for side in (one, two):
        side.beats.close()


def test_they_hear_each_other_by_every_path(pair: Pair) -> None:
    one, _ = pair
    assert [path["name"] for path in one.status["paths"]] == ["127.0.1.2", "127.0.2.2"]
    turn(one.loop, lambda: all(path["rtt_ms"] is not None for path in one.status["paths"]))
    assert one.beats.refused == 0
    assert one.beats.held_ms >= 10


def test_a_change_of_role_is_told_at_once_and_its_death_frees_the_role(pair: Pair) -> None:
    one, two = pair
    one.group.handle(Tick(), one.loop.now() + 60 * SECOND)
    one.beats.acted()
    turn(two.loop, lambda: any(isinstance(event, Claimed) for event in two.told))
    for _, sock in one.beats._peers["peer"].paths:
        sock.send = lambda data: len(data)  # type: ignore[method-assign]  # the power is lost
    turn(two.loop, lambda: two.status["state"] == "dead")
    assert two.judged == [("peer", True), ("peer", False)]
    assert Vacated(Vacancy.DIED, (("I1", bytes((192, 0, 2, 1))),)) in two.told
    assert two.status["last_failure"] in ("127.0.1.1", "127.0.2.1")


def test_old_news_of_a_router_that_was_away_free_no_role(pair: Pair) -> None:
    """Router two stands still while router one leaves its role and becomes active again."""
    one, two = pair
    one.group.handle(Tick(), one.loop.now() + 60 * SECOND)
    one.beats.acted()
    turn(two.loop, lambda: Claimed(True) in two.told)
    for event in (Standby(), Resume()):
        one.group.handle(event, one.loop.now() + 60 * SECOND)
        one.beats.acted()
    one.group.handle(Tick(), one.loop.now() + 120 * SECOND)
    one.beats.acted()
    time.sleep(2 * two.status["limit_ms"] / 1000)
    received = two.status["paths"][0]["received"]
    turn(two.loop, lambda: two.status["paths"][0]["received"] > received + 5)
    assert not [event for event in two.told if isinstance(event, Vacated)]
    one.group.handle(Standby(), one.loop.now() + 120 * SECOND)
    one.beats.acted()
    turn(two.loop, lambda: any(isinstance(event, Vacated) for event in two.told))


def test_who_led_and_stood_still_reads_old_news_before_it_beats_again(pair: Pair) -> None:
    """A router that leads reads at its own times. In the turn in which it wakes it leads no more."""
    one, two = pair
    two.group.handle(Tick(), two.loop.now() + 60 * SECOND)
    two.beats.acted()
    turn(two.loop, lambda: two.beats._pace.leads)
    for event in (Standby(), Resume()):
        one.group.handle(event, one.loop.now() + 60 * SECOND)
        one.beats.acted()
    time.sleep(2 * two.status["limit_ms"] / 1000)
    two.group.handle(Standby(), two.loop.now())  # its links went down meanwhile, which it reads first
    two.beats.acted()
    assert not two.beats._pace.leads
    two.told.clear()
    two.beats._timer(two.loop.now())
    received = two.status["paths"][0]["received"]
    turn(two.loop, lambda: two.status["paths"][0]["received"] > received + 5)
    assert not [event for event in two.told if isinstance(event, Company) and event.least is None]


def test_a_heartbeat_from_before_a_sleep_is_not_sent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, two = pair
    sent: list[bytes] = []
    for _, sock in two.beats._peers["peer"].paths:
        sock.send = lambda data: sent.append(data) or len(data)  # type: ignore[method-assign,func-returns-value]
    now = two.loop.now()
    with monkeypatch.context() as patched:
        patched.setattr(two.loop, "now", lambda: now + SECOND)
        two.beats._send(now)
    assert not sent
    two.beats._send(two.loop.now())
    assert len(sent) == 2, "by both paths"


def test_who_has_stood_still_tells_its_state_when_it_has_read_everything(pair: Pair) -> None:
    _, two = pair
    sent: list[bytes] = []
    for _, sock in two.beats._peers["peer"].paths:
        sock.send = lambda data: sent.append(data) or len(data)  # type: ignore[method-assign,func-returns-value]
    two.group.handle(Standby(), two.loop.now())
    two.beats.acted()
    assert len(sent) == 2, "at once, by both paths"
    sent.clear()
    time.sleep(2 * two.status["limit_ms"] / 1000)
    two.group.handle(Resume(), two.loop.now())
    two.beats.acted()
    assert not sent
    turn(two.loop, lambda: sent)


def test_who_could_not_hear_of_a_better_router_does_not_compare_faults_with_a_dead_one(pair: Pair) -> None:
    one, two = pair
    turn(two.loop, lambda: Company(True, False, 0, True) in two.told)
    two.usable = False
    two.group.handle(TrackerChanged("interface", "lan", False), two.loop.now())
    two.beats.acted()
    received = two.status["paths"][0]["received"]
    turn(two.loop, lambda: two.status["paths"][0]["received"] > received + 2)
    assert two.told[-1] == Company(True, False, 0, True), "heartbeats come by another path"
    for _, sock in one.beats._peers["peer"].paths:
        sock.send = lambda data: len(data)  # type: ignore[method-assign]  # the power is lost
    turn(two.loop, lambda: Company() in two.told)
    two.usable = True
    two.group.handle(TrackerChanged("interface", "lan", True), two.loop.now())
    two.beats.acted()
    turn(two.loop, lambda: two.told[-1] == Company(False, False, None, True))  # it takes over from a dead one


def test_a_peer_without_heartbeats_gets_none(pair: Pair) -> None:
    """After a downgrade, or a reload that has taken the secret away."""
    one, two = pair
    hello, settings = one.link.current.session.peer, two.link.settings
    hello.capabilities = 0
    settings.insecure = True
    for side in pair:
        side.beats.peer_opened("peer")
        assert side.status is None and side.beats.presence("peer") is None
    hello.capabilities, settings.insecure = HEARTBEATS, False
    for side in pair:
        side.beats.peer_opened("peer")
    one.meet(two)
    two.meet(one)
    turn(one.loop, lambda: one.hears_all and two.hears_all)


def test_a_daemon_that_has_started_anew_is_not_what_it_was(pair: Pair) -> None:
    one, two = pair
    one.group.handle(Tick(), one.loop.now() + 60 * SECOND)
    one.beats.acted()
    turn(two.loop, lambda: Claimed(True) in two.told)
    two.told.clear()
    two.link.current.session.peer.node = b"anew" * 2
    two.beats.peer_opened("peer")
    assert two.told[-1] == Claimed(False) and two.status["state"] == "not heard yet"


def test_who_has_closed_says_no_more(pair: Pair) -> None:
    one, two = pair
    sent: list[bytes] = []
    for _, sock in one.beats._peers["peer"].paths:
        sock.send = lambda data: sent.append(data) or len(data)  # type: ignore[method-assign,func-returns-value]
    one.beats.close()
    assert len(sent) == 2, "its goodbye, by both paths"
    received = two.status["paths"][0]["received"]
    turn(two.loop, lambda: two.status["state"] == "dead")
    assert len(sent) == 2 and two.status["paths"][0]["received"] <= received + 1


def test_a_goodbye_is_no_death(pair: Pair) -> None:
    one, two = pair
    one.beats.close()
    turn(two.loop, lambda: two.status["state"] == "not heard yet")
    assert not [event for event in two.told if isinstance(event, Vacated)]


def test_a_session_that_ends_changes_nothing(pair: Pair) -> None:
    one, two = pair
    for side in pair:
        side.link.current = None
        side.beats.peer_closed("peer")
    before = one.status["paths"][0]["received"]
    turn(one.loop, lambda: one.status["paths"][0]["received"] > before + 5)
    assert one.hears_all and two.hears_all


def test_a_recorded_heartbeat_is_refused(pair: Pair) -> None:
    one, two = pair
    sockets = dict(one.beats._peers["peer"].paths)
    recorded: list[bytes] = []
    first, second = sockets.values()
    send = first.send
    first.send = lambda data: recorded.append(data) or send(data)  # type: ignore[method-assign,func-returns-value]
    turn(two.loop, lambda: len(recorded) > 2)
    first.send = send  # type: ignore[method-assign]
    send(recorded[0])
    turn(two.loop, lambda: two.status["repeated"] == 1)
    second.send(recorded[0])  # by another path it is none of ours
    turn(two.loop, lambda: two.beats.refused == 1)


def test_another_secret_is_refused(loop: Loop, port: int) -> None:
    one, two = Side(loop, 1, port), Side(loop, 2, port, secret=b"another secret of two")
    turn(loop, lambda: one.beats.refused > 3 and two.beats.refused > 3)
    assert one.status["state"] == two.status["state"] == "not heard yet"
    for side in (one, two):
        side.beats.close()


def test_an_active_router_reads_when_its_own_heartbeat_is_due_or_the_session_brings_news(pair: Pair) -> None:
    one, two = pair
    one.group.handle(Tick(), one.loop.now() + 60 * SECOND)
    one.beats.acted()
    turn(one.loop, lambda: one.beats._pace.leads and two.beats._pace.follows)
    assert not two.beats._pace.leads
    peer = one.beats._peers["peer"]
    assert not peer.listens
    before = [path["received"] for path in one.status["paths"]]
    turn(
        one.loop,
        lambda: all(
            path["received"] > 20 + had for path, had in zip(one.status["paths"], before, strict=True)
        ),
    )
    assert one.hears_all and two.hears_all
    assert two.status["paths"][0]["lost"] == one.status["paths"][0]["lost"] == 0
    for side in pair:  # the timers rest
        side.beats._loop.call_at(side.beats._timer_key, None)
    while any(two.loop._epoll.poll(0)):
        two.loop.turn(0)
    two.group.handle(Standby(), two.loop.now())
    sent = len(two.sent)
    two.beats.acted()
    one.loop.turn(0)
    assert one.beats._core.seat("peer", "G").post is not Post.OUT, "no datagram wakes it"
    assert len(two.sent) == sent + 1
    one.meet(two)
    assert one.beats._core.seat("peer", "G").post is Post.OUT
    one.group.handle(Failover(), one.loop.now())
    one.beats.acted()
    assert peer.listens, "while roles change hands it waits for every word"
