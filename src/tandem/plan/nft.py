# SPDX-License-Identifier: GPL-2.0-or-later
"""Expressions and messages of nftables: what `encode_nft` and `encode_guard` build their tables of.

The module encodes them itself, because pyroute2 below 0.7.6 can't write nftables' integers. The numbers are
those of include/uapi/linux/netfilter/nf_tables.h; an integer in an attribute is big-endian.
"""

from __future__ import annotations

import struct

from tandem.nlmsg import NFGENMSG, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, attribute, request

BATCH_BEGIN, BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_*, include/uapi/linux/netfilter/nfnetlink.h
INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_*
HOOK_PREROUTING, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 1, 3, 4  # NF_INET_*
EQ, NEQ = 0, 1  # NFT_CMP_*
META_IIF, META_IIFNAME, META_OIFNAME, META_NFPROTO, META_L4PROTO = 4, 6, 7, 15, 16  # NFT_META_*
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
DROP, ACCEPT = 0, 1

NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, DELSETELEM = 0, 2, 3, 6, 9, 12, 14  # NFT_MSG_*

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_REGISTER, _VERDICT_REGISTER = 1, 0  # NFT_REG_1, NFT_REG_VERDICT
_PSEUDO_HEADER = 1  # NFT_PAYLOAD_L4CSUM_PSEUDOHDR
_SET_INVERTED = 1  # NFT_LOOKUP_F_INV
_SNAT, _DNAT = 0, 1  # NFT_NAT_*
_ORIGINAL = 0  # IP_CT_DIR_ORIGINAL
_WORDS = 8  # NFT_REG32_00: the registers of 4 bytes, of which NFT_REG_1 has the first four
_TCP_RESET, _UNREACHABLE, _PORT = 1, 2, 1  # NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH, _PORT_UNREACH

Expressions = list[bytes]


# --- attributes ----------------------------------------------------------------------


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit integer, signed or not."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind, b"".join(attributes))


# --- expressions ---------------------------------------------------------------------


def expression(name: str, *attributes: bytes) -> bytes:
    """One element of a rule's list of expressions."""
    return nested(1, text(1, name), nested(2, *attributes))  # NFTA_LIST_ELEM: NFTA_EXPR_NAME, NFTA_EXPR_DATA


def meta(key: int) -> bytes:
    return expression("meta", number(1, _REGISTER), number(2, key))


def payload(base: int, offset: int, length: int) -> bytes:
    where = number(2, base), number(3, offset), number(4, length)
    return expression("payload", number(1, _REGISTER), *where)


def write_payload(base: int, offset: int, length: int) -> bytes:
    """Write the register into the packet, and mend the transport header's checksum, which covers it."""
    where = number(2, base), number(3, offset), number(4, length)
    checksum = number(6, 0), number(7, 0), number(8, _PSEUDO_HEADER)
    return expression("payload", number(5, _REGISTER), *where, *checksum)


def mask(bits: bytes) -> bytes:
    registers = number(1, _REGISTER), number(2, _REGISTER)
    return expression("bitwise", *registers, number(3, len(bits)), _data(4, bits), _data(5, bytes(len(bits))))


def compare(operator: int, value: bytes) -> bytes:
    return expression("cmp", number(1, _REGISTER), number(2, operator), _data(3, value))


def matches(key: int, value: bytes) -> Expressions:
    return [meta(key), compare(EQ, value)]


def not_in(set_name: str) -> bytes:
    """The register is no element of this set."""
    return expression("lookup", text(1, set_name), number(2, _REGISTER), number(5, _SET_INVERTED))


def load(value: bytes) -> bytes:
    """Put a value into the register."""
    return expression("immediate", number(1, _REGISTER), _data(2, value))


def snat(family: int) -> bytes:
    """Translate the source address to the one in the register."""
    addresses = number(3, _REGISTER), number(4, _REGISTER)
    return expression("nat", number(1, _SNAT), number(2, family), *addresses)


def dnat(family: int) -> bytes:
    """Translate the destination to the address and the port that follow each other from the register on."""
    port = number(5, _WORDS + (4 if family == IPV6 else 1))
    return expression("nat", number(1, _DNAT), number(2, family), number(3, _REGISTER), port)


def hash_of(length: int, modulus: int, seed: int) -> bytes:
    """Put Jenkins' hash of the register into the register, below the modulus."""
    registers = number(1, _REGISTER), number(2, _REGISTER)
    return expression("hash", *registers, number(3, length), number(4, modulus), number(5, seed))


def next_number(modulus: int) -> bytes:
    """Count from 0 to below the modulus, again and again, into the register."""
    return expression("numgen", number(1, _REGISTER), number(2, modulus), number(3, 0))


def look_up(map_name: str, set_id: int) -> bytes:
    """Replace the register by what the map has for it; the rule ends when that is nothing."""
    registers = number(2, _REGISTER), number(3, _REGISTER)
    return expression("lookup", text(1, map_name), *registers, number(4, set_id))


def conntrack(key: int) -> bytes:
    """Load a field of the connection's original direction (NFT_CT_*)."""
    return expression("ct", number(1, _REGISTER), number(2, key), attribute(3, bytes((_ORIGINAL,))))


def reject(tcp: bool) -> bytes:
    """Answer with a reset, or that the port is unreachable."""
    if tcp:
        return expression("reject", number(1, _TCP_RESET), attribute(2, b"\0"))
    return expression("reject", number(1, _UNREACHABLE), attribute(2, bytes((_PORT,))))


def verdict(code: int) -> bytes:
    decision = nested(2, number(1, code))  # NFTA_DATA_VERDICT: NFTA_VERDICT_CODE
    return expression("immediate", number(1, _VERDICT_REGISTER), nested(2, decision))


def notrack() -> bytes:
    """Connection tracking does not see the packet."""
    return expression("notrack")


def _data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))  # NFTA_DATA_VALUE


# --- messages ------------------------------------------------------------------------


def message(kind: int, flags: int, *attributes: bytes) -> bytes:
    """A message about something in a table of the family inet, with sequence number and port id 0."""
    body = NFGENMSG.pack(INET, 0, 0) + b"".join(attributes)
    return request(_SUBSYSTEM << 8 | kind, body, flags)


def batch(kind: int) -> bytes:
    """One of the two messages around a transaction."""
    return request(kind, struct.pack("!BBH", 0, 0, _SUBSYSTEM))  # an nfgenmsg


def new_table(name: str, exclusive: bool = False) -> bytes:
    """Make a table, there or not; `exclusive`: EEXIST when there is one."""
    flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
    return message(NEWTABLE, flags, text(1, name))


def no_table(name: str) -> bytes:
    """Remove a table, there or not: creating it before makes the deletion succeed."""
    return new_table(name) + message(DELTABLE, 0, text(1, name))


def chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    return message(
        NEWCHAIN,
        NLM_F_CREATE,
        text(1, table),  # NFTA_CHAIN_TABLE
        text(3, name),  # NFTA_CHAIN_NAME
        nested(4, number(1, hook), number(2, priority)),  # NFTA_CHAIN_HOOK: NFTA_HOOK_HOOKNUM, _PRIORITY
        number(5, ACCEPT),  # NFTA_CHAIN_POLICY
        text(7, kind),  # NFTA_CHAIN_TYPE
    )


def rule(table: str, chain: str, expressions: Expressions) -> bytes:
    what = text(1, table), text(2, chain), nested(4, *expressions)  # NFTA_RULE_TABLE, _CHAIN, _EXPRESSIONS
    return message(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, *what)
