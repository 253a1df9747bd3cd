# SPDX-License-Identifier: GPL-2.0-or-later
"""Next hops: the MAC addresses of the provider's routers, which move with a lease.

A router that takes over would have to ask for them, and IPv6 may ask in vain at first: see `SOLICIT` in
effects/sysctl.py. A next hop that a peer has told is used at once, and confirmed soon (STALE in RFC 4861,
section 7.3.2).
"""

from __future__ import annotations

from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_pton

from tandem.core.lease import Lease, Lease6
from tandem.effects.rtmessages import NDA_DST, NDA_LLADDR, NDMSG, RTM_NEWNEIGH
from tandem.follow.lease6 import HOPS_MAX
from tandem.nlmsg import NLM_F_CREATE, attribute, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tandem.core.lease import NextHops
    from tandem.plan.result import Template

_NUD_STALE = 0x04  # include/uapi/linux/neighbour.h


def refreshed(
    lease: Lease | Lease6, known: NextHops, find: Callable[[bytes], bytes | None]
) -> Lease | Lease6:
    """Return the lease with the next hops of its routes.

    `find` returns the MAC address that the kernel has for a packed address; None: what was `known` stays.
    """
    gateways = [route[1] if isinstance(route, tuple) else route.gateway for route in lease.routes]
    before, found = dict(known), []
    for gateway in list(dict.fromkeys(filter(None, gateways)))[:HOPS_MAX]:
        mac = find(inet_pton(_family(lease), gateway))
        if mac is not None or gateway in before:
            found.append((gateway, mac.hex(":") if mac is not None else before[gateway]))
    return replace(lease, next_hops=tuple(found))


def place(lease: Lease | Lease6, index: int) -> Iterator[Template]:
    """Yield RTM_NEWNEIGH for each next hop."""
    for gateway, mac in lease.next_hops:
        body = NDMSG.pack(_family(lease), index, _NUD_STALE, 0, 0)
        body += attribute(NDA_DST, inet_pton(_family(lease), gateway))
        body += attribute(NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
        yield f"next hop {gateway}", request(RTM_NEWNEIGH, body, NLM_F_CREATE), ()


def _family(lease: Lease | Lease6) -> int:
    return AF_INET if isinstance(lease, Lease) else AF_INET6
