# SPDX-License-Identifier: GPL-2.0-or-later
"""All leases of the networks that the routers share, whichever router granted them. Pure.

The MASTER of a network decides its leases (`take`, `remove`). When both routers or neither of them decided,
as after a partition or a reboot, the lease that ends last wins (`offer`). A grave remembers a released lease,
so that a peer that missed the release does not bring the lease back.
Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from tandem.dhcp.lease import LEFT_MAX, Lease

LEASES_MAX = 4096  # four times dnsmasq's own default limit
GRAVES_MAX = 1024
SLACK = 3  # seconds, for rounding and transport; a lease whose end moves by less has not changed


class LeaseTable:
    """Leases by address. Methods that change leases return the changed addresses."""

    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.refused = 0  # leases for which there was no room
        self._holders: dict[tuple[str, str], str] = {}  # IPv4 only: an IA of IPv6 has several addresses
        self._graves: dict[str, int | None] = {}  # address: when the lease that was released would have ended

    def __len__(self) -> int:
        return len(self.leases)

    @property
    def full(self) -> bool:
        """Return whether there is no room for another lease."""
        return len(self.leases) >= LEASES_MAX

    def take(self, lease: Lease, now: int) -> list[str]:
        """Take a lease that the MASTER of its network has sent."""
        self._graves.pop(lease.address, None)
        known = self.leases.get(lease.address)
        if known is not None and lease.same(known) and abs(known.left(now) - lease.left(now)) <= SLACK:
            return []
        if known is None and self.full:
            self.refused += 1
            return []
        changed = [lease.address]
        if ":" not in lease.address:
            before = self._holders.get(lease.holder)
            if before is not None and before != lease.address:
                self._drop(before)
                changed.append(before)
        self._drop(lease.address)
        self.leases[lease.address] = lease
        if ":" not in lease.address:
            self._holders[lease.holder] = lease.address
        return changed

    def offer(self, lease: Lease, now: int) -> list[str]:
        """Take another router's lease unless ours ends later, or was released and would have ended then."""
        if lease.left(now) <= 0:
            return []
        if lease.address in self._graves:
            ended = self._graves[lease.address]
            if ended is None or lease.left(now) <= ended - now + SLACK:
                return []
        rivals = [self.leases.get(lease.address)]
        if ":" not in lease.address:
            rivals.append(self.leases.get(self._holders.get(lease.holder, "")))
        if any(rival is not None and _prefers(rival, lease, now) for rival in rivals):
            return []
        return self.take(lease, now)

    def remove(self, address: str, now: int) -> list[str]:
        """Remove a lease that was released, as the MASTER of its network says."""
        lease = self.leases.get(address)
        if lease is None:
            return []
        self._drop(address)
        if len(self._graves) >= GRAVES_MAX:
            del self._graves[next(iter(self._graves))]
        self._graves[address] = lease.expires
        return [address]

    def expire(self, now: int) -> list[str]:
        """Remove the leases and the graves that have ended; return the addresses of the leases."""
        over = [address for address, lease in self.leases.items() if lease.left(now) <= 0]
        for address in over:
            self._drop(address)
        for address in [a for a, ended in self._graves.items() if ended is not None and ended <= now]:
            del self._graves[address]
        return over

    def _drop(self, address: str) -> None:
        lease = self.leases.pop(address, None)
        if lease is not None and self._holders.get(lease.holder) == address:
            del self._holders[lease.holder]


def _prefers(ours: Lease, theirs: Lease, now: int) -> bool:
    """Return whether our lease stays: it ends later, or both end alike and its text is greater."""
    mine, other = min(ours.left(now), LEFT_MAX), min(theirs.left(now), LEFT_MAX)
    if abs(mine - other) > SLACK:
        return mine > other
    if ours.same(theirs):
        return True
    return _text(ours) > _text(theirs)


def _text(lease: Lease) -> tuple[str, str, str, str]:
    return lease.identity, lease.client, lease.name, lease.address
