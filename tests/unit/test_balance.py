# SPDX-License-Identifier: GPL-2.0-or-later
"""Which real server has which slots: by weight, interleaved, and unchanged for servers that stay up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.balance import SLOTS, assign

WEIGHTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 100), min_size=1)


def test_weights_and_turns() -> None:
    slots = assign({"a": 3, "b": 1}, {"a", "b"})
    assert Counter(slots) == {"a": SLOTS * 3 // 4, "b": SLOTS // 4}
    assert all(Counter(slots[at : at + 4])["b"] == 1 for at in range(0, SLOTS, 4)), "nobody gets all at once"


def test_nobody_is_there() -> None:
    assert assign({}, set()) == assign({"a": 1}, set()) == assign({"a": 0, "b": 0}, {"a", "b"}) == ()
    assert set(assign({"a": 0, "b": 1}, {"a", "b"})) == {"b"}
    assert assign({"a": 0, "b": 1}, {"a"}) == (), "a server of weight 0 takes over from nobody"


@given(WEIGHTS, st.data())
def test_a_server_that_is_up_keeps_its_slots(weights: dict[str, int], data: st.DataObject) -> None:
    up = data.draw(st.sets(st.sampled_from(sorted(weights))))
    everybody, some = assign(weights, set(weights)), assign(weights, up)
    if not any(weights[name] for name in up):
        assert some == ()
        return
    assert len(some) == SLOTS and set(some) <= up
    assert all(after == before for before, after in zip(everybody, some, strict=True) if before in up)
    alive = {name: weight for name, weight in weights.items() if name in up and weight}
    share = Counter(some)
    for name, weight in alive.items():
        # What it had, and its part of what the others had: each rounded by one at most.
        assert abs(share[name] - SLOTS * weight / sum(alive.values())) <= len(weights) + 1
