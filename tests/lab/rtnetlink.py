# SPDX-License-Identifier: GPL-2.0-or-later
"""Read the addresses of a namespace on a socket of its own, without starting a process.

A poll with `ip -j address` costs 2 ms and a process, this 0.1 ms: on two cores that matters for
programs that measure milliseconds. Formats: linux/rtnetlink.h, linux/if_addr.h.
"""

from __future__ import annotations

import socket
import struct

from tandem.nlmsg import NLATTR, NLM_F_DUMP, NLMSG_DONE, NLMSGHDR, request

from . import netns

RTM_NEWADDR, RTM_GETADDR = 20, 22
IFA_ADDRESS, IFA_LOCAL = 1, 2
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg


class Addresses:
    """The addresses of one namespace, read on demand."""

    def __init__(self, namespace: str) -> None:
        self._socket = netns.enter(
            namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        )

    def read(self) -> dict[str, tuple[int, int]]:
        """All addresses now: {"192.168.1.4": (prefix length, interface index)}."""
        body = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        self._socket.send(request(RTM_GETADDR, body, NLM_F_DUMP, 1))
        table: dict[str, tuple[int, int]] = {}
        while not self._parse(self._socket.recv(1 << 16), table):
            pass
        return table

    @staticmethod
    def _parse(data: bytes, table: dict[str, tuple[int, int]]) -> bool:
        """Add the addresses in one datagram to the table; True at the end of the dump."""
        offset = 0
        while offset + NLMSGHDR.size <= len(data):
            length, kind, _flags, _seq, _pid = NLMSGHDR.unpack_from(data, offset)
            if kind == NLMSG_DONE:
                return True
            if kind == RTM_NEWADDR:
                family, prefixlen, _, _, ifindex = _IFADDR.unpack_from(data, offset + NLMSGHDR.size)
                attributes, position = {}, offset + NLMSGHDR.size + _IFADDR.size
                while position + NLATTR.size <= offset + length:
                    size, name = NLATTR.unpack_from(data, position)
                    attributes[name] = data[position + NLATTR.size : position + size]
                    position += (size + 3) & ~3
                packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]  # IPv6 has no IFA_LOCAL
                table[socket.inet_ntop(family, packed)] = (prefixlen, ifindex)
            offset += (length + 3) & ~3
        return False

    def close(self) -> None:
        """Close the socket, which lets the kernel free the namespace."""
        self._socket.close()
