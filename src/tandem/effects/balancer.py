# SPDX-License-Identifier: GPL-2.0-or-later
"""Balancer: the table of virtual servers (plan/encode_balance.py); each map changes as a whole."""

from __future__ import annotations

from tandem.effects.nftables import Nftables, shape_found, shape_of
from tandem.plan import nft, nft_set
from tandem.plan.result import BALANCE_TABLE as TABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from tandem.effects.netlink import Failure
    from tandem.plan.result import BalancePlan

    Owners = Mapping[str, tuple[str, ...]]  # by virtual server: the real server of each slot


class Balancer:
    """Makes the table, fills its maps, and puts it back; `failures`: the refusals of the last transaction."""

    def __init__(self) -> None:
        self.failures: tuple[Failure, ...] = ()
        self._nftables = Nftables()
        self._plan: BalancePlan | None = None
        self._owners: dict[str, tuple[str, ...]] = {}

    def hold(self, plan: BalancePlan, owners: Owners) -> None:
        """Make the table of a plan; nothing happens when it stands with the same maps."""
        if plan == self._plan and not self.failures:
            self.assign(owners)
        else:
            self._plan, self._owners = plan, dict(owners)
            self._make()

    def assign(self, owners: Owners) -> None:
        """Change the maps of virtual servers whose slots have other owners now."""
        plan = self._plan
        assert plan is not None  # `hold` has come before
        changed = {name: slots for name, slots in owners.items() if self._owners.get(name) != slots}
        self._owners |= changed
        if not changed:
            return
        batch = nft.batch(nft.BATCH_BEGIN)
        for name in changed:
            batch += nft_set.empty(TABLE, plan.maps[name]) + self._fill(plan, name)
        self.failures = self._nftables.transact(batch + plan.tail, "nftables (virtual servers)")
        if self.failures:  # somebody has removed the table
            self._make()

    def restore(self) -> bool:
        """Make the table anew if another program has changed it; return whether. OSError."""
        plan = self._plan
        if plan is None or self.failures or shape_found(TABLE) == shape_of(plan.hold):
            return False
        self._make()
        return True

    def clear(self) -> None:
        """Remove the table."""
        if self._plan is not None:
            self._nftables.transact(self._plan.clear)
        self._plan = None
        self._nftables.close()

    def _make(self) -> None:
        plan = self._plan
        assert plan is not None  # the callers have looked
        batch = plan.hold + b"".join(self._fill(plan, name) for name in plan.maps) + plan.tail
        self.failures = self._nftables.transact(batch, "nftables (virtual servers)")

    def _fill(self, plan: BalancePlan, name: str) -> bytes:
        slots = self._owners.get(name, ())
        values = plan.values[name]
        return nft_set.fill(TABLE, plan.maps[name], (values[owner] for owner in slots)) if slots else b""
