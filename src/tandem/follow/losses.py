# SPDX-License-Identifier: GPL-2.0-or-later
"""Losses: what other programs take away of a lent lease.

netifd clears a device that it meets for the first time, and the lent lease with it.
"""

from __future__ import annotations

from tandem.core.lease import Lease, Lease6
from tandem.effects.rtmessages import IFF_UP
from tandem.effects.rtnl import AddressMessage, LinkMessage, Monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.effects.rtmessages import Message
    from tandem.loop import Loop

    Lost = set[tuple[int, type]]  # devices, by number, with the kind of lease that is not whole there

RESTORES_MAX = 20  # while leases are lent; nobody is fought for ever


class Losses:
    """The kernel's word of addresses and devices, while it is listened to.

    `restore(lost)` returns how many leases it has put back into place.
    """

    def __init__(self, loop: Loop, restore: Callable[[Lost], int]) -> None:
        self._loop = loop
        self._restore = restore
        self._monitor: Monitor | None = None
        self._restores = 0

    def listen(self, wanted: bool) -> None:
        """Listen to the kernel from now on, or no longer."""
        if wanted and self._monitor is None:
            self._monitor, self._restores = Monitor(routes=False), 0
            self._loop.add_reader(self._monitor.fileno(), self._changed)
        elif not wanted and self._monitor is not None:
            self._loop.remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None

    def _changed(self) -> None:
        assert self._monitor is not None  # its reader calls this
        lost = {one for message in self._monitor.read() for one in _taken_away(message)}
        if lost and self._restores < RESTORES_MAX:
            self._restores += self._restore(lost)


def _taken_away(message: Message) -> Lost:
    """Return the device that was set down, or has lost an address, and the kinds of leases that need it.

    Setting a device down takes its routes away, and its IPv6 addresses.
    """
    if isinstance(message, LinkMessage) and message.is_new and not message.flags & IFF_UP:
        return {(message.ifindex, Lease), (message.ifindex, Lease6)}
    if isinstance(message, AddressMessage) and not message.is_new:
        return {(message.ifindex, Lease if message.family == 4 else Lease6)}
    return set()
