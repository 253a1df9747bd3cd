# SPDX-License-Identifier: GPL-2.0-or-later
"""The nftables table `inet tandem_addresses`: the dead man's switch of addresses with an ordinary lifetime.

    table inet tandem_addresses {
        set alive { type ipv6_addr; flags timeout; elements = { fd00:1::4 timeout 3s } }    # while MASTER
        chain input {
            type filter hook input priority -310;
            ip6 daddr fd00:1::4 ip6 daddr != @alive drop
            icmpv6 type nd-neighbor-solicit icmpv6 taddr fd00:1::4 icmpv6 taddr != @alive drop
        }
        chain output {
            (likewise: ip6 saddr, nd-neighbor-advert)
        }
    }

core/prefix.py says which addresses these are. The daemon renews the elements when it renews the lifetime of
the other addresses. After its death no host finds this router by such an address, and no packet has it as
source.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from tandem.core.settings import Address, Instance
from tandem.plan import nft, nft_set
from tandem.plan.nft import Expressions
from tandem.plan.result import ADDRESS_TABLE as TABLE

SET = "alive"

_PRIORITY = -310  # as the guard's
_SOURCE, _DESTINATION, _TARGET = 8, 24, 8  # offsets in the IPv6 header, and in a neighbour solicitation
_BYTES = 16
_ICMPV6, _SOLICIT, _ADVERT = 58, 135, 136


def may_announce(instance: Instance) -> tuple[Address, ...]:
    """The addresses of an instance whose prefix an RA daemon may announce.

    On a macvlan of Tandem's own there is no RA daemon.
    """
    return tuple(
        address
        for address in instance.virtual_addresses + instance.excluded_addresses
        if address.family == 6
        and address.prefixlen < 128
        and not ip_address(address.address).is_link_local
        and (address.device is not None or not instance.use_vmac)
    )


def switch(instances: Sequence[Instance], lifetime_s: int) -> dict[str, object]:
    """`plan.result.GuardPlan` as plain values; without a lifetime there is no switch."""
    keys = {i.name: tuple(_packed(address) for address in may_announce(i)) for i in instances}
    keys = {name: found for name, found in keys.items() if found and lifetime_s}
    begin, end = nft.batch(nft.BATCH_BEGIN), nft.batch(nft.BATCH_END)
    rules = b"".join(_silence(key) for key in dict.fromkeys(key for found in keys.values() for key in found))
    return {
        "hold": begin + _table() + rules + end if keys else b"",
        "empty": begin + nft_set.empty(TABLE, SET),
        "tail": end,
        "clear": begin + nft.no_table(TABLE) + end,
        "answer": {name: nft_set.add(TABLE, SET, found, lifetime_s) for name, found in keys.items()},
    }


def _table() -> bytes:
    return (
        nft.no_table(TABLE)
        + nft.new_table(TABLE)
        + nft_set.new_set(TABLE, 1, SET, nft_set.IPV6_ADDRESS)
        + nft.chain(TABLE, "input", "filter", nft.HOOK_INPUT, _PRIORITY)
        + nft.chain(TABLE, "output", "filter", nft.HOOK_OUTPUT, _PRIORITY)
    )


def _silence(key: bytes) -> bytes:
    """The rules for one address."""
    return b"".join(
        nft.rule(TABLE, chain, [*expressions, nft.not_in(SET), nft.verdict(nft.DROP)])
        for chain, place, message in (("input", _DESTINATION, _SOLICIT), ("output", _SOURCE, _ADVERT))
        for expressions in _packets(key, place, message)
    )


def _packets(key: bytes, place: int, message: int) -> Iterator[Expressions]:
    """Yield the matches of packets with the address in their header, and of neighbour discovery for it."""
    ipv6 = nft.matches(nft.META_NFPROTO, bytes([nft.IPV6]))
    yield [*ipv6, nft.payload(nft.NETWORK_HEADER, place, _BYTES), nft.compare(nft.EQ, key)]
    yield [
        *ipv6,
        *nft.matches(nft.META_L4PROTO, bytes([_ICMPV6])),
        nft.payload(nft.TRANSPORT_HEADER, 0, 1),
        nft.compare(nft.EQ, struct.pack("!B", message)),
        nft.payload(nft.TRANSPORT_HEADER, _TARGET, _BYTES),
        nft.compare(nft.EQ, key),
    ]


def _packed(address: Address) -> bytes:
    return ip_address(address.address).packed
