# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of nftables whose elements expire, and maps of numbers.

A key of a set has 16 bytes: an interface's name, or an IPv6 address.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tandem.nlmsg import NLM_F_CREATE, attribute
from tandem.plan import nft

# nft(8) needs these to print a key; the kernel ignores them. The type, and its byte order.
Kind = tuple[int, int]
INTERFACE_NAME: Kind = (41, 1)
IPV6_ADDRESS: Kind = (8, 2)

_TIMEOUT = 0x10  # NFT_SET_TIMEOUT
_MAP = 8  # NFT_SET_MAP
_KEY_BYTES = 16
# Types of nft(8), which the kernel ignores: a mark, and an address followed by a port, six bits for each.
_MARK, _TYPE_OF_4, _TYPE_OF_16 = 19, 7 << 6 | 13, 8 << 6 | 13


def new_set(table: str, number: int, name: str, kind: Kind) -> bytes:
    """Make a set; `number` is its own within the batch."""
    type_of_key, byte_order = kind
    return nft.message(
        nft.NEWSET,
        NLM_F_CREATE,
        nft.text(1, table),  # NFTA_SET_TABLE
        nft.text(2, name),  # NFTA_SET_NAME
        nft.number(3, _TIMEOUT),  # NFTA_SET_FLAGS
        nft.number(4, type_of_key),  # NFTA_SET_KEY_TYPE
        nft.number(5, _KEY_BYTES),  # NFTA_SET_KEY_LEN
        nft.number(10, number),  # NFTA_SET_ID
        # NFTA_SET_USERDATA: NFTNL_UDATA_SET_KEYBYTEORDER
        attribute(13, b"\0\4" + struct.pack("=I", byte_order)),
    )


def new_map(table: str, number: int, name: str, length: int) -> bytes:
    """Make a map of numbers to values of this length; `number` is its own within the batch."""
    return nft.message(
        nft.NEWSET,
        NLM_F_CREATE,
        nft.text(1, table),  # NFTA_SET_TABLE
        nft.text(2, name),  # NFTA_SET_NAME
        nft.number(3, _MAP),  # NFTA_SET_FLAGS
        nft.number(4, _MARK),  # NFTA_SET_KEY_TYPE
        nft.number(5, 4),  # NFTA_SET_KEY_LEN
        nft.number(6, _TYPE_OF_16 if length > 8 else _TYPE_OF_4),  # NFTA_SET_DATA_TYPE
        nft.number(7, length),  # NFTA_SET_DATA_LEN
        nft.number(10, number),  # NFTA_SET_ID
        # NFTA_SET_USERDATA: NFTNL_UDATA_SET_KEYBYTEORDER, _DATABYTEORDER: the host's, the network's
        attribute(13, b"\0\4" + struct.pack("=I", 1) + b"\1\4" + struct.pack("=I", 2)),
    )


def fill(table: str, name: str, values: Iterable[bytes]) -> bytes:
    """Put these values into an empty map, with the keys 0, 1, 2 and so on."""
    elements = b""
    for key, value in enumerate(values):
        where = attribute(1, attribute(1, struct.pack("=I", key)))  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
        elements += attribute(1, where + attribute(2, attribute(1, value)))  # NFTA_SET_ELEM_DATA
    return nft.message(
        nft.NEWSETELEM, NLM_F_CREATE, nft.text(1, table), nft.text(2, name), attribute(3, elements)
    )


def add(table: str, name: str, keys: Iterable[bytes], lifetime_s: int) -> bytes:
    """Put keys into a set, for so long; 0: for ever."""
    elements = b""
    for key in keys:
        element = attribute(1, attribute(1, key))  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
        if lifetime_s:
            element += attribute(4, struct.pack("!Q", lifetime_s * 1000))  # NFTA_SET_ELEM_TIMEOUT, ms
        elements += attribute(1, element)  # NFTA_LIST_ELEM
    # NFTA_SET_ELEM_LIST_TABLE, _SET, _ELEMENTS
    return nft.message(
        nft.NEWSETELEM, NLM_F_CREATE, nft.text(1, table), nft.text(2, name), attribute(3, elements)
    )


def empty(table: str, name: str) -> bytes:
    """Take everything out of a set."""
    return nft.message(nft.DELSETELEM, 0, nft.text(1, table), nft.text(2, name))
