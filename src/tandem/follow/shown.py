# SPDX-License-Identifier: GPL-2.0-or-later
"""Followed networks and their leases as people see them: in the status and in the log; pure."""

from __future__ import annotations

from tandem.core.lease import Lease, Session

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
        "lease_left_s": None if lease is None or isinstance(lease, Session) else lease.left_s(now),
        "server": _server(lease),
        "problem": problem,
    }


def text(lease: AnyLease, now: int) -> str:
    """Return the lease for the log. Lifetimes of IPv6 are told anew with each router advertisement."""
    if isinstance(lease, Lease):
        return f"{lease.address}/{lease.prefixlen}, for {lease.left_s(now)} s,"
    if isinstance(lease, Session):
        return f"{lease.address} by session {lease.id} of {lease.concentrator}"
    return " and ".join(one for held in _held(lease) for one in held) or "no address"


def _server(lease: AnyLease | None) -> str | None:
    """Return the provider's server, or the MAC address of its concentrator."""
    if isinstance(lease, Session):
        return lease.concentrator
    return lease.server or None if isinstance(lease, Lease) else None


def _held(lease: AnyLease | None) -> tuple[list[str], list[str]]:
    """Return the addresses and the prefixes of a lease, as texts."""
    if lease is None:
        return [], []
    if isinstance(lease, Lease):
        return [f"{lease.address}/{lease.prefixlen}"], []
    if isinstance(lease, Session):
        return [f"{lease.address}/32"], []
    addresses = [f"{one.address}/{one.length}" for one in lease.addresses]
    return addresses, [f"{one.address}/{one.length}" for one in lease.prefixes]
