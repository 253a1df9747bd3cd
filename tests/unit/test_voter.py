# SPDX-License-Identifier: GPL-2.0-or-later
"""The voter with a real witness on the loopback: votes come and go, and hosts say who is cut off."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.schema import Config, Globals, Peer, PeerPath, Witness
from tandem.core.events import Ballot
from tandem.core.quorum import GRACE
from tandem.core.state import Role
from tandem.core.timers import MILLISECOND, SECOND
from tandem.loop import Loop
from tandem.witness import hosts
from tandem.witness.command import PACKAGE_DIR, PROGRAM
from tandem.witness.voter import Voter
from tandem.witness.wire import ANSWER, CHALLENGE, NOBODY, Message, pack, unpack

SECRET = b"x8Tz0o2u9vbbfN4rkLm2"


class Log:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def change(self, _key: object, _level: str, text: str) -> None:
        self.lines.append(text)

    limited = change


class Bench:
    """A voter of a router with one peer, which is away, and one group."""

    def __init__(self, *witnesses: Witness, policy: str = "required") -> None:
        self.loop = Loop(pytest.fail)
        self.log = Log()
        self.group: Any = SimpleNamespace(claims=True, role=Role.BACKUP, ballot=None)
        self.away = False, {}, 0, False
        peer = Peer("r2", (PeerPath("192.0.2.2"),))
        config = Config(Globals(witness_policy=policy), peers=(peer,), witnesses=witnesses)
        presence: Any = lambda _name: self.away  # noqa: E731
        self.voter = Voter(
            self.loop, self.log, config, lambda: {"G": self.group}, presence, self._told  # type: ignore[arg-type]
        )  # fmt: skip
        self.voter.start()

    def _told(self, group: Any, ballot: Ballot) -> None:
        group.ballot = ballot

    def until(self, condition: Callable[[], object]) -> None:
        """Run the loop until the condition is true."""

        def look(now: int) -> None:
            if condition() or now > limit:
                self.loop.stop()
            else:
                self.loop.call_at("look", now + 5_000_000, look)

        limit = self.loop.now() + 10 * SECOND
        self.loop.call_at("look", self.loop.now(), look)
        self.loop.run()
        assert condition()

    def close(self) -> None:
        self.voter.close()
        self.loop.close()


def start_witness(directory: Path, port: int, lease_ms: int = 500) -> subprocess.Popen[str]:
    secret = directory / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)
    argv = [PROGRAM, PACKAGE_DIR, "127.0.0.1", str(port), str(lease_ms), str(secret)]
    child = subprocess.Popen([sys.executable, "-ISB", "-c", *argv], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert "answers on port" in child.stdout.readline()
    return child


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[Witness, Callable[[], None]]]:
    """A running witness, as the configuration names it, and a function that ends it."""
    port = free_port(socket.SOCK_DGRAM)
    child = start_witness(tmp_path, port)

    def end() -> None:
        child.terminate()
        assert child.wait(5) == 0

    yield Witness("w", "127.0.0.1", "tandem", port, SECRET), end
    if child.poll() is None:
        end()
    assert child.stdout is not None
    child.stdout.close()


def test_two_routers_compete_for_one_vote(witness: tuple[Witness, Callable[[], None]]) -> None:
    settings, end = witness
    first = Bench(settings)
    first.until(lambda: first.group.ballot and first.group.ballot.take)
    first.group.role = Role.ACTIVE
    second = Bench(settings)
    second.until(lambda: second.voter.status()["witness_answers"])
    assert second.group.ballot is not None and not second.group.ballot.take
    assert second.voter.lacking == {"G": "1 of 3 votes, 2 are needed; missing: w, r2"}
    assert first.voter.status()["leases"] == ["G"] and not first.voter.lacking
    first.group.claims, first.group.role = False, Role.BACKUP  # it gives the role up
    first.until(lambda: not first.voter.status()["leases"])
    second.until(lambda: second.group.ballot.take)
    second.group.role = Role.ACTIVE
    end()
    second.until(lambda: not second.group.ballot.hold)
    assert second.log.lines[-1] == "G: no quorum: 1 of 3 votes, 2 are needed; missing: w, r2"
    for bench in (first, second):
        bench.close()


def test_a_router_that_ends_gives_its_vote_back(witness: tuple[Witness, Callable[[], None]]) -> None:
    first = Bench(witness[0])
    first.until(lambda: first.group.ballot and first.group.ballot.take)
    first.close()
    second = Bench(witness[0])
    began = second.loop.now()
    second.until(lambda: second.group.ballot and second.group.ballot.take)
    assert second.loop.now() - began < SECOND
    second.close()


def test_advice_binds_nobody() -> None:
    bench = Bench(
        Witness("w", "127.0.0.1", "tandem", free_port(socket.SOCK_DGRAM), SECRET), policy="advisory"
    )
    bench.until(lambda: bench.voter.lacking)
    assert bench.group.ballot.take and bench.voter.status()["policy"] == "advisory"
    bench.close()


def test_a_host_that_refuses_the_connection_is_there() -> None:
    host = Witness("h", "127.0.0.1", "tcp", free_port(socket.SOCK_STREAM), interval_ms=100, fall=2)
    bench = Bench(host)
    bench.away = True, {"G": "BACKUP"}, 0, True
    bench.until(lambda: bench.voter.status()["hosts"] == {"h": True})
    bench.until(lambda: bench.group.ballot.take)
    bench.close()


class Hand:
    """A loop whose time is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000 * SECOND
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}
        self.readers: dict[int, Callable[[], None]] = {}

    def now(self) -> int:
        return self.time

    def call_at(self, key: Hashable, when: int | None, callback: Any = None, slack: int = 0) -> None:
        if when is None:
            self.timers.pop(key, None)
        else:
            self.timers[key] = when, callback

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        self.readers.pop(descriptor, None)

    add_writer, remove_writer = add_reader, remove_reader

    def wait(self, ns: int) -> int:
        """Let time pass, and return how many timers have run."""
        until, ran = self.time + ns, 0
        while self.timers and (found := min(self.timers.items(), key=lambda item: item[1][0]))[1][0] <= until:
            key, (when, callback) = found
            del self.timers[key]
            self.time, ran = max(self.time, when), ran + 1
            callback(self.time)
        self.time = until
        return ran


