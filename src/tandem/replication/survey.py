# SPDX-License-Identifier: GPL-2.0-or-later
"""Survey: a backup looks once through its kernel's table, to tell its own traffic from the active's later.

It begins some time after the role was given up: by then the hosts have found the active router, and no
packet of theirs is under way to this one.
"""

from __future__ import annotations

from tandem.conntrack.ctnetlink import ASKED_AT_ONCE, Dump, lookups
from tandem.conntrack.own_traffic import OwnTraffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.conntrack.encode import Builder
    from tandem.loop import Loop

SETTLE = 3_000_000_000  # ns after which hosts have found the active router
REST = 4  # times as long as a step takes, after it
_TIMER = "conntrack survey"


class Survey:
    """Knows, once it is `ready`, which entries packets of this router use; before, that some may be."""

    def __init__(self, loop: Loop, settle: int = SETTLE) -> None:
        self.ready = False
        self._loop = loop
        self._settle = settle
        self._traffic = OwnTraffic()
        self._dump: Dump | None = None

    def start(self) -> None:
        """This router is a backup from now on."""
        self.stop()
        self._loop.call_at(_TIMER, self._loop.now() + self._settle, self._begin)

    def stop(self) -> None:
        """It is active, or ends: what is known is of no use any more."""
        self._loop.call_at(_TIMER, None)
        self._close()
        self.ready = False
        self._traffic.forget()

    def used(self, keys: list[bytes], builder: Builder) -> set[bytes]:
        """Those of the keys whose entries packets of this router use."""
        found: set[bytes] = set()
        for start in range(0, len(keys), ASKED_AT_ONCE):
            requests, order = builder.asks(keys[start : start + ASKED_AT_ONCE])
            for number, message in (lookups(requests) if requests else {}).items():
                if self._traffic.uses(message):
                    found.add(order[number - 1])
        return found

    def _begin(self, now: int) -> None:
        try:
            self._dump = Dump()
        except OSError:
            self.ready = True  # what has packets stays
            return
        self._step(now)

    def _step(self, now: int) -> None:
        dump = self._dump
        assert dump is not None
        try:
            for message in dump.read(1):
                self._traffic.note(message)
            done = dump.done
        except OSError:
            done = True
        if done:
            self._close()
            self.ready = True
        else:
            later = self._loop.now()
            self._loop.call_at(_TIMER, later + REST * (later - now), self._step)

    def _close(self) -> None:
        if self._dump is not None:
            self._dump.close()
            self._dump = None
