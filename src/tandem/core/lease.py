# SPDX-License-Identifier: GPL-2.0-or-later
"""The leases of a provider: an IPv4 address by DHCP, IPv6 addresses and prefixes, or a session of PPPoE.

All times are monotonic ns of this router. Addresses are text; `parts` of a lease say what a router has by it,
so that two leases can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.core.timers import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    Parts = frozenset[tuple[str, int]]  # addresses and prefixes, each with its length
    NextHops = tuple[tuple[str, str], ...]  # the address of a gateway, and its MAC address


class _Expires:
    """Something that must not be used from the time `until` on."""

    __slots__ = ()
    until: int

    def valid(self, now: int) -> bool:
        """Whether the lease may be used; in its last second a lease may not."""
        return self.until - now >= SECOND

    def left_s(self, now: int) -> int:
        """The whole seconds until it expires."""
        return max(0, (self.until - now) // SECOND)


@dataclass(frozen=True, slots=True)
class Lease(_Expires):
    """The address that a provider's DHCP server has lent, with what belongs to it.

    `routes` are destination and gateway, "" for a destination on the link.
    """

    network: str
    mac: str  # the MAC address that it was lent to
    address: str
    prefixlen: int
    until: int
    routes: tuple[tuple[str, str], ...] = ()
    metric: int = 0  # of the routes
    server: str = ""
    dns: tuple[str, ...] = ()
    next_hops: NextHops = ()

    @property
    def parts(self) -> Parts:
        """The address."""
        return frozenset({(self.address, self.prefixlen)})


@dataclass(frozen=True, slots=True)
class Lent(_Expires):
    """An IPv6 address or prefix, with its preferred lifetime and its valid one (RFC 4862 section 5.5.4)."""

    address: str
    length: int
    preferred: int
    until: int


@dataclass(frozen=True, slots=True)
class Route6(_Expires):
    """A route of the provider. `gateway` "": on the link; `source`: the prefix that it is for, "" for all."""

    destination: str
    gateway: str
    source: str
    metric: int  # 0: the kernel's default
    until: int


@dataclass(frozen=True, slots=True)
class Lease6(_Expires):
    """The addresses and prefixes of a router by DHCPv6 and router advertisements.

    `lans` are addresses of the router in its own networks, made of the delegated prefixes: the network, and
    the address with the lifetimes of its prefix.
    """

    network: str
    mac: str  # the MAC address of the device
    addresses: tuple[Lent, ...]
    prefixes: tuple[Lent, ...]
    until: int  # the end of the last address or prefix
    routes: tuple[Route6, ...] = ()
    lans: tuple[tuple[str, Lent], ...] = ()
    next_hops: NextHops = ()

    @property
    def parts(self) -> Parts:
        """The addresses and prefixes."""
        return frozenset((one.address, one.length) for one in (*self.addresses, *self.prefixes))


@dataclass(frozen=True, slots=True)
class Session:
    """A session of PPPoE (RFC 2516). Its address is of no use to another router without the session.

    The concentrator ends a session by itself only when it misses the answers to its echo requests, after a
    minute or so, and many a provider allows an account one session at a time. So a router that takes over
    ends the session of its peer and dials, or goes on with a session that is left open.
    """

    network: str
    mac: str  # the MAC address of the device
    address: str
    concentrator: str  # its MAC address
    id: int
    open: bool = False  # its router does not end it when another router takes over

    @property
    def parts(self) -> Parts:
        """The address."""
        return frozenset({(self.address, 32)})

    def valid(self, _now: int) -> bool:
        """A session has no end that the router knows."""
        return True


AnyLease = Lease | Lease6 | Session