class Third:
    """A witness that answers what the test says."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(("127.0.0.1", 0))
        self.settings = Witness("w", "127.0.0.1", "tandem", self.socket.getsockname()[1], SECRET)

    def requests(self) -> list[Message]:
        found = []
        while True:
            try:
                data, self.asker = self.socket.recvfrom(2048)
            except BlockingIOError:
                return found
            message = unpack(data, SECRET, request=True)
            assert message is not None
            found.append(message)

    def answer(
        self, to: Message, *granted: bool, kind: int = ANSWER, by: socket.socket | None = None
    ) -> None:
        message = Message(kind, to.cluster, to.node, b"n" * 16, to.number, 1000, (), granted)
        (by or self.socket).sendto(pack(message, SECRET), self.asker)


class Pair:
    """A voter on a loop that is moved by hand, and its witness."""

    def __init__(self, *more: Witness) -> None:
        self.loop, self.third, self.log = Hand(), Third(), Log()
        self.group: Any = SimpleNamespace(claims=True, role=Role.BACKUP, ballot=None)
        self.told: list[Ballot] = []
        self.presence: tuple[bool, dict[str, str], int, bool] = (False, {}, 0, False)
        config = Config(
            Globals(witness_policy="required"),
            peers=(Peer("r2", (PeerPath("192.0.2.2"),)),),
            witnesses=(self.third.settings, *more),
        )
        loop, log, presence, groups = self.loop, self.log, lambda _: self.presence, lambda: {"G": self.group}
        self.voter = Voter(loop, log, config, groups, presence, self._told)  # type: ignore[arg-type]
        self.voter.start()

    def _told(self, group: Any, ballot: Ballot) -> None:
        group.ballot = ballot
        self.told.append(ballot)

    def read(self) -> None:
        for callback in list(self.loop.readers.values()):
            callback()

    def close(self) -> None:
        self.voter.close()
        self.third.socket.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_it_looks_ten_times_a_second_and_asks_five_times(pair: Pair) -> None:
    assert pair.loop.wait(SECOND) == 10 and len(pair.third.requests()) == 6, "the first one at once"
    pair.group.claims = False
    pair.loop.wait(SECOND // 5)
    pair.third.requests()
    assert pair.loop.wait(5 * SECOND) == 50 and len(pair.third.requests()) == 5


def test_what_is_over_wakes_nobody(pair: Pair) -> None:
    """The promise of a peer that was active, and the lack of a quorum, end; the looks go on as before."""
    pair.presence = True, {"G": "MASTER"}, SECOND, True
    pair.loop.wait(SECOND)
    pair.presence = False, {}, SECOND, False
    pair.group.role = Role.ACTIVE
    pair.loop.wait(5 * SECOND)
    assert pair.loop.wait(SECOND) == 10


def test_the_vote_ends_before_the_witness_gives_it_to_another(pair: Pair) -> None:
    """The witness reckons from the moment when it got the request, and this router needs its grace."""
    asked = pair.loop.now()
    [request] = pair.third.requests()
    pair.loop.time += 50 * MILLISECOND
    pair.third.answer(request, True)
    pair.read()
    assert pair.group.ballot.take and pair.voter.status()["leases"] == ["G"]
    assert pair.voter.quorum.holds("G", asked + SECOND - GRACE - 1)
    assert not pair.voter.quorum.holds("G", asked + SECOND - GRACE)


def test_a_vote_that_is_refused_is_gone(pair: Pair) -> None:
    [request] = pair.third.requests()
    pair.third.answer(request, True)
    pair.read()
    pair.loop.wait(SECOND // 5)
    pair.third.answer(pair.third.requests()[-1], False)
    pair.read()
    assert not pair.group.ballot.take and pair.voter.status()["leases"] == []


def test_a_challenge_is_answered_at_once(pair: Pair) -> None:
    [request] = pair.third.requests()
    assert (request.nonce, request.duration_ms) == (NOBODY, 0)
    pair.third.answer(request, kind=CHALLENGE)
    pair.read()
    [request] = pair.third.requests()
    assert request.nonce == b"n" * 16 and not pair.group.ballot.take
    pair.third.answer(request, True)
    pair.read()
    assert pair.group.ballot.take and pair.third.requests() == [], "the next one has its time"


def test_an_answer_counts_once_and_comes_from_the_witness(pair: Pair) -> None:
    [request] = pair.third.requests()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        pair.third.answer(request, True, by=stranger)
        pair.read()
    assert not pair.group.ballot.take and not pair.voter.status()["witness_answers"]
    pair.third.answer(request, False)
    pair.read()
    pair.third.answer(request, True)
    pair.read()
    assert not pair.group.ballot.take, "the answer has come already"


def test_an_answer_that_is_too_late_counts_no_more(pair: Pair) -> None:
    first = pair.third.requests()[0]
    pair.loop.wait(15 * SECOND // 5)
    second, *_ = pair.third.requests()
    pair.loop.wait(SECOND // 5)
    pair.third.requests()
    pair.third.answer(first, True)
    pair.read()
    assert not pair.voter.status()["witness_answers"], "16 requests are remembered"
    pair.third.answer(second, True)
    pair.read()
    assert pair.voter.status()["witness_answers"]


def test_a_witness_is_silent_after_three_seconds(pair: Pair) -> None:
    pair.third.answer(pair.third.requests()[0], False)
    pair.read()
    for seconds, answers in ((2, True), (1, False)):
        pair.loop.time += seconds * SECOND
        assert pair.voter.status()["witness_answers"] is answers


def test_a_witness_that_cannot_be_reached_is_in_the_log(pair: Pair) -> None:
    assert pair.voter._witness is not None
    pair.voter._witness.settings = replace(pair.third.settings, port=0)
    pair.loop.wait(SECOND)
    assert pair.log.lines[-1] == "witness w: Invalid argument"


def test_the_news_of_a_host_counts_at_once(pair: Pair) -> None:
    pair.third.answer(pair.third.requests()[0], True)
    pair.read()
    pair.voter._reachable(False)
    assert pair.voter.lacking == {"G": "no witness host answers"} and not pair.group.ballot.take


def test_a_ballot_is_told_once(pair: Pair) -> None:
    pair.loop.wait(5 * SECOND)
    assert len(pair.told) == 1 and len(pair.log.lines) == 1


class Question:
    """A question to a host; `answers` says whether it does."""

    def __init__(self, loop: Hand, timeout: int) -> None:
        self.loop = loop
        self.timeout = timeout
        self.answers = True

    def start(self, ended: Callable[[Any], None]) -> bool:
        result = SimpleNamespace(ok=self.answers, timed_out=not self.answers)
        self.loop.call_at(self, self.loop.now() + MILLISECOND, lambda _now: ended(result))
        return True

    def stop(self) -> None:
        pass


def test_a_router_is_cut_off_when_the_last_host_answers_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host counts with its first answer, and no more after `fall` questions without one."""
    asked: dict[str, Question] = {}

    def reached(loop: Hand, timeout: int, address: str, *_port: int) -> Question:
        return asked.setdefault(address, Question(loop, timeout))

    monkeypatch.setattr(hosts, "Reached", reached)
    monkeypatch.setattr(hosts, "Ping", reached)
    found = Pair(
        Witness("g", "192.0.2.8", "tcp", 9, interval_ms=1000, fall=3),
        Witness("h", "192.0.2.9", "ping", interval_ms=2000, fall=2),
    )
    found.third.answer(found.third.requests()[0], True)
    found.read()
    assert {address: one.timeout for address, one in asked.items()} == {
        "192.0.2.8": 990 * MILLISECOND, "192.0.2.9": SECOND
    }  # fmt: skip
    assert found.voter.lacking == {"G": "no witness host answers"}, "nothing is known yet"
    found.loop.wait(MILLISECOND)
    assert found.voter.status()["hosts"] == {"g": True, "h": True} and not found.voter.lacking
    asked["192.0.2.8"].answers = False
    for seconds, up in ((1, True), (1, True), (1, False)):
        found.loop.wait(seconds * SECOND)
        assert found.voter.status()["hosts"] == {"g": up, "h": True}
    assert "no witness host" not in str(found.voter.lacking)
    asked["192.0.2.9"].answers = False
    found.loop.wait(4 * SECOND)
    assert found.voter.lacking == {"G": "no witness host answers"}
    asked["192.0.2.8"].answers = True
    found.loop.wait(SECOND)
    assert found.voter.status()["hosts"] == {"g": True, "h": False}
    assert "no witness host" not in str(found.voter.lacking)
    found.close()


