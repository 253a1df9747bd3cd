# SPDX-License-Identifier: GPL-2.0-or-later
"""Conntrack's netlink: events as they happen, and the whole table.

`Events` listens and `Dump` reads the table in slices; writer.py puts entries in or takes them out.
Messages pass through as bytes: message.py reads them, encode.py makes them.

How to begin, and how to begin again after an overrun: read events until `drained`, then dump. Only then
nothing is missed: after an overrun the kernel drops everything until the queue is empty, and says so
only once.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from tandem.conntrack.filter import Filter, checker
from tandem.conntrack.message import CTA_MARK, CTA_STATUS, CTA_ZONE
from tandem.conntrack.socket_filter import program
from tandem.effects.bpf import assemble, attach
from tandem.effects.netlink import (
    NETLINK_NETFILTER,
    SO_RCVBUFFORCE,
    attributes,
    messages,
)
from tandem.effects.sysctl import Setting
from tandem.nlmsg import NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, attribute, request

SETTINGS: tuple[Setting, ...] = (
    # 2 (auto) gives an entry that is older than the first listener no events, not even its end.
    (("net", "netfilter", "nf_conntrack_events"), "1"),
    # 1 takes a packet in mid-stream for a new connection. On a router that has just become active that
    # entry would have no NAT, and stand where the restored one belongs.
    (("net", "netfilter", "nf_conntrack_tcp_loose"), "0"),
    # A connection goes on through the other router, which no event tells. When it comes back, the window that
    # this router remembers of it is long past. A restored entry has a flag that says so, its own have none.
    (("net", "netfilter", "nf_conntrack_tcp_be_liberal"), "1"),
    # These tell the entries of this router's own packets (own_traffic.py), and for the gate the first reply.
    (("net", "netfilter", "nf_conntrack_acct"), "1"),
)
"""Kernel settings to hold while replication runs, on the active and on the backup.

Left alone: nf_conntrack_helper (gone in Linux 6.0; helpers come from rules and are replicated),
nf_conntrack_max (an administrator's bound: `table_size` tells it).
"""

EVENTS_BUFFER = 8 << 20  # bytes; the kernel charges an event 768 to 1280
_BELL_BUFFER = 5 << 10  # bytes; the kernel doubles it
_EVENT_SIZE = 2048  # bytes; IPv6 with helper, labels, counters, time stamps and security context stays below
_DUMP_SIZE = 1 << 16  # bytes; the kernel fills at most 32 KiB

ASKED_AT_ONCE = 64  # entries in one `lookups`

_SO_MEMINFO, _NOTHING = 55, bytes(4)  # asm-generic/socket.h; the first number is SK_MEMINFO_RMEM_ALLOC
_ASKED = 4  # so many events mostly come at a time: to ask whether there is one more costs less than to fail

_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY
_EXPECTATION_GROUPS = (4, 5, 6)  # NFNLGRP_CONNTRACK_EXP_*
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _NO_ENOBUFS = 270, 1, 2, 5

_CT_GET, _CT_GET_STATS, _EXP_GET = 0x101, 0x105, 0x201  # nlmsg_type
_CTA_MARK_MASK, _CTA_STATUS_MASK = 21, 26
_STATS_ENTRIES, _STATS_MAX = 1, 2  # CTA_STATS_GLOBAL_*
_LENGTH_TYPE_FLAGS = struct.Struct("=IHH")


class Events:
    """New, changed and ended flows and expectations, as far as they are wanted.

    `overruns` counts how often the kernel had to drop events; `filtered` what Python had to drop because the
    kernel's filter could not hold all the rules. Only a process with CAP_NET_ADMIN can send to
    this socket, so that senders are not looked at.

    With the bell (`use_bell`), the loop waits for what a peer should know at once. The other events are read
    with it, in their order, and have to be looked for now and then.
    """

    def __init__(
        self,
        rules: Filter,
        ignore_ports: tuple[int, ...] = (),
        *,
        receive_buffer: int = EVENTS_BUFFER,
        expectations: bool = True,
    ) -> None:
        """`ignore_ports`: netlink port ids whose changes are our own (`Restorer.port`).

        OSError, with a text for people, when the kernel can't do it.
        """
        table_size()
        self.received = self.filtered = self.overruns = 0
        self.drained = False
        """Whether the last `read` found the end of the queue."""
        self._ignore_ports = ignore_ports
        self._groups = _GROUPS + (_EXPECTATION_GROUPS if expectations else ())
        self._wanted: Callable[[bytes], bool] | None = None
        self._rules = rules
        self._bell: Bell | None = None
        self._socket = _open()
        try:
            self.set_filter(rules)
            self.set_receive_buffer(receive_buffer)
            self.resume()
        except OSError:
            self._socket.close()
            raise
        self._fd = self._socket.fileno()

    def fileno(self) -> int:
        """Return the descriptor that the loop waits on."""
        return self._fd if self._bell is None else self._bell.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._socket.close()
        if self._bell is not None:
            self._bell.close()

    def set_filter(self, rules: Filter) -> None:
        """Use other rules from now on; events that are queued stay. The router's addresses may change."""
        self._rules = rules
        whole = _set_filter(self._socket, rules, self._ignore_ports)
        self._wanted = None if whole else checker(rules)
        if self._bell is not None:
            self._bell.set_filter(rules)

    def set_receive_buffer(self, size: int) -> None:
        """Limit the kernel memory, in bytes, of events that wait to be read."""
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)

    def use_bell(self, yes: bool) -> None:
        """Let only what a peer should know at once wake the loop, or every event; while paused."""
        if self._bell is not None:
            self._bell.close()
        self._bell = Bell(self._rules, self._ignore_ports, self._groups) if yes else None

    def hush(self) -> int:
        """Make the bell silent until the next event rings it; return how many have, see `Bell.hush`."""
        return 0 if self._bell is None else self._bell.hush()

    def pause(self) -> None:
        """Stop listening. A bulk restore is twice as fast when no program listens."""
        _leave(self._socket, self._groups)
        if self._bell is not None:
            self._bell.pause()

    def resume(self) -> None:
        """Listen again. The caller reads until `drained`, then dumps."""
        if self._bell is not None:
            self._bell.resume()  # first, see `Bell`
        _join(self._socket, self._groups)

    def read(self, limit: int = 256) -> list[bytes]:
        """Return at most `limit` complete messages, one event each; more may wait unless `drained`."""
        found: list[bytes] = []
        append, read, fd = found.append, os.read, self._fd
        self.drained = False
        for number in range(limit):
            if 0 < number < _ASKED and self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4) == _NOTHING:
                self.drained = True
                break
            try:
                append(read(fd, _EVENT_SIZE))
            except BlockingIOError:
                self.drained = True
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
        self.received += len(found)
        if self._wanted is not None:
            wanted = list(filter(self._wanted, found))
            self.filtered += len(found) - len(wanted)
            return wanted
        return found


