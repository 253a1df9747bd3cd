# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's own nftables table `inet tandem`, as nfnetlink messages.

    table inet tandem {
        chain postrouting {
            type nat hook postrouting priority 99;      # fw4 masquerades at 100, srcnat
            meta nfproto ipv4 oifname "wan" iif != 0 ip daddr != 224.0.0.0/4 ip saddr != VIP snat ip to VIP
        }
        chain input {
            type filter hook input priority -1;         # before fw4's filter, 0
            ip6 daddr VIP icmpv6 type { 135, 136 } accept
            ip6 daddr VIP drop
        }
    }

The first chain to set up NAT for a flow wins, so fw4's masquerade leaves these flows alone.
A packet that this router itself sends has no incoming interface: it keeps its address, above
all VRRP adverts (Linux 5.7 and later know the incoming interface in postrouting).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg, nftsocket
from pyroute2.nftables.expressions import genex

from tandem.config.schema import Instance
from tandem.plan.template import NLM_F_CREATE, NLM_F_REQUEST, encode

TABLE = "tandem"
POSTROUTING, INPUT = "postrouting", "input"

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_*, include/uapi/linux/netfilter/nfnetlink.h
_INET, _IPV4, _IPV6 = 1, 2, 10  # NFPROTO_*
_NLM_F_APPEND = 0x800
_HOOK_INPUT, _HOOK_POSTROUTING = 1, 4  # NF_INET_LOCAL_IN, NF_INET_POST_ROUTING
_PRIORITY_SRCNAT, _PRIORITY_FILTER = 100, 0
_EQ, _NEQ = 0, 1  # NFT_CMP_*
_META_IIF, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 4, 7, 15, 16  # NFT_META_*
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_IPPROTO_ICMPV6 = 58
_ND_SOLICIT, _ND_ADVERT = 135, 136
_DROP, _ACCEPT = 0, 1

# Where the addresses stand in the IP header: offset of source, of destination, length.
_ADDRESS_AT = {_IPV4: (12, 16, 4), _IPV6: (8, 24, 16)}

Expressions = list[dict[str, Any]]


def frame(instances: Sequence[Instance]) -> dict[str, bytes]:
    """What stands before and after the rules in a batch, and the batch that removes the table.

    Only the chains that one of the instances needs; head and tail are empty when none needs any.
    Creating the table before deleting it makes the deletion succeed whether or not it was
    there; the kernel does all of a batch or nothing.
    """
    chains = b""
    if any(instance.snat for instance in instances):
        chains += _chain(POSTROUTING, "nat", _HOOK_POSTROUTING, _PRIORITY_SRCNAT - 1)
    if any(_refuses(instance) for instance in instances):
        chains += _chain(INPUT, "filter", _HOOK_INPUT, _PRIORITY_FILTER - 1)
    gone = _table(nftsocket.NFT_MSG_NEWTABLE) + _table(nftsocket.NFT_MSG_DELTABLE)
    begin, end = _batch(_BATCH_BEGIN), _batch(_BATCH_END)
    return {
        "head": begin + gone + _table(nftsocket.NFT_MSG_NEWTABLE) + chains if chains else b"",
        "tail": end if chains else b"",
        "clear": begin + gone + end,
    }


def fragment(instance: Instance) -> bytes:
    """The rules of one instance while it is active; b"" when it needs none."""
    rules = b""
    if instance.snat:
        rules += b"".join(_rule(POSTROUTING, _snat(device, instance.snat)) for device in _outgoing(instance))
    if _refuses(instance):
        for address in instance.virtual_addresses + instance.excluded_addresses:
            rules += b"".join(_rule(INPUT, expressions) for expressions in _refused(address.address))
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
        [_payload(_NETWORK_HEADER, 24, 1), _compare(_NEQ, b"\xff")]
        if family == _IPV6
        else [_payload(_NETWORK_HEADER, 16, 4), _mask(b"\xf0\0\0\0"), _compare(_NEQ, b"\xe0\0\0\0")]
    )
    source, _, length = _ADDRESS_AT[family]
    return [
        *_is(_META_NFPROTO, bytes([family])),
        *_is(_META_OIFNAME, device.encode().ljust(16, b"\0")),
        _meta(_META_IIF),
        _compare(_NEQ, struct.pack("=I", 0)),
        *multicast,
        _payload(_NETWORK_HEADER, source, length),
        _compare(_NEQ, value),
        genex("immediate", {"dreg": 1, "data": _data(value)}),
        genex("nat", {"type": 0, "family": family, "reg_addr_min": 1, "reg_addr_max": 1}),  # 0: NFT_NAT_SNAT
    ]