def test_the_end_gives_the_vote_back_and_leaves_nothing_behind() -> None:
    found = Pair(Witness("h", "127.0.0.1", "tcp", 9, interval_ms=100))
    assert found.loop.timers and found.loop.readers
    found.third.requests()
    found.voter.close()
    assert [request.groups for request in found.third.requests()] == [()]
    assert not found.loop.timers and not found.loop.readers
    found.third.socket.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a ping needs a raw socket, and that needs root")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_host_that_answers_pings(address: str) -> None:
    if ":" in address and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    bench = Bench(Witness("h", address, "ping", interval_ms=100, fall=2))
    bench.until(lambda: bench.voter.status()["hosts"] == {"h": True})
    bench.close()


def test_a_host_that_is_not_there() -> None:
    host = Witness("h", "192.0.2.9", "tcp", 9, interval_ms=100, fall=2)
    bench = Bench(host)
    bench.away = True, {"G": "BACKUP"}, 0, True
    bench.until(lambda: bench.voter.lacking)
    assert bench.voter.lacking == {"G": "no witness host answers"}
    bench.close()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [("short", 0o600, "has 16 to"), ("x" * 20, 0o644, "chmod 600"), (None, 0, "No such file")],
)
def test_a_secret_that_can_not_be_used(tmp_path: Path, content: str | None, mode: int, reason: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    argv = [PROGRAM, PACKAGE_DIR, "127.0.0.1", "0", "1000", str(file)]
    done = subprocess.run([sys.executable, "-ISB", "-c", *argv], capture_output=True, text=True)
    assert done.returncode == 1 and reason in done.stderr and len(done.stderr.splitlines()) == 1
