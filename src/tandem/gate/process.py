# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: a process that holds the first reply of each new connection until a peer knows it.

    SYN,ACK -> PREROUTING -> queue -> gate: ask conntrack for the entry -> daemon: push it, urgent
                                      gate <- daemon: acknowledged, or nobody to ask
               NAT, FORWARD <- accept

Likewise the first reply of UDP and of ICMP echo. By then the kernel's entry of a TCP connection is in
SYN_RECV and knows the window scales of both sides, though its event is sent only when the packet has left
the router: so the entry itself is asked for, by the packet's tuple, and the backup gets what it needs to let
the client's ACK through.

Nothing may be held for longer than the timeout, whatever happens to the daemon and however much arrives: the
deadlines are here. The age of a packet is that of the kernel's timestamp, so that it may be overdue when it
is read. A turn reads PACKETS_A_TURN at most, and HELD_MAX packets wait at once. Further packets are accepted,
and so are those that do not fit into the queue's socket. Each of these is counted as a connection for which
the guarantee was not kept.

When this process dies, the kernel drops the held packets (the server repeats its SYN,ACK after a second) and
accepts all later ones (`bypass`). When it hangs, the daemon kills it after 3 s, and the kernel accepts
packets that do not fit into a full queue (NFQA_CFG_F_FAIL_OPEN).

The daemon is at the other end of a SOCK_SEQPACKET socket; every message begins with one of these bytes:

    to the gate     ON, OFF; CHECK: somebody may have removed the rules; with ids to release: ACK, a peer has
                    them; PASS, nobody had to know; LATE, the peer does not answer
    to the daemon   READY; FLOWS: (id, ctnetlink message)*; FIGURES; WARN or UNABLE with a text for people

This is the only part of Tandem that needs NetfilterQueue.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import sys
import time
from array import array

from tandem.conntrack.message import CTA_TUPLE_REPLY, split, tuple_attribute
from tandem.core.timers import MILLISECOND, SECOND
from tandem.gate.hold import ACKED, BYPASSED, OVERLOAD, UNKNOWN, Hold, reply_tuple
from tandem.gate.rules import Rules, RulesError
from tandem.nlmsg import NFGENMSG, NFNL_HEADER, NLM_F_ACK, attribute, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ON, OFF, ACK, PASS, LATE, CHECK = b"+", b"-", b"A", b"P", b"L", b"C"
READY, FLOWS, FIGURES, WARN, UNABLE = b"R", b"F", b"S", b"W", b"U"
MESSAGE_MAX = 1 << 16  # bytes
FLOWS_A_MESSAGE = 64
PACKETS_A_TURN = 64
MESSAGES_A_TURN = 16

_BIND_ATTEMPTS, _BIND_PAUSE = 50, 0.1  # an earlier gate may be about to end
_QUEUE_LENGTH = 4096  # packets without a verdict; the socket is full long before
_UNREAD = 80 << 10  # bytes of the queue's socket, which the kernel doubles: some 150 packets
_SO_TIMESTAMPNS = 35  # asm/socket.h
_COPIED = 128  # bytes of each packet: its headers

_NETLINK_NETFILTER = 12
_CT_GET, _ERROR = 0x101, 2
_QUEUE_CONFIG = 0x302  # NFNL_SUBSYS_QUEUE, NFQNL_MSG_CONFIG
_CFG_MASK, _CFG_FLAGS, _FAIL_OPEN = 4, 5, 1
_NUMBER = struct.Struct("=I")
_WAYS = {ACK: ACKED, PASS: BYPASSED, LATE: OVERLOAD}


