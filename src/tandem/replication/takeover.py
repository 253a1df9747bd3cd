# SPDX-License-Identifier: GPL-2.0-or-later
"""Becoming active: a group waits for its connections, and where it was handed the role, for the last of them.

A router that resigns, or is preempted, still sends what its kernel has told it, and then ends its stream; or
says that this was the last of it, when it goes on streaming as the active router of another group.
Until then what it has sent goes to the kernel as well. It is waited for as long as it goes on speaking: the
path to it may be what it has lost.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.limits import LAST_RECORDS_LIMIT, LAST_RECORDS_SILENCE
from tandem.loop import Loop
from tandem.replication.mirror import Mirror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.replication.mirror import Lookup

_TIMER = "conntrack handover"


class Takeover:
    """`streams()` says when each peer that streams was last heard; `restored(group)` ends a group's wait.

    `own()`: what `Mirror.complete` shall leave alone.
    """

    def __init__(
        self,
        loop: Loop,
        mirror: Mirror,
        streams: Callable[[], list[int]],
        own: Callable[[], Lookup | None],
        restored: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._mirror = mirror
        self._streams = streams
        self._own = own
        self._restored = restored
        self._groups: list[str] = []
        self._began: int | None = None  # when a group was handed the role; None: none was, or it has all
        self._handed_over_at: int | None = None  # when a peer said that it had told the last of a group
        self._resting = False  # the kernel has everything that was sent so far

    def begin(self, group: str, handed_over: bool) -> None:
        """A group becomes active."""
        self._groups.append(group)
        now, told = self._loop.now(), self._handed_over_at
        self._handed_over_at = None
        if handed_over and self._began is None and (told is None or now >= told + LAST_RECORDS_LIMIT):
            self._began = now
        self._go_on()

    @property
    def waiting(self) -> bool:
        """Whether a group waits."""
        return bool(self._groups)

    def stream_ended(self) -> None:
        """A peer has ended its stream, or its session has ended."""
        if self._resting:
            self._go_on()

    def handed_over(self) -> None:
        """A peer has told the last of a group that it gave up, and goes on streaming."""
        self._began = None
        self._handed_over_at = None if self._groups else self._loop.now()
        if self._resting:
            self._go_on()

    def finish(self) -> None:
        """Wait no more."""
        self._loop.call_at(_TIMER, None)
        self._began, self._resting = None, False
        groups, self._groups = self._groups, []
        for group in groups:
            self._restored(group)

    def _go_on(self) -> None:
        self._resting = False
        self._mirror.complete(self._completed, self._own())

    def _completed(self) -> None:
        now = self._loop.now()
        if self._began is not None and (heard := self._streams()):
            until = min(max(self._began, *heard) + LAST_RECORDS_SILENCE, self._began + LAST_RECORDS_LIMIT)
            if now < until:
                self._resting = True
                self._loop.call_at(_TIMER, until, lambda _now: self._go_on())
                return
        self.finish()
