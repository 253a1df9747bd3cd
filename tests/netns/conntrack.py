# SPDX-License-Identifier: GPL-2.0-or-later
"""A client, a router that translates, and a server; and the router's connection tracking, in raw messages.

    client 10.0.0.2 ---- 10.0.0.1 router 192.0.2.1 ---- 192.0.2.2 server
           fd00:a::2     fd00:a::1       fd00:b::1      fd00:b::2

The router's other WAN addresses, 192.0.2.10 and fd00:b::10, are there to be translated to.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tandem.conntrack.message import split
from tandem.nlmsg import NFNL_HEADER, NLMSG_DONE
from tests.lab.netns import enter, ip_batch, prefix, remove, run, write_sysctls

T = TypeVar("T")
_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 270, 1, 10

# Connection tracking runs only where a rule needs it, translation where there is such a chain.
STRICT = """
table inet strict {
    chain forward { type filter hook forward priority 0; ct state invalid drop; }
    chain input { type filter hook input priority 0; ct state invalid drop; }
}
"""
HOOKS = """
table {family} nat {{
    chain pre {{ type nat hook prerouting priority -100; {pre} }}
    chain post {{ type nat hook postrouting priority 100; {post} }}
}}
"""


class Conntrack:
    """The connection tracking of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._requests = self._socket()

    def _socket(self) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
            made.bind((0, 0))
            made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            made.setsockopt(socket.SOL_SOCKET, 32, 1 << 20)  # SO_SNDBUFFORCE
            made.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            made.setblocking(False)
            return made

        return enter(self.namespace, make)

    def listen(self) -> None:
        """Hear of all events from now on, expectations included."""
        self._events = self._socket()
        for group in range(1, 7):
            self._events.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def events(self) -> list[bytes]:
        """The events since the last call."""
        found: list[bytes] = []
        while True:
            try:
                found += split(self._events.recv(1 << 16))
            except BlockingIOError:
                return found

    def dump(self, subsystem: int = 1) -> list[bytes]:
        """All entries, or expectations (subsystem 2)."""
        asked = self._socket()
        asked.setblocking(True)
        asked.send(NFNL_HEADER.pack(20, subsystem << 8 | 1, 0x301, 1, 0, 0, 0, 0))
        found: list[bytes] = []
        with asked:
            while True:
                for message in split(asked.recv(1 << 20)):
                    if struct.unpack_from("=H", message, 4)[0] == NLMSG_DONE:
                        return found
                    found.append(message)

    def send(self, chunks: Iterable[bytes | bytearray]) -> dict[int, int]:
        """Hand messages over; errno by sequence number of those that failed."""
        failed: dict[int, int] = {}
        for chunk in chunks:
            self._requests.send(chunk)
            while True:
                try:
                    answer = self._requests.recv(1 << 16)
                except BlockingIOError:
                    break
                for message in split(answer):
                    number, _, sequence = struct.unpack_from("=iIxxxxI", message, 16)
                    failed[sequence] = -number
        return failed

    def ask(self, request: bytes) -> bytes:
        """The one message that answers a request."""
        self._requests.send(request)
        return next(split(self._requests.recv(1 << 16)))

    def run(self, *argv: str) -> str:
        return run(["ip", "netns", "exec", self.namespace, *argv])

    def flush(self) -> None:
        self.run("conntrack", "-F")

    def list(self, *argv: str) -> list[str]:
        """`conntrack -L` line by line, without what differs from minute to minute."""
        lines = []
        for line in self.run("conntrack", "-L", "-o", "extended,labels", *argv).splitlines():
            words = line.split()
            del words[4]  # the timeout
            lines.append(
                " ".join(word for word in words if not word.startswith(("use=", "packets=", "bytes=")))
            )
        return sorted(lines)


