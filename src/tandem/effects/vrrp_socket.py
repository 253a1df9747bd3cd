# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw sockets that carry VRRP advertisements, opened before they are needed.

One `VrrpSocket` serves all virtual routers of one interface and one address family, in both directions. With
`use_vmac` adverts leave by a socket on the macvlan, which gives them the virtual MAC address, and arrive on
the base interface. The peer's adverts have the same MAC address as source, and a macvlan in VEPA mode leaves
such frames to its base (drivers/net/macvlan.c, macvlan_handle_frame). So they arrive even while the macvlan
is down.

Only opening a socket raises OSError: `send` returns an errno, and `receive` a list.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable

from tandem.core.packet import HOP_LIMIT, PROTOCOL, Expected
from tandem.core.settings import Instance
from tandem.effects.bpf import attach

UNICAST_MIN_HOP_LIMIT = 1
"""The limit for `core.packet.decode`, which does not know the instance yet; `core.packet.check` does."""

Received = tuple[bytes, bytes, bytes, int]
"""Payload after the IP header, packed source, packed destination, TTL or hop limit."""

# include/uapi/linux/in.h, in6.h and asm-generic/socket.h; not in every Python's socket module
_IP_PKTINFO = 8
_IP_MTU_DISCOVER = 10
_IP_TRANSPARENT = 19
_IP_MULTICAST_ALL = 49
_IPV6_FREEBIND = 78
_SO_BINDTOIFINDEX = 62
_SO_MEMINFO = 55
_DROPS = 8  # SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h

_TOS_CS6 = 0xC0  # internetwork control, RFC 4594 section 3.1
_TC_PRIO_CONTROL = 7  # include/uapi/linux/pkt_sched.h
RECEIVE_BUFFER = 128 * 1024  # bytes; about 300 adverts, more than 255 virtual routers send at once
# Bytes of an advert with 255 addresses; for IPv4 with the longest IP header and the password.
_LARGEST = {4: 60 + 8 + 255 * 4 + 8, 6: 8 + 255 * 16}

# Version and header length, total length, TTL, protocol, source, destination (RFC 791 section 3.1).
_IP_HEADER = struct.Struct("!BxH4xBB2x4s4s")
_INT = struct.Struct("=i")
_PKTINFO4 = struct.Struct("=i4s4s")  # ifindex, source to use, unused on sending
_PKTINFO6 = struct.Struct("=16si")
_MREQN = struct.Struct("=4s4si")  # group, unused, ifindex
_MREQ6 = struct.Struct("=16si")
_WAYS_MAX = 64
NO_ADDRESS: frozenset[bytes] = frozenset()

_Way = tuple[list[tuple[int, int, bytes]], tuple[object, ...]]

_ANCILLARY = socket.CMSG_SPACE(_PKTINFO6.size) + socket.CMSG_SPACE(_INT.size)


