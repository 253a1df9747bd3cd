# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP sockets between routers: how they are opened, bound and tuned, never blocking.

Addresses are numeric text, link-local ones with their interface (`fe80::1%eth0`). They are handed
to Python as bytes: for text it would import its IDNA codec, which costs 1 MiB.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

BUFFER = 256 * 1024  # bytes, each way; what the kernel holds is behind in time as well
USER_TIMEOUT_MS = 8_000  # for data that is not acknowledged, or does not fit the peer's window

# Not in every Python's socket module: include/uapi/linux/in.h, tcp.h, in6.h
_IP_FREEBIND = 15
_IP_BIND_ADDRESS_NO_PORT = 24
_IPV6_FREEBIND = 78
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
HOP_LIMIT = 255
_TCP_USER_TIMEOUT = 18
_TCP_NOTSENT_LOWAT = 25

TOS_CS6 = 0xC0  # internetwork control, RFC 4594 section 3.1
_PRIORITY = 6  # TC_PRIO_INTERACTIVE, include/uapi/linux/pkt_sched.h; adverts go before it with 7


@dataclass(frozen=True, slots=True)
class Path:
    """One way to a peer; `interface` binds to a device (SO_BINDTODEVICE), `source` to an address of ours."""

    address: str
    port: int = 3780
    source: str | None = None
    interface: str | None = None
    max_hops: int = 1  # as far away the peer may be when it connects

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" + (f" by {self.interface}" if self.interface else "")

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return family_of(self.address)

    @property
    def packed(self) -> bytes:
        """The peer's address, without its scope."""
        return pack(self.address)


def family_of(address: str) -> int:
    """AF_INET or AF_INET6."""
    return int(socket.AF_INET6 if ":" in address else socket.AF_INET)


def pack(address: str) -> bytes:
    """4 or 16 bytes; OSError for what is no address."""
    return socket.inet_pton(family_of(address), address.partition("%")[0])


def begin_connect(path: Path) -> socket.socket:
    """A socket that is connecting; once writable, it has an outcome. OSError when it can't even begin."""
    sock = _open(path.family, path.interface)
    try:
        if path.source is not None:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(resolve(path.source, 0))
        try:
            sock.connect(resolve(path.address, path.port))
        except BlockingIOError:
            pass  # EINPROGRESS
    except OSError:
        sock.close()
        raise
    return sock


def local_address(path: Path) -> str:
    """Return our address by which the peer is reached. OSError: there is no route to it now."""
    if path.source is not None:
        return path.source
    with socket.socket(path.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        if path.interface is not None:
            device = path.interface.encode() + b"\0"
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        asked.connect(resolve(path.address, path.port))  # sends nothing
        found = asked.getsockname()
        return f"{found[0]}%{found[3]}" if len(found) == 4 and found[3] else str(found[0])


def listen(family: int, port: int, source: str, interface: str | None, max_hops: int) -> socket.socket:
    """Return a listening socket; the source address need not be there yet. OSError.

    The kernel drops packets of peers that are more than `max_hops` away: all routers send with the highest
    hop limit (RFC 5082). Outgoing connections have no such limit, so that a router of an older release is
    reached.
    """
    sock = _open(family, interface)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, HOP_LIMIT + 1 - max_hops)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, HOP_LIMIT + 1 - max_hops)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind(resolve(source, port))
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    return sock


def accept(listener: socket.socket) -> tuple[socket.socket, bytes] | None:
    """A connection and the peer's packed address; None when there is none. OSError: out of descriptors."""
    try:
        sock, address = listener.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    sock.setblocking(False)
    return sock, pack(address[0])


def dismiss(sock: socket.socket) -> None:
    """Close at once by a reset, which leaves nothing behind here."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it is gone already
    sock.close()


def _open(family: int, interface: str | None) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        option = sock.setsockopt
        # All of these are inherited by accepted connections; buffers must be set before the handshake.
        option(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        option(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        option(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        # Writable only while little is unsent, so that what waits can still be coalesced.
        option(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, BUFFER // 4)
        if family == socket.AF_INET6:
            option(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS_CS6)
            option(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
        else:
            option(socket.IPPROTO_IP, socket.IP_TOS, TOS_CS6)
            option(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
        option(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)  # after IP_TOS, which sets it too
        if interface is not None:
            option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError:
        sock.close()
        raise
    return sock


def resolve(address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the argument of `bind` and `connect`. OSError: a link-local address has no interface."""
    host, _, scope = address.partition("%")
    if ":" not in host:
        return host, port
    return host, port, 0, (int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)) if scope else 0
