# SPDX-License-Identifier: GPL-2.0-or-later
"""IPv6 leases in netifd's status, and in the messages of routers to each other."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from tandem.core.lease import Lease6, Lent, Route6
from tandem.core.timers import SECOND
from tandem.follow import line6
from tandem.follow.lease import from_netifd, pack, unpack
from tandem.follow.lease6 import lan_addresses, lan_names, with_lans
from tandem.follow.shown import text
from tests.unit.vectors import tree

MAC = "02:1a:2b:3c:4d:5e"
# As netifd of OpenWrt 22.03 shows it.
STATUS6: dict[str, Any] = {
    "up": True,
    "l3_device": "wan0",
    "proto": "dhcpv6",
    "ipv6-address": [{"address": "2001:db8:ff::5", "mask": 128, "preferred": 50, "valid": 100}],
    "ipv6-prefix": [
        {
            "address": "2001:db8:1::", "mask": 56, "preferred": 60, "valid": 120, "class": "wan6",
            "assigned": {"lan": {"address": "2001:db8:1::", "mask": 60}},
        }
    ],
    "route": [
        {"target": "::", "mask": 0, "nexthop": "fe80::1", "metric": 512, "valid": 90,
         "source": "2001:db8:1::/56"},
        {"target": "2001:db8:ff::", "mask": 64, "nexthop": "::", "metric": 256, "valid": 90,
         "source": "::/0"},
        {"target": "10.0.0.0", "mask": 8, "nexthop": "0.0.0.0"},
        {"target": "2001:db8:1::", "mask": 56, "nexthop": "::", "type": 7},
        {"target": "::", "mask": 0, "nexthop": "fe80::1", "table": 7},
    ],
}  # fmt: skip
LAN: dict[str, Any] = {
    "ipv6-prefix-assignment": [
        {"address": "2001:db8:1::", "mask": 60, "local-address": {"address": "2001:db8:1::1", "mask": 60}},
        {"address": "fd00:9::", "mask": 60, "local-address": {"address": "fd00:9::1", "mask": 60}},
        {"address": "2001:db8:7::", "mask": 60, "local-address": {}},
    ]
}
NOW = 5 * SECOND
LEASE6 = Lease6(
    "wan6", MAC, (Lent("2001:db8:ff::5", 128, 55 * SECOND, 105 * SECOND),),
    (Lent("2001:db8:1::", 56, 65 * SECOND, 125 * SECOND),), 125 * SECOND,
    (
        Route6("::/0", "fe80::1", "2001:db8:1::/56", 512, 95 * SECOND),
        Route6("2001:db8:ff::/64", "", "", 256, 95 * SECOND),
    ),
)  # fmt: skip
WHOLE = replace(LEASE6, lans=(("lan", Lent("2001:db8:1::1", 60, 65 * SECOND, 125 * SECOND)),))
HOP = ("fe80::1", "00:90:1a:00:00:01")


@pytest.mark.parametrize("fresh", [True, False])
def test_a_status_of_netifd(fresh: bool) -> None:
    assert from_netifd("wan6", MAC, STATUS6, NOW, fresh) == LEASE6


def test_addresses_in_networks_of_the_router_have_the_lifetimes_of_their_prefix() -> None:
    assert lan_names(STATUS6) == {"lan"}
    assert with_lans(LEASE6, lan_addresses("lan", LAN)) == WHOLE


def test_an_address_beside_the_prefix_is_none_of_the_lease() -> None:
    for address in ("2001:db8:1:100::1", "2001:db8:0:ff00::1"):
        assigned = {"address": address, "mask": 60, "local-address": {"address": address, "mask": 60}}
        beside = lan_addresses("lan", {"ipv6-prefix-assignment": [assigned]})
        assert beside and with_lans(LEASE6, beside).lans == ()


def test_a_peer_is_told_of_an_address_that_is_preferred_no_more() -> None:
    later = 60 * SECOND
    told = unpack(pack({"wan6": LEASE6}, later), later)["wan6"]
    assert isinstance(told, Lease6) and [one.preferred for one in told.addresses] == [later]


def test_the_log_shows_addresses_and_prefixes() -> None:
    assert text(LEASE6, NOW) == "2001:db8:ff::5/128 and 2001:db8:1::/56"
    assert text(replace(LEASE6, addresses=(), prefixes=()), NOW) == "no address"


def test_a_status_without_dhcpv6_has_the_address_of_the_advert() -> None:
    found = from_netifd("wan6", MAC, STATUS6 | {"ipv6-prefix": []}, NOW, fresh=True)
    assert isinstance(found, Lease6) and found.prefixes == () and found.until == 105 * SECOND
    empty = from_netifd("wan6", MAC, {"proto": "dhcpv6"}, NOW, fresh=True)
    assert isinstance(empty, Lease6) and not empty.parts and not empty.valid(NOW)


def test_a_status_is_read_up_to_a_limit() -> None:
    """What a lease takes of a message, of the kernel's tables and of a turn of the loop is bounded."""
    names = ("ipv6-address", "ipv6-prefix", "route")
    many = STATUS6 | {name: [STATUS6[name][0]] * 100 for name in names}
    found = from_netifd("wan6", MAC, many, NOW, fresh=True)
    assert isinstance(found, Lease6)
    assert (len(found.addresses), len(found.prefixes), len(found.routes)) == (16, 16, 64)
    assigned = {f"lan{number:03}": {} for number in range(100)}
    prefix = STATUS6["ipv6-prefix"][0] | {"assigned": assigned}
    assert lan_names(STATUS6 | {"ipv6-prefix": [prefix]}) == set(sorted(assigned)[:32])
    lan = {"ipv6-prefix-assignment": LAN["ipv6-prefix-assignment"][:1] * 100}
    assert len(lan_addresses("lan", lan)) == 16


