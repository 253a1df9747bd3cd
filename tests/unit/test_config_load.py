# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings that correct configurations give."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

from tandem.config import options
from tandem.config.load import load_file, load_text
from tandem.config.option import Option
from tandem.config.schema import Config, Globals, Script
from tandem.core.settings import Address, Garp, Group, Instance, Nexthop, Notify, Route, Rule, Track

DATA = pathlib.Path(__file__).parent / "data"
EXAMPLE = pathlib.Path(__file__).parents[2] / "files/etc/config/tandem"
GOOD = """config vrrp_instance 'I1'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
"""
V6 = GOOD.replace("192.168.1.4/24", "fe80::4/64")


def good(text: str) -> Config:
    loaded = load_text(text, "f")
    assert [str(problem) for problem in loaded.errors] == []
    assert loaded.config is not None
    return loaded.config


def one(*lines: str, base: str = GOOD, more: str = "") -> Instance:
    """The good instance with more lines in it, and more sections after it."""
    return good(base + "".join(f"\t{line}\n" for line in lines) + more).instances[0]


def clean(text: str) -> Config:
    assert [str(problem) for problem in load_text(text, "f").warnings] == []
    return good(text)


SEED = Config(
    globals=Globals(),
    instances=(
        Instance(
            name="I1",
            interface="br-lan",
            virtual_router_id=51,
            priority=101,
            preempt=False,
            auth_pass=b"s3cret",
            virtual_addresses=(Address("192.168.1.4", 24, 4),),
        ),
        Instance(
            name="E1",
            interface="eth0.2",
            virtual_router_id=51,
            priority=101,
            preempt=False,
            auth_pass=b"s3cret",
            virtual_addresses=(Address("192.168.0.4", 24, 4),),
            routes=(
                Route("0.0.0.0/0", 4, source="192.168.0.4", via="192.168.0.1", device="eth0.2", metric=5),
            ),
            snat="192.168.0.4",
        ),
    ),
    groups=(Group("G1", ("E1", "I1")),),
)


def test_seed() -> None:
    assert clean((DATA / "seed.config").read_text()) == SEED


def test_example_is_the_seed_disabled() -> None:
    loaded = load_file(str(EXAMPLE))
    assert (loaded.errors, loaded.warnings) == ((), ())
    assert loaded.config is not None
    assert loaded.config.globals == Globals(enabled=False)
    assert (loaded.config.instances, loaded.config.groups) == (SEED.instances, SEED.groups)
    assert loaded.config.conntrack_sync is None


def test_example_without_comment_marks() -> None:
    text = EXAMPLE.read_text().replace("option enabled '0'", "option enabled '1'", 1)
    text = text.replace("option replicate '1'", "option replicate '0'")  # conntrack_sync is off there
    # Services need a peer too: see test_example of test_config_conntrack_sync.py.
    text = re.sub(r"^#config service.*?(?=^# A check)", "", text, flags=re.M | re.S)
    config = clean(re.sub(r"^#(?=\t|config)", "", text, flags=re.M))
    assert config.globals.enabled
    assert config.instances[0].use_vmac == "vrrp.51"
    assert config.groups[0].tracks == (
        Track("script", "internet"), Track("check", "uplink"), Track("interface", "eth1"),
    )  # fmt: skip
    check, alive = config.checks
    assert (alive.kind, config.virtual_servers[0].servers) == ("tcp", ("s1",))
    assert (check.kind, check.host, check.count, check.loss) == ("ping", "192.168.0.1", 5, 40)
    assert config.groups[0].follow == ("wan", "wan6")


def test_every_default_is_readable() -> None:
    for table in options.SECTIONS.values():
        for entry in table.values():
            if isinstance(entry, Option) and entry.default is not None:
                entry.kind.read(entry.default)


def test_an_instance_without_a_group_is_one() -> None:
    assert clean(GOOD).groups == (Group("I1", ("I1",), implicit=True),)


