# SPDX-License-Identifier: GPL-2.0-or-later
"""The nfnetlink messages of Tandem's table, decoded again by pyroute2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink import nfgen_msg, nftsocket

from tandem.config.schema import Config, Peer, PeerPath
from tandem.core.settings import Address, Instance
from tandem.nlmsg import NLMSGHDR
from tandem.plan import encode_nft

V4, V6 = Address("192.168.0.4", 24, 4), Address("2001:db8::4", 64, 6)
NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE = 0xA00, 0xA02, 0xA03, 0xA06
CLASSES: dict[int, Any] = {
    NEWTABLE: nftsocket.nft_table_msg,
    DELTABLE: nftsocket.nft_table_msg,
    NEWCHAIN: nftsocket.nft_chain_msg,
    NEWRULE: nftsocket.nft_rule_msg,
    0x10: nfgen_msg,
    0x11: nfgen_msg,
}


def decode(batch: bytes) -> Iterator[tuple[int, Any]]:
    offset = 0
    while offset < len(batch):
        length, kind, _, sequence, port = NLMSGHDR.unpack_from(batch, offset)
        assert (length % 4, sequence, port) == (0, 0, 0)
        message = CLASSES[kind](batch[offset : offset + length])
        message.decode()
        yield kind, message
        offset += length


def instance(**options: Any) -> Instance:
    return Instance("wan", "v0", 7, **options)


SNAT = instance(virtual_addresses=(V4,), snat="192.168.0.4")
TRACKS = "the rule that matches nothing"
REFUSING = instance(virtual_addresses=(V4,), accept=False)


@pytest.mark.parametrize(
    ("instances", "chains"),
    [
        ([SNAT], ["postrouting", TRACKS]),
        ([REFUSING], ["input"]),
        ([SNAT, REFUSING], ["postrouting", "input", TRACKS]),
    ],
)
def test_frame_holds_the_chains_that_are_needed(instances: list[Instance], chains: list[str]) -> None:
    frame = encode_nft.frame(instances)
    head = list(decode(frame["head"]))
    kinds = [NEWRULE if name == TRACKS else NEWCHAIN for name in chains]
    assert [kind for kind, _ in head] == [0x10, NEWTABLE, DELTABLE, NEWTABLE, *kinds]
    assert head[0][1]["res_id"] == 10  # NFNL_SUBSYS_NFTABLES
    assert [message.get_attr("NFTA_CHAIN_NAME") or TRACKS for _, message in head[4:]] == chains
    assert [kind for kind, _ in decode(frame["tail"])] == [0x11]
    assert [kind for kind, _ in decode(frame["clear"])] == [0x10, NEWTABLE, DELTABLE, 0x11]


def test_nothing_needed_is_nothing_at_all() -> None:
    owner = instance(virtual_addresses=(V4,), accept=False, priority=255)
    frame = encode_nft.frame([owner, instance()])
    assert (frame["head"], frame["tail"]) == (b"", b"")
    assert frame["clear"]  # a former life may have left the table
    assert encode_nft.fragment(owner) == b""


def rules(subject: Instance) -> list[tuple[str, list[tuple[str, Any]]]]:
    found = []
    for kind, message in decode(encode_nft.fragment(subject)):
        assert kind == NEWRULE
        expressions = [
            (expression.get_attr("NFTA_EXPR_NAME"), expression.get_attr("NFTA_EXPR_DATA"))
            for expression in message.get_attr("NFTA_RULE_EXPRESSIONS")
        ]
        found.append((message.get_attr("NFTA_RULE_CHAIN"), expressions))
    return found


def outgoing_devices(subject: Instance) -> list[str]:
    devices = []
    for chain, expressions in rules(subject):
        assert chain == "postrouting"
        value = expressions[3][1].get_attr("NFTA_CMP_DATA").get_attr("NFTA_DATA_VALUE")
        devices.append(bytes(value).rstrip(b"\0").decode())
    return devices


def test_snat_expressions() -> None:
    [(chain, expressions)] = rules(SNAT)
    assert chain == "postrouting"
    names = [name for name, _ in expressions]
    assert names == [
        "meta",
        "cmp",
        "meta",
        "cmp",
        "meta",
        "cmp",
        "payload",
        "bitwise",
        "cmp",
        "payload",
        "cmp",
        "immediate",
        "nat",
    ]
    assert expressions[-1][1].get_attr("NFTA_NAT_FAMILY") == 2
    assert expressions[4][1].get_attr("NFTA_META_KEY") == "NFT_META_IIF"


def test_snat_leaves_by_the_device_of_its_address() -> None:
    assert outgoing_devices(SNAT) == ["v0"]
    on_another = instance(virtual_addresses=(Address("192.168.0.4", 24, 4, device="v9"),), snat="192.168.0.4")
    assert outgoing_devices(on_another) == ["v9"]
    # The default route may go by the macvlan or by what is under it.
    with_vmac = instance(virtual_addresses=(V4,), snat="192.168.0.4", use_vmac="vr7")
    assert outgoing_devices(with_vmac) == ["vr7", "v0"]


def test_neighbor_discovery_comes_before_the_drop() -> None:
    found = rules(instance(virtual_addresses=(V6,), excluded_addresses=(V4,), accept=False, family=6))
    assert [chain for chain, _ in found] == ["input"] * 4
    verdicts = [
        expressions[-1][1]
        .get_attr("NFTA_IMMEDIATE_DATA")
        .get_attr("NFTA_DATA_VERDICT")
        .get_attr("NFTA_VERDICT_CODE")
        for _, expressions in found
    ]
    assert verdicts == ["NF_ACCEPT", "NF_ACCEPT", "NF_DROP", "NF_DROP"]


def test_adverts_and_the_channel_are_not_tracked() -> None:
    peer = Peer("r2", (PeerPath("192.168.1.3", port=4000), PeerPath("fe80::3%eth3", port=4000)))
    for peers, rules in (((), 1), ((peer,), 6)):
        batches = encode_nft.notrack(Config(peers=peers))
        kinds = [kind for kind, _ in decode(batches["notrack"])]
        assert kinds.count(NEWCHAIN) == 2
        assert kinds.count(NEWRULE) == 2 * rules
    assert b"\x0f\xa0" in batches["notrack"]  # the port
    former = [
        message.get_attr("NFTA_TABLE_NAME")
        for kind, message in decode(encode_nft.frame([])["former"])
        if kind == DELTABLE
    ]
    assert encode_nft.NOTRACK_TABLE in former
