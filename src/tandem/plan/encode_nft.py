# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's own nftables table `inet tandem`, as nfnetlink messages.

    table inet tandem {
        chain postrouting {
            type nat hook postrouting priority 99;      # fw4 masquerades at 100, srcnat
            meta l4proto 255 snat ip to VIP             # in every role; matches nothing
            meta nfproto ipv4 oifname "wan" iif != 0 ip daddr != 224.0.0.0/4 ip saddr != VIP snat ip to VIP
        }
        chain input {
            type filter hook input priority -1;         # before fw4's filter, 0
            ip6 daddr VIP icmpv6 type { 135, 136 } accept
            ip6 daddr VIP drop
        }
    }

The first chain to set up NAT for a flow wins, so fw4's masquerade leaves these flows alone.
The rule that matches nothing keeps connection tracking on: the first rule that needs it makes the kernel walk
all of its table, for 20 to 60 ms where that has 262,144 buckets, which a takeover would wait for.
A packet that this router itself sends has no incoming interface: it keeps its address, above
all VRRP adverts (Linux 5.7 and later know the incoming interface in postrouting).

Adverts, the channel and heartbeats stay out of connection tracking, by a table that exists in every role: an
attacker can fill the conntrack table, and the kernel would then drop their packets as well.

    table inet tandem_notrack {
        chain prerouting {
            type filter hook prerouting priority -300;  # raw: before connection tracking
            meta l4proto 112 notrack
            ip saddr PEER tcp dport 3780 notrack        # and sport; likewise daddr in output
            udp sport 3780 udp dport 3780 notrack       # heartbeats
        }
        chain output { type filter hook output priority -300; ... }
    }
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from tandem.config.schema import Config
from tandem.core.packet import PROTOCOL
from tandem.core.settings import Instance
from tandem.plan import nft
from tandem.plan.nft import Expressions
from tandem.plan.result import ADDRESS_TABLE, BALANCE_TABLE, GATE_TABLE, NOTRACK_TABLE, TABLE

POSTROUTING, INPUT = "postrouting", "input"

_PRIORITY_SRCNAT, _PRIORITY_FILTER = 100, 0
_PRIORITY_RAW = -300
_IPPROTO_TCP, _IPPROTO_UDP, _IPPROTO_ICMPV6, _IPPROTO_RESERVED = 6, 17, 58, 255
_ND_SOLICIT, _ND_ADVERT = 135, 136

# Where the addresses stand in the IP header: offset of source, of destination, length.
_ADDRESS_AT = {nft.IPV4: (12, 16, 4), nft.IPV6: (8, 24, 16)}


def frame(instances: Sequence[Instance]) -> dict[str, bytes]:
    """Return the parts of a batch before and after the rules, and batches that remove tables.

    Only the chains that one of the instances needs; head and tail are empty when none needs any.
    The kernel does all of a batch or nothing.
    """
    chains = b""
    if any(instance.snat for instance in instances):
        chains += nft.chain(TABLE, POSTROUTING, "nat", nft.HOOK_POSTROUTING, _PRIORITY_SRCNAT - 1)
    if any(_refuses(instance) for instance in instances):
        chains += nft.chain(TABLE, INPUT, "filter", nft.HOOK_INPUT, _PRIORITY_FILTER - 1)
    gone = nft.no_table(TABLE)
    chains += _track(instance.snat for instance in instances if instance.snat)
    begin, end = nft.batch(nft.BATCH_BEGIN), nft.batch(nft.BATCH_END)
    former = TABLE, GATE_TABLE, ADDRESS_TABLE, NOTRACK_TABLE, BALANCE_TABLE
    return {
        "head": begin + gone + nft.new_table(TABLE) + chains if chains else b"",
        "tail": end if chains else b"",
        "clear": begin + gone + end,
        "former": begin + b"".join(nft.no_table(name) for name in former) + end,
    }


def _track(addresses: Iterable[str]) -> bytes:
    """Return a rule that matches nothing for each family of these SNAT addresses."""
    nothing = nft.matches(nft.META_L4PROTO, bytes([_IPPROTO_RESERVED]))
    by_family = dict(map(_family, addresses))
    return b"".join(
        nft.rule(TABLE, POSTROUTING, [*nothing, nft.load(value), nft.snat(family)])
        for family, value in sorted(by_family.items())
    )