@pytest.mark.parametrize(
    ("lines", "field", "expected"),
    [
        ("option state 'master'\n\toption priority '150'", "initial_master", True),
        ("option priority '255'", "initial_master", True),
        ("option state 'BACKUP'\n\toption priority '255'", "initial_master", False),
        ("option advert_int '255'", "advert_int_cs", 25500),
        ("option version '3'\n\toption advert_int '0.1'", "advert_int_cs", 10),
        ("option version '3'\n\toption advert_int '40.950'", "advert_int_cs", 4095),
        ("option nopreempt '1'", "preempt", False),
        ("option nopreempt 'on'", "preempt", False),
        ("option nopreempt '0'", "preempt", True),
        ("option preempt '0'", "preempt", False),
        ("option preempt_delay '4.12'", "preempt_delay_ms", 4120),
        ("option down_timer_adverts '5'", "down_timer_adverts", 5),
        ("option no_accept '1'", "accept", False),
        ("option accept '0'", "accept", False),
        ("option auth_type 'pass'\n\toption auth_pass '123456789'", "auth_pass", b"12345678"),
        ("option version '3'\n\toption auth_type 'PASS'\n\toption auth_pass 'x'", "auth_pass", None),
        ("option mcast_dst_ip '224.0.0.100'", "multicast_group", "224.0.0.100"),
        ("option mcast_src_ip '192.168.1.2'", "mcast_src_ip", "192.168.1.2"),
        ("list unicast_peer '192.168.1.3'\n\toption mcast_src_ip '192.168.1.2'", "mcast_src_ip", None),
        ("option unicast_peer '192.168.1.3 192.168.1.5'", "unicast_peers", ("192.168.1.3", "192.168.1.5")),
        ("option use_vmac '1'", "use_vmac", "vrrp.51"),
        ("option use_vmac 'lan0'", "use_vmac", "lan0"),
        ("option use_vmac '0'", "use_vmac", None),
        ("option version '3'\n\toption v3_checksum_as_v2 '1'", "v3_checksum_as_v2", True),
        ("option dont_track_primary '1'", "track_primary", False),
        ("option snat '1'", "snat", "192.168.1.4"),
        ("list virtual_routes 'default via 192.168.1.1'", "snat", "192.168.1.4"),
        ("list virtual_routes 'default via 192.168.1.1'\n\toption snat '0'", "snat", None),
        ("list virtual_routes 'default via 192.168.1.1 dev br-lan'", "snat", "192.168.1.4"),
        ("list virtual_routes 'blackhole default'", "snat", None),
        ("list virtual_routes 'default via 192.168.1.1 table 100'", "snat", None),
        ("list virtual_routes 'default via 192.168.1.1 tos 0x10'", "snat", None),
        ("list virtual_routes 'default via 10.0.0.1 dev eth1'", "snat", None),
        ("list virtual_routes 'default nexthop via 192.168.1.1 nexthop via 10.0.0.1 dev eth1'", "snat", None),
        (
            "list virtual_routes 'default nexthop via 192.168.1.1 nexthop via 192.168.1.2 dev br-lan'",
            "snat",
            "192.168.1.4",
        ),
        ("list virtual_ipaddress '192.168.1.5/24'\n\toption snat '192.168.1.5'", "snat", "192.168.1.5"),
        (
            "list virtual_ipaddress '192.168.1.5/24'\n"
            "\tlist virtual_routes 'src 192.168.1.5 to default via 192.168.1.1'",
            "snat",
            "192.168.1.5",
        ),
        (
            "list virtual_routes 'src 192.168.1.2 to default via 192.168.1.1'",
            "snat",
            "192.168.1.4",
        ),
        ("option dhcp '1'", "dhcp_networks", ("192.168.1.0/24",)),
        (
            "option dhcp '1'\n\tlist virtual_ipaddress '10.0.0.5/30'",
            "dhcp_networks",
            ("192.168.1.0/24", "10.0.0.4/30"),
        ),
        ("option dhcp '1'\n\tlist virtual_ipaddress '10.0.0.5/31'", "dhcp_networks", ("192.168.1.0/24",)),
        ("option dhcp '1'\n\tlist dhcp_network '10.1.0.0/16'", "dhcp_networks", ("10.1.0.0/16",)),
        ("option notify '/bin/a b \"c d\"'", "notify", Notify(any=("/bin/a", "b", "c d"))),
        ("option notify '/bin/grep \"|\"'", "notify", Notify(any=("/bin/grep", "|"))),
        (
            "option track_interface 'eth0 eth1'",
            "tracks",
            (Track("interface", "eth0"), Track("interface", "eth1")),
        ),
        (
            "list track_interface 'eth0 weight -20 reverse'",
            "tracks",
            (Track("interface", "eth0", -20, True),),
        ),
    ],
)
def test_instance_option(lines: str, field: str, expected: Any) -> None:
    assert getattr(one(lines), field) == expected


