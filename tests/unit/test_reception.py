# SPDX-License-Identifier: GPL-2.0-or-later
"""How many adverts are read; tests/netns/test_vrrp_socket.py tests the kernel's filters."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from typing import Any

import pytest

from tandem.effects.reception import PACKETS_A_TURN, Reception, Wanted

SECOND = 1_000_000_000
WANTED = Wanted(frozenset({(3, 51)}), 255, frozenset({b"\1\2\3\4"}), 2)


class Clock:
    """A loop whose time is set by the test, with readers and timers."""

    def __init__(self) -> None:
        self.time = 0
        self.readers: dict[int, Callable[[], None]] = {}
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}

    def now(self) -> int:
        return self.time

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        self.readers.pop(fd, None)

    def call_at(self, key: Hashable, when: int | None, callback: Callable[[int], None] | None = None) -> None:
        if when is None or callback is None:
            self.timers.pop(key, None)
        else:
            self.timers[key] = when, callback

    def run(self, until: int) -> None:
        """Turn every millisecond: readers are always ready, as in a flood."""
        while self.time < until:
            for reader in list(self.readers.values()):
                reader()
            for key, (when, callback) in list(self.timers.items()):
                if when <= self.time:
                    del self.timers[key]
                    callback(self.time)
            self.time += SECOND // 1000


class Socket:
    family = 4

    def __init__(self, fd: int, refuses: bool = False) -> None:
        self.fd = fd
        self.refuses = refuses

    def fileno(self) -> int:
        return self.fd

    def filter(self, _program: bytes) -> None:
        if self.refuses:
            raise OSError(12, "Cannot allocate memory")

    def close(self) -> None:
        self.fd = -1


def flood(wanted: Wanted | None) -> tuple[dict[int, int], list[bool], list[int]]:
    """How many packets of each socket are read in 10 s of a flood of both, whether it was noticed, and when
    only what was accepted before was taken.
    """
    clock: Any = Clock()
    looks: list[int] = []
    counts = {3: 0, 4: 0}
    flooded: list[bool] = []

    def packets(sock: Any, most: int, flood: bool, familiar: bool) -> int:
        assert 0 < most <= PACKETS_A_TURN
        if familiar:
            assert sock.fd == 3 and flood
            looks.append(clock.time)
            return most
        counts[sock.fd] += most
        flooded.append(flood)
        return most

    reception = Reception(clock, Socket(3), Socket(4), packets)  # type: ignore[arg-type]
    if wanted is not None:
        reception.want(wanted)
    clock.run(10 * SECOND)
    reception.close()
    assert not clock.readers and not clock.timers
    return counts, flooded, looks


def test_of_strangers_a_sample_is_read() -> None:
    counts, flooded, _ = flood(WANTED)
    assert 900 <= counts[4] <= 1100  # 100 a second, and 100 at once
    assert 2000 <= counts[3] <= 2500  # 200 a second, and twelve times what is expected
    assert not flooded[0] and flooded[-1]


def test_what_was_accepted_before_is_heard_in_a_flood_in_its_name() -> None:
    _, _, looks = flood(WANTED)
    pauses = [after - before for before, after in pairwise([*looks, 10 * SECOND])]
    assert max(pauses) < SECOND // 10  # in 128 KiB there is room for the packets of this time
    assert 500 <= len(looks) <= 1000


def test_while_nobody_is_known_everybody_is_heard() -> None:
    counts, _, _ = flood(Wanted(WANTED.virtual_routers, 255, None, 2))
    assert counts[3] >= 40_000
    assert counts[4] <= 1100


def test_a_kernel_without_room_for_the_filter_costs_the_budget_only() -> None:
    clock: Any = Clock()
    known, others = Socket(3, refuses=True), Socket(4)
    reception = Reception(clock, known, others, lambda *_: 0)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="memory"):
        reception.want(WANTED)
    assert list(clock.readers) == [3]
    assert others.fd == -1
    reception.want(WANTED)  # nothing more to try
    reception.close()
    assert known.fd == -1
