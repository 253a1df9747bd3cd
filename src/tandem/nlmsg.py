# SPDX-License-Identifier: GPL-2.0-or-later
"""netlink messages: their headers, attributes and flags; pure.

The names are those of include/uapi/linux/netlink.h and include/uapi/linux/netfilter/nfnetlink.h. All numbers
have the byte order of the host, except for the resource id of an nfgenmsg.
"""

from __future__ import annotations

from struct import Struct

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800

NLMSGHDR = Struct("=IHHII")  # length, type, flags, sequence number, port id
NFGENMSG = Struct("=BBH")  # family, version, resource id
NFNL_HEADER = Struct("=IHHIIBBH")  # both, at the beginning of every message of nfnetlink
NLATTR = Struct("=HH")  # length, type; also struct rtattr


def request(kind: int, body: bytes, flags: int = 0, sequence: int = 0) -> bytes:
    """Return a message to the kernel."""
    return NLMSGHDR.pack(16 + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded to 4 bytes."""
    return NLATTR.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)