class Gate:
    """The queue, the packets in it and the daemon."""

    def __init__(self, daemon: socket.socket, queue: int, channel_port: int, timeout: int, bind: Any) -> None:
        """`bind(queue, callback)` takes the queue and returns its NetfilterQueue."""
        self._daemon = daemon
        self._hold = Hold(timeout)
        self._rules = Rules(queue, channel_port)
        self._on = False
        self._arrived: list[tuple[int, bytes]] = []  # id, request for its entry
        self._tell_at = 0
        self._check_at: int | None = None  # when to look for the rules
        self._checked = 0
        self._conntrack = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._conntrack.bind((0, 0))
        self._conntrack.setblocking(False)
        self._queue = bind(queue, self._packet)
        self._some = _Some(self._queue.get_fd())
        self._stamps: socket.socket | None = None  # while it is open, the kernel notes when packets arrive

    def run(self) -> None:
        """Hold packets until the daemon closes its end."""
        self._rules.clear()
        self._say(READY)
        queue = self._queue.get_fd()
        try:
            while True:
                readable = select.select([queue, self._daemon], [], [], self._wait())[0]
                if queue in readable:
                    self._some.left = PACKETS_A_TURN
                    self._queue.run_socket(self._some)
                    self._ask()
                if self._daemon in readable and not self._hear():
                    return
                now = time.monotonic_ns()
                for accept in self._hold.expire(now):
                    accept()
                if now >= self._tell_at:
                    self._tell(now)
                if self._check_at is not None and now >= self._check_at:
                    self._check(now)
        finally:
            self._off()
            self._queue.unbind()

    def _wait(self) -> float | None:
        times = [self._tell_at] if self._on else []
        if self._check_at is not None:
            times.append(self._check_at)
        if (deadline := self._hold.deadline()) is not None:
            times.append(deadline)
        return max(0, min(times) - time.monotonic_ns()) / SECOND if times else None

    # Packets

    def _packet(self, packet: Any) -> None:
        now = time.monotonic_ns()
        way = self._hold.add(packet.id, packet.accept, now - _age(packet.get_timestamp()), now)
        found = reply_tuple(packet.get_payload())
        if not self._on:
            way = BYPASSED
        if way is not None or found is None:
            self._release([packet.id], UNKNOWN if way is None else way)
            return
        body = tuple_attribute(CTA_TUPLE_REPLY, found)
        family = socket.AF_INET if found[2] == 4 else socket.AF_INET6
        message = request(_CT_GET, NFGENMSG.pack(family, 0, 0) + body, sequence=packet.id & 0xFFFFFFFF)
        self._arrived.append((packet.id, message))

    def _ask(self) -> None:
        """Ask the kernel for the entries of what has arrived, and the daemon to make them known."""
        while self._arrived:
            some, self._arrived = self._arrived[:FLOWS_A_MESSAGE], self._arrived[FLOWS_A_MESSAGE:]
            entries = self._entries(b"".join(request for _, request in some))
            unknown = [number for number, _ in some if number not in entries]
            if unknown:
                self._release(unknown, UNKNOWN)
            if entries and not self._say(
                FLOWS + b"".join(_NUMBER.pack(number) + message for number, message in entries.items())
            ):
                self._release(entries, OVERLOAD)

    def _entries(self, requests: bytes) -> dict[int, bytes]:
        """The kernel's messages about the flows that it knows, by sequence number."""
        found: dict[int, bytes] = {}
        try:
            self._conntrack.send(requests)  # the kernel answers before it returns
            while True:
                for message in split(self._conntrack.recv(MESSAGE_MAX)):
                    _, kind, _, sequence = NFNL_HEADER.unpack_from(message.ljust(20, b"\0"))[:4]
                    if kind != _ERROR:
                        found[sequence] = message
        except BlockingIOError:
            pass
        except OSError as error:
            self._say(WARN + f"gate: cannot ask the kernel for connections: {error.strerror}".encode())
        return found

    def _release(self, numbers: Any, way: int) -> None:
        for accept in self._hold.release(numbers, way, time.monotonic_ns()):
            accept()

    # The daemon

    def _hear(self) -> bool:
        """Do what the daemon says; False: the daemon is gone, or this process must end."""
        for _ in range(MESSAGES_A_TURN):
            try:
                message = self._daemon.recv(MESSAGE_MAX)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not message or not self._obey(message[:1], message[1:]):
                return False
        return True

    def _obey(self, what: bytes, ids: bytes) -> bool:
        if what in _WAYS:
            self._release(array("I", ids), _WAYS[what])
        elif what == ON and not self._on:
            try:
                for problem in self._rules.install():
                    self._say(WARN + f"gate: {problem}".encode())
            except RulesError as error:
                self._say(UNABLE + f"gate: neither nftables nor iptables takes the rules ({error})".encode())
                return False
            self._on = True
            self._stamp()
            self._tell(time.monotonic_ns())
        elif what == CHECK and self._on:
            self._check_at = max(time.monotonic_ns(), self._checked + SECOND)  # to look takes some ms
        elif what == OFF:
            self._off()
        return True

    def _check(self, now: int) -> None:
        self._check_at, self._checked = None, now
        for problem in self._rules.restore() if self._on else ():
            self._say(WARN + f"gate: {problem}".encode())

    def _off(self) -> None:
        for accept in self._hold.release_all(BYPASSED, time.monotonic_ns()):
            accept()
        if self._on:
            self._on = False
            self._rules.remove()
        if self._stamps is not None:
            self._stamps.close()
            self._stamps = None
        self._tell(time.monotonic_ns())

    def _tell(self, now: int) -> None:
        self._tell_at = now + SECOND
        self._say(FIGURES + self._hold.figures(self._on, self._rules.limited()))  # also a sign of life

    def _stamp(self) -> None:
        """Have the kernel timestamp packets; without that their age begins when they are read."""
        self._stamps = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._stamps.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError as error:
            self._say(WARN + f"gate: packets have no timestamps: {error.strerror}".encode())

    def _say(self, message: bytes) -> bool:
        try:
            self._daemon.send(message)
        except OSError:
            return False  # it hangs or is gone
        return True


