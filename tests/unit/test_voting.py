# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload starts, keeps and ends the quorum."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.schema import Config, Globals, Peer, PeerPath
from tandem.core.events import ANYTHING
from tandem.core.state import Role
from tandem.loop import Loop
from tandem.voting import Voting
from tests.unit.test_voter import Log


class Bench:
    """A router with one active group, whose peer is away."""

    def __init__(self) -> None:
        self.loop = Loop(pytest.fail)
        self.group: Any = SimpleNamespace(claims=True, role=Role.ACTIVE, ballot=ANYTHING)
        router: Any = SimpleNamespace(groups={"G": self.group}, dispatch=self._dispatch)
        self.voting = Voting(self.loop, Log(), router, lambda _peer: (False, {}, 0, False))  # type: ignore[arg-type]

    def _dispatch(self, group: Any, ballot: Any) -> None:
        group.ballot = ballot

    def reload(self, policy: str, *, priority: int = 50, peers: int = 1) -> None:
        names = [Peer(f"r{number}", (PeerPath("192.0.2.2"),)) for number in range(peers)]
        settings = Globals(witness_policy=policy, rt_priority=priority)
        plan: Any = SimpleNamespace(config=Config(settings, peers=tuple(names)))
        self.voting.take(plan)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.voting.stop()
    bench.loop.close()


def test_without_a_policy_nobody_counts(bench: Bench) -> None:
    bench.reload("none")
    assert (bench.voting.status(), bench.voting.health, bench.group.ballot) == (None, {}, ANYTHING)


def test_it_begins_and_ends_with_a_reload(bench: Bench) -> None:
    bench.reload("none")
    bench.reload("required")
    assert bench.group.ballot.hold and not bench.group.ballot.take, "an active group has a while"
    assert bench.voting.health == {"quorum": ["G: 1 of 2 votes, 2 are needed; missing: r0"]}
    bench.reload("none")
    assert (bench.group.ballot, bench.voting.status()) == (ANYTHING, None)


def test_it_stays_while_its_settings_do(bench: Bench) -> None:
    bench.reload("advisory")
    voter = bench.voting._voter
    bench.reload("advisory", priority=40)
    assert bench.voting._voter is voter
    bench.reload("advisory", peers=2)
    assert bench.voting._voter is not voter
