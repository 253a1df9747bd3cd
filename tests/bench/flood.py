# SPDX-License-Identifier: GPL-2.0-or-later
"""New flows through a router, as many a second as it takes: frames that a client in its LAN could have sent.

They are put into the cable to the router's LAN interface (AF_PACKET on the switch's end), by sendmmsg of
frames that are made beforehand but for their ports. With a UDP socket in the client's namespace a flow cost
nearly twice as much, for routing and a bridge that nobody wants to measure, on a machine whose cores the
routers' daemons share.

On a router, packets go before processes: the kernel forwards in softirqs. Here that is done inside of
sendmmsg, so that the sender runs with real-time priority: above ordinary processes, as conntrackd is one,
and below tandemd, which has a higher one.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.lab import FAR, Host, Router
from tests.lab.netns import enter

PORTS = 60_000  # of one source port
BURST = 64  # frames in one call
_AT_FIRST = 1000  # destination port
_ETHERNET, _IPV4, _UDP = 14, 20, 8
_FRAME = _ETHERNET + _IPV4 + _UDP
_PORTS_AT = _ETHERNET + _IPV4
_SOL_PACKET, _PACKET_QDISC_BYPASS = 263, 20  # linux/if_packet.h


class _Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Mmsghdr(ctypes.Structure):
    """struct mmsghdr, with its struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint),
    )


class Flood:
    """New UDP flows from `client` to ports of the far server, one empty datagram each, by way of `router`."""

    def __init__(self, client: Host, router: Router) -> None:
        self._source = 20_000
        lan = router.devices[0]
        self._cable = router.cable(lan)
        self._switches = router.lab.switch_namespace
        frame = _mac(router, lan) + _mac(client, client.devices[0]) + _frame(client)
        self._frames = bytearray(frame * BURST)
        start = ctypes.addressof((ctypes.c_char * len(self._frames)).from_buffer(self._frames))
        self._vectors = (_Iovec * BURST)(*((start + n * _FRAME, _FRAME) for n in range(BURST)))
        vectors = ctypes.addressof(self._vectors)
        one = ctypes.sizeof(_Iovec)
        self._messages = (_Mmsghdr * BURST)(*((None, 0, vectors + n * one, 1) for n in range(BURST)))
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg

    def send(
        self,
        count: int,
        rate: float,
        burst: int = BURST,
        told: Callable[[int, float], None] = lambda done, when: None,
    ) -> float:
        """Send so many new flows, at most `rate` a second; return the rate that was reached.

        `told(done, when)` before each `burst` of them (at most BURST).
        """
        began = time.monotonic()
        done = 0
        with enter(self._switches, self._socket) as sock, before_processes():
            while done < count:
                if done % PORTS == 0:
                    self._source += 1
                early = began + done / rate - time.monotonic()
                if early > 0:
                    time.sleep(early)
                told(done, time.monotonic())
                some = min(burst, count - done, PORTS - done % PORTS)
                self._burst(sock.fileno(), _AT_FIRST + done % PORTS, some)
                done += some
        return count / (time.monotonic() - began)

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        sock.bind((self._cable, 0))
        return sock

    def _burst(self, fd: int, port: int, count: int) -> None:
        ports = range(port, port + count)
        end = count * _FRAME
        self._frames[_PORTS_AT:end:_FRAME] = bytes((self._source >> 8,)) * count
        self._frames[_PORTS_AT + 1 : end : _FRAME] = bytes((self._source & 0xFF,)) * count
        self._frames[_PORTS_AT + 2 : end : _FRAME] = bytes([number >> 8 for number in ports])
        self._frames[_PORTS_AT + 3 : end : _FRAME] = bytes([number & 0xFF for number in ports])
        sent = 0
        one = ctypes.sizeof(_Mmsghdr)
        while sent < count:
            some = self._sendmmsg(fd, ctypes.byref(self._messages, sent * one), count - sent, 0)
            if some < 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            sent += some


@contextmanager
def before_processes() -> Iterator[None]:
    """Give this process a real-time priority until the block ends: ordinary processes wait for it."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _mac(host: Host, device: str) -> bytes:
    [link] = json.loads(host.exec("ip", "-j", "link", "show", "dev", device))
    return bytes.fromhex(link["address"].replace(":", ""))


def _frame(client: Host) -> bytes:
    """Return a frame without its MAC addresses; its ports are 0, and are set later."""
    source = client.ports[0].addresses[0].split("/")[0]
    addresses = socket.inet_aton(source) + socket.inet_aton(FAR)
    head = struct.pack("!BBHHHBBH", 0x45, 0, _IPV4 + _UDP, 0, 0x4000, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", head))
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp = struct.pack("!HHHH", 0, 0, _UDP, 0)  # no checksum
    return b"\x08\0" + head[:10] + struct.pack("!H", total) + head[12:] + udp
