# SPDX-License-Identifier: GPL-2.0-or-later
"""Acks of a DHCP server: what is one, and what is not."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.follow.acks import parse

MAC = bytes.fromhex("021a2b3c4d5e")


def ack(kind: int = 5, owner: bytes = MAC, more: bytes = b"", operation: int = 2, port: int = 68) -> bytes:
    """An IPv4 packet with the answer of a DHCP server: 203.0.113.7 for 120 s."""
    yours = socket.inet_aton("203.0.113.7")
    head = struct.pack("!BBBBIHH", operation, 1, 6, 0, 1, 0, 0) + bytes(4) + yours + bytes(8)
    options = b"\x63\x82\x53\x63\x35\x01" + bytes((kind,)) + b"\0\x33\x04" + struct.pack("!I", 120) + more
    message = head + owner + bytes(10) + bytes(192) + options + b"\xff"
    length = len(message)
    udp = struct.pack("!HHHH", 67, port, 8 + length, 0)
    ends = socket.inet_aton("203.0.113.1") + yours
    return struct.pack("!BBHHHBBH", 0x45, 0, 28 + length, 0, 0, 64, 17, 0) + ends + udp + message


def test_an_ack() -> None:
    assert parse(ack(), MAC) == ("203.0.113.7", 120)
    assert parse(ack(more=b"\x03\x04\x01"), MAC) == ("203.0.113.7", 120), "an option that is cut off"


@pytest.mark.parametrize(
    "changes", [{"kind": 2}, {"kind": 6}, {"owner": bytes(6)}, {"operation": 1}]
)  # fmt: skip
def test_no_ack(changes: dict[str, Any]) -> None:
    assert parse(ack(**changes), MAC) is None


@given(st.binary(max_size=400), st.integers(0, 330))
def test_any_packet(data: bytes, cut: int) -> None:
    parse(data, MAC)
    parse(ack()[:cut] + data, MAC)
    assert parse(ack()[:275], MAC) is None