class Bell:
    """A socket that is readable once an event has come that a peer should know at once (socket_filter.py).

    Its buffer holds about 8 events, and the kernel drops without an error what finds it full: then the bell
    rings already. The kernel tells an event first to the socket that has joined last (sk_add_bind_node()
    in include/net/sock.h). So the bell joins first, and when it rings the event can be read.
    """

    def __init__(self, rules: Filter, ignore_ports: tuple[int, ...], groups: tuple[int, ...]) -> None:
        self._ignore_ports = ignore_ports
        self._groups = groups
        self._socket = _open()
        self._fd = self._socket.fileno()
        try:
            self.set_filter(rules)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BELL_BUFFER)
            self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that the loop waits on."""
        return self._fd

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def set_filter(self, rules: Filter) -> None:
        """Use other rules from now on. Without all of them it rings for events that are not wanted, too."""
        _set_filter(self._socket, rules, self._ignore_ports, bell=True)

    def hush(self) -> int:
        """Be silent until the next event; return how many have rung, of those that found room."""
        rung, sock = 0, self._socket
        while sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4) != _NOTHING:
            os.read(self._fd, 1)
            rung += 1
        return rung

    def pause(self) -> None:
        """Stop listening."""
        _leave(self._socket, self._groups)

    def resume(self) -> None:
        """Listen again."""
        _join(self._socket, self._groups)


class Dump:
    """All entries (or expectations) of the kernel's table, read as the loop finds time.

    The kernel writes the next piece when one is read, so that what changes meanwhile is seen by some pieces
    and not by others: an entry may come twice or, when it is new, not at all. Its event says it.
    `interrupted` is set when the kernel says so itself.
    """

    def __init__(
        self,
        rules: Filter | None = None,
        *,
        family: int = 0,
        mark: tuple[int, int] | None = None,
        zone: int | None = None,
        status: int = 0,
        expectations: bool = False,
    ) -> None:
        """`family`: 4, 6 or 0 for both; `mark`: value and mask; `zone`: only with Linux 6.8, others send all;
        `status`: only entries that have all these bits, with Linux 5.15.

        OSError, with a text for people, when the kernel can't do it.
        """
        self.done = self.interrupted = False
        self.entries = self.filtered = 0
        self._wanted = None if rules is None else checker(rules)
        self._socket = _open()
        body = bytes(({0: 0, 4: socket.AF_INET, 6: socket.AF_INET6}[family], 0, 0, 0))
        if mark is not None:
            body += _be32(CTA_MARK, mark[0]) + _be32(_CTA_MARK_MASK, mark[1])
        if zone is not None:
            body += attribute(CTA_ZONE, struct.pack("!H", zone))
        if status:
            body += _be32(CTA_STATUS, status) + _be32(_CTA_STATUS_MASK, status)
        kind = _EXP_GET if expectations else _CT_GET
        try:
            self._socket.send(request(kind, body, NLM_F_DUMP))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor that the loop waits on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket, done or not."""
        self._socket.close()

    def read(self, pieces: int = 2) -> list[bytes]:
        """Return the messages of the next `pieces`, of 32 KiB each, until `done`. May raise OSError."""
        found: list[bytes] = []
        for _ in range(pieces):
            if self.done:
                break
            try:
                datagram = self._socket.recv(_DUMP_SIZE)
            except BlockingIOError:
                break
            self._split(datagram, found)
        self.entries += len(found)
        if self._wanted is not None:
            wanted = list(filter(self._wanted, found))
            self.filtered += len(found) - len(wanted)
            return wanted
        return found

    def _split(self, datagram: bytes, found: list[bytes]) -> None:
        offset, end, append, unpack = 0, len(datagram), found.append, _LENGTH_TYPE_FLAGS.unpack_from
        while offset + 16 <= end:
            length, kind, flags = unpack(datagram, offset)
            if flags & NLM_F_DUMP_INTR:
                self.interrupted = True
            if kind <= NLMSG_DONE:
                number = struct.unpack_from("=i", datagram, offset + 16)[0] if end - offset >= 20 else 0
                self.done = True
                if number < 0:  # of NLMSG_ERROR, or of a dump that broke off
                    raise OSError(-number, f"conntrack dump: {os.strerror(-number)}")
                return
            if length < 16 or offset + length > end:
                raise OSError(errno.EPROTO, "conntrack dump: a message of the kernel is malformed")
            append(datagram[offset : offset + length])
            offset += length + -length % 4


