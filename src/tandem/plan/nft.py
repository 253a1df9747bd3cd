# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions and messages of nftables: what `encode_nft` and `encode_guard` build their tables of."""

from __future__ import annotations

from typing import Any

from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg, nftsocket
from pyroute2.nftables.expressions import genex

from tandem.plan.template import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, encode

BATCH_BEGIN, BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_*, include/uapi/linux/netfilter/nfnetlink.h
INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_*
HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING = 1, 3, 4  # NF_INET_*
EQ, NEQ = 0, 1  # NFT_CMP_*
META_IIF, META_IIFNAME, META_OIFNAME, META_NFPROTO, META_L4PROTO = 4, 6, 7, 15, 16  # NFT_META_*
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
DROP, ACCEPT = 0, 1

_NLM_F_APPEND = 0x800

Expressions = list[dict[str, Any]]


def data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def meta(key: int) -> dict[str, Any]:
    return dict(genex("meta", {"dreg": 1, "key": key}))


def payload(base: int, offset: int, length: int) -> dict[str, Any]:
    return dict(genex("payload", {"dreg": 1, "base": base, "offset": offset, "len": length}))


def mask(bits: bytes) -> dict[str, Any]:
    how = {"len": len(bits), "mask": data(bits), "xor": data(bytes(len(bits)))}
    return dict(genex("bitwise", {"sreg": 1, "dreg": 1, **how}))


def compare(operator: int, value: bytes) -> dict[str, Any]:
    return dict(genex("cmp", {"sreg": 1, "op": operator, "data": data(value)}))


def matches(key: int, value: bytes) -> Expressions:
    return [meta(key), compare(EQ, value)]


def verdict(code: int) -> dict[str, Any]:
    what = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", code)]})]}
    return dict(genex("immediate", {"dreg": 0, "data": what}))


def message(body: Any, kind: int, flags: int, attributes: list[tuple[str, Any]]) -> bytes:
    body["nfgen_family"] = INET
    body["version"] = 0
    body["res_id"] = 0
    body["attrs"] = attributes
    return encode(body, NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_REQUEST | flags)


def batch(kind: int) -> bytes:
    """One of the two messages around a transaction."""
    body = nfgen_msg()
    body["nfgen_family"] = 0
    body["version"] = 0
    body["res_id"] = NFNL_SUBSYS_NFTABLES
    return encode(body, kind, NLM_F_REQUEST)


def new_table(name: str, exclusive: bool = False) -> bytes:
    """Make a table, there or not; `exclusive`: EEXIST when there is one."""
    flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
    return message(nftsocket.nft_table_msg(), nftsocket.NFT_MSG_NEWTABLE, flags, _named(name))


def no_table(name: str) -> bytes:
    """Remove a table, there or not: creating it before makes the deletion succeed."""
    gone = message(nftsocket.nft_table_msg(), nftsocket.NFT_MSG_DELTABLE, 0, _named(name))
    return new_table(name) + gone


def _named(table: str) -> list[tuple[str, Any]]:
    return [("NFTA_TABLE_NAME", table)]


def chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    attributes = [
        ("NFTA_CHAIN_TABLE", table),
        ("NFTA_CHAIN_NAME", name),
        ("NFTA_CHAIN_HOOK", {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}),
        ("NFTA_CHAIN_POLICY", ACCEPT),
        ("NFTA_CHAIN_TYPE", kind),
    ]
    return message(nftsocket.nft_chain_msg(), nftsocket.NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes)


def rule(table: str, chain: str, expressions: Expressions) -> bytes:
    attributes = [
        ("NFTA_RULE_TABLE", table),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", expressions),
    ]
    flags = NLM_F_CREATE | _NLM_F_APPEND
    return message(nftsocket.nft_rule_msg(), nftsocket.NFT_MSG_NEWRULE, flags, attributes)
