# SPDX-License-Identifier: GPL-2.0-or-later
"""The encoded nftables batches, loaded into the kernel; data/rules has what nft must show then."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from tandem.nlmsg import NLMSGHDR
from tandem.plan import encode_guard, encode_switch
from tests.lab import netns
from tests.rule_cases import (
    ANSWERING,
    BALANCE,
    BATCHES,
    ELSEWHERE,
    FOUR,
    FRAME,
    GUARD,
    NOTRACK,
    SECOND,
    SIX,
    SWITCH,
    V6,
    VMAC,
    switch,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

NETLINK_NETFILTER = 12
DATA = Path(__file__).parent / "data/rules"


def load(where: str, batch: bytes) -> int:
    """Send a batch; the kernel's first error, or 0 when it took all of it."""
    last = batch[:-20] + NLMSGHDR.pack(20, 0x11, 0x1 | 0x4, 7, 0) + batch[-4:]  # NLM_F_ACK at its end

    def body() -> int:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.settimeout(10)
            netlink.send(last)
            while True:
                answer = netlink.recv(1 << 16)
                length, kind, _, _, _ = NLMSGHDR.unpack_from(answer)
                (code,) = struct.unpack_from("=i", answer, 16)
                if kind == 2:  # NLMSG_ERROR
                    return -int(code)
                assert length

    return netns.enter(where, body)


def shown(where: str) -> str:
    """All that nft lists, with numbers for names."""
    return netns.run(["ip", "netns", "exec", where, "nft", "-nn", "list", "ruleset"])


def holds(where: str, name: str) -> None:
    """Compare what the kernel has with the file."""
    found = shown(where)
    assert found == (DATA / name).read_text(), found


def test_translated_and_refused(where: str) -> None:
    batch = BATCHES["translated_and_refused"]
    assert load(where, batch) == 0
    holds(where, "translated_and_refused")
    assert load(where, batch) == 0, "it replaces the one before"
    holds(where, "translated_and_refused")
    assert load(where, FRAME["clear"]) == load(where, FRAME["clear"]) == load(where, FRAME["former"]) == 0
    assert shown(where) == ""


def test_balanced(where: str) -> None:
    assert load(where, BATCHES["balanced"]) == load(where, BATCHES["balanced"]) == 0
    holds(where, "balanced")
    assert BALANCE is not None and isinstance(BALANCE["clear"], bytes)
    assert load(where, BALANCE["clear"]) == 0 and shown(where) == ""


def test_not_tracked(where: str) -> None:
    assert load(where, BATCHES["not_tracked"]) == 0
    holds(where, "not_tracked")
    assert load(where, NOTRACK["no_notrack"]) == 0 and shown(where) == ""
    assert load(where, BATCHES["adverts_not_tracked"]) == 0
    holds(where, "adverts_not_tracked")


def test_who_answers_dhcp(where: str) -> None:
    assert load(where, BATCHES["silent"]) == 0
    holds(where, "silent")
    assert load(where, BATCHES["answering"]) == 0
    holds(where, "answering")
    assert load(where, BATCHES["answering for a while"]) == 0
    assert "timeout 3600s" in shown(where) and shown(where).count("elements") == 1
    assert load(where, encode_guard.boot_hold([("v0", 4)])) == errno.EEXIST
    assert load(where, GUARD["clear"]) == 0 and shown(where) == ""
    assert encode_guard.guard(ANSWERING[2:], lambda name: (name,))["hold"] == b""


def test_silent_from_boot_on(where: str) -> None:
    assert load(where, BATCHES["boot"]) == 0
    holds(where, "boot")


def test_dead_mans_switch(where: str) -> None:
    assert encode_switch.may_announce(SIX) == (V6, SECOND) and encode_switch.may_announce(VMAC) == (
        ELSEWHERE,
    )
    answer, empty, tail = SWITCH["answer"], switch("empty"), switch("tail")
    assert isinstance(answer, dict) and list(answer) == ["wan", "vmac"]
    assert load(where, BATCHES["switch"]) == 0
    holds(where, "switch")
    assert load(where, BATCHES["switched on"]) == 0
    found = shown(where)
    assert (
        "2001:db8::4 timeout 3600s" in found
        and "2001:db8::5 timeout 3600s" in found
        and "::7 timeout" not in found
    )
    assert load(where, empty + tail) == 0 and "elements" not in shown(where)
    assert load(where, switch("clear")) == 0 and shown(where) == ""
    assert encode_switch.switch([SIX], 0) == {
        "hold": b"", "empty": empty, "tail": tail, "clear": switch("clear"), "answer": {},
    }  # fmt: skip
    assert encode_switch.switch([FOUR], 3600)["hold"] == b""
