# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner's facts about dnsmasq on a router, and the plan that it makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config, DhcpGateway
from tandem.dhcp import command
from tandem.dhcp.command import _guarded, _unforce
from tandem.dhcp.gateway import _with_forced, without_forced
from tandem.plan import dnsmasq

NETWORK = """config interface 'lan'
	option device 'br-lan'
config interface 'guest'
	option type 'bridge'
	option ifname 'eth2 eth3'
config interface 'old'
	option ifname 'eth4'
"""
DHCP = """config dnsmasq
	option leasefile '/tmp/dhcp.leases'
config dhcp 'lan'
	option interface 'lan'
	list dhcp_option '6,9.9.9.9'
config dhcp 'guest'
	option interface 'guest'
	option networkid 'visitors'
	option force '1'
config dhcp
	option interface 'old'
"""
TANDEM = """config vrrp_instance 'I1'
	option interface 'br-lan'
	option virtual_router_id '51'
	option dhcp '1'
	list virtual_ipaddress '192.168.1.4/24'
	list virtual_ipaddress '192.168.1.5/24'
config vrrp_instance 'I6'
	option interface 'br-lan'
	option virtual_router_id '61'
	option version '3'
	option dhcp '1'
	list virtual_ipaddress 'fe80::4/64'
	list virtual_ipaddress 'fd00:1::4/64'
config vrrp_instance 'G'
	option interface 'guest'
	option virtual_router_id '52'
	option dhcp '1'
	list virtual_ipaddress '192.168.2.4/24'
config vrrp_instance 'W'
	option interface 'eth0'
	option virtual_router_id '53'
	list virtual_ipaddress '192.168.0.4/24'
config dhcp_gateway
	option replicate '0'
"""


def config(text: str = TANDEM) -> Config:
    loaded = load_text(text, "f")
    assert [str(problem) for problem in (*loaded.errors, *loaded.warnings)] == []
    assert loaded.config is not None
    return loaded.config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (("network", NETWORK), ("dhcp", DHCP)):
        path = tmp_path / "etc/config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "var/state").mkdir(parents=True)
    return tmp_path


def plan(root: Path, text: str = TANDEM) -> dict[str, object]:
    found = dnsmasq.lease_plan(config(text), dnsmasq.read_router(str(root)))
    assert found is not None
    return found


def lines(found: dict[str, object]) -> list[str]:
    _, text = found["snippet"]  # type: ignore[misc]
    return text.splitlines()[1:]  # type: ignore[no-any-return]


def test_options_by_the_networks_name_unless_the_user_has_set_them(root: Path) -> None:
    assert lines(plan(root)) == [
        "dhcp-option=tag:lan,option:router,192.168.1.4",
        "dhcp-option=tag:lan,option6:dns-server,[fd00:1::4]",
        "dhcp-option=tag:visitors,option:router,192.168.2.4",
        "dhcp-option=tag:visitors,option:dns-server,192.168.2.4",
    ]
    without = TANDEM.replace(
        "option replicate '0'", "option replicate '0'\n\toption router '0'\n\toption dns '0'"
    )
    assert lines(plan(root, without)) == []


def test_odhcpd_names_the_virtual_resolver_unless_the_user_has_set_one(root: Path) -> None:
    assert plan(root)["resolvers"] == {"lan": ("192.168.1.4", "fd00:1::4"), "guest": ("192.168.2.4",)}
    path = root / "etc/config/dhcp"
    path.write_text(path.read_text() + "config dhcp 'lan'\n\toption interface 'lan'\n")
    assert "lan" in plan(root)["resolvers"]  # type: ignore[operator]
    path.write_text(f"config dhcp 'first'\n\toption interface 'lan'\n\tlist dns '2001:db8::53'\n{DHCP}")
    assert plan(root)["resolvers"] == {"guest": ("192.168.2.4",)}
    off = TANDEM.replace("option replicate '0'", "option replicate '0'\n\toption dns '0'")
    assert plan(root, off)["resolvers"] == {}


@pytest.mark.parametrize(("says", "wanted"), [("DHCPv6", True), ("no-DHCPv6", False), ("", True)])
def test_dnsmasq_without_dhcpv6_gets_no_option_of_it(root: Path, says: str, wanted: bool) -> None:
    """OpenWrt's dnsmasq, unless it is dnsmasq-full, would not start any more: no DNS, no DHCPv4."""
    program = root / "usr/sbin/dnsmasq"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'Compile time options: IPv6 no-DBus UBus DHCP {says} TFTP'\n")
    program.chmod(0o755)
    assert any("option6:" in line for line in lines(plan(root))) is wanted
    assert "dhcp-option=tag:lan,option:router,192.168.1.4" in lines(plan(root))


