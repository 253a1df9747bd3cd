# SPDX-License-Identifier: GPL-2.0-or-later
"""Encoded rtnetlink templates, decoded again by pyroute2."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl import fibmsg, ifinfmsg, rtmsg

from tandem.core.settings import Address, Nexthop, Route, Rule
from tandem.plan import encode_rtnl as rtnl
from tandem.plan.result import Template
from tandem.plan.template import EncodeError, template

FOREVER = 0xFFFFFFFF
ADD, REPLACE, EXCL = 0x401, 0x100, 0x200


def decode(message_class: type, found: Template, *indexes: int) -> Any:
    """The message with the given ifindexes written at the places of its relocations."""
    _, data, relocations = found
    bound = bytearray(data)
    assert len(relocations) == len(indexes)
    for (offset, _), index in zip(relocations, indexes, strict=True):
        assert offset % 4 == 0
        struct.pack_into("=I", bound, offset, index)
    message = message_class(bytes(bound))
    message.decode()
    header = message["header"]
    assert header["length"] == len(data)
    assert (header["sequence_number"], header["pid"]) == (0, 0)
    return message


def lifetimes(message: Any) -> tuple[int, int]:
    info = message.get_attr("IFA_CACHEINFO")
    return info["ifa_preferred"], info["ifa_valid"]


# --- addresses


def test_ipv4_address() -> None:
    address = Address("192.168.1.4", 24, 4, label="br-lan:v", broadcast="192.168.1.255", scope=253)
    found = rtnl.add_address(address, "br-lan", 3)
    assert found[0] == "address 192.168.1.4/24 dev br-lan"
    assert found[2] == ((20, "br-lan"),)
    message = decode(rtnl.AddressRequest, found, 7)
    assert (message["header"]["type"], message["header"]["flags"]) == (20, ADD | REPLACE)
    assert (message["family"], message["prefixlen"], message["scope"], message["index"]) == (2, 24, 253, 7)
    assert message.get_attr("IFA_LOCAL") == message.get_attr("IFA_ADDRESS") == "192.168.1.4"
    assert message.get_attr("IFA_LABEL") == "br-lan:v"
    assert message.get_attr("IFA_BROADCAST") == "192.168.1.255"
    assert message.get_attr("IFA_PROTO") == 112
    assert message.get_attr("IFA_FLAGS") is None
    assert lifetimes(message) == (3, 3)


@pytest.mark.parametrize(
    ("prefixlen", "lifetime_s", "stated", "expected"),
    [
        (64, 3, None, (3, 3)),
        (64, 0, None, (FOREVER, FOREVER)),
        (64, 3, 0, (0, 3)),
        (64, 3, 100, (3, 3)),  # the kernel refuses preferred > valid
        (64, 0, 100, (100, FOREVER)),
        (128, 3, None, (0, 3)),  # as keepalived: no source address for other traffic
        (128, 3, 2, (2, 3)),
    ],
)
def test_ipv6_lifetimes(
    prefixlen: int, lifetime_s: int, stated: int | None, expected: tuple[int, int]
) -> None:
    address = Address("2001:db8::4", prefixlen, 6, preferred_lifetime_s=stated)
    message = decode(rtnl.AddressRequest, rtnl.add_address(address, "v0", lifetime_s), 1)
    assert lifetimes(message) == expected
    assert message.get_attr("IFA_FLAGS") == (
        0x202 if prefixlen == 128 else 0x02
    )  # IFA_F_NODAD, NOPREFIXROUTE
    assert message["family"] == 10


def test_an_ipv4_host_address_stays_preferred() -> None:
    message = decode(rtnl.AddressRequest, rtnl.add_address(Address("10.0.0.1", 32, 4), "v0", 3), 1)
    assert lifetimes(message) == (3, 3)


def test_peer_address_and_its_deletion() -> None:
    address = Address("10.0.0.1", 32, 4, peer="10.0.0.2", label="x")
    for found, kind, flags in (
        (rtnl.add_address(address, "v0", 0), 20, ADD | REPLACE),
        (rtnl.delete_address(address, "v0"), 21, 1),
    ):
        message = decode(rtnl.AddressRequest, found, 3)
        assert (message["header"]["type"], message["header"]["flags"]) == (kind, flags)
        assert (message.get_attr("IFA_LOCAL"), message.get_attr("IFA_ADDRESS")) == ("10.0.0.1", "10.0.0.2")


# --- routes


def test_default_route_with_everything() -> None:
    route = Route(
        "0.0.0.0/0",
        4,
        source="192.168.0.4",
        via="192.168.0.1",
        device="eth0.2",
        metric=5,
        mtu=1400,
        advmss=1300,
        onlink=True,
        tos=8,
    )
    found = rtnl.add_route(route)
    assert found[0] == "route default via 192.168.0.1 dev eth0.2 src 192.168.0.4 metric 5"
    message = decode(rtmsg.rtmsg, found, 9)
    # Never NLM_F_REPLACE: it overwrites the user's route.
    assert (message["header"]["type"], message["header"]["flags"]) == (24, ADD)
    fields = ("family", "dst_len", "tos", "table", "proto", "scope", "type", "flags")
    assert [message[name] for name in fields] == [2, 0, 8, 254, 112, 0, 1, 4]
    assert message.get_attr("RTA_DST") is None
    assert message.get_attr("RTA_OIF") == 9
    assert message.get_attr("RTA_GATEWAY") == "192.168.0.1"
    assert message.get_attr("RTA_PREFSRC") == "192.168.0.4"
    assert message.get_attr("RTA_PRIORITY") == 5
    metrics = message.get_attr("RTA_METRICS")
    assert (metrics.get_attr("RTAX_MTU"), metrics.get_attr("RTAX_ADVMSS")) == (1400, 1300)
    assert decode(rtmsg.rtmsg, rtnl.delete_route(route), 9)["header"]["type"] == 25


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        (Route("10.0.0.0/8", 4, device="v0"), 253),
        (Route("10.0.0.0/8", 4, device="v0", via="10.1.1.1"), 0),
        (Route("10.0.0.0/8", 4, device="v0", scope=254), 254),
        (Route("10.0.0.0/8", 4, kind="blackhole", device="v0"), 0),
        (Route("2001:db8::/32", 6, device="v0"), 0),
    ],
)
def test_scope_as_ip_route_picks_it(route: Route, scope: int) -> None:
    assert decode(rtmsg.rtmsg, rtnl.add_route(route), 1)["scope"] == scope


@pytest.mark.parametrize(
    ("kind", "number"), [("blackhole", 6), ("unreachable", 7), ("prohibit", 8), ("throw", 9)]
)
def test_route_kinds_need_no_interface(kind: str, number: int) -> None:
    found = rtnl.add_route(Route("10.0.0.0/8", 4, kind=kind))
    assert decode(rtmsg.rtmsg, found)["type"] == number
    assert found[0] == f"route {kind} 10.0.0.0/8"


def test_multipath_relocates_every_leg() -> None:
    legs = (Nexthop("10.0.0.1", "v0", weight=3), Nexthop("10.0.0.2", "v0", onlink=True), Nexthop(None, "v1"))
    found = rtnl.add_route(Route("10.9.0.0/16", 4, nexthops=legs))
    assert [name for _, name in found[2]] == ["v0", "v0", "v1"]
    message = decode(rtmsg.rtmsg, found, 11, 12, 13)  # pyroute2 reads the family of a hop in it, later
    hops = message.get_attr("RTA_MULTIPATH")
    assert [(hop["oif"], hop["hops"], hop["flags"], hop.get_attr("RTA_GATEWAY")) for hop in hops] == [
        (11, 2, 0, "10.0.0.1"),
        (12, 0, 4, "10.0.0.2"),
        (13, 0, 0, None),
    ]


@pytest.mark.parametrize(
    ("family", "destination", "metric"), [(4, "10.0.0.0/8", 0), (6, "2001:db8::/32", 1023)]
)
def test_default_metric(family: int, destination: str, metric: int) -> None:
    route = Route(destination, family, kind="blackhole")
    assert rtnl.metric(route) == metric
    assert (decode(rtmsg.rtmsg, rtnl.add_route(route)).get_attr("RTA_PRIORITY") or 0) == metric


def test_big_table_and_stated_protocol() -> None:
    message = decode(rtmsg.rtmsg, rtnl.add_route(Route("::/0", 6, via="2001:db8::1", table=1000, protocol=4)))
    assert (message["table"], message.get_attr("RTA_TABLE"), message["proto"]) == (252, 1000, 4)


# --- rules


def test_rule_with_everything() -> None:
    rule = Rule(
        4,
        source="192.168.0.4/32",
        destination="10.0.0.0/8",
        iif="v0",
        oif="v1",
        fwmark=1,
        fwmask=0xFF,
        tos=8,
        invert=True,
        table=1000,
        suppress_prefixlength=0,
    )
    found = rtnl.add_rule(rule, 77)
    assert found[0] == "rule priority 77 from 192.168.0.4/32 to 10.0.0.0/8 iif v0 oif v1 lookup 1000"
    message = decode(fibmsg.fibmsg, found)
    assert (message["header"]["type"], message["header"]["flags"]) == (32, ADD | EXCL)
    fields = ("family", "src_len", "dst_len", "tos", "table", "action", "flags")
    assert [message[name] for name in fields] == [2, 32, 8, 8, 252, 1, 2]
    expected = {
        "FRA_SRC": "192.168.0.4",
        "FRA_DST": "10.0.0.0",
        "FRA_IIFNAME": "v0",
        "FRA_OIFNAME": "v1",
        "FRA_FWMARK": 1,
        "FRA_FWMASK": 255,
        "FRA_PRIORITY": 77,
        "FRA_TABLE": 1000,
        "FRA_PROTOCOL": 112,
        "FRA_SUPPRESS_PREFIXLEN": 0,
    }
    assert {name: message.get_attr(name) for name in expected} == expected
    assert decode(fibmsg.fibmsg, rtnl.delete_rule(rule, 77))["header"]["type"] == 33


@pytest.mark.parametrize(
    ("rule", "action", "table"),
    [
        (Rule(6), 1, 254),
        (Rule(6, action="goto", goto=32766), 2, 0),
        (Rule(6, action="blackhole"), 6, 0),
        (Rule(6, action="unreachable"), 7, 0),
        (Rule(6, action="prohibit"), 8, 0),
    ],
)
def test_rule_actions(rule: Rule, action: int, table: int) -> None:
    message = decode(fibmsg.fibmsg, rtnl.add_rule(rule, 1))
    assert (message["action"], message["table"], rtnl.rule_table(rule)) == (action, table, table)
    assert message.get_attr("FRA_GOTO") == rule.goto


def test_from_all_is_no_source() -> None:
    message = decode(fibmsg.fibmsg, rtnl.add_rule(Rule(4, source="0.0.0.0/0"), 1))
    assert (message["src_len"], message.get_attr("FRA_SRC")) == (0, None)


@pytest.mark.parametrize(("table", "small"), [(254, 254), (255, 255), (256, 252), (1000, 252)])
def test_a_table_beyond_a_byte_stands_in_its_attribute(table: int, small: int) -> None:
    route = decode(rtmsg.rtmsg, rtnl.add_route(Route("10.0.0.0/8", 4, via="10.0.0.1", table=table)))
    rule = decode(fibmsg.fibmsg, rtnl.add_rule(Rule(4, table=table), 1))
    assert (
        (route["table"], route.get_attr("RTA_TABLE"))
        == (small, table)
        == (rule["table"], rule.get_attr("FRA_TABLE"))
    )


def test_what_a_route_and_a_rule_do_not_say_is_zero() -> None:
    route = decode(rtmsg.rtmsg, rtnl.add_route(Route("10.1.0.0/16", 4, via="10.0.0.1")))
    assert [route[name] for name in ("dst_len", "src_len", "tos", "flags")] == [16, 0, 0, 0]
    assert route.get_attr("RTA_DST") == "10.1.0.0"
    rule = decode(fibmsg.fibmsg, rtnl.add_rule(Rule(4), 1))
    assert [rule[name] for name in ("dst_len", "src_len", "tos", "flags")] == [0, 0, 0, 0]
    hops = (Nexthop(via="10.0.0.1"), Nexthop(via="10.0.0.2"))
    several = decode(rtmsg.rtmsg, rtnl.add_route(Route("0.0.0.0/0", 4, nexthops=hops)))
    assert [(hop["flags"], hop["hops"], hop["oif"]) for hop in several.get_attr("RTA_MULTIPATH")] == [
        (0, 0, 0)
    ] * 2


def test_the_metric_of_a_connected_route() -> None:
    address = Address("192.168.1.4", 24, 4)
    for metric in (None, 0, 7):
        message = decode(rtnl.AddressRequest, rtnl.add_address(address, "v0", 3, route_metric=metric), 1)
        assert message.get_attr("IFA_RT_PRIORITY") == metric


# --- virtual MAC


def test_vmac() -> None:
    found = rtnl.vmac("vrrp.7", "br-lan", 7, 6)
    assert found["mac"] == bytes.fromhex("00005e000207")
    create = decode(ifinfmsg.ifinfmsg, found["create"], 5)
    assert (create["header"]["type"], create["header"]["flags"], create["flags"]) == (16, ADD | EXCL, 0)
    assert create.get_attr("IFLA_LINK") == 5
    assert create.get_attr("IFLA_ADDRESS") == "00:00:5e:00:02:07"
    info = create.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "macvlan"
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_MACVLAN_MODE") == "vepa"
    for name, kind, flags, change in (
        ("configure", 19, 0, 0),
        ("up", 19, 1, 1),
        ("down", 19, 0, 1),
        ("delete", 17, 0, 0),
    ):
        message = decode(ifinfmsg.ifinfmsg, found[name])
        assert (message["header"]["type"], message["flags"], message["change"]) == (kind, flags, change)
        assert (message["index"], message.get_attr("IFLA_IFNAME")) == (0, "vrrp.7")


# --- templates


@given(st.binary(min_size=0, max_size=64), st.integers(min_value=1, max_value=3))
def test_relocations_are_found_whatever_the_message_holds(noise: bytes, legs: int) -> None:
    noise += bytes(-len(noise) % 4)
    found = template(
        "x", lambda index_of: noise + b"".join(struct.pack("=I", index_of("v0")) for _ in range(legs))
    )
    assert [offset for offset, _ in found[2]] == [len(noise) + 4 * leg for leg in range(legs)]


def test_a_message_that_holds_the_sentinel_gets_another_one() -> None:
    seen: list[int] = []

    def build(index_of: Any) -> bytes:
        seen.append(index_of("v0"))
        return struct.pack(
            "=II", seen[-1], seen[0]
        )  # the second one is data that looks like the first sentinel

    assert template("x", build)[2] == ((0, "v0"),)
    assert len(seen) == 2


def test_no_fitting_sentinel_is_an_error() -> None:
    with pytest.raises(EncodeError, match="address x: no interface index fits"):
        template("address x", lambda index_of: struct.pack("=I", index_of("v0")) * 2)
