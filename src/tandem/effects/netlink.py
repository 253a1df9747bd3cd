# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches of prebuilt netlink messages, and the socket that hands them to the kernel.

The kernel works off a batch inside sendmsg: when it returns, everything is done and every
error waits on the socket. An error in mid-batch doesn't stop the messages behind it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tandem.nlmsg import NLATTR, NLM_F_ACK, NLMSG_ERROR, NLMSGHDR
from tandem.plan.result import Template

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 10, 11
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSGERR_ATTR_MSG = 1
_INDEX = struct.Struct("=I")
SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 31 if os.uname().machine.startswith("mips") else 32  # asm/socket.h
_MAX_BYTES = 60_000  # of one send: below the smallest default SO_SNDBUF
_MAX_MESSAGES = 100  # of one send: even if all fail, their errors fit into the default SO_RCVBUF

# The error that answers a message of this type when its request is fulfilled already.
_NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE, _DELADDR, _DELLINK = 24, 25, 32, 33, 21, 17
_FINE: dict[int, tuple[int, ...]] = {
    _NEWROUTE: (errno.EEXIST,),
    _NEWRULE: (errno.EEXIST,),
    _DELROUTE: (errno.ESRCH, errno.ENODEV),
    _DELRULE: (errno.ENOENT,),
    _DELADDR: (errno.EADDRNOTAVAIL, errno.ENODEV),
    _DELLINK: (errno.ENODEV,),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that the kernel refused, with the reason."""

    label: str
    errno: int
    text: str = ""  # the kernel's own explanation, often empty

    def __str__(self) -> str:
        reason = os.strerror(self.errno)
        return f"{self.label}: {reason} ({self.text})" if self.text else f"{self.label}: {reason}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages ready to send: numbered from 1, only the last one of a chunk asks for an ACK."""

    chunks: tuple[bytes, ...]
    labels: tuple[str, ...]  # by sequence number - 1
    kinds: tuple[int, ...]  # nlmsg_type, likewise


@dataclass(frozen=True, slots=True)
class Unbound:
    """Interfaces that the templates name and that don't exist now."""

    missing: tuple[str, ...]


def bind(
    templates: Iterable[Template], index_of: Callable[[str], int | None], *, skip_missing: bool = False
) -> Batch | Unbound:
    """The templates with the current interface indexes.

    With `skip_missing` (to take things down) a message about an interface that doesn't
    exist is left out: what was on it has gone with it.
    """
    missing: list[str] = []
    messages: list[bytearray] = []
    labels: list[str] = []
    for label, message, relocations in templates:
        bound = bytearray(message)
        absent = False
        for offset, name in relocations:
            index = index_of(name)
            if index is None:
                absent = True
                if name not in missing:
                    missing.append(name)
            else:
                _INDEX.pack_into(bound, offset, index)
        if not absent:
            messages.append(bound)
            labels.append(label)
    if missing and not skip_missing:
        return Unbound(tuple(missing))
    kinds = tuple(NLMSGHDR.unpack_from(message)[1] for message in messages)
    return Batch(tuple(_chunks(messages)), tuple(labels), kinds)


def _chunks(messages: list[bytearray]) -> Iterator[bytes]:
    chunk = bytearray()
    last = count = 0
    for sequence, message in enumerate(messages, 1):
        if count == _MAX_MESSAGES or len(chunk) + len(message) > _MAX_BYTES:
            yield _finish(chunk, last)
            chunk, count = bytearray(), 0
        last, count = len(chunk), count + 1
        _INDEX.pack_into(message, 8, sequence)
        chunk += message
        chunk += bytes(-len(message) % 4)
    if count:
        yield _finish(chunk, last)


def _finish(chunk: bytearray, last: int) -> bytes:
    flags = struct.unpack_from("=H", chunk, last + 6)[0]
    struct.pack_into("=H", chunk, last + 6, flags | NLM_F_ACK)
    return bytes(chunk)


def open_netlink(protocol: int) -> socket.socket:
    """A socket that does not block, with a port id of its own. OSError: the kernel has no such protocol."""
    flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_NETLINK, flags, protocol)
    opened.bind((0, 0))
    return opened


class Commands:
    """A netlink socket for requests. It never blocks longer than the kernel takes to obey."""

    def __init__(self, protocol: int, send_buffer: int = 0, receive_buffer: int = 0) -> None:
        """`send_buffer`: bytes of the longest single send, where the default doesn't do.
        `receive_buffer`: bytes for the errors of one send, at about 1 KiB each.

        OSError when the kernel has no such protocol, or for the buffers without CAP_NET_ADMIN.
        """
        self._socket = open_netlink(protocol)
        self.port = int(self._socket.getsockname()[0])
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        if send_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, send_buffer)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, batch: Batch) -> tuple[Failure, ...]:
        """Hand over a batch and return what the kernel refused; what was so already is no failure."""
        failures: list[Failure] = []
        for chunk in batch.chunks:
            for sequence, number, text in self.transact(chunk):
                known = 0 < sequence <= len(batch.labels)
                if known and number in _FINE.get(batch.kinds[sequence - 1], ()):
                    continue
                failures.append(Failure(batch.labels[sequence - 1] if known else "netlink", number, text))
        return tuple(failures)

    def transact(self, chunk: bytes | bytearray) -> list[tuple[int, int, str]]:
        """Send complete messages in one piece: (sequence number, errno, text) of each error.

        Sequence number 0 stands for the chunk as a whole.
        """
        try:
            self._socket.send(chunk)
        except OSError as error:
            return [(0, error.errno or errno.EIO, "send"), *self._errors()]
        return list(self._errors())

    def _errors(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                datagram = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:  # ENOBUFS: error messages were lost; more may follow
                yield 0, error.errno or errno.EIO, "receive"
                if error.errno != errno.ENOBUFS:
                    return
                continue
            for kind, flags, sequence, body in messages(datagram):
                if kind == NLMSG_ERROR and len(body) >= 20:
                    number = -struct.unpack_from("=i", body)[0]
                    if number:
                        yield sequence, number, _explanation(flags, body)


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, body) of each message; stops at the first malformed one."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length, kind, flags, sequence, _ = NLMSGHDR.unpack_from(datagram, offset)
        if length < 16 or offset + length > end:
            return
        yield kind, flags, sequence, datagram[offset + 16 : offset + length]
        offset += length + -length % 4


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """Netlink attributes by type from `offset` on; ends at the first malformed one."""
    found: dict[int, bytes] = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = NLATTR.unpack_from(body, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]  # without NLA_F_NESTED, NLA_F_NET_BYTEORDER
        offset += length + -length % 4
    return found


def _explanation(flags: int, body: bytes) -> str:
    """The kernel's text in an extended ACK (struct nlmsgerr and what follows it), or ""."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    start = 20
    if not flags & _NLM_F_CAPPED:
        length = struct.unpack_from("=I", body, 4)[0]
        start = 4 + length + -length % 4
    text = attributes(body, start).get(_NLMSGERR_ATTR_MSG, b"")
    return text.rstrip(b"\0").decode(errors="replace")
