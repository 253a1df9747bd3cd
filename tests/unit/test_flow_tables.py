# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether there are flow tables is a short question; to walk through conntrack for nothing takes long."""

from __future__ import annotations

import errno
import struct
from types import TracebackType

import pytest

from tandem.conntrack import kernel_table
from tandem.effects import nftables
from tandem.nlmsg import NLMSG_DONE, NLMSG_ERROR, attribute, request

NEWFLOWTABLE, GETFLOWTABLE = 0xA16, 0xA17  # NFNL_SUBSYS_NFTABLES and NFT_MSG_*
TABLE = request(NEWFLOWTABLE, b"\1\0\0\0" + attribute(1, b"fw4\0") + attribute(2, b"ft\0"))
DONE = request(NLMSG_DONE, bytes(4))


class Kernel:
    """A netlink socket with one answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.answers: list[bytes] = []
        self.asked = b""

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, kind: type | None, error: object, place: TracebackType | None) -> None: ...

    def send(self, data: bytes) -> None:
        self.asked = data
        self.answers = [self.answer]

    def recv(self, size: int) -> bytes:
        if not self.answers:
            raise BlockingIOError
        return self.answers.pop()


@pytest.mark.parametrize(("answer", "found"), [(TABLE + DONE, True), (DONE, False)])
def test_a_flow_table_of_any_family_is_found(
    answer: bytes, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(answer)
    monkeypatch.setattr(nftables, "open_netlink", lambda protocol: kernel)
    assert nftables.has_flow_tables() is found
    assert struct.unpack_from("=IH", kernel.asked) == (20, GETFLOWTABLE) and kernel.asked[16] == 0
    assert kernel_table._may_offload() is found


def test_a_kernel_without_nftables_may_have_iptables_flow_offload(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(request(NLMSG_ERROR, struct.pack("=i", -errno.EINVAL) + bytes(16)))
    monkeypatch.setattr(nftables, "open_netlink", lambda protocol: kernel)
    assert kernel_table._may_offload()
