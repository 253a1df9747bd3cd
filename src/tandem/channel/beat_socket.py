# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP sockets of heartbeats: each is connected to one address of a peer, and the kernel refuses all others.

OSError is raised for what cannot be opened now, and for what the kernel has heard of the path.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tandem.channel.heartbeat import begun
from tandem.channel.peer_socket import (
    HOP_LIMIT,
    IP_MINTTL,
    IPV6_MINHOPCOUNT,
    TOS_CS6,
    family_of,
    pack,
    resolve,
)

_PRIORITY = 7  # TC_PRIO_CONTROL, as adverts have
_BUFFER = 32 * 1024  # bytes: some dozens of heartbeats


@dataclass(frozen=True, slots=True)
class Route:
    """How heartbeats reach a peer: addresses as text, link-local ones with their interface."""

    local: str
    remote: str
    port: int
    device: str | None = None
    index: int | None = None  # of the device: another one of the same name is another route
    max_hops: int = 1

    @property
    def key(self) -> tuple[bytes, bytes]:
        """The packed addresses, by which two routes are the same."""
        return pack(self.local), pack(self.remote)


class BeatSocket:
    """One path to a peer; `keys` are those of what is sent, and of what comes."""

    def __init__(self, route: Route, keys: tuple[bytes, bytes]) -> None:
        """OSError: the address is not there, or there is no way to the peer now."""
        self.route = route
        self.errors = 0
        self.use(keys)
        family = family_of(route.remote)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(family, kind)
        try:
            self._set_up(family)
        except OSError:
            self._sock.close()
            raise
        self.send = self._sock.send
        self.receive = self._sock.recv  # both raise OSError, also for what the kernel has heard of the path
        self.fileno = self._sock.fileno

    def use(self, keys: tuple[bytes, bytes]) -> None:
        """Use these keys from now on."""
        local, remote = self.route.key
        self.outward = begun(keys[0], local + remote)
        self.inward = begun(keys[1], remote + local)

    def _set_up(self, family: int) -> None:
        option, route = self._sock.setsockopt, self.route
        option(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one address, several peers
        option(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if family == socket.AF_INET6:
            option(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, HOP_LIMIT + 1 - route.max_hops)
            option(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_CS6)
            option(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
        else:
            option(socket.IPPROTO_IP, IP_MINTTL, HOP_LIMIT + 1 - route.max_hops)
            option(socket.IPPROTO_IP, socket.IP_TOS, TOS_CS6)
            option(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
        option(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)  # after IP_TOS, which sets it too
        if route.device is not None:
            option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, route.device.encode() + b"\0")
        self._sock.bind(resolve(route.local, route.port))
        self._sock.connect(resolve(route.remote, route.port))

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
