# SPDX-License-Identifier: GPL-2.0-or-later
"""Survey: a backup reads its kernel's table once, to distinguish its own traffic from the active router's.

The survey begins some time after this router has become a backup: by then the hosts have found the active
router, and none of their packets is still on its way to this one.
"""

from __future__ import annotations

from tandem.conntrack.ctnetlink import ASKED_AT_ONCE, Dump, lookups
from tandem.conntrack.own_traffic import OwnTraffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.conntrack.encode import Builder
    from tandem.loop import Loop

SETTLE = 3_000_000_000  # ns after which hosts have found the active router
REST = 4  # the pause after a step is so many times as long as the step
_TIMER = "conntrack survey"


class Survey:
    """The survey of a router: it knows which entries the router's own traffic uses, once it is `ready`."""

    def __init__(self, loop: Loop, settle: int = SETTLE) -> None:
        self.ready = False
        self._loop = loop
        self._settle = settle
        self._traffic = OwnTraffic()
        self._dump: Dump | None = None

    def start(self) -> None:
        """Begin, because this router has become a backup."""
        self.stop()
        self._loop.call_at(_TIMER, self._loop.now() + self._settle, self._begin)

    def stop(self) -> None:
        """Stop and forget everything, because this router becomes active or ends."""
        self._loop.call_at(_TIMER, None)
        self._close()
        self.ready = False
        self._traffic.forget()

    def used(self, keys: list[bytes], builder: Builder) -> set[bytes]:
        """Return the keys whose entries this router's own traffic uses."""
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
            self.ready = True  # every entry with packets stays
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
