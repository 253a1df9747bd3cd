# SPDX-License-Identifier: GPL-2.0-or-later
"""ctnetlink.py and writer.py with a kernel that cannot do its part, or answers oddly."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from flow_messages import AF, attribute, direction, event, nest

from tandem.conntrack import ctnetlink
from tandem.conntrack.ctnetlink import Dump, Events, table_size
from tandem.conntrack.filter import Filter
from tandem.conntrack.writer import _reply_of, deletion
from tandem.effects.netlink import attributes
from tandem.nlmsg import NLATTR, NLMSG_DONE, NLMSG_ERROR, NLMSGHDR

V4 = bytes([10, 0, 0, 2]), bytes([203, 0, 113, 5]), bytes([192, 168, 0, 4]), bytes([10, 0, 0, 9])
V6 = tuple(bytes([0x20, 1] + [0] * 13 + [n]) for n in range(4))


class Kernel:
    """Stands in for the socket: answers everything with the same datagrams."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = list(datagrams)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self.datagrams:
            raise BlockingIOError
        return self.datagrams.pop(0)

    def close(self) -> None:
        pass


def refusal(number: int) -> bytes:
    return NLMSGHDR.pack(36, NLMSG_ERROR, 0, 0, 0) + struct.pack("=i", -number) + bytes(16)


def test_no_nfnetlink(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OSError, match="no nfnetlink"):
        Events(Filter())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((refusal(errno.EINVAL),), "kmod-nf-conntrack-netlink"),
        ((refusal(errno.EPERM),), "conntrack: Operation not permitted"),
        ((), "no answer"),
        ((b"",), "malformed"),
        ((b"\xff" * 40,), "malformed"),
    ],
)
def test_no_conntrack(monkeypatch: pytest.MonkeyPatch, answer: tuple[bytes, ...], text: str) -> None:
    monkeypatch.setattr(ctnetlink, "_open", lambda: Kernel(*answer))
    with pytest.raises(OSError, match=text):
        table_size()


def test_an_old_kernel_does_not_tell_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    message = NLMSGHDR.pack(28, 0x105, 0, 0, 0) + bytes(4) + attribute(1, b"\0\0\1\0")
    monkeypatch.setattr(ctnetlink, "_open", lambda: Kernel(message))
    assert table_size() == (256, 0)


def done(number: int = 0, flags: int = 2) -> bytes:
    return NLMSGHDR.pack(20, NLMSG_DONE, flags, 0, 0) + struct.pack("=i", number)


def test_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = event(*V4[:2]), event(*V6[:2])
    pieces = [first + second, second, done(flags=0x12)]
    monkeypatch.setattr(ctnetlink, "_open", lambda: Kernel(*pieces))
    dump = Dump()
    assert dump.read(1) == [first, second]
    assert not dump.done
    assert dump.read() == [second]
    assert dump.done and dump.interrupted and dump.entries == 3
    assert dump.read() == []


@pytest.mark.parametrize(
    ("piece", "number"),
    [
        (refusal(errno.ENOMEM), errno.ENOMEM),
        (done(-errno.EBUSY), errno.EBUSY),
        (b"\xff\0\0\0" * 9, errno.EPROTO),
    ],
)
def test_a_dump_that_fails(monkeypatch: pytest.MonkeyPatch, piece: bytes, number: int) -> None:
    monkeypatch.setattr(ctnetlink, "_open", lambda: Kernel(piece))
    with pytest.raises(OSError) as failure:
        Dump().read()
    assert failure.value.errno == number


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17, 1, 253])
@pytest.mark.parametrize("snat", [False, True])
@pytest.mark.parametrize("dnat", [False, True])
def test_the_reply_tuple_of_a_restore_message(family: int, protocol: int, snat: bool, dnat: bool) -> None:
    source, destination, outside, inside = V4 if family == 4 else V6
    if protocol == 1 and family == 6:
        protocol = 58
    first = 1 if family == 4 else 4
    ports = (7, 7) if protocol in (1, 58) else (40000, 443)
    body = direction(1, protocol, source, destination, ports)
    body += direction(2, protocol, destination, source, (ports[1], ports[0]))
    if snat:
        body += nest(6, attribute(first, outside), nest(3, attribute(1, struct.pack("!H", 9))))
    if dnat:
        body += nest(13, attribute(first, inside), nest(3, attribute(1, struct.pack("!H", 8))))
    there = inside if dnat else destination
    here = outside if snat else source
    port = 8 if dnat else ports[1]
    to = 9 if snat else ports[0]
    if protocol in (1, 58):
        port = to
    expected = attributes(direction(2, protocol, there, here, (port, to)), 0)[2]
    assert _unnested(_reply_of(attributes(body, 0))) == _unnested(expected)


def _unnested(value: bytes) -> list[dict[int, bytes]]:
    return [attributes(part, 0) for part in attributes(value, 0).values()]


@pytest.mark.parametrize("zone", [0, 7])
@pytest.mark.parametrize("addresses", [V4, V6])
def test_deletion(addresses: tuple[bytes, ...], zone: int) -> None:
    source, destination = addresses[:2]
    message = event(source, destination, zone=zone)
    request = deletion(message, 12)
    assert NLMSGHDR.unpack_from(request) == (len(request), 0x102, 1, 12, 0)
    assert request[16] == AF[4 if len(source) == 4 else 6]
    found = attributes(request, 20)
    assert sorted(found) == ([1, 18] if zone else [1])
    assert found[1] == attributes(message, 20)[1]


def test_deletion_is_not_misled_by_an_address() -> None:
    """These addresses look like the header of CTA_ZONE."""
    source = NLATTR.pack(6, 18)
    assert sorted(attributes(deletion(event(source, V4[1]), 1), 20)) == [1]
