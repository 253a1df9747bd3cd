# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends connections whose answers will never come, or come from a server that is down.

    python -IS flush.py ADDRESS                   translated to this address, which is the provider's again
    python -IS flush.py ADDRESS PROTOCOL PORT     translated to this server, by number of protocol

Without its entry a flow of UDP is translated anew with its next packet; the entry would keep the old address
for as long as the host sends. The kernel looks through its whole table, which takes too long for the daemon's
loop, so this is a program of its own, with nothing but the standard library.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_DELETE = 1, 2  # include/uapi/linux/netfilter/nfnetlink_conntrack.h
_REQUEST_ACK = 0x5
_CTA_TUPLE_REPLY, _CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 2, 1, 2
_CTA_IP = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}  # source, destination
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT = 1, 2
_CTA_FILTER, _ORIG_FLAGS, _REPLY_FLAGS = 25, 1, 2
# CTA_FILTER_F_CTA_*, net/netfilter/nf_conntrack_netlink.c
_BY_IP_SRC, _BY_IP_DST, _BY_PROTO_NUM, _BY_PROTO_SRC_PORT = 1 << 0, 1 << 1, 1 << 3, 1 << 4
_NESTED = 0x8000
_NETLINK_NETFILTER = 12


def message(address: str, protocol: int = 0, port: int = 0) -> bytes:
    """Return the request that deletes what has `address` as the destination of its replies.

    With a port: what has its replies from this address and port. The filter is from Linux 5.8. Older kernels
    answer EINVAL and delete nothing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    number = _CTA_IP[family][0 if port else 1]
    by = _BY_IP_DST
    reply = _attribute(_CTA_TUPLE_IP | _NESTED, _attribute(number, socket.inet_pton(family, address)))
    if port:
        by = _BY_IP_SRC | _BY_PROTO_NUM | _BY_PROTO_SRC_PORT
        what = _attribute(_CTA_PROTO_NUM, bytes((protocol,)))
        what += _attribute(_CTA_PROTO_SRC_PORT, struct.pack("!H", port))
        reply += _attribute(_CTA_TUPLE_PROTO | _NESTED, what)
    flags = _attribute(_ORIG_FLAGS, struct.pack("=I", 0)) + _attribute(_REPLY_FLAGS, struct.pack("=I", by))
    body = struct.pack("=BBH", family, 0, 0) + _attribute(_CTA_TUPLE_REPLY | _NESTED, reply)
    body += _attribute(_CTA_FILTER | _NESTED, flags)
    kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE
    return struct.pack("=IHHII", 16 + len(body), kind, _REQUEST_ACK, 1, 0) + body


def main(address: str, protocol: int = 0, port: int = 0) -> int:
    """Delete, and return the errno of the kernel's answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as asked:
        asked.bind((0, 0))
        asked.send(message(address, protocol, port))
        return int(-struct.unpack_from("=i", asked.recv(4096), 16)[0])


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


if __name__ == "__main__":
    if failed := main(sys.argv[1], *map(int, sys.argv[2:4])):
        print(f"connections of {sys.argv[1]}: {os.strerror(failed)}", file=sys.stderr)
    sys.exit(bool(failed))