def test_a_virtual_mac_is_a_second_interface(root: Path) -> None:
    text = TANDEM.replace(
        "option virtual_router_id '52'", "option virtual_router_id '52'\n\toption use_vmac '1'"
    )
    assert "no-dhcp-interface=vrrp.52" in lines(plan(root, text))
    assert "interface=vrrp.52" not in lines(plan(root, text))
    (root / "etc/config/dhcp").write_text("config dnsmasq\n\tlist interface 'lan'\n" + DHCP)
    assert "interface=vrrp.52" in lines(plan(root, text))


def test_a_tag_of_ones_own(root: Path) -> None:
    text = TANDEM.replace("option interface 'br-lan'", "option interface 'eth9'\n\toption dhcp_tag 'here'")
    assert "dhcp-option=tag:here,option:dns-server,192.168.1.4" in lines(plan(root, text))


def test_where_dnsmasq_keeps_its_files(root: Path) -> None:
    assert plan(root)["leasefile"] == "/tmp/dhcp.leases"
    assert plan(root)["snippet"][0] == "/tmp/dnsmasq.d/tandem.conf"  # type: ignore[index]
    generated = root / "var/etc/dnsmasq.conf.cfg01411c"
    generated.parent.mkdir()
    generated.write_text("conf-dir=/tmp/dnsmasq.cfg01411c.d,*.conf\ndhcp-leasefile=/srv/leases\n")
    assert plan(root)["leasefile"] == "/srv/leases"
    assert plan(root)["snippet"][0] == "/tmp/dnsmasq.cfg01411c.d/tandem.conf"  # type: ignore[index]
    own = TANDEM + "\toption leasefile '/a'\n\toption confdir '/b'\n"
    assert plan(root, own)["leasefile"] == "/a"
    assert plan(root, own)["snippet"][0] == "/b/tandem.conf"  # type: ignore[index]


@pytest.mark.parametrize(
    ("confdir", "expected"),
    [
        ("/srv/dnsmasq.d", "/srv/dnsmasq.d"),
        ("/srv/dnsmasq.d,*.conf", "/srv/dnsmasq.d"),
        ("0", dnsmasq.CONFDIR),
    ],
)
def test_where_dnsmasq_will_keep_its_files_when_it_has_never_run(
    root: Path, confdir: str, expected: str
) -> None:
    text = DHCP.replace("'/tmp/dhcp.leases'", f"'/srv/leases'\n\toption confdir '{confdir}'")
    (root / "etc/config/dhcp").write_text(text)
    assert plan(root)["leasefile"] == "/srv/leases"
    assert plan(root)["snippet"][0] == f"{expected}/tandem.conf"  # type: ignore[index]


def test_what_is_forced_in_memory(root: Path) -> None:
    found = plan(root)
    assert (found["force"], found["state_dir"]) == (("lan",), "/var/state")
    (root / "var/state").rmdir()
    assert plan(root)["state_dir"] is None


def test_the_overlay_keeps_what_others_have_written(tmp_path: Path) -> None:
    path = tmp_path / "dhcp"
    text = _with_forced("dhcp.lan.start='50'\n", ("lan", "guest"))
    path.write_text(text)
    assert text == "dhcp.lan.start='50'\ndhcp.lan.force='1'\ndhcp.guest.force='1'\n"
    assert _with_forced(text, ("lan",)) == text
    assert without_forced(text, ("lan", "guest")) == "dhcp.lan.start='50'\n"
    assert _unforce(str(path)) and not _unforce(str(path))
    assert path.read_text() == "dhcp.lan.start='50'\n"


def test_networks_are_numbers(root: Path) -> None:
    assert plan(root)["networks"] == {
        "I1": ((4, 0xC0A80100, 0xFFFFFF00),),
        "I6": ((6, 0xFD000001 << 96, (1 << 128) - (1 << 64)),),
        "G": ((4, 0xC0A80200, 0xFFFFFF00),),
    }


def test_devices_of_a_network(root: Path) -> None:
    router = dnsmasq.read_router(str(root))
    assert router.devices("br-lan") == ("br-lan",)
    assert router.devices("guest") == ("guest", "br-guest")
    assert router.devices("old") == ("old", "eth4")


def test_only_interfaces_with_a_name_are_networks(root: Path) -> None:
    other = "config globals 'globals'\nconfig device 'dev'\n\toption name 'br-lan'\n"
    nameless = "config interface\n\toption device 'eth9'\n"
    (root / "etc/config/network").write_text(other + NETWORK + nameless)
    assert dnsmasq.read_router(str(root)).networks == {
        "lan": ("br-lan",), "guest": ("br-guest",), "old": ("eth4",)
    }  # fmt: skip