def lookup(request: bytes) -> bytes | None:
    """Return the message about the entry that `request` (`Builder.get`) asks for; None when there is none."""
    with _open() as asked:
        asked.send(request)
        try:
            answer = asked.recv(_EVENT_SIZE)  # sendmsg has put it there
        except BlockingIOError:
            return None
    for kind, _, _, _ in messages(answer):
        return None if kind == NLMSG_ERROR else answer
    return None


def lookups(requests: bytes) -> dict[int, bytes]:
    """Return the messages about entries that `requests` ask for and that exist, by sequence number.

    The requests are ASKED_AT_ONCE at most, so that the answers fit into the socket's buffer.
    """
    found: dict[int, bytes] = {}
    with _open() as asked:
        asked.send(requests)
        while True:
            try:
                answer = asked.recv(_EVENT_SIZE)  # sendmsg has put it there
            except BlockingIOError:
                return found
            for kind, _, sequence, _ in messages(answer):
                if kind != NLMSG_ERROR:
                    found[sequence] = answer


def table_size() -> tuple[int, int]:
    """Return how many entries conntrack has, and how many it may have (0: Linux before 4.18 doesn't say).

    OSError, with a text for people, when the kernel has no conntrack or does not tell about it.
    """
    with _open() as asked:
        asked.send(request(_CT_GET_STATS, bytes(4)))
        try:
            answer = asked.recv(4096)  # sendmsg has put it there
        except BlockingIOError:
            raise OSError(errno.EPROTO, "conntrack: no answer from the kernel") from None
    for kind, _, _, body in messages(answer):
        if kind == NLMSG_ERROR:
            number = -struct.unpack_from("=i", body)[0]
            text = os.strerror(number)
            if number in (errno.EINVAL, errno.EOPNOTSUPP):  # of nfnetlink_rcv_msg() without the subsystem
                text = "the kernel has no nf_conntrack_netlink (OpenWrt: kmod-nf-conntrack-netlink)"
            raise OSError(number, f"conntrack: {text}")
        found = attributes(body, 4)
        entries, most = (int.from_bytes(found.get(kind, b""), "big") for kind in (_STATS_ENTRIES, _STATS_MAX))
        return entries, most
    raise OSError(errno.EPROTO, "conntrack: malformed answer from the kernel")


def _join(sock: socket.socket, groups: tuple[int, ...]) -> None:
    for group in groups:
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)


def _leave(sock: socket.socket, groups: tuple[int, ...]) -> None:
    for group in groups:
        sock.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, group)


def _set_filter(
    sock: socket.socket, rules: Filter, ignore_ports: tuple[int, ...], bell: bool = False
) -> bool:
    """Attach the program with all of these rules and return True, or False when only a part of them fits."""
    if rules.fits:
        try:
            attach(sock, assemble(program(rules, ignore_ports, bell=bell)))
        except OSError as error:
            if error.errno != errno.ENOMEM:  # longer than net.core.optmem_max allows
                raise
        else:
            return True
    attach(sock, assemble(program(rules, ignore_ports, lists=False, bell=bell)))
    return False


def _open() -> socket.socket:
    try:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise
        raise OSError(error.errno, "the kernel has no nfnetlink (OpenWrt: kmod-nfnetlink)") from None
    opened.bind((0, 0))
    return opened


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))