class VrrpSocket:
    """A raw VRRP socket on one interface.

    `family` is 4 or 6, `groups` are packed multicast groups to join, `buffer` is the size of the receive
    buffer. The socket stays with `ifindex` when the interface gets another name. When the interface was
    created again, close this socket and open another. OSError: no such interface, or no CAP_NET_RAW and
    CAP_NET_ADMIN.
    """

    __slots__ = (
        "_buffer", "_drops", "_lost", "_socket", "_unasked", "_ways", "family", "ifindex", "interface",
        "malformed",
    )  # fmt: skip

    def __init__(
        self,
        interface: str,
        ifindex: int,
        family: int,
        groups: Iterable[bytes] = (),
        buffer: int = RECEIVE_BUFFER,
    ) -> None:
        self.interface = interface  # for people
        self.ifindex = ifindex
        self.family = family
        self.malformed = 0  # packets that were no whole IP packet, or larger than any advert
        self._lost = self._drops = 0
        self._unasked = True  # whether `_drops` is older than the last packet
        self._buffer = memoryview(bytearray(_LARGEST[family]))
        self._ways: dict[tuple[bytes, bytes, int], _Way] = {}
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(domain, kind, PROTOCOL)
        try:
            self._set_up(groups, buffer)
        except OSError:
            self._socket.close()
            raise

    def _set_up(self, groups: Iterable[bytes], buffer: int) -> None:
        option = self._socket.setsockopt
        option(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, self.ifindex)
        option(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if self.family == 4:
            ip = socket.IPPROTO_IP
            option(
                ip, _IP_MULTICAST_ALL, 0
            )  # otherwise groups that other sockets have joined come in as well
            option(ip, socket.IP_MULTICAST_LOOP, 0)
            option(ip, socket.IP_MULTICAST_TTL, HOP_LIMIT)
            option(ip, socket.IP_TTL, HOP_LIMIT)
            option(ip, socket.IP_TOS, _TOS_CS6)
            option(ip, _IP_MTU_DISCOVER, 0)  # no DF bit, as keepalived sends them
            option(ip, _IP_TRANSPARENT, 1)  # mcast_src_ip may be any address
            option(ip, socket.IP_MULTICAST_IF, _MREQN.pack(bytes(4), bytes(4), self.ifindex))
        else:
            ip6 = socket.IPPROTO_IPV6
            option(ip6, socket.IPV6_MULTICAST_LOOP, 0)
            option(ip6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            option(ip6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
            option(ip6, socket.IPV6_TCLASS, _TOS_CS6)
            option(ip6, _IPV6_FREEBIND, 1)  # the base's link-local address is not on the macvlan
            option(ip6, socket.IPV6_CHECKSUM, -1)  # core.packet makes and checks it
            option(ip6, socket.IPV6_RECVPKTINFO, 1)
            option(ip6, socket.IPV6_RECVHOPLIMIT, 1)
            option(ip6, socket.IPV6_MULTICAST_IF, self.ifindex)
        # After IP_TOS, which sets the priority too.
        option(socket.SOL_SOCKET, socket.SO_PRIORITY, _TC_PRIO_CONTROL)
        for group in groups:
            self.join(group)

    def join(self, group: bytes) -> None:
        """Receive the packed multicast `group` as well. OSError, EADDRINUSE when joined before."""
        if self.family == 4:
            membership = _MREQN.pack(group, bytes(4), self.ifindex)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        else:
            membership = _MREQ6.pack(group, self.ifindex)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)

    def fileno(self) -> int:
        """The file descriptor, for the selector; -1 when closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._socket.close()

    def filter(self, program: bytes) -> None:
        """Receive only the packets that `program` (see bpf.py) accepts. OSError: the kernel refuses it."""
        attach(self._socket, program)

    def lost(self) -> int:
        """Return how many packets found the buffer full since the last call.

        A kernel (6.18) looks for room before it runs the filter (raw_v4_input in net/ipv4/raw.c). So packets
        count that the filter would have discarded.
        """
        if self._unasked:
            self._more()
        self._unasked = True
        lost, self._lost = (self._drops - self._lost) & 0xFFFFFFFF, self._drops
        return lost

    def _more(self) -> bool:
        """Whether packets wait to be read; also learns how many the kernel has dropped."""
        found = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
        self._drops = int.from_bytes(found[-4:], sys.byteorder)
        self._unasked = False
        return found[:4] != b"\0\0\0\0"  # SK_MEMINFO_RMEM_ALLOC

    def receive(self, max_packets: int = 64) -> list[Received]:
        """Return up to `max_packets` packets that have arrived; more of them wait for the next call.

        Anything but one whole IP packet is discarded and counted in `malformed`.
        """
        read = self._read4 if self.family == 4 else self._read6
        packets = []
        for number in range(max_packets):
            # An advert mostly comes alone: to ask costs less than to read in vain.
            if number == 1 and not self._more():
                break
            self._unasked = True
            try:
                packet = read()
            except OSError:  # EAGAIN: all are read. Netlink tells of the other ones (ENETDOWN)
                break
            if packet is None:
                self.malformed += 1
            else:
                packets.append(packet)
        return packets

    def _read4(self) -> Received | None:
        """Return one packet, which for IPv4 begins with the IP header (raw(7))."""
        size = self._socket.recv_into(self._buffer)
        if size < _IP_HEADER.size:
            return None
        first, total, ttl, protocol, source, destination = _IP_HEADER.unpack_from(self._buffer)
        header = (first & 0x0F) * 4
        # A total length above `size`: cut off by the buffer.
        if first >> 4 != 4 or header < _IP_HEADER.size or protocol != PROTOCOL or not header <= total == size:
            return None
        return bytes(self._buffer[header:size]), source, destination, ttl

    def _read6(self) -> Received | None:
        """Return one packet; destination and hop limit come as ancillary data (RFC 3542 section 4)."""
        size, ancillary, flags, address = self._socket.recvmsg_into([self._buffer], _ANCILLARY)
        destination, hop_limit = b"", -1
        for level, kind, value in ancillary:
            if level != socket.IPPROTO_IPV6:
                continue
            if kind == socket.IPV6_PKTINFO:
                destination = value[:16]
            elif kind == socket.IPV6_HOPLIMIT:
                (hop_limit,) = _INT.unpack(value)
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or not destination or hop_limit < 0:
            return None
        source = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
        return bytes(self._buffer[:size]), source, destination, hop_limit

    def send(self, payload: bytes, source: bytes, destination: bytes, hop_limit: int = HOP_LIMIT) -> int:
        """Send `payload` from `source` to `destination` (packed) out of this interface.

        Returns 0, or the errno (ENETDOWN, ENETUNREACH, ENOBUFS, EAGAIN, ...). The source need not be an
        address of this interface, nor of this router.
        """
        way = self._ways.get((source, destination, hop_limit)) or self._way(source, destination, hop_limit)
        try:
            self._socket.sendmsg((payload,), way[0], 0, way[1])
        except OSError as error:
            return error.errno or -1
        return 0

    def _way(self, source: bytes, destination: bytes, hop_limit: int) -> _Way:
        """Return the ancillary data and the address for sendmsg, one pair for each peer of an instance."""
        if self.family == 4:
            pktinfo = _PKTINFO4.pack(self.ifindex, source, bytes(4))
            ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, pktinfo)]
            address: tuple[object, ...] = (socket.inet_ntop(socket.AF_INET, destination), 0)
            hops = (socket.IPPROTO_IP, socket.IP_TTL, _INT.pack(hop_limit))
        else:
            pktinfo = _PKTINFO6.pack(source, self.ifindex)
            ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, pktinfo)]
            address = (socket.inet_ntop(socket.AF_INET6, destination), 0, 0, self.ifindex)
            hops = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, _INT.pack(hop_limit))
        if hop_limit != HOP_LIMIT:
            ancillary.append(hops)
        if len(self._ways) >= _WAYS_MAX:
            self._ways.clear()
        way = self._ways[source, destination, hop_limit] = ancillary, address
        return way


def pack(address: str) -> bytes:
    """Return a textual address as 4 or 16 bytes. OSError: it is no address."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def pack_all(addresses: Iterable[str]) -> frozenset[bytes]:
    """Return these addresses packed; all empty sets are one, as most virtual routers have several."""
    return frozenset(map(pack, addresses)) or NO_ADDRESS


def group_of(instance: Instance) -> bytes | None:
    """Return the packed multicast group of `instance`; None: it has unicast peers."""
    return None if instance.unicast_peers else pack(instance.multicast_group)


def expected_of(instance: Instance, own_sources: Iterable[bytes] = ()) -> Expected:
    """Return what `instance` requires of an advertisement, for `core.packet.check`."""
    peers = pack_all(instance.unicast_peers)
    return Expected(
        vrid=instance.virtual_router_id,
        version=instance.version,
        family=instance.family,
        owner=instance.priority == 255,
        own_sources=frozenset(own_sources) or NO_ADDRESS,
        group=group_of(instance),
        unicast_peers=peers if peers and instance.check_unicast_src else None,
        min_hop_limit=instance.unicast_min_ttl if peers else HOP_LIMIT,
        allowed_sources=pack_all(instance.allow_src),
        auth_pass=instance.auth_pass,
        interval_cs=instance.advert_int_cs,
        addresses=pack_all(
            item.address for item in instance.virtual_addresses if item.family == instance.family
        ),
    )
