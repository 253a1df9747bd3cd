# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases in netifd's status, and in the messages of routers to each other."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.lease import Lease, Lease6, Route6
from tandem.core.timers import SECOND
from tandem.follow.lease import from_netifd, pack, unpack
from tandem.follow.next_hops import place, refreshed
from tests.unit.vectors import tree

MAC = "02:1a:2b:3c:4d:5e"
# As netifd of OpenWrt 22.03 shows it.
STATUS: dict[str, Any] = {
    "up": True,
    "l3_device": "wan0",
    "proto": "dhcp",
    "ipv4-address": [{"address": "203.0.113.7", "mask": 24}],
    "route": [
        {"target": "0.0.0.0", "mask": 0, "nexthop": "203.0.113.1", "source": "203.0.113.7/32"},
        {"target": "198.51.100.0", "mask": 24, "nexthop": "0.0.0.0", "source": "203.0.113.7/32"},
        {"target": "::", "mask": 0, "nexthop": "fe80::1"},
    ],
    "dns-server": ["203.0.113.1", "2001:db8::1"],
    "data": {"leasetime": 120, "dhcpserver": "203.0.113.1"},
}
LEASE = Lease(
    "wan", MAC, "203.0.113.7", 24, 125 * SECOND,
    (("0.0.0.0/0", "203.0.113.1"), ("198.51.100.0/24", "")), server="203.0.113.1", dns=("203.0.113.1",),
    next_hops=(("203.0.113.1", "00:90:1a:00:00:01"),),
)  # fmt: skip


def test_a_status_of_netifd() -> None:
    assert from_netifd("wan", MAC, STATUS, 5 * SECOND, fresh=True) == replace(LEASE, next_hops=())


def test_an_old_status_counts_half() -> None:
    found = from_netifd("wan", MAC, STATUS, 5 * SECOND, fresh=False)
    assert found is not None and found.left_s(5 * SECOND) == 60


@pytest.mark.parametrize(
    "change",
    [
        {"proto": "static"},
        {"data": {}},
        {"data": {"leasetime": "soon"}},
        {"ipv4-address": []},
        {"ipv4-address": [{"address": "no", "mask": 24}]},
        {"ipv4-address": [{"address": "203.0.113.7", "mask": 33}]},
        {"ipv4-address": [{"address": "203.0.113.7", "mask": -1}]},
        {"route": [{"target": "0.0.0.0"}]},
    ],
)
def test_a_status_without_a_lease(change: dict[str, Any]) -> None:
    assert from_netifd("wan", MAC, STATUS | change, 0, fresh=True) is None


@pytest.mark.parametrize("mask", [0, 32])
def test_the_mask_of_a_status(mask: int) -> None:
    status = STATUS | {"ipv4-address": [{"address": "203.0.113.7", "mask": mask}]}
    found = from_netifd("wan", MAC, status, 0, fresh=True)
    assert found is not None and found.prefixlen == mask


def test_what_a_status_does_not_say() -> None:
    bare = {name: value for name, value in STATUS.items() if name not in ("route", "dns-server")}
    found = from_netifd("wan", MAC, bare | {"data": {"leasetime": 120}}, 0, fresh=True)
    assert found is not None and (found.routes, found.metric, found.server, found.dns) == ((), 0, "", ())


def test_what_a_status_says_is_bounded() -> None:
    route, table = STATUS["route"][1], {"table": 7, **STATUS["route"][1]}
    long = STATUS | {
        "data": {"leasetime": 120, "dhcpserver": "x" * 65},
        "route": [table, route | {"metric": 9}, *[route] * 80],
        "dns-server": ["203.0.113.1"] * 9,
    }  # fmt: skip
    found = from_netifd("wan", MAC, long, 0, fresh=True)
    assert found is not None and (len(found.server), len(found.routes), len(found.dns)) == (64, 64, 8)
    assert found.metric == 9, "a route of another table is none of the lease"


def test_a_lease_without_end_is_bounded() -> None:
    found = from_netifd("wan", MAC, STATUS | {"data": {"leasetime": 0xFFFFFFFF}}, 0, fresh=True)
    assert found is not None and found.left_s(0) == 365 * 86400


def test_a_message_carries_what_is_left() -> None:
    data = pack({"wan": LEASE, "lte": None}, 25 * SECOND)
    assert unpack(data, 1000 * SECOND) == {
        "wan": Lease(**{name: getattr(LEASE, name) for name in Lease.__slots__} | {"until": 1100 * SECOND}),
        "lte": None,
    }


def test_the_text_of_a_peer_is_bounded() -> None:
    lease = replace(LEASE, server="s" * 65, mac="m" * 18)
    found = unpack(pack({"wan": lease}, 0), 0)["wan"]
    assert isinstance(found, Lease) and (found.server, found.mac) == ("s" * 64, "m" * 17)


