# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import socket

import pytest

from tandem.effects.links import Change, Links, What
from tandem.effects.rtnl import AddressMessage, LinkMessage

UP = 0x11043  # UP, BROADCAST, RUNNING, MULTICAST, LOWER_UP
MAC = bytes.fromhex("020000000002")
OTHER_MAC = bytes.fromhex("020000000003")
FOREVER = 0xFFFFFFFF


def link(
    index: int = 10,
    name: str = "eth0",
    flags: int = UP,
    carrier: bool = True,
    operstate: int = 6,
    mac: bytes = MAC,
    is_new: bool = True,
) -> LinkMessage:
    return LinkMessage(is_new, index, name, flags, carrier, operstate, mac, 1500)


def address(
    text: str,
    index: int = 10,
    prefixlen: int = 24,
    flags: int = 0x80,
    scope: int = 0,
    protocol: int = 0,
    is_new: bool = True,
) -> AddressMessage:
    family = 6 if ":" in text else 4
    return AddressMessage(is_new, index, family, packed(text), prefixlen, scope, flags, FOREVER, protocol)


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def changes(*whats: What, name: str = "eth0", index: int = 10) -> list[Change]:
    return [Change(what, name, index) for what in whats]


def test_appears_and_vanishes() -> None:
    links = Links()
    assert links.index("eth0") is None
    assert not links.usable("eth0")
    assert links.update(link()) == changes(What.APPEARED, What.USABLE)
    assert (links.index("eth0"), links.name(10), links.mac("eth0"), links.mtu("eth0")) == (
        10,
        "eth0",
        MAC,
        1500,
    )
    assert links.update(link()) == []
    assert links.update(link(is_new=False)) == changes(What.VANISHED)
    assert (links.index("eth0"), links.name(10), links.mac("eth0")) == (None, None, None)
    assert links.update(link(is_new=False)) == []


@pytest.mark.parametrize(
    ("flags", "carrier", "operstate", "usable"),
    [
        (UP, True, 6, True),
        (UP, True, 0, True),  # tun, ppp: never more than unknown
        (UP & ~1, True, 6, False),
        (UP & ~0x40, True, 6, False),
        (UP, False, 6, False),
        (UP, True, 2, False),
        (UP, True, 3, False),  # lower layer down: veth, macvlan, VLAN
        (UP, True, 5, False),  # dormant: 802.1X
    ],
)
def test_usable(flags: int, carrier: bool, operstate: int, usable: bool) -> None:
    links = Links()
    links.update(link(flags=flags, carrier=carrier, operstate=operstate))
    assert links.usable("eth0") is usable


def test_goes_down_and_up() -> None:
    links = Links()
    links.update(link())
    assert links.update(link(carrier=False)) == changes(What.UNUSABLE)
    assert links.update(link(carrier=False, operstate=2)) == []
    assert links.update(link()) == changes(What.USABLE)


def test_renamed() -> None:
    links = Links()
    links.update(link())
    links.update(address("192.168.1.2"))
    assert links.update(link(name="lan0")) == [
        *changes(What.VANISHED),
        *changes(What.APPEARED, What.USABLE, What.ADDRESSES, name="lan0"),
    ]
    assert links.names() == ["lan0"]
    assert links.primary_address("lan0", 4) == packed("192.168.1.2")
    assert links.index("eth0") is None


def test_created_anew_under_the_same_name() -> None:
    links = Links()
    links.update(link())
    links.update(address("192.168.1.2"))
    links.update(link(is_new=False))
    assert links.update(link(index=11)) == changes(What.APPEARED, What.USABLE, index=11)
    assert links.primary_address("eth0", 4) is None


def test_created_anew_though_nobody_said_that_the_old_one_went() -> None:
    links = Links()
    links.update(link())
    assert links.update(link(index=11)) == [
        *changes(What.VANISHED),
        *changes(What.APPEARED, What.USABLE, index=11),
    ]
    assert links.name(10) is None
    assert links.update(link(is_new=False)) == []  # the late message about the old one
    assert links.index("eth0") == 11


def test_mac_changes() -> None:
    links = Links()
    links.update(link())
    assert links.update(link(mac=OTHER_MAC)) == changes(What.MAC)


def test_addresses_come_and_go() -> None:
    links = Links()
    links.update(link())
    assert links.update(address("192.168.1.2")) == changes(What.ADDRESSES)
    assert links.update(address("192.168.1.2")) == []
    assert links.has_address("eth0", packed("192.168.1.2"))
    assert links.update(address("192.168.1.2", is_new=False)) == changes(What.ADDRESSES)
    assert links.update(address("192.168.1.2", is_new=False)) == []
    assert links.update(address("192.168.1.2", index=99)) == []
    assert not links.has_address("eth0", packed("192.168.1.2"))


def test_primary_ipv4_address() -> None:
    links = Links()
    links.update(link())
    links.update(address("127.0.0.5", scope=254))
    links.update(address("192.168.1.4", protocol=112))
    links.update(address("192.168.1.5"))
    links.update(address("192.168.1.2", flags=0x81))
    links.update(address("192.168.1.3", flags=0x81))
    assert links.primary_address("eth0", 4) == packed("192.168.1.5")
    # secondary because the virtual address of the subnet was there first
    assert links.primary_address("eth0", 4, {packed("192.168.1.5")}) == packed("192.168.1.2")
    links.update(address("10.0.0.1"))
    assert links.primary_address("eth0", 4, {packed("192.168.1.5")}) == packed("10.0.0.1")
    assert links.primary_address("eth1", 4) is None
    assert links.primary_address("eth0", 6) is None


def test_primary_ipv6_address() -> None:
    links = Links()
    links.update(link())
    links.update(address("2001:db8::2", prefixlen=64))
    links.update(address("fe80::1", prefixlen=64, scope=253, flags=0xC0))
    assert links.primary_address("eth0", 6) is None  # tentative
    assert links.update(address("fe80::1", prefixlen=64, scope=253, flags=0x80)) == changes(What.ADDRESSES)
    assert links.primary_address("eth0", 6) == packed("fe80::1")
    assert links.primary_address("eth0", 6, (packed("fe80::1"),)) is None
    links.update(address("fe80::1", prefixlen=64, scope=253, flags=0x88))
    assert links.primary_address("eth0", 6) is None  # somebody else has it


def test_a_dump_after_lost_messages() -> None:
    links = Links()
    links.resync(
        [link(), link(11, "eth1"), link(12, "eth2"), address("192.168.1.2"), address("10.0.0.2", 11)]
    )
    dump: list[LinkMessage | AddressMessage] = [
        link(),
        link(13, "eth1"),
        link(14, "eth3", carrier=False),
        address("192.168.1.3"),
    ]
    assert links.resync(dump) == [
        *changes(What.ADDRESSES),
        *changes(What.VANISHED, name="eth1", index=11),
        *changes(What.APPEARED, What.USABLE, name="eth1", index=13),
        *changes(What.VANISHED, name="eth2", index=12),
        *changes(What.APPEARED, name="eth3", index=14),
    ]
    assert links.resync(dump) == []


def test_names_that_were_swapped_unheard() -> None:
    links = Links()
    links.resync([link(10, "eth0"), link(11, "eth1")])
    links.update(link(11, "eth0"))
    links.update(link(10, "eth1"))
    assert (links.index("eth0"), links.index("eth1")) == (11, 10)