@pytest.mark.parametrize(("mask", "fits"), [(0, True), (128, True), (-1, False), (129, False)])
@pytest.mark.parametrize("part", ["ipv6-address", "ipv6-prefix", "route"])
def test_the_masks_of_a_status(part: str, mask: int, fits: bool) -> None:
    status = STATUS6 | {part: [STATUS6[part][0] | {"mask": mask}]}
    assert (from_netifd("wan6", MAC, status, NOW, fresh=True) is not None) is fits


@pytest.mark.parametrize(("mask", "fits"), [(0, True), (128, True), (-1, False), (129, False)])
def test_the_mask_of_an_address_in_a_network_of_the_router(mask: int, fits: bool) -> None:
    lan = {"ipv6-prefix-assignment": [{"local-address": {"address": "2001:db8:1::1", "mask": mask}}]}
    assert lan_addresses("lan", lan) == ((("lan", "2001:db8:1::1", mask),) if fits else ())


def test_lifetimes_without_end_are_bounded() -> None:
    prefix = {"address": "2001:db8:1::", "mask": 56}
    found = from_netifd("wan6", MAC, STATUS6 | {"ipv6-prefix": [prefix]}, 0, fresh=True)
    assert isinstance(found, Lease6) and found.left_s(0) == 365 * 86400


@pytest.mark.parametrize(
    "change",
    [
        {"ipv6-address": [{"address": "10.0.0.1", "mask": 24}]},
        {"ipv6-address": [{"address": "2001:db8::1", "mask": 129}]},
        {"ipv6-address": "nonsense"},
        {"ipv6-prefix": [{"mask": 56}]},
        {"ipv6-prefix": [{"address": "2001:db8::", "mask": 56, "valid": -1}]},
        {"route": [{"target": "::", "mask": "all", "nexthop": "fe80::1"}]},
    ],
)
def test_a_malformed_status(change: dict[str, Any]) -> None:
    assert from_netifd("wan6", MAC, STATUS6 | change, NOW, fresh=True) is None


@pytest.mark.parametrize("assigned", [{"assigned": 5}, 7])
def test_malformed_networks(assigned: Any) -> None:
    assert lan_names({"ipv6-prefix": [assigned]}) == frozenset()
    assert lan_addresses("lan", {"ipv6-prefix-assignment": [assigned]}) == ()


def test_a_message_carries_what_is_left() -> None:
    later = 1000 * SECOND
    moved = unpack(pack({"wan6": replace(WHOLE, next_hops=(HOP,))}, 25 * SECOND), later)["wan6"]
    assert isinstance(moved, Lease6)
    assert moved.next_hops == (HOP,)
    assert moved.parts == WHOLE.parts and moved.left_s(later) == 100
    assert moved.prefixes[0].preferred == later + 40 * SECOND
    assert moved.routes == tuple(replace(route, until=later + 70 * SECOND) for route in WHOLE.routes)
    assert moved.lans == (("lan", Lent("2001:db8:1::1", 60, later + 40 * SECOND, later + 100 * SECOND)),)


