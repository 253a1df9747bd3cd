# SPDX-License-Identifier: GPL-2.0-or-later
"""The voter with a real witness on the loopback: votes come and go, and hosts say who is cut off."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.schema import Config, Globals, Peer, PeerPath, Witness
from tandem.core.events import Ballot
from tandem.core.state import Role
from tandem.core.timers import SECOND
from tandem.loop import Loop
from tandem.witness.command import PACKAGE_DIR, PROGRAM
from tandem.witness.voter import Voter

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
        self.away = False, {}, 0
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


def test_a_host_that_answers_and_stops() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        host = Witness("h", "127.0.0.1", "tcp", port, interval_ms=100, fall=2)
        bench = Bench(host)
        bench.away = True, {"G": "BACKUP"}, 0
        bench.until(lambda: bench.voter.status()["hosts"] == {"h": True})
        bench.until(lambda: bench.group.ballot.take)
        bench.close()


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
    bench.away = True, {"G": "BACKUP"}, 0
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