def _refused(address: str) -> list[Expressions]:
    family, value = _family(address)
    _, destination, length = _ADDRESS_AT[family]
    addressed = [
        *_is(_META_NFPROTO, bytes([family])),
        _payload(_NETWORK_HEADER, destination, length),
        _compare(_EQ, value),
    ]
    rules = [[*addressed, _verdict(_DROP)]]
    if family == _IPV6:
        # RFC 9568 section 6.1: neighbor discovery goes on even so.
        icmpv6_type = [
            *_is(_META_L4PROTO, bytes([_IPPROTO_ICMPV6])),
            _payload(_TRANSPORT_HEADER, 0, 1),
        ]
        for kind in (_ND_ADVERT, _ND_SOLICIT):
            rules.insert(0, [*addressed, *icmpv6_type, _compare(_EQ, bytes([kind])), _verdict(_ACCEPT)])
    return rules


def _family(address: str) -> tuple[int, bytes]:
    value = ip_address(address).packed
    return (_IPV6 if len(value) == 16 else _IPV4), value


# --- expressions ---------------------------------------------------------------------


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _meta(key: int) -> dict[str, Any]:
    return dict(genex("meta", {"dreg": 1, "key": key}))


def _payload(base: int, offset: int, length: int) -> dict[str, Any]:
    return dict(genex("payload", {"dreg": 1, "base": base, "offset": offset, "len": length}))


def _mask(mask: bytes) -> dict[str, Any]:
    bits = {"len": len(mask), "mask": _data(mask), "xor": _data(bytes(len(mask)))}
    return dict(genex("bitwise", {"sreg": 1, "dreg": 1, **bits}))


def _compare(operator: int, value: bytes) -> dict[str, Any]:
    return dict(genex("cmp", {"sreg": 1, "op": operator, "data": _data(value)}))


def _is(key: int, value: bytes) -> Expressions:
    return [_meta(key), _compare(_EQ, value)]


def _verdict(code: int) -> dict[str, Any]:
    verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return dict(genex("immediate", {"dreg": 0, "data": verdict}))


# --- messages ------------------------------------------------------------------------


def _nft(message: Any, kind: int, flags: int, attributes: list[tuple[str, Any]]) -> bytes:
    message["nfgen_family"] = _INET
    message["version"] = 0
    message["res_id"] = 0
    message["attrs"] = attributes
    return encode(message, NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_REQUEST | flags)


def _batch(kind: int) -> bytes:
    message = nfgen_msg()
    message["nfgen_family"] = 0
    message["version"] = 0
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    return encode(message, kind, NLM_F_REQUEST)


def _table(kind: int) -> bytes:
    flags = NLM_F_CREATE if kind == nftsocket.NFT_MSG_NEWTABLE else 0
    return _nft(nftsocket.nft_table_msg(), kind, flags, [("NFTA_TABLE_NAME", TABLE)])


def _chain(name: str, kind: str, hook: int, priority: int) -> bytes:
    attributes = [
        ("NFTA_CHAIN_TABLE", TABLE),
        ("NFTA_CHAIN_NAME", name),
        ("NFTA_CHAIN_HOOK", {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}),
        ("NFTA_CHAIN_POLICY", _ACCEPT),
        ("NFTA_CHAIN_TYPE", kind),
    ]
    return _nft(nftsocket.nft_chain_msg(), nftsocket.NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes)


def _rule(chain: str, expressions: Expressions) -> bytes:
    attributes = [
        ("NFTA_RULE_TABLE", TABLE),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", expressions),
    ]
    flags = NLM_F_CREATE | _NLM_F_APPEND
    return _nft(nftsocket.nft_rule_msg(), nftsocket.NFT_MSG_NEWRULE, flags, attributes)
