# SPDX-License-Identifier: GPL-2.0-or-later
"""The nftables table `inet tandem_dhcp`: a router that is not MASTER answers no DHCP and sends no RAs.

    table inet tandem_dhcp {
        set answer4 { type ifname; flags timeout; elements = { "br-lan" timeout 3s } }    # while MASTER
        set answer6 { type ifname; flags timeout; }
        chain input {
            type filter hook input priority -310;
            iifname "br-lan" iifname != @answer4 meta nfproto ipv4 udp dport 67 drop
            iifname "br-lan" iifname != @answer6 meta nfproto ipv6 udp dport 547 drop
            iifname "br-lan" iifname != @answer6 icmpv6 type nd-router-solicit drop
        }
        chain output {
            type filter hook output priority -310;
            (likewise: oifname, udp sport 67 and 547, nd-router-advert)
            oifname "br-lan" icmpv6 type nd-router-advert ip6 saddr set fe80::4    # the virtual one
        }
    }

A request that is dropped on input makes no lease; an answer that is dropped on output stays unsaid, the
farewell of an RA daemon included. An element of a set lives as long as the virtual addresses do without a
word from the daemon. The kernel silences a router whose daemon has died, and a router that was never
MASTER has no element. The table outlives the daemon; it goes when no instance wants it any more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address

from tandem.core.settings import Instance
from tandem.plan import nft, nft_set
from tandem.plan.nft import Expressions
from tandem.plan.result import DHCP_TABLE as TABLE

DevicesOf = Callable[[str], tuple[str, ...]]  # what an instance's `interface` may be called in the kernel

INPUT, OUTPUT = "input", "output"
SETS = {4: "answer4", 6: "answer6"}

_PRIORITY = -310  # before conntrack's defragmentation and raw (-300): nobody sees what is dropped
_DHCP, _DHCPV6 = 67, 547
_ROUTER_SOLICIT, _ROUTER_ADVERT = 133, 134
_UDP, _ICMPV6 = 17, 58
_SADDR6 = (8, 16)  # offset and length of the source in an IPv6 header


def guard(instances: Sequence[Instance], devices_of: DevicesOf) -> dict[str, bytes]:
    """Parts of batches: the whole table with empty sets, emptying the sets, and no table at all.

    `hold` begins anew; `empty` is followed by `answer` of each instance that is MASTER and by `tail`.
    """
    guarded = [(i, device) for i in instances if i.dhcp for device in devices_of(i.interface)]
    begin, end = nft.batch(nft.BATCH_BEGIN), nft.batch(nft.BATCH_END)
    fresh = nft.no_table(TABLE) + nft.new_table(TABLE)
    table = _silent_table(((device, instance.family) for instance, device in guarded), fresh)
    for instance, device in guarded:
        table += b"".join(nft.rule(TABLE, OUTPUT, rule) for rule in _virtual_source(instance, device))
    return {
        "hold": begin + table + end if guarded else b"",
        "empty": begin + b"".join(nft_set.empty(TABLE, name) for name in SETS.values()),
        "tail": end,
        "clear": begin + nft.no_table(TABLE) + end,
    }


def boot_hold(interfaces: Iterable[tuple[str, int]]) -> bytes:
    """The batch that makes these (name, family) silent; EEXIST when a daemon has made the table."""
    table = _silent_table(interfaces, nft.new_table(TABLE, exclusive=True))
    return nft.batch(nft.BATCH_BEGIN) + table + nft.batch(nft.BATCH_END)


def _silent_table(interfaces: Iterable[tuple[str, int]], table: bytes) -> bytes:
    for number, name in enumerate(SETS.values(), 1):
        table += nft_set.new_set(TABLE, number, name, nft_set.INTERFACE_NAME)
    table += nft.chain(TABLE, INPUT, "filter", nft.HOOK_INPUT, _PRIORITY)
    table += nft.chain(TABLE, OUTPUT, "filter", nft.HOOK_OUTPUT, _PRIORITY)
    return table + b"".join(_silence(name, family) for name, family in interfaces)


def _silence(interface: str, family: int) -> bytes:
    """The rules that make `interface` silent unless it is in the set of its family."""
    rules = b""
    for chain, name, port_at, message in (
        (INPUT, nft.META_IIFNAME, 2, _ROUTER_SOLICIT),
        (OUTPUT, nft.META_OIFNAME, 0, _ROUTER_ADVERT),
    ):
        quiet = [*nft.matches(name, _key(interface)), nft.meta(name), nft.not_in(SETS[family])]
        port = _DHCP if family == 4 else _DHCPV6
        kinds = [_udp(port_at, port)] if family == 4 else [_udp(port_at, port), _icmpv6(message)]
        for kind in kinds:
            protocol = nft.matches(nft.META_NFPROTO, bytes([nft.IPV4 if family == 4 else nft.IPV6]))
            rules += nft.rule(TABLE, chain, [*quiet, *protocol, *kind, nft.verdict(nft.DROP)])
    return rules


def answer(devices: Iterable[str], family: int, lifetime_s: int) -> bytes:
    """The elements that let these devices answer, for so long; 0: for ever."""
    return nft_set.add(TABLE, SETS[family], map(_key, devices), lifetime_s)


def _virtual_source(instance: Instance, device: str) -> Iterator[Expressions]:
    """The instance's virtual link-local address as source of its RAs, so that hosts keep their router."""
    addresses = [ip_address(address.address) for address in instance.virtual_addresses]
    for address in addresses:
        if instance.family == 6 and address.is_link_local:
            offset, length = _SADDR6
            yield [
                *nft.matches(nft.META_OIFNAME, _key(device)),
                *nft.matches(nft.META_NFPROTO, bytes([nft.IPV6])),
                *_icmpv6(_ROUTER_ADVERT),
                nft.load(address.packed),
                nft.write_payload(nft.NETWORK_HEADER, offset, length),
            ]
            return


def _key(interface: str) -> bytes:
    return interface.encode().ljust(16, b"\0")


def _udp(at: int, port: int) -> Expressions:
    return [
        *nft.matches(nft.META_L4PROTO, bytes([_UDP])),
        nft.payload(nft.TRANSPORT_HEADER, at, 2),
        nft.compare(nft.EQ, struct.pack("!H", port)),
    ]


def _icmpv6(kind: int) -> Expressions:
    return [
        *nft.matches(nft.META_L4PROTO, bytes([_ICMPV6])),
        nft.payload(nft.TRANSPORT_HEADER, 0, 1),
        nft.compare(nft.EQ, bytes([kind])),
    ]
