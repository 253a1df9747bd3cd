# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard of DHCP servers and RA daemons: only a MASTER answers. The table: plan/encode_guard.py.

The executor tells which instances are installed; what an instance waits for (`delay`) keeps it
silent a little longer. Each change and each refresh is one small transaction of 8 µs.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.effects.netlink import Failure
from tandem.effects.nftables import Nftables, shape_found, shape_of
from tandem.plan.result import GuardPlan

TABLE = "tandem_dhcp"  # as in plan/encode_guard.py
LABEL = "nftables (DHCP guard)"


class DhcpGuard:
    """Lets the interfaces of active instances answer; the others, and those of a dead daemon, are silent."""

    def __init__(self, nftables: Nftables | None = None) -> None:
        self.failures: tuple[Failure, ...] = ()  # of the last transaction
        self.answering: frozenset[str] = frozenset()  # instances
        self._plan = GuardPlan(b"", b"", b"", b"", {})
        self._installed: frozenset[str] = frozenset()
        self._delayed: frozenset[str] = frozenset()
        self._nftables = nftables or Nftables()

    def hold(self, plan: GuardPlan) -> None:
        """Make the table of this plan, with everybody silent who is not active."""
        self._plan = plan
        self.failures = self._transact(plan.hold or plan.clear)
        if not self.failures and plan.hold:
            self.refresh()

    def set_active(self, names: Iterable[str]) -> None:
        """These instances are installed, and no others."""
        installed = frozenset(names)
        if installed != self._installed:
            self._installed = installed
            self.refresh()

    def delay(self, names: Iterable[str]) -> None:
        """These stay silent even while they are active, until they are no longer named."""
        delayed = frozenset(names)
        if delayed != self._delayed:
            before = self._installed - self._delayed
            self._delayed = delayed
            if self._installed - delayed != before:
                self.refresh()

    def refresh(self) -> None:
        """Tell the kernel again who answers, as for the lifetime of the addresses."""
        plan = self._plan
        if not plan.hold:
            return
        names = (self._installed - self._delayed) & plan.answer.keys()
        batch = plan.empty + b"".join(plan.answer[name] for name in sorted(names)) + plan.tail
        failures = self._transact(batch)
        if failures:  # somebody has removed the table; both are all or nothing
            failures = self._transact(plan.hold) or self._transact(batch)
        self.failures = failures
        self.answering = frozenset() if failures else frozenset(names)

    def restore(self) -> bool:
        """Make the table as it was again if somebody else has changed it; whether that was so.

        OSError when the kernel does not say.
        """
        if not self._plan.hold or shape_found(TABLE) == shape_of(self._plan.hold):
            return False
        self.hold(self._plan)
        return True

    def close(self) -> None:
        """Close the socket. The table stays, and silent: whoever stops the daemon has not been elected."""
        self._nftables.close()

    def _transact(self, batch: bytes) -> tuple[Failure, ...]:
        return self._nftables.transact(batch, LABEL)


def clear_guard(plan: GuardPlan) -> None:
    """Remove the table that a former life left, where the kernel has tables at all."""
    nftables = Nftables()
    nftables.transact(plan.clear)
    nftables.close()
