# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers that were both active: which of them has what the other does not know.

After a partition, or when a router stood still with its clock, both have opened connections. The election
leaves one active; the other one gives way only when its connections are there (core/sync_group.py). They
look for each other at once and tell each other their tables. The better one puts what it holds of the lesser
one into its kernel, beside its own; and once more what is new when the lesser one has ended its stream.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.events import Partner
from tandem.core.limits import EXCHANGE_LIMIT
from tandem.core.timers import MILLISECOND, SECOND
from tandem.loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.channel.channel import Channel

LOOK = 10 * MILLISECOND
_TIMER, _ENDED = "conntrack reunion", "conntrack reunited"


class Reunion:
    """Keeps `partner(Partner)` told, and works between `begin` and `reunited(group)`; None: all groups.

    `merge(done, last)` puts what is held of the peers into the kernel of this active router; `last`: nothing
    more is waited for.
    """

    def __init__(
        self,
        loop: Loop,
        channel: Callable[[], Channel],
        merge: Callable[[Callable[[], None], bool], None],
        partner: Callable[[Partner], None],
        reunited: Callable[[str | None], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._merge = merge
        self._partner = partner
        self._reunited = reunited
        self._known: set[str] = set()  # peers that were in step with us and have not said goodbye
        self._told = Partner(known=False, in_step=False)
        self._groups: list[str] = []
        self._open = False  # what is new is waited for
        self._began = 0
        self._ended_at = 0  # when all groups were told last

    # Who is known

    def in_step(self, name: str) -> None:
        """That peer holds all of ours, or we all of its."""
        self._known.add(name)

    def left(self, name: str) -> None:
        """That peer has said goodbye: it gave up its role before, and its connections with it."""
        self._known.discard(name)

    def forget_but(self, names: set[str]) -> None:
        """Only these are peers now."""
        self._known &= names

    def tell(self) -> None:
        """Say what has changed.

        That some peer holds all of our connections is not enough: it may follow us, while the router that
        is active as well lacks them. That one streams, as soon as we speak to it.
        """
        channel = self._channel()
        near = channel.in_step()
        settled = bool(near) and (self._known <= near or any(map(channel.is_streaming, near)))
        told = Partner(bool(self._known), settled, channel.addresses(near))
        if told != self._told:
            self._told = told
            self._partner(told)

    def tell_later(self) -> None:
        """Say it in the next turn of the loop: a role is just changing."""
        self._loop.call_at("conntrack partner", self._loop.now(), lambda _now: self.tell())

    # Meeting again

    def begin(self, group: str) -> None:
        """Another router says that it is active as well."""
        if group not in self._groups:
            self._groups.append(group)
        self._began, self._open = self._loop.now(), True
        self._channel().hurry()
        self._loop.call_at(_TIMER, self._began + LOOK, self._look)

    def stream_ended(self) -> None:
        """A peer has ended its stream: what it told becomes ours, also where nobody waits for that.

        Its adverts may be what was lost: then hosts that it has told its MAC address hear of ours by this.
        """
        self._loop.call_at(_TIMER, None)
        self._open = False
        self._merge(self._ended, True)

    def handed_over(self) -> None:
        """A peer has told the last of a group, and goes on with another one."""
        if self._open:
            self.stream_ended()

    def stop(self) -> None:
        """The role is another one, or nobody waits any more."""
        self._groups.clear()
        self._open = False
        for timer in (_TIMER, _ENDED):
            self._loop.call_at(timer, None)

    def _look(self, now: int) -> None:
        if self._channel().are_known():
            self._loop.call_at(
                _TIMER, now + EXCHANGE_LIMIT, lambda _now: self.stream_ended()
            )  # it may never say so
            self._merge(self._merged, False)
        elif now < self._began + EXCHANGE_LIMIT:
            self._loop.call_at(_TIMER, now + LOOK, self._look)
        else:
            self.stream_ended()

    def _ended(self) -> None:
        self._groups.clear()
        now = self._loop.now()
        due = max(now, self._ended_at + SECOND)  # a peer may end as many streams as it likes
        self._loop.call_at(_ENDED, due, self._tell_all)

    def _tell_all(self, now: int) -> None:
        self._ended_at = now
        self._reunited(None)

    def _merged(self) -> None:
        groups, self._groups = self._groups, []
        for group in groups:
            self._reunited(group)
