# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers that were both active: which of them has what the other does not know.

After a partition, or when a router stood still with its clock, both have opened connections. The election
leaves one active; the other one gives way only when its connections are there (core/sync_group.py). They
look for each other at once and tell each other their tables. The better one puts what it holds of the lesser
one into its kernel, beside its own; and once more what is new when the lesser one has ended its stream.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.replication.channel import Channel

MILLISECOND = 1_000_000
LOOK = 10 * MILLISECOND
LIMIT = 8_000 * MILLISECOND  # longer than anybody waits for it
_TIMER = "conntrack reunion"


class Reunion:
    """Keeps `partner(known, in_step)` told, and works between `begin` and `reunited(group)`.

    `merge(done)` puts what is held of the peers into the kernel of this active router.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Callable[[], Channel],
        merge: Callable[[Callable[[], None]], None],
        partner: Callable[[bool, bool], None],
        reunited: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._merge = merge
        self._partner = partner
        self._reunited = reunited
        self._known: set[str] = set()  # peers that were in step with us and have not said goodbye
        self._told = False, False
        self._groups: list[str] = []
        self._began = 0

    # Who is known

    def in_step(self, name: str) -> None:
        """That peer holds all of ours, or we all of its."""
        self._known.add(name)

    def left(self, name: str) -> None:
        """That peer has said goodbye: it gave up its role before, and its connections with it."""
        self._known.discard(name)

    def tell(self) -> None:
        """Say what has changed."""
        told = bool(self._known), self._channel().acked_position() is not None
        if told != self._told:
            self._told = told
            self._partner(*told)

    def tell_later(self) -> None:
        """Say it in the next turn of the loop: a role is just changing."""
        self._loop.call_at("conntrack partner", self._loop.now(), lambda _now: self.tell())

    # Meeting again

    def begin(self, group: str) -> None:
        """Another router says that it is active as well."""
        if group not in self._groups:
            self._groups.append(group)
        self._began = self._loop.now()
        self._channel().hurry()
        self._loop.call_at(_TIMER, self._began + LOOK, self._look)

    def stream_ended(self) -> None:
        """A peer has ended its stream: what it told becomes ours, also where nobody waits for that."""
        if not self._groups:
            self._merge(lambda: None)

    def stop(self) -> None:
        """The role is another one, or nobody waits any more."""
        self._groups.clear()
        self._loop.call_at(_TIMER, None)

    def _look(self, now: int) -> None:
        if self._channel().are_known():
            self._merge(self._merged)
        elif now < self._began + LIMIT:
            self._loop.call_at(_TIMER, now + LOOK, self._look)
        else:
            self.stop()

    def _merged(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            self._reunited(group)
