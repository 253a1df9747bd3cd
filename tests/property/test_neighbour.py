# SPDX-License-Identifier: GPL-2.0-or-later
"""A neighbour is judged right whatever the order of what is heard, lost and late."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tandem.core import neighbour as n
from tandem.core.neighbour import CHANNEL, Connections, Neighbour, Verdict

SEGMENTS = ("lan", "dmz")
LATE, LIMIT = 10, 30

steps = st.tuples(
    st.integers(0, 40),  # how much later
    st.sampled_from(("heard", "lost", "due", *{event for _, event in n.CONNECTIONS})),
    st.sampled_from((CHANNEL, *SEGMENTS)),
)


@dataclass
class Model:
    """When each path was heard last; a path that is lost is not there."""

    heard: dict[str, int] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)

    def speaks(self, path: str, now: int) -> bool:
        return path in self.heard and (path == CHANNEL or now < self.heard[path] + LIMIT)

    def verdict(self, segment: str, now: int) -> Verdict:
        if self.speaks(segment, now):
            return Verdict.ALIVE if now < self.heard[segment] + LATE else Verdict.SUSPECT
        others = any(self.speaks(path, now) for path in self.heard)
        return Verdict.PARTITIONED if others else Verdict.DEAD


@given(st.lists(steps, max_size=40))
def test_verdicts_are_those_of_a_model_that_remembers_everything(orders: list[tuple[int, str, str]]) -> None:
    one, model, now = Neighbour(frozenset()), Model(), 0
    for later, what, path in orders:
        while (deadline := one.next_deadline()) is not None and deadline <= now + later:
            assert deadline > now or later == 0, "a busy loop"
            now, later = deadline, now + later - deadline
            one.due(now)
            check(one, model, now)
        now += later
        if what == "heard":
            one.heard(path, now, *((n.NEVER, n.NEVER) if path == CHANNEL else (LATE, LIMIT)))
            model.heard[path] = now
            model.segments |= {path} - {CHANNEL}
        elif what == "lost":
            one.lost(path)
            model.heard.pop(path, None)
        elif what == "due":
            one.due(now)
        else:
            one.handle(what, now)
            if what in (n.LOST, n.GOODBYE):
                model.heard.pop(CHANNEL, None)
            if what == n.GOODBYE:
                model.heard.clear()
        check(one, model, now)


def check(one: Neighbour, model: Model, now: int) -> None:
    """The verdicts are the model's, and none contradicts the paths."""
    assert one.verdicts == {segment: model.verdict(segment, now) for segment in model.segments}
    speaking = {path for path in model.heard if model.speaks(path, now)}
    for segment, verdict in one.verdicts.items():
        assert not (verdict is Verdict.DEAD and speaking), "dead, while a path speaks"
        if verdict is Verdict.PARTITIONED:
            assert segment not in speaking and speaking, "partitioned is silent here and heard elsewhere"


@given(st.lists(st.sampled_from(sorted({event for _, event in n.CONNECTIONS})), max_size=20))
def test_connections_are_known_until_a_goodbye(events: list[str]) -> None:
    one = Neighbour(frozenset())
    for event in events:
        one.handle(event, 0)
    said = events[len(events) - events[::-1].index(n.GOODBYE) :] if n.GOODBYE in events else events
    known = {n.HOLDS_OURS, n.WE_HOLD} & set(said)
    assert (one.connections is not Connections.UNKNOWN) == bool(known)
    holds = [event for event in said if event != n.WE_HOLD]
    assert (one.connections is Connections.IN_STEP) == (holds[-1:] == [n.HOLDS_OURS])