def test_ipv6() -> None:
    instance = one("list virtual_ipaddress '2001:db8::4/64'", base=V6)
    assert (instance.family, instance.version, instance.multicast_group) == (6, 3, "ff02::12")
    assert instance.snat is None
    assert one("option snat '1'", "list virtual_ipaddress '2001:db8::4/64'", base=V6).snat == "2001:db8::4"
    routes = "list virtual_routes 'default via fe80::1'"
    assert one(routes, "list virtual_ipaddress '2001:db8::4/64'", base=V6).snat is None
    assert one("option use_vmac '1'", base=V6).use_vmac == "vrrp6.51"
    for length, networks in ((64, ("2001:db8::/64",)), (126, ("2001:db8::4/126",)), (127, ())):
        lines = "option dhcp '1'", f"list virtual_ipaddress '2001:db8::4/{length}'"
        assert one(*lines, base=V6).dhcp_networks == networks


def test_names_of_virtual_macs_are_unique() -> None:
    config = good(
        (DATA / "seed.config").read_text().replace("option state", "option use_vmac '1'\n\toption state")
    )
    assert [instance.use_vmac for instance in config.instances] == ["vrrp.51", "vrrp.51.2"]
    first, second = GOOD + "\toption use_vmac '1'\n", GOOD.replace("I1", "I2").replace("br-lan", "lan2")
    config = good(first + second + "\toption use_vmac 'vrrp.51'\n")
    assert [instance.use_vmac for instance in config.instances] == ["vrrp.51.2", "vrrp.51"]


GARP = [
    ("", "", Garp()),
    ("vrrp_garp_master_delay '1'", "", Garp(delay_ms=1000, lower_prio_delay_ms=1000)),
    ("vrrp_garp_master_delay '1'", "garp_master_delay '2.5'", Garp(delay_ms=2500, lower_prio_delay_ms=2500)),
    ("vrrp_garp_lower_prio_repeat '0'", "garp_master_repeat '3'", Garp(repeat=3, lower_prio_repeat=0)),
    ("vrrp_min_garp '1'", "", Garp(delay_ms=0, repeat=1, lower_prio_delay_ms=0, lower_prio_repeat=1)),
    ("vrrp_min_garp '1'", "garp_master_repeat '2'",
     Garp(delay_ms=0, repeat=2, lower_prio_delay_ms=0, lower_prio_repeat=2)),
    ("", "garp_master_refresh '60'", Garp(refresh_ms=60000)),
]  # fmt: skip


@pytest.mark.parametrize(("everywhere", "here", "expected"), GARP)
def test_garp(everywhere: str, here: str, expected: Garp) -> None:
    text = GOOD + (f"\toption {here}\n" if here else "")
    text += "config globals\n" + (f"\toption {everywhere}\n" if everywhere else "")
    assert good(text).instances[0].garp == expected