def test_an_address_outside_of_the_prefix_is_not_taken() -> None:
    plain = json.loads(pack({"wan6": WHOLE}, NOW))
    plain[1]["wan6"]["lans"].append(["lan", "2001:db8:2::1", 60])
    found = unpack(json.dumps(plain).encode(), NOW)["wan6"]
    assert isinstance(found, Lease6) and [one.address for _, one in found.lans] == ["2001:db8:1::1"]


_VALID = json.loads(pack({"wan6": replace(WHOLE, next_hops=(HOP,))}, NOW))[1]["wan6"]
_U32 = [(0, True), (0xFFFFFFFF, True), (-1, False), (1 << 32, False)]
_LENGTHS = [(0, True), (128, True), (-1, False), (129, False)]
_NETWORKS = [(f"2001:db8::/{length}", fits) for length, fits in _LENGTHS]
_NAMES = [("a_1", True), ("x" * 32, True), ("x" * 33, False), ("a-b", False), ("\u00e9", False), ("", False)]


@pytest.mark.parametrize(
    ("name", "at", "value", "fits"),
    [
        (name, at, value, fits)
        for name, at, values in (
            ("addresses", 1, _LENGTHS), ("addresses", 2, _U32), ("addresses", 3, _U32),
            ("prefixes", 1, _LENGTHS), ("routes", 0, _NETWORKS), ("routes", 2, _NETWORKS),
            ("routes", 3, _U32), ("routes", 4, _U32), ("lans", 0, _NAMES), ("lans", 2, _LENGTHS),
        )
        for value, fits in values
    ],
)  # fmt: skip
def test_the_bounds_of_a_message(name: str, at: int, value: Any, fits: bool) -> None:
    changed = [*_VALID[name][0]]
    changed[at] = value
    message = json.dumps([1, {"wan6": _VALID | {name: [changed, *_VALID[name][1:]]}}]).encode()
    if fits:
        assert isinstance(unpack(message, NOW)["wan6"], Lease6)
    else:
        with pytest.raises(ValueError):
            unpack(message, NOW)


def test_a_mac_address_is_cut() -> None:
    message = json.dumps([1, {"wan6": _VALID | {"mac": MAC + "\n" * 1000}}]).encode()
    assert unpack(message, NOW)["wan6"].mac == MAC


@pytest.mark.parametrize(("metric", "fits"), [(None, True), *_U32])
def test_the_metric_of_a_route(metric: int | None, fits: bool) -> None:
    route = STATUS6["route"][0] | {"metric": metric}
    if metric is None:
        del route["metric"]
    found = from_netifd("wan6", MAC, STATUS6 | {"route": [route]}, NOW, fresh=True)
    assert (found is not None) is fits
    assert not isinstance(found, Lease6) or found.routes[0].metric == (metric or 0)


@pytest.mark.parametrize("name", [name for name in _VALID if name != "prefixes"])
@pytest.mark.parametrize(
    "value", [None, "x", -1, [1], {}, [["lan/../x", "2001:db8:1::1", 60]], [[1] * 9], 1 << 40]
)
def test_a_malformed_field(name: str, value: Any) -> None:
    """A message is refused, or read as something harmless; it never raises anything else."""
    try:
        found = unpack(json.dumps([1, {"wan6": _VALID | {name: value}}]).encode(), 0)
    except ValueError:
        return
    lease = found["wan6"]
    assert isinstance(lease, Lease6) and all(network == "lan" for network, _ in lease.lans)


def test_the_flags_of_the_addresses_that_are_put_in_place() -> None:
    """IFA_F_NODAD (2) on all, as nobody else has them, and IFA_F_NOPREFIXROUTE (0x200) on the line.

    The provider says what is on the link there. For a network of this router the kernel makes the route.
    """
    found: dict[tuple[str, int], int] = {}
    for label, message, _ in line6.place(WHOLE, bytes.fromhex("021a2b3c4d5e"), 7, {"lan": 3}.get, 60, NOW):
        if label.startswith("address "):
            index = int.from_bytes(message[20:24], sys.byteorder)
            found[label.removeprefix("address "), index] = int.from_bytes(
                tree(message[24:])[8], sys.byteorder
            )
    assert found == {
        ("fe80::1a:2bff:fe3c:4d5e/64", 7): 0x2,
        **{(f"{one.address}/{one.length}", 7): 0x202 for one in WHOLE.addresses},
        ("2001:db8:1::1/60", 3): 0x2,
    }
    assert WHOLE.addresses
