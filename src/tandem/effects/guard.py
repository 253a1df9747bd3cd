# SPDX-License-Identifier: GPL-2.0-or-later
"""A guard: a table of nftables that keeps a router silent unless it is MASTER, also when its daemon has died.

There are two guards: for DHCP servers and RA daemons (plan/encode_guard.py), and for virtual addresses
without a short lifetime (plan/encode_switch.py). The executor says which instances are installed; `delay`
keeps an instance silent a little longer. Each change and each refresh is one small transaction of 8 µs.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.effects.netlink import Failure
from tandem.effects.nftables import Nftables, shape_found, shape_of
from tandem.plan.result import ADDRESS_TABLE, DHCP_TABLE, GuardPlan

DHCP = DHCP_TABLE, "nftables (DHCP guard)"
ADDRESSES = ADDRESS_TABLE, "nftables (virtual addresses)"


class Guard:
    """Lets active instances answer; the others, and those of a dead daemon, are silent.

    `which` is the table's name, and a label for failures.
    """

    def __init__(self, nftables: Nftables | None = None, which: tuple[str, str] = DHCP) -> None:
        self.table, self._label = which
        self.failures: tuple[Failure, ...] = ()  # of the last transaction
        self.answering: frozenset[str] = frozenset()  # instances
        self._plan = GuardPlan(b"", b"", b"", b"", {})
        self._installed: frozenset[str] = frozenset()
        self._delayed: frozenset[str] = frozenset()
        self._nftables = nftables or Nftables()

    @property
    def holds(self) -> bool:
        """Whether the table is in place and obeys."""
        return bool(self._plan.hold) and not self.failures

    def hold(self, plan: GuardPlan) -> None:
        """Make the table of this plan, with everybody silent who is not active."""
        self._plan = plan
        self.failures = self._transact(plan.hold or plan.clear)
        if not self.failures and plan.hold:
            self.refresh()

    def take(self, plan: GuardPlan) -> None:
        """Go over to the plan of a reload; the table stays when the plan is the same."""
        if plan != self._plan:
            self.hold(plan)

    def set_active(self, names: Iterable[str]) -> None:
        """Take note that these instances, and no others, are installed."""
        installed = frozenset(names)
        if installed != self._installed:
            self._installed = installed
            self.refresh()

    def delay(self, names: Iterable[str]) -> None:
        """Keep these instances silent even while they are active, until a later call no longer names them."""
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
        """Make the table anew if another program has changed it; return whether.

        OSError when the kernel does not show it.
        """
        if not self._plan.hold or shape_found(self.table) == shape_of(self._plan.hold):
            return False
        self.hold(self._plan)
        return True

    def clear(self) -> None:
        """Remove the table."""
        if self._plan.hold:
            self._transact(self._plan.clear)

    def close(self) -> None:
        """Close the socket. The table stays and keeps this router silent: it is not elected any more."""
        self._nftables.close()

    def _transact(self, batch: bytes) -> tuple[Failure, ...]:
        return self._nftables.transact(batch, self._label)


def clear_guard(plan: GuardPlan) -> None:
    """Remove the table that a former life left, where the kernel has tables at all."""
    nftables = Nftables()
    nftables.transact(plan.clear)
    nftables.close()