def notrack(config: Config) -> dict[str, bytes]:
    """Return the batch that makes the table `tandem_notrack`, and the one that removes it."""
    gone = nft.no_table(NOTRACK_TABLE)
    begin, end = nft.batch(nft.BATCH_BEGIN), nft.batch(nft.BATCH_END)
    made = begin + gone + nft.new_table(NOTRACK_TABLE)
    for hook, name in ((nft.HOOK_PREROUTING, "prerouting"), (nft.HOOK_OUTPUT, "output")):
        made += nft.chain(NOTRACK_TABLE, name, "filter", hook, _PRIORITY_RAW)
        adverts = nft.matches(nft.META_L4PROTO, bytes([PROTOCOL]))
        made += nft.rule(NOTRACK_TABLE, name, [*adverts, nft.notrack()])
        for expressions in _channel(config, incoming=hook == nft.HOOK_PREROUTING):
            made += nft.rule(NOTRACK_TABLE, name, [*expressions, nft.notrack()])
        if config.peers and config.globals.heartbeat_interval_ms:
            udp = nft.matches(nft.META_L4PROTO, bytes([_IPPROTO_UDP]))
            ports = nft.compare(nft.EQ, struct.pack("!H", config.peers[0].paths[0].port) * 2)
            both = nft.payload(nft.TRANSPORT_HEADER, 0, 4)
            made += nft.rule(NOTRACK_TABLE, name, [*udp, both, ports, nft.notrack()])
    return {"notrack": made + end, "no_notrack": begin + gone + end}


def _channel(config: Config, incoming: bool) -> list[Expressions]:
    """Return the matches of the channel's packets, from or to each address of a peer."""
    ports = {path.address.partition("%")[0]: path.port for peer in config.peers for path in peer.paths}
    found: list[Expressions] = []
    for address, number in sorted(ports.items()):
        family, value = _family(address)
        source, destination, length = _ADDRESS_AT[family]
        whose = [
            *nft.matches(nft.META_NFPROTO, bytes([family])),
            *nft.matches(nft.META_L4PROTO, bytes([_IPPROTO_TCP])),
            nft.payload(nft.NETWORK_HEADER, source if incoming else destination, length),
            nft.compare(nft.EQ, value),
        ]
        port = nft.compare(nft.EQ, struct.pack("!H", number))
        found += [[*whose, nft.payload(nft.TRANSPORT_HEADER, at, 2), port] for at in (0, 2)]  # either port
    return found


def fragment(instance: Instance) -> bytes:
    """The rules of one instance while it is active; b"" when it needs none."""
    rules = b""
    if instance.snat:
        rules += b"".join(
            nft.rule(TABLE, POSTROUTING, _snat(device, instance.snat)) for device in _outgoing(instance)
        )
    if _refuses(instance):
        for address in instance.virtual_addresses + instance.excluded_addresses:
            rules += b"".join(
                nft.rule(TABLE, INPUT, expressions) for expressions in _refused(address.address)
            )
    return rules


def _refuses(instance: Instance) -> bool:
    """Accept_Mode is false, which the owner of the addresses never heeds (RFC 9568 section 6.1)."""
    return not instance.accept and instance.priority != 255


def _outgoing(instance: Instance) -> list[str]:
    """The devices that traffic with the SNAT address may leave by: its own, and a macvlan's base."""
    devices = [instance.use_vmac, instance.interface]
    for address in instance.virtual_addresses + instance.excluded_addresses:
        if address.address == instance.snat and address.device:
            devices = [address.device]
    return [device for device in devices if device]


def _snat(device: str, address: str) -> Expressions:
    family, value = _family(address)
    multicast = (
        [nft.payload(nft.NETWORK_HEADER, 24, 1), nft.compare(nft.NEQ, b"\xff")]
        if family == nft.IPV6
        else [
            nft.payload(nft.NETWORK_HEADER, 16, 4),
            nft.mask(b"\xf0\0\0\0"),
            nft.compare(nft.NEQ, b"\xe0\0\0\0"),
        ]
    )
    source, _, length = _ADDRESS_AT[family]
    return [
        *nft.matches(nft.META_NFPROTO, bytes([family])),
        *nft.matches(nft.META_OIFNAME, device.encode().ljust(16, b"\0")),
        nft.meta(nft.META_IIF),
        nft.compare(nft.NEQ, struct.pack("=I", 0)),
        *multicast,
        nft.payload(nft.NETWORK_HEADER, source, length),
        nft.compare(nft.NEQ, value),
        nft.load(value),
        nft.snat(family),
    ]


def _refused(address: str) -> list[Expressions]:
    family, value = _family(address)
    _, destination, length = _ADDRESS_AT[family]
    addressed = [
        *nft.matches(nft.META_NFPROTO, bytes([family])),
        nft.payload(nft.NETWORK_HEADER, destination, length),
        nft.compare(nft.EQ, value),
    ]
    rules = [[*addressed, nft.verdict(nft.DROP)]]
    if family == nft.IPV6:
        # RFC 9568 section 6.1: neighbor discovery goes on even so.
        icmpv6_type = [
            *nft.matches(nft.META_L4PROTO, bytes([_IPPROTO_ICMPV6])),
            nft.payload(nft.TRANSPORT_HEADER, 0, 1),
        ]
        for kind in (_ND_ADVERT, _ND_SOLICIT):
            rules.insert(
                0, [*addressed, *icmpv6_type, nft.compare(nft.EQ, bytes([kind])), nft.verdict(nft.ACCEPT)]
            )
    return rules


def _family(address: str) -> tuple[int, bytes]:
    value = ip_address(address).packed
    return (nft.IPV6 if len(value) == 16 else nft.IPV4), value
