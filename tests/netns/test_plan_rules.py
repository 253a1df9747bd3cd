# SPDX-License-Identifier: GPL-2.0-or-later
"""The encoded nftables batches, loaded into the kernel; data/rules has what nft must show then."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from tandem.config.schema import Config, Peer, PeerPath
from tandem.core.settings import Address, Instance
from tandem.nlmsg import NLMSGHDR
from tandem.plan import encode_guard, encode_nft, encode_switch
from tests.lab import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

V4, V6 = Address("192.168.0.4", 24, 4), Address("2001:db8::4", 64, 6)
LINK_LOCAL, SECOND = Address("fe80::4", 64, 6), Address("2001:db8::5", 64, 6)
HOST, ELSEWHERE = Address("2001:db8::6", 128, 6), Address("2001:db8::7", 64, 6, device="lan")
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


def instance(name: str = "wan", **options: object) -> Instance:
    return Instance(name, "v0", 7, **options)  # type: ignore[arg-type]


def test_translated_and_refused(where: str) -> None:
    """A macvlan and its base, an address on another device, and Accept_Mode, which the owner never heeds."""
    instances = [
        instance(virtual_addresses=(V4,), snat=V4.address, use_vmac="vrrp7", accept=False),
        instance(
            "six", family=6, version=3, virtual_addresses=(V6, ELSEWHERE), excluded_addresses=(SECOND,),
            snat=ELSEWHERE.address, accept=False,
        ),
        instance("owner", virtual_addresses=(V4,), priority=255, accept=False),
    ]  # fmt: skip
    parts = encode_nft.frame(instances)
    batch = parts["head"] + b"".join(map(encode_nft.fragment, instances)) + parts["tail"]
    assert load(where, batch) == 0
    holds(where, "translated_and_refused")
    assert load(where, batch) == 0, "it replaces the one before"
    holds(where, "translated_and_refused")
    assert load(where, parts["clear"]) == load(where, parts["clear"]) == load(where, parts["former"]) == 0
    assert shown(where) == ""


def test_not_tracked(where: str) -> None:
    """Adverts and the channel, by every address of each peer."""
    paths = (PeerPath("192.168.9.3", None, None, 3780), PeerPath("fe80::3%lan", None, None, 3780))
    peers = (Peer("r2", paths),)
    parts = encode_nft.notrack(Config(instances=(), peers=peers))
    assert load(where, parts["notrack"]) == 0
    holds(where, "not_tracked")
    assert load(where, parts["no_notrack"]) == 0 and shown(where) == ""
    assert load(where, encode_nft.notrack(Config(instances=()))["notrack"]) == 0
    holds(where, "adverts_not_tracked")


def test_who_answers_dhcp(where: str) -> None:
    """Silence on both devices of a network, the RAs' source, and elements for a while or for ever."""
    instances = [
        instance(dhcp=True, virtual_addresses=(V4,)),
        instance("six", dhcp=True, family=6, version=3, virtual_addresses=(V6, LINK_LOCAL)),
        instance("other", virtual_addresses=(V4,)),
    ]
    parts = encode_guard.guard(instances, lambda name: (name, f"br-{name}"))
    assert load(where, parts["hold"]) == 0
    holds(where, "silent")
    answers = encode_guard.answer(["v0"], 4, 0) + encode_guard.answer(["br-v0"], 6, 0)
    assert load(where, parts["empty"] + answers + parts["tail"]) == 0
    holds(where, "answering")
    timed = encode_guard.answer(["v0"], 4, 3600)
    assert load(where, parts["empty"] + timed + parts["tail"]) == 0
    assert "timeout 3600s" in shown(where) and shown(where).count("elements") == 1
    assert load(where, encode_guard.boot_hold([("v0", 4)])) == errno.EEXIST
    assert load(where, parts["clear"]) == 0 and shown(where) == ""
    assert encode_guard.guard(instances[2:], lambda name: (name,))["hold"] == b""


def test_silent_from_boot_on(where: str) -> None:
    assert load(where, encode_guard.boot_hold([("lan", 4), ("lan", 6)])) == 0
    holds(where, "boot")


def test_dead_mans_switch(where: str) -> None:
    """No RA daemon announces the prefix of a host's address, of a link-local one or of one on a macvlan."""
    six = instance(
        family=6, version=3, virtual_addresses=(LINK_LOCAL, V6, HOST), excluded_addresses=(SECOND,)
    )
    vmac = instance("vmac", family=6, version=3, virtual_addresses=(V6, ELSEWHERE), use_vmac="vrrp7")
    four = instance("four", virtual_addresses=(V4,))
    assert encode_switch.may_announce(six) == (V6, SECOND) and encode_switch.may_announce(vmac) == (
        ELSEWHERE,
    )
    parts = encode_switch.switch([six, vmac, four], 3600)
    hold, empty, tail, clear = (parts[name] for name in ("hold", "empty", "tail", "clear"))
    answer = parts["answer"]
    assert isinstance(hold, bytes) and isinstance(empty, bytes) and isinstance(tail, bytes)
    assert isinstance(clear, bytes) and isinstance(answer, dict) and list(answer) == ["wan", "vmac"]
    assert load(where, hold) == 0
    holds(where, "switch")
    assert load(where, empty + answer["wan"] + tail) == 0
    found = shown(where)
    assert (
        "2001:db8::4 timeout 3600s" in found
        and "2001:db8::5 timeout 3600s" in found
        and "::7 timeout" not in found
    )
    assert load(where, empty + tail) == 0 and "elements" not in shown(where)
    assert load(where, clear) == 0 and shown(where) == ""
    assert encode_switch.switch([six], 0) == {
        "hold": b"", "empty": empty, "tail": tail, "clear": clear, "answer": {},
    }  # fmt: skip
    assert encode_switch.switch([four], 3600)["hold"] == b""
