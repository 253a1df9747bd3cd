# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends connections whose answers will never come, or come from a server that is down.

    python -IS flush.py ADDRESS                   translated to this address, which is the provider's again
    python -IS flush.py ADDRESS PROTOCOL PORT     translated to this server, by number of protocol

Without its entry a flow of UDP is translated anew with its next packet; the entry would keep the old address
for as long as the host sends. The kernel looks through its whole table, which takes too long for the daemon's
loop, so this is a program of its own, with nothing but the standard library. Kernels before 6.12 can't
delete by a filter: there, entries are read and deleted one by one.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# include/uapi/linux/netfilter/nfnetlink_conntrack.h
_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_NEW, _IPCTNL_MSG_CT_GET, _IPCTNL_MSG_CT_DELETE = 1, 0, 1, 2
_REQUEST_ACK, _REQUEST_DUMP = 0x5, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE = 1, 12, 18
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

    With a port: what has its replies from this address and port. Kernels before 6.12 (1ef7f50ccc6e) answer
    EINVAL and delete nothing.
    """
    family = _family(address)
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
    return _request(_IPCTNL_MSG_CT_DELETE, _REQUEST_ACK, body)


def main(address: str, protocol: int = 0, port: int = 0) -> int:
    """Delete, and return the errno of the kernel's answer."""
    with _socket() as asked:
        failed = _ask(asked, message(address, protocol, port))
        return one_by_one(asked, address, protocol, port) if failed == errno.EINVAL else failed


def one_by_one(asked: socket.socket, address: str, protocol: int = 0, port: int = 0) -> int:
    """Delete each entry that the kernel tells, as `message` does, and return the first errno."""
    failures = [_ask(asked, entry) for entry in [*_entries(address, protocol, port)]]
    return next((number for number in failures if number not in (0, errno.ENOENT)), 0)


def _entries(address: str, protocol: int, port: int) -> Iterator[bytes]:
    """Yield a request to delete each entry in the kernel's table that is meant."""
    family = _family(address)
    wanted = socket.inet_pton(family, address)
    head = struct.pack("=BBH", family, 0, 0)
    with _socket() as dumped:
        dumped.send(_request(_IPCTNL_MSG_CT_GET, _REQUEST_DUMP, head))
        for kind, body in _answers(dumped):
            if kind & 0xFF != _IPCTNL_MSG_CT_NEW:
                continue
            entry = _attributes(body[4:])
            reply = _attributes(entry[_CTA_TUPLE_REPLY])
            if _attributes(reply[_CTA_TUPLE_IP]).get(_CTA_IP[family][0 if port else 1]) != wanted:
                continue
            where = _attributes(reply[_CTA_TUPLE_PROTO])
            what = where.get(_CTA_PROTO_NUM), where.get(_CTA_PROTO_SRC_PORT)
            if not port or what == (bytes((protocol,)), struct.pack("!H", port)):
                same = {number: entry[number] for number in (_CTA_ID, _CTA_ZONE) if number in entry}
                named = _attribute(_CTA_TUPLE_ORIG | _NESTED, entry[_CTA_TUPLE_ORIG])
                named += b"".join(_attribute(number, data) for number, data in same.items())
                yield _request(_IPCTNL_MSG_CT_DELETE, _REQUEST_ACK, head + named)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    made.bind((0, 0))
    return made


def _request(message_type: int, flags: int, body: bytes) -> bytes:
    kind = _NFNL_SUBSYS_CTNETLINK << 8 | message_type
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _ask(asked: socket.socket, request: bytes) -> int:
    """Send a request, and return the errno of the kernel's answer."""
    asked.send(request)
    return int(-struct.unpack_from("=i", asked.recv(4096), 16)[0])


def _answers(dumped: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield kind and body of each message of a dump."""
    while True:
        data = dumped.recv(1 << 16)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                return
            yield kind, data[16:length]
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & ~_NESTED] = data[4:length]
        data = data[(max(length, 4) + 3) & ~3 :]
    return found


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


if __name__ == "__main__":
    if failed := main(sys.argv[1], *map(int, sys.argv[2:4])):
        print(f"connections of {sys.argv[1]}: {os.strerror(failed)}", file=sys.stderr)
    sys.exit(bool(failed))