class _Some:
    """The queue's socket as NetfilterQueue reads it: after `left` packets it seems to be empty."""

    def __init__(self, fd: int) -> None:
        self.left = 0
        self._socket = socket.socket(fileno=os.dup(fd))

    def recv(self, size: int) -> bytes:
        """Return the next packet. BlockingIOError: there is none, or this turn has read enough."""
        while self.left > 0:
            self.left -= 1
            try:
                return self._socket.recv(size, socket.MSG_DONTWAIT)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost, which their numbers tell
                    raise
        raise BlockingIOError(errno.EAGAIN, "enough")


def _age(arrived: float) -> int:
    """Return the age in ns of a packet that came at this time of day; 0 without a timestamp."""
    return max(0, time.time_ns() - int(arrived * SECOND)) if arrived else 0


def _bind(queue_type: Callable[[], Any]) -> Callable[[int, Any], Any]:
    def bind(number: int, callback: Any) -> Any:
        for attempt in range(_BIND_ATTEMPTS):
            queue = queue_type()
            try:
                queue.bind(number, callback, max_len=_QUEUE_LENGTH, range=_COPIED, sock_len=_UNREAD)
            except OSError:
                if attempt == _BIND_ATTEMPTS - 1:
                    raise
                time.sleep(_BIND_PAUSE)
                continue
            _fail_open(queue.get_fd(), number)
            return queue
        raise AssertionError

    return bind


def _fail_open(queue: int, number: int) -> None:
    """Let pass what the queue can't take; NetfilterQueue has no name for it. OSError: the kernel refuses."""
    flag = struct.pack("!I", _FAIL_OPEN)
    body = NFGENMSG.pack(socket.AF_UNSPEC, 0, socket.htons(number))
    for kind in (_CFG_MASK, _CFG_FLAGS):
        body += attribute(kind, flag)
    with socket.socket(fileno=os.dup(queue)) as opened:
        opened.send(request(_QUEUE_CONFIG, body, NLM_F_ACK))
        answer = opened.recv(MESSAGE_MAX)
    refused = -struct.unpack_from("=i", answer, 16)[0]
    if refused:
        raise OSError(refused, f"NFQA_CFG_F_FAIL_OPEN: {os.strerror(refused)}")


def main(arguments: list[str]) -> int:
    """`FD QUEUE PORT TIMEOUT_MS`: the socket to the daemon, the queue's number, the channel's port."""
    fd, queue, port, timeout = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the daemon says when to stop
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    daemon = socket.socket(fileno=fd)
    daemon.setblocking(False)
    try:
        from netfilterqueue import NetfilterQueue
    except ImportError as error:
        text = f"gate: {error} (Debian: pip install tandem[gate]; OpenWrt: tandem-gate)"
        daemon.send(UNABLE + text.encode())
        return 1
    import warnings

    warnings.simplefilter("ignore", RuntimeWarning)  # a receive buffer below what was asked for will do
    try:
        gate = Gate(daemon, queue, port, timeout * MILLISECOND, _bind(NetfilterQueue))
    except OSError as error:
        unable = error.errno in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EPERM)
        daemon.send((UNABLE if unable else WARN) + f"gate: {error}".encode())
        return 1
    gate.run()
    return 0