def test_a_router_without_any_of_that(tmp_path: Path) -> None:
    router = dnsmasq.read_router(str(tmp_path))
    found = dnsmasq.lease_plan(config(), router)
    assert found is not None and found["leasefile"] == dnsmasq.LEASEFILE
    assert lines(found) == [] and found["force"] == ()
    told = list(dnsmasq.warnings(config(), router))
    assert len(told) == 3 and "dhcp_tag" in told[0]
    off = replace(config(), dhcp_gateway=None)
    assert dnsmasq.lease_plan(off, router) is None and list(dnsmasq.warnings(off, router)) == []


def test_a_section_without_a_name_is_told(root: Path) -> None:
    text = TANDEM.replace("option interface 'guest'", "option interface 'old'")
    told = list(dnsmasq.warnings(config(text), dnsmasq.read_router(str(root))))
    assert len(told) == 1 and "has no name" in told[0]


def test_a_file_with_errors_is_held_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "tandem"
    path.write_text(TANDEM.replace("'51'", "'5100'") + "\noption without a section\n'")
    assert set(_guarded(str(path))) == {("br-lan", 4), ("br-lan", 6), ("guest", 4), ("guest", 6)}
    assert list(_guarded(str(tmp_path / "none"))) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            ("option interface 'guest'", "option interface 'br-lan'"),
            "'I1' decides about DHCP on br-lan already",
        ),
        (
            ("option replicate '0'", "option replicate '0'\nconfig dhcp_gateway"),
            "dhcp_gateway section already",
        ),
        (("option dhcp '1'", "option dhcp '1'\n\tlist dhcp_network 'fd00::/64'"), "no network of IPv4"),
        (("option dhcp '1'", "option dhcp '1'\n\tlist dhcp_network '10.1.2.3/8'"), "host bits"),
        (("option replicate '0'", "option leasefile 'leases'"), "an absolute path"),
        (("option replicate '0'", "option restart 'dnsmasq'"), "absolute path of a program"),
    ],
)
def test_errors(change: tuple[str, str], reason: str) -> None:
    errors = [str(problem) for problem in load_text(TANDEM.replace(*change), "f").errors]
    assert any(reason in error for error in errors), errors


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("option replicate '0'", "option replicate '1'"), "no channel to another router"),
        (("option dhcp '1'", "option dhcp '0'"), "no vrrp_instance has option dhcp"),
        (("option dhcp '1'", "option dhcp_tag 'lan'"), "has no effect without option dhcp"),
        (("192.168.1.4/24", "192.168.1.4"), "tells the network"),
    ],
)
def test_warnings(change: tuple[str, str], reason: str) -> None:
    text = TANDEM.replace(*change).replace("192.168.1.5/24", "192.168.1.5")
    loaded = load_text(text, "f")
    assert loaded.errors == ()
    assert any(reason in str(problem) for problem in loaded.warnings), loaded.warnings


@pytest.mark.parametrize("readable", [True, False])
def test_release_undoes_what_the_daemon_has_told_dnsmasq_and_odhcpd(
    root: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    """A configuration that cannot be read names no networks: all of them are meant then."""
    said, ubus = root / "said", root / "ubus"
    ubus.write_text(f'#!/bin/sh\necho "$@" >>{said}\n')
    ubus.chmod(0o755)
    router = dnsmasq.read_router(str(root))
    monkeypatch.setattr(command, "UBUS", str(ubus))
    monkeypatch.setattr(command, "_transact", lambda _batch: set())
    monkeypatch.setattr(dnsmasq, "read_router", lambda: router)
    monkeypatch.setattr(dnsmasq, "STATE", str(root / "var/state"))
    monkeypatch.setattr(dnsmasq, "CONFDIR", str(root / "dnsmasq.d"))
    restart = ("/bin/sh", "-c", f"echo restart >>{said}")
    monkeypatch.setattr(command, "DhcpGateway", lambda: DhcpGateway(restart=restart))
    wanted = replace(config(), dhcp_gateway=DhcpGateway(restart=restart)) if readable else None
    snippet, state = root / "dnsmasq.d" / dnsmasq.SNIPPET, root / "var/state/dhcp"
    snippet.parent.mkdir()
    snippet.write_text("dhcp-option=tag:lan,3,192.168.1.4\n")
    state.write_text("dhcp.lan.force='1'\ndhcp.lan.other='1'\n")
    assert command.release(wanted, "f") == command.DONE
    assert not snippet.exists() and state.read_text() == "dhcp.lan.other='1'\n"
    networks = ["lan", "guest"] if readable else ["lan", "guest", "old"]
    told = [f'-t 2 call network.interface set_data {{"interface": "{name}", "dns": []}}' for name in networks]
    assert said.read_text().splitlines() == [*told, "restart"]
    said.unlink()
    assert command.release(wanted, "f") == command.DONE
    assert said.read_text().splitlines() == told, "dnsmasq has its own configuration already"
