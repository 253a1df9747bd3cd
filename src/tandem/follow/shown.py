# SPDX-License-Identifier: GPL-2.0-or-later
"""Followed networks and their leases as people see them: in the status and in the log; pure."""

from __future__ import annotations

from tandem.core.lease import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.core.follow import Followed
    from tandem.core.lease import AnyLease
    from tandem.plan.result import Vmac
    from tandem.status_schema import FollowedNetwork


def shown(
    network: Followed, group: str, device: Vmac | None, problem: str | None, now: int
) -> FollowedNetwork:
    """Return the status of a network on this device; an expired lease is not shown."""
    lease = network.lease if network.lease is not None and network.lease.valid(now) else None
    addresses, prefixes = _held(lease)
    return {
        "name": network.name,
        "group": group,
        "state": network.state.value,
        "device": device.name if device is not None else None,
        "port": device.base if device is not None else None,
        "mac": network.mac or None,
        "address": addresses[0] if addresses else None,
        "prefixes": prefixes,
        "lease_left_s": lease.left_s(now) if lease is not None else None,
        "server": lease.server or None if isinstance(lease, Lease) else None,
        "problem": problem,
    }


def text(lease: AnyLease, now: int) -> str:
    """Return the lease for the log. Lifetimes of IPv6 are told anew with each router advertisement."""
    if isinstance(lease, Lease):
        return f"{lease.address}/{lease.prefixlen}, for {lease.left_s(now)} s,"
    return " and ".join(one for held in _held(lease) for one in held) or "no address"


def _held(lease: AnyLease | None) -> tuple[list[str], list[str]]:
    """The addresses and the prefixes of a lease, as texts."""
    if lease is None:
        return [], []
    if isinstance(lease, Lease):
        return [f"{lease.address}/{lease.prefixlen}"], []
    addresses = [f"{one.address}/{one.length}" for one in lease.addresses]
    return addresses, [f"{one.address}/{one.length}" for one in lease.prefixes]
