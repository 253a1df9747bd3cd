# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends the connections that were translated to an address which the provider has taken back.

    python -IS flush.py ADDRESS

The answers to these connections will never come. Without its entry a flow of UDP gets the new address with
its next packet; the entry would keep the old address for as long as the host sends. The kernel looks through
its whole table, which takes too long for the daemon's loop, so this is a program of its own, with
nothing but the standard library.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_DELETE = 1, 2  # include/uapi/linux/netfilter/nfnetlink_conntrack.h
_REQUEST_ACK = 0x5
_CTA_TUPLE_REPLY, _CTA_TUPLE_IP, _CTA_IP_V4_DST = 2, 1, 2
_CTA_FILTER, _ORIG_FLAGS, _REPLY_FLAGS = 25, 1, 2
_BY_IP_DST = 1 << 1  # CTA_FILTER_F_CTA_IP_DST, net/netfilter/nf_conntrack_netlink.c
_NESTED = 0x8000
_NETLINK_NETFILTER = 12


def message(address: str) -> bytes:
    """Return the request that deletes what has `address` as the destination of its replies.

    The filter is from Linux 5.8. Older kernels answer EINVAL and delete nothing.
    """
    destination = _attribute(_CTA_IP_V4_DST, socket.inet_aton(address))
    replies = _attribute(_CTA_TUPLE_REPLY | _NESTED, _attribute(_CTA_TUPLE_IP | _NESTED, destination))
    flags = _attribute(_ORIG_FLAGS, struct.pack("=I", 0)) + _attribute(
        _REPLY_FLAGS, struct.pack("=I", _BY_IP_DST)
    )
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + replies + _attribute(_CTA_FILTER | _NESTED, flags)
    kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE
    return struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK, 1, 0) + body


def main(address: str) -> int:
    """Delete, and return the errno of the kernel's answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asked:
        asked.bind((0, 0))
        asked.send(message(address))
        return int(-struct.unpack_from("=i", asked.recv(4096), 16)[0])


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


if __name__ == "__main__":
    if failed := main(sys.argv[1]):
        print(f"connections of {sys.argv[1]}: {os.strerror(failed)}", file=sys.stderr)
    sys.exit(bool(failed))