class NatLab:
    """The namespaces; `rules` go into the router's nat chains."""

    def __init__(self) -> None:
        name = prefix("nat")
        self.client, self.router, self.server, self.fresh = (name + end for end in "crsf")
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> NatLab:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for made in self._sockets:
            made.close()
        remove([self.client, self.router, self.server, self.fresh])

    def _build(self) -> None:
        namespaces = (self.client, self.router, self.server, self.fresh)
        ip_batch(f"netns add {name}" for name in namespaces)
        for name in namespaces:  # link-local addresses are usable at once
            write_sysctls(name, {"ipv6/conf/default/accept_dad": 0})
        ip_batch(
            f"link add eth0 netns {host} type veth peer {name} netns {self.router}"
            for host, name in ((self.client, "lan"), (self.server, "wan"))
        )
        ip_batch(
            ["address add 10.0.0.2/24 dev eth0", "address add fd00:a::2/64 dev eth0 nodad",
             "link set eth0 up", "link set lo up",
             "route add default via 10.0.0.1", "route add default via fd00:a::1"],
            self.client,
        )  # fmt: skip
        ip_batch(
            ["address add 10.0.0.1/24 dev lan", "address add fd00:a::1/64 dev lan nodad",
             "address add 192.0.2.1/24 dev wan", "address add 192.0.2.10/24 dev wan",
             "address add fd00:b::1/64 dev wan nodad", "address add fd00:b::10/64 dev wan nodad",
             "link set lan up", "link set wan up", "link set lo up"],
            self.router,
        )  # fmt: skip
        ip_batch(
            ["address add 192.0.2.2/24 dev eth0", "address add fd00:b::2/64 dev eth0 nodad",
             "link set eth0 up", "link set lo up",
             "route add 10.0.0.0/24 via 192.0.2.1", "route add fd00:a::/64 via fd00:b::1"],
            self.server,
        )  # fmt: skip
        write_sysctls(self.router, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
        write_sysctls(
            self.router, {"netfilter/nf_conntrack_events": 1, "netfilter/nf_conntrack_tcp_loose": 0}
        )
        self.rules()
        run(["ip", "netns", "exec", self.fresh, "nft", "-f", "-"], stdin=self._hooks())
        run(["ip", "-n", self.fresh, "link", "set", "lo", "up"])

    def _hooks(self, pre: str = "", post: str = "", pre6: str = "", post6: str = "") -> str:
        return (
            HOOKS.format(family="ip", pre=pre, post=post)
            + HOOKS.format(family="ip6", pre=pre6, post=post6)
            + STRICT
        )

    def rules(self, pre: str = "", post: str = "", pre6: str = "", post6: str = "", more: str = "") -> None:
        """Replace all of the router's rules. Statements end with semicolons."""
        text = "flush ruleset\n" + self._hooks(pre, post, pre6, post6) + more
        run(["ip", "netns", "exec", self.router, "nft", "-f", "-"], stdin=text)

    def socket(self, host: str, family: int, type: int, protocol: int = 0) -> socket.socket:
        """A socket that lives in a namespace, waits 3 s at most, and is closed with the lab."""
        made = enter(host, lambda: socket.socket(family, type, protocol))
        made.settimeout(3)
        self._sockets.append(made)
        return made

    def within(self, host: str, function: Callable[[], T]) -> T:
        return enter(host, function)

    def listen(self, host: str, address: str, port: int) -> socket.socket:
        """A TCP socket that accepts."""
        made = self.socket(host, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
        return made

    def connect(
        self, server: socket.socket, to: tuple[str, int], port: int = 0, host: str = ""
    ) -> tuple[socket.socket, socket.socket]:
        """A TCP connection from the client (from `port`): both ends of it."""
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        here = self.socket(host or self.client, family, socket.SOCK_STREAM)
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port:
            here.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
        here.connect(to)
        there, _ = server.accept()
        there.settimeout(3)
        self._sockets.append(there)
        return here, there


def talks(here: socket.socket, there: socket.socket) -> bool:
    """Whether a TCP connection still carries data, both ways, the far end first."""
    try:
        for one, other in ((there, here), (here, there)):
            one.sendall(b"x" * 3000)
            got = b""
            while len(got) < 3000:
                got += other.recv(4096) or b"end" * 1000
            if got != b"x" * 3000:
                return False
    except OSError:
        return False
    return True


def ping(identifier: int, v6: bool = False) -> bytes:
    """An echo request with this id."""
    if v6:
        return struct.pack("!BBHHH", 128, 0, 0, identifier, 1)  # the kernel makes the checksum
    total = 0x0800 + identifier + 1
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, identifier, 1)


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260 appendix A), before it is put in little-endian order."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def iterate(chunks: Iterable[object]) -> Iterator[bytes]:
    """The bytes of chunks."""
    for chunk in chunks:
        yield bytes(chunk.data)  # type: ignore[attr-defined]