def test_an_earlier_release_tells_no_next_hops_and_none_tells_too_many() -> None:
    earlier = {name: value for name, value in _VALID.items() if name != "next_hops"}
    found = unpack(json.dumps([1, {"wan": earlier}]).encode(), 0)["wan"]
    assert isinstance(found, Lease) and found.next_hops == ()
    many = _VALID | {"next_hops": _VALID["next_hops"] * 100}
    found = unpack(json.dumps([1, {"wan": many}]).encode(), 0)["wan"]
    assert isinstance(found, Lease) and found.next_hops == LEASE.next_hops * 8


@pytest.mark.parametrize("family", [4, 6])
def test_the_next_hops_are_those_of_the_routes(family: int) -> None:
    """What the kernel has forgotten stays as it was known, and what no route names is not told."""
    gateways = [f"203.0.113.{n}" if family == 4 else f"fe80::{n}" for n in range(1, 12)]
    lease: Lease | Lease6 = replace(LEASE, routes=tuple(("0.0.0.0/0", one) for one in ("", *gateways)))
    if family == 6:
        routes = tuple(Route6("::/0", one, "", 0, 0) for one in ("", gateways[0], *gateways))
        lease = Lease6("wan6", MAC, (), (), 0, routes)
    known = ((gateways[0], "00:90:1a:00:00:0a"), (gateways[1], "00:90:1a:00:00:0b"), ("192.0.2.1", MAC))
    mac = bytes.fromhex("00901a00000c")
    number = inet_pton(AF_INET if family == 4 else AF_INET6, gateways[1])
    found = refreshed(lease, known, {number: mac}.get)
    assert found.next_hops == (known[0], (gateways[1], "00:90:1a:00:00:0c"))
    assert [one for one, _ in refreshed(lease, (), lambda _: mac).next_hops] == gateways[:8]


def test_a_later_version_says_nothing() -> None:
    assert unpack(b'[2, {"wan": null}]', 0) == {}


_VALID = json.loads(pack({"wan": LEASE}, 0))[1]["wan"]


@pytest.mark.parametrize("name", _VALID)
@pytest.mark.parametrize("value", [None, "x", -1, [1], {}, 1 << 40, float("inf")])
def test_a_malformed_field(name: str, value: Any) -> None:
    """A message is refused, or read as something harmless; it never raises anything else."""
    try:
        found = unpack(json.dumps([1, {"wan": _VALID | {name: value}}]).encode(), 0)
    except ValueError:
        return
    lease = found["wan"]
    assert lease is not None and lease.left_s(0) <= 365 * 86400


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("prefixlen", 0, True), ("prefixlen", 32, True), ("prefixlen", -1, False), ("prefixlen", 33, False),
        ("left", 0, True), ("left", -1, False), ("left", 365 * 86400, True), ("left", 365 * 86400 + 1, False),
        ("metric", 0, True), ("metric", (1 << 32) - 1, True),
        ("metric", -1, False), ("metric", 1 << 32, False),
        ("routes", [["10.0.0.0/0", ""]], True), ("routes", [["10.0.0.0/32", "0.0.0.0"]], True),
        ("routes", [["10.0.0.0/33", ""]], False), ("routes", [["10.0.0.0/-1", ""]], False),
        ("routes", [["10.0.0.0", ""]], False), ("routes", [["10.0.0.0/8", "x"]], False),
        ("next_hops", [["10.0.0.1", "00:90:1a:00:00:01"]], True), ("next_hops", [["10.0.0.1", "x"]], False),
        ("next_hops", [["10.0.0.1", "01:90:1a:00:00:01"]], False), ("next_hops", [["10.0.0.1"]], False),
        ("next_hops", [["10.0.0.1", "00:90:1a:00:00"]], False),
        ("next_hops", [["::1", "00:90:1a:00:00:01"]], False),
    ],
)  # fmt: skip
def test_a_field_at_its_bounds(name: str, value: Any, fits: bool) -> None:
    data = json.dumps([1, {"wan": _VALID | {name: value}}]).encode()
    if fits:
        assert unpack(data, 0)["wan"] is not None
    else:
        with pytest.raises(ValueError):
            unpack(data, 0)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)).map(lambda plain: json.dumps([1, plain]).encode()))  # fmt: skip  # noqa: E501
def test_no_message_harms(data: bytes) -> None:
    try:
        unpack(data, 0)
    except ValueError:
        pass


def test_a_next_hop_is_put_in_place_as_one_that_the_kernel_verifies() -> None:
    """NUD_STALE (4): it is used at once, and asked for when it is used. NDA_DST is 1, NDA_LLADDR 2."""
    [(label, message, _)] = place(LEASE, 7)
    assert label == "next hop 203.0.113.1"
    assert struct.unpack_from("=BxxxiHBB", message, 16) == (AF_INET, 7, 4, 0, 0)
    assert tree(message[28:]) == {1: bytes((203, 0, 113, 1)), 2: bytes.fromhex("00901a000001")}
