# SPDX-License-Identifier: GPL-2.0-or-later
"""Lans: the router's own networks that have parts of delegated prefixes, with their addresses of these.

netifd tells the names of these networks with the prefix; the status of each network has its addresses.
"""

from __future__ import annotations

from dataclasses import replace

from tandem.core.lease import Lease6
from tandem.follow import lease6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tandem.core.lease import AnyLease
    from tandem.follow.lease6 import Lan

LANS_MAX = 64  # a peer names them


class Lans:
    """The networks and their addresses; `ask(network)` asks netifd for the status of a network."""

    def __init__(self, ask: Callable[[str], None]) -> None:
        self._ask = ask
        self._addresses: dict[str, tuple[Lan, ...]] = {}  # by network

    def __contains__(self, name: object) -> bool:
        return name in self._addresses

    def learn(self, names: Iterable[str], others: Collection[str]) -> None:
        """Ask netifd for these networks, without the `others`, when they are new."""
        new = sorted(set(names) - self._addresses.keys() - set(others))
        for name in new[: LANS_MAX - len(self._addresses)]:
            self._addresses[name] = ()
            self._ask(name)

    def change(self, name: str, addresses: tuple[Lan, ...]) -> bool:
        """Take the addresses that a network has now; return whether they are other ones."""
        if name not in self._addresses or self._addresses[name] == addresses:
            return False
        self._addresses[name] = addresses
        return True

    def added(self, lease: Lease6, known: AnyLease | None) -> Lease6:
        """Return the lease with the addresses that netifd has made of it, and those that were known before.

        netifd makes them a moment later than it tells of the prefix.
        """
        made = lease6.with_lans(lease, [lan for lans in self._addresses.values() for lan in lans])
        names = {name for name, _ in made.lans}
        before = known.lans if isinstance(known, Lease6) else ()
        missing = [(name, one.address, one.length) for name, one in before if name not in names]
        return replace(made, lans=(*made.lans, *lease6.with_lans(lease, missing).lans))
