# SPDX-License-Identifier: GPL-2.0-or-later
"""rtnetlink: what the kernel says about links, addresses, routes and rules.

`Rtnl` sends batches, `Monitor` reads notifications, and the `dump_` functions ask for all there is.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator

from tandem.effects.bpf import attach_filter
from tandem.effects.netlink import (
    NETLINK_ROUTE,
    SO_RCVBUFFORCE,
    Batch,
    Commands,
    Failure,
    Unbound,
    attributes,
    bind,
    messages,
)
from tandem.effects.rtmessages import (
    AF,
    FIB_RULE_HDR,
    FOREVER,
    IFADDRMSG,
    IFINFOMSG,
    NDA_DST,
    NDA_LLADDR,
    NDMSG,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    RTMSG,
    AddressMessage,
    LinkMessage,
    Message,
    Overrun,
    RouteMessage,
    RuleMessage,
    parse,
)
from tandem.nlmsg import NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, attribute, request
from tandem.plan.result import PROTOCOL

__all__ = [
    "FOREVER", "PROTOCOL", "AddressMessage", "Batch", "Failure", "LinkMessage", "Message", "Monitor",
    "Overrun", "RouteMessage", "Rtnl", "RuleMessage", "Unbound", "bind", "dump_addresses", "dump_links",
    "dump_routes", "dump_rules", "find_neighbour", "parse", "request",
]  # fmt: skip

# RTNLGRP_*: link, IPv4 and IPv6 addresses; IPv4 and IPv6 routes and rules.
_GROUPS_BASIC, _GROUPS_ROUTES = (1, 5, 9), (7, 11, 8, 19)

_DEL, _GET = 1, 2  # RTM_DEL* and RTM_GET* stand behind RTM_NEW*
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NETLINK_GET_STRICT_CHK = 270, 1, 12
_RECEIVE_BUFFER = 1 << 20
_DATAGRAMS_PER_READ = 256
_ANSWER_S = 2.0  # the kernel answers at once; this only keeps a bug from hanging the daemon


class Rtnl(Commands):
    """The socket for batches of rtnetlink requests."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)


class Monitor:
    """Notifications about links and addresses, and about the loss of routes and rules.

    A filter in the kernel keeps away what would only wake the daemon: routes of other
    protocols than `protocols` (a router may hold the Internet's table), and the daemon's
    own refreshes of virtual addresses (`ignore_port`, where IFA_PROTO is not known).
    """

    def __init__(
        self, *, routes: bool, protocols: Collection[int] = (PROTOCOL,), ignore_port: int = 0
    ) -> None:
        self._socket = _open()
        self._socket.setblocking(False)
        # Filter first, or unwanted messages could be queued before it.
        attach_filter(self._socket, protocols, PROTOCOL, ignore_port)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        for group in _GROUPS_BASIC + (_GROUPS_ROUTES if routes else ()):
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """For the loop to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def read(self) -> list[Message]:
        """Return the messages since the last call, a batch at most: more may be readable."""
        found: list[Message] = []
        for _ in range(_DATAGRAMS_PER_READ):
            try:
                datagram, sender = self._socket.recvfrom(65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found.append(Overrun())
                continue
            if sender[0] != 0:  # only the kernel is believed
                continue
            for kind, _, _, body in messages(datagram):
                message = parse(kind, body)
                if message is not None:
                    found.append(message)
        return found


# --- questions -----------------------------------------------------------------------


def find_neighbour(ifindex: int, address: bytes) -> bytes | None:
    """Return the MAC address by which the kernel reaches a packed address on a link, or None.

    Linux 5.0 and later answer for a single address.
    """
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = NDMSG.pack(family, ifindex, 0, 0, 0) + attribute(NDA_DST, address)
    with _open() as asked:
        asked.settimeout(_ANSWER_S)
        asked.send(request(RTM_NEWNEIGH + _GET, body))
        for kind, _, _, found in messages(asked.recv(1 << 14)):
            if kind == RTM_NEWNEIGH:
                mac = attributes(found, NDMSG.size).get(NDA_LLADDR, b"")
                return mac if len(mac) == 6 and not mac[0] & 1 and any(mac) else None
    return None


def dump_links() -> list[LinkMessage]:
    """All links. OSError when the kernel does not answer."""
    found = (parse(kind, body) for kind, body in _dump(RTM_NEWLINK + _GET, IFINFOMSG.pack(0, 0, 0, 0, 0)))
    return [message for message in found if isinstance(message, LinkMessage)]


def dump_addresses() -> list[AddressMessage]:
    """All addresses of both families. OSError when the kernel does not answer."""
    found = (parse(kind, body) for kind, body in _dump(RTM_NEWADDR + _GET, IFADDRMSG.pack(0, 0, 0, 0, 0)))
    return [message for message in found if isinstance(message, AddressMessage)]


def dump_routes(protocol: int = PROTOCOL) -> list[tuple[RouteMessage, bytes]]:
    """Routes of this protocol, each with the message body that names it to the kernel."""
    found = []
    for family in AF.values():
        # The kernel filters by protocol itself (strict check, Linux 4.20); older ones send all.
        for kind, body in _dump(RTM_NEWROUTE + _GET, RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)):
            message = parse(kind, body)
            if isinstance(message, RouteMessage) and message.protocol == protocol:
                found.append((message, body))
    return found


def dump_rules(protocol: int = PROTOCOL) -> list[tuple[RuleMessage, bytes]]:
    """Rules of this protocol, each with the message body that names it to the kernel."""
    found = []
    for family in AF.values():
        for kind, body in _dump(RTM_NEWRULE + _GET, FIB_RULE_HDR.pack(family, 0, 0, 0, 0, 0, 0)):
            message = parse(kind, body)
            if isinstance(message, RuleMessage) and message.protocol == protocol:
                found.append((message, body))
    return found


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    opened.bind((0, 0))
    return opened


def _dump(kind: int, header: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of all answers. Repeated while the kernel says that they don't fit together."""
    for _ in range(3):
        with _open() as asked:
            asked.settimeout(_ANSWER_S)
            try:
                asked.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            except OSError:
                pass  # before Linux 4.20, which sends more than was asked for
            asked.send(request(kind, header, NLM_F_DUMP))
            answers = list(_answers(asked))
        if not any(flags & NLM_F_DUMP_INTR for _, flags, _ in answers):
            break
    return [(answer, body) for answer, _, body in answers]


def _answers(asked: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    while True:
        for kind, flags, _, body in messages(asked.recv(1 << 17)):
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else errno.EPROTO
                raise OSError(number, "netlink dump")
            yield kind, flags, body