ADDRESSES = [
    ("192.168.1.5", Address("192.168.1.5", 32, 4)),
    ("192.168.1.5/255.255.255.0", Address("192.168.1.5", 24, 4)),
    ("192.168.1.5/24 dev br-lan label br-lan:vip scope global",
     Address("192.168.1.5", 24, 4, device="br-lan", label="br-lan:vip")),
    ("192.168.1.5/24 scope link brd +", Address("192.168.1.5", 24, 4, scope=253, broadcast="192.168.1.255")),
    ("192.168.1.5/24 brd -", Address("192.168.1.5", 24, 4, broadcast="192.168.1.0")),
    ("192.168.1.5/24 scope 253", Address("192.168.1.5", 24, 4, scope=253)),
    ("10.0.0.1 peer 10.0.0.2", Address("10.0.0.1", 32, 4, peer="10.0.0.2")),
    ("10.0.0.1 peer 10.0.0.2/30", Address("10.0.0.1", 30, 4, peer="10.0.0.2")),
    ("2001:DB8:0::1/64 -nodad", Address("2001:db8::1", 64, 6)),
    ("2001:db8::1", Address("2001:db8::1", 128, 6, preferred_lifetime_s=0)),
    ("2001:db8::1 preferred_lft forever", Address("2001:db8::1", 128, 6)),
    ("2001:db8::1/64 preferred_lft 7", Address("2001:db8::1", 64, 6, preferred_lifetime_s=7)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_address(text: str, expected: Address) -> None:
    assert one(f"list virtual_ipaddress_excluded '{text}'").excluded_addresses == (expected,)


ROUTES = [
    ("10.0.0.0/8 via 192.168.1.1", Route("10.0.0.0/8", 4, via="192.168.1.1")),
    ("src 192.168.1.4 to 0.0.0.0/0 via 192.168.1.1 dev eth0.2 metric 5",
     Route("0.0.0.0/0", 4, source="192.168.1.4", via="192.168.1.1", device="eth0.2", metric=5)),
    ("default gw 192.168.1.1 table 100", Route("0.0.0.0/0", 4, via="192.168.1.1", table=100)),
    ("default via fe80::1 dev eth0", Route("::/0", 6, via="fe80::1", device="eth0")),
    ("default dev eth0", Route("0.0.0.0/0", 4, device="eth0")),
    ("inet6 default dev eth0", Route("::/0", 6, device="eth0")),
    ("10.1.2.3 oif eth0 scope link", Route("10.1.2.3/32", 4, device="eth0", scope=253)),
    ("blackhole 10.0.0.0/8 priority 7", Route("10.0.0.0/8", 4, kind="blackhole", metric=7)),
    ("throw 10.0.0.0/8 table local", Route("10.0.0.0/8", 4, kind="throw", table=255)),
    ("10.0.0.0/8 via 192.168.1.1 onlink mtu 1400 advmss 1300 proto static tos 0x10",
     Route("10.0.0.0/8", 4, via="192.168.1.1", onlink=True, mtu=1400, advmss=1300, protocol=4, tos=16)),
    ("10.0.0.0/8 table 6909 nexthop via 192.168.1.1 dev wlan0 onlink weight 1 nexthop dev wlan1 weight 2",
     Route("10.0.0.0/8", 4, table=6909,
           nexthops=(Nexthop("192.168.1.1", "wlan0", 1, True), Nexthop(None, "wlan1", 2)))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ROUTES)
def test_route(text: str, expected: Route) -> None:
    assert one(f"list virtual_routes '{text}'").routes == (expected,)


RULES = [
    ("from 192.168.2.0/24 table 1", Rule(4, source="192.168.2.0/24", table=1)),
    ("to 192.168.2.0/24 lookup main", Rule(4, destination="192.168.2.0/24", table=254)),
    ("from all iif eth0 oif eth1 fwmark 0x10/0xff tos 0x10 preference 39 table 5",
     Rule(4, iif="eth0", oif="eth1", fwmark=16, fwmask=255, tos=16, priority=39, table=5)),
    ("not from 2001:db8::/32 dev eth0 goto 40", Rule(6, source="2001:db8::/32", iif="eth0", invert=True,
                                                     action="goto", goto=40)),
    ("inet6 fwmark 3 type blackhole", Rule(6, fwmark=3, action="blackhole")),
    ("from 10.0.0.1 prohibit", Rule(4, source="10.0.0.1/32", action="prohibit")),
    ("table main suppress_prefixlength 0", Rule(4, table=254, suppress_prefixlength=0)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RULES)
def test_rule(text: str, expected: Rule) -> None:
    assert one(f"list virtual_rules '{text}'").rules == (expected,)


def test_named_sections() -> None:
    more = """
config ipaddress
	option name 'a'
	option address '192.168.1.9/24'
	option device 'br-lan'
config ipaddress 'b'
	option address '192.168.1.10/24'
	option device 'eth0'
	option label_suffix 'x'
	option scope 'link'
config ipaddress 'c'
	option address '2001:db8::1/64'
	option device 'br-lan'
config route 'r'
	option address 'default'
	option src_addr '192.168.1.4'
	option gateway '192.168.1.1'
	option device 'eth1'
	option table '100'
	option metric '9'
config route 's'
	option address '127.0.0.1'
	option blackhole '1'
config rule 'u'
	option from '10.0.0.0/8'
	option table '100'
	option priority '50'
	option not '1'
config peer 'p'
	option address '192.168.1.3'
config track_interface 't'
	option value 'eth1'
	option weight '-5'
config track_script 'w'
	option value 'chk'
	option weight '9'
config track_script 'x'
	option value 'other'
	option direction 'noreverse'
config vrrp_script 'chk'
	option script '/bin/chk'
	option weight '5 reverse'
config vrrp_script 'other'
	option script '/bin/other'
	option weight '4'
	option direction 'reverse'
	option interval '2'
	option user 'nobody nogroup'
config vrrp_script 'third'
	option script '/bin/third'
	option weight '-3'
config static_ipaddress
	list address 'b'
"""
    config = clean(
        GOOD
        + "\toption virtual_ipaddress_excluded 'a c'\n\tlist virtual_routes 'r'\n\tlist virtual_routes 's'\n"
        + "\tlist virtual_rules 'u'\n\tlist unicast_peer 'p'\n\toption track_interface 't eth7'\n"
        + "\tlist track_script 'w x'\n\tlist track_script 'third'\n"
        + more
    )
    instance = config.instances[0]
    assert instance.excluded_addresses == (
        Address("192.168.1.9", 24, 4, device="br-lan", label="br-lan:vip"),
        Address("2001:db8::1", 64, 6, device="br-lan"),
    )
    assert config.static_addresses == (
        Address("192.168.1.10", 24, 4, device="eth0", label="eth0:x", scope=253),
    )
    assert instance.routes == (
        Route("0.0.0.0/0", 4, source="192.168.1.4", via="192.168.1.1", device="eth1", table=100, metric=9),
        Route("127.0.0.1/32", 4, kind="blackhole"),
    )
    assert instance.rules == (Rule(4, source="10.0.0.0/8", table=100, priority=50, invert=True),)
    assert instance.unicast_peers == ("192.168.1.3",)
    assert instance.tracks == (
        Track("interface", "eth1", -5),
        Track("interface", "eth7"),
        Track("script", "chk", 9, True),
        Track("script", "other", 4, False),
        Track("script", "third", -3),
    )
    assert config.scripts[1] == Script("other", ("/bin/other",), 2000, 2000, user="nobody", group="nogroup")


def test_globals() -> None:
    text = """config global_defs 'globals'
	option enabled '0'
	option router_id 'it''s me'
	option vrrp_startup_delay '1.5'
	option address_lifetime '0'
	option vrrp_rt_priority '50'
	option vrrp_no_swap '1'
	option script_user 'nobody nogroup'
	option log_level 'DEBUG'
	option vrrp_version '3'
	option vrrp_mcast_group4 '224.0.0.99'
	option smtp_alert '0'
"""
    config = clean(text + GOOD)
    assert config.globals == Globals(False, "its me", 1500, 0, 50, True, "nobody", "nogroup", "debug")
    assert (config.instances[0].version, config.instances[0].multicast_group) == (3, "224.0.0.99")


def test_a_tracker_of_several_members_is_the_same() -> None:
    text = (DATA / "seed.config").read_text()
    text = text.replace("option nopreempt '1'", "list track_interface 'eth9 weight 5'")
    assert clean(text).instances[0].tracks == (Track("interface", "eth9", 5),)
