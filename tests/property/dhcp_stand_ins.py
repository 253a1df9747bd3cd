# SPDX-License-Identifier: GPL-2.0-or-later
"""Stand-ins for the loop and for nftables, around a simulated DHCP gateway."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class Timers:
    """A loop without descriptors; whoever has it says what time it is, and when a timer has come."""

    def __init__(self) -> None:
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}

    def call_at(self, key: Hashable, when: int | None, callback: Callable[[int], None] | None = None) -> None:
        self.timers.pop(key, None)
        if when is not None and callback is not None:
            self.timers[key] = when, callback

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_reader(self, fd: int) -> None: ...


class Guard:
    """Remembers who may not answer yet."""

    answering = frozenset[str]()

    def __init__(self) -> None:
        self.delayed: set[str] = set()
        self.failures: tuple[str, ...] = ()
        self.refreshed = 0

    def delay(self, names: Any) -> None:
        self.delayed = set(names)

    def refresh(self) -> None:
        self.refreshed += 1
