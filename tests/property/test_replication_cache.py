# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache against a plain dict that does the same without haste."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.conntrack.record import DESTROY, NEW, TCP_ESTABLISHED, UPDATE, merge
from tandem.replication.cache import ENTRY_COST, Cache, entry_digest
from tests.unit.test_replication_cache import tidy

SECOND = 1_000_000_000
LIMIT = 12


def key(number: int) -> bytes:
    return b"\0\0\4\6" + bytes((10, 0, 0, number)) + b"\xc0\0\2\2" + b"\4\0\0\x50"


def body(state: int, port: int, timeout: int) -> bytes:
    return (
        b"\5\0\x0e"
        + timeout.to_bytes(4, "big")
        + bytes((state, 7, 7, 3, 3))
        + b"\xc0\0\2\1"
        + bytes((9, port))
    )


CHANGES = st.one_of(
    st.tuples(
        st.sampled_from((NEW, UPDATE, UPDATE, DESTROY)),
        st.integers(0, 15),
        st.integers(0, 4),
        st.integers(0, 3),
    ),
    st.sampled_from(("begin", "end", "abort", "work", "clear", "tick", "confirm", "garbage")),
)


@given(st.lists(CHANGES, max_size=60))
def test_like_a_dict(changes: list[tuple[int, int, int, int] | str]) -> None:
    cache = Cache(LIMIT, 1 << 30, hold=10_000)
    model: dict[bytes, bytes] = {}
    stale: set[bytes] | None = None  # in a bulk
    buried: set[bytes] = set()  # stale when the last bulk ended: gone, but may still take room
    now, overflow = 0, 0
    for change in changes:
        if change == "begin":
            cache.begin_bulk()
            stale = set(model)
            buried = set()
        elif change == "end":
            cache.end_bulk()
            buried |= stale or set()
            for gone in stale or ():
                del model[gone]
            stale = None
        elif change == "abort":
            cache.abort_bulk()
            stale = None
        elif change == "work":
            for _ in range(40):
                tidy(cache, now)
            if stale is None:
                buried = set()
        elif change == "clear":
            cache.clear()
            model.clear()
            buried = set()
            stale = set() if stale is not None else None
        elif change == "tick":
            now += SECOND
        elif change == "confirm":
            cache.confirm(now)
        elif change == "garbage":
            before = cache.invalid
            cache.apply((NEW, b"\0\0\4\6", b"\5"), now)
            assert cache.invalid == before + 1
        elif isinstance(change, tuple):
            op, number, state, port = change
            name, value = key(number), body(state, port, 100)
            if op == DESTROY:
                cache.apply((op, name, b""), now)
                model.pop(name, None)
                buried.discard(name)
            elif name not in model and len(model) + len(buried - {name}) >= LIMIT and name not in buried:
                cache.apply((op, name, value), now)
                overflow += 1
            else:
                cache.apply((op, name, value), now)
                known = model.get(name)
                model[name] = merge(known, value) if op == UPDATE and known else value
                buried.discard(name)
            if stale is not None:
                stale.discard(name)
        assert len(cache) == len(model)
        assert cache.overflow == overflow
        total = sum(entry_digest(name, value) for name, value in model.items()) & (1 << 64) - 1
        assert cache.digest() == (len(model), total.to_bytes(8, "big"))
        assert cache.memory == sum(len(k) + len(v) + ENTRY_COST for k, v in model.items())
    assert {k: v for some in cache.slices() for k, v in some} == model
    assert all(cache.get(name) == model.get(name) for name in map(key, range(16)))


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=100), st.integers(0, 255))
def test_slices_while_the_table_changes(changes: list[tuple[int, bool]], extra: int) -> None:
    """An entry that stays comes once, whichever others come and go meanwhile."""
    cache = Cache(10_000, 1 << 30)
    steady = {b"\0\0\4\6" + bytes((10, 1, 0, n)) + key(0)[8:] for n in range(100)}
    for name in steady:
        cache.apply((NEW, name, body(TCP_ESTABLISHED, 1, 100)), 0)
    left = list(changes)
    seen: list[bytes] = []
    for some in cache.slices():
        seen += [name for name, _ in some]
        for number, there in left[:3]:
            cache.apply((NEW, key(number), body(1, 1, 100)) if there else (DESTROY, key(number), b""), 0)
        del left[:3]
    assert steady <= set(seen) and len(seen) == len(set(seen))
