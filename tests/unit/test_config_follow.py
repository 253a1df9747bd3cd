# SPDX-License-Identifier: GPL-2.0-or-later
"""`list follow` and `config follow`: what they mean, and what is wrong with them."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import Loaded, load_text
from tandem.config.schema import Follow
from tandem.core.settings import Track

INSTANCE = """
config vrrp_instance 'lan'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
"""
LISTED = INSTANCE + "\tlist follow 'wan'\n"
LINE = "config follow 'wan'\n\toption interface 'eth1'\n\toption mac '02:1A:2b:3c:4d:5e'\n"
GROUP = "config vrrp_sync_group 'G'\n\tlist group 'lan'\n\tlist follow 'wan'\n\tlist follow 'wg0'\n"


def load(text: str) -> Loaded:
    return load_text(text, "tandem")


def test_an_instance_alone() -> None:
    config = load(LISTED + LINE).config
    assert config is not None
    assert config.follows == (Follow("wan", "eth1", "wan0", "02:1a:2b:3c:4d:5e"),)
    assert config.groups[0].follow == ("wan",)
    assert config.groups[0].tracks == (Track("interface", "eth1"),)


def test_a_group() -> None:
    config = load(INSTANCE + GROUP + LINE).config
    assert config is not None
    assert config.groups[0].follow == ("wan", "wg0") and config.instances[0].follow == ()
    assert [follow.name for follow in config.follows] == ["wan", "wg0"]
    assert config.follows[1] == Follow("wg0")  # netifd alone brings it up and down


IPV6 = LISTED + "\tlist follow 'wan6'\n" + LINE + "config follow 'wan6'\n\toption interface '@wan'\n"


def test_a_network_on_the_device_of_another() -> None:
    config = load(IPV6).config
    assert config is not None and config.follows[1] == Follow("wan6", "@wan")
    assert (config.follows[1].parent, config.follows[1].port) == ("wan", "")
    assert config.groups[0].tracks == (Track("interface", "eth1"),)


@pytest.mark.parametrize("text", [LISTED + LINE, INSTANCE + GROUP + LINE, LISTED, IPV6])
def test_the_effective_configuration_says_the_same(text: str) -> None:
    config = load(text).config
    assert config is not None and load(render(config)).config == config


def test_the_weight_of_a_port_is_the_users() -> None:
    config = load(INSTANCE + GROUP + "\tlist track_interface 'eth1 weight -20'\n" + LINE).config
    assert config is not None and config.groups[0].tracks == (Track("interface", "eth1", -20),)


@pytest.mark.parametrize(("more", "taken"), [("", False), ("\toption session 'takeover'\n", True)])
def test_sessions_are_taken_over_only_if_that_is_wanted(more: str, taken: bool) -> None:
    config = load(LISTED + LINE + more).config
    assert config is not None and config.follows[0].takes_over is taken


@pytest.mark.parametrize(
    ("text", "option", "reason"),
    [
        (LISTED + LINE.replace("02:1A", "03:1A"), "mac", "must be the MAC address of one host"),
        (LISTED + LINE.replace("mac '02:1A:2b:3c:4d:5e'", "device 'wan0'"), "mac", "is missing"),
        (LISTED + "config follow 'wan'\n\toption device 'wan0'\n", "device", "needs option interface"),
        (IPV6 + "\toption session 'takeover'\n", "session", "needs option interface"),
        (LISTED + LINE + "\toption session 'steal'\n", "session", "must be dial or takeover"),
        (LISTED + LINE + "\toption device 'br-lan'\n", "device", "is another interface"),
        (LISTED + LINE + "\toption device 'eth1'\n", "device", "is another interface"),
        (LISTED + LINE + "\toption device 'wan'\n", "device", "is another interface"),
        (LISTED.replace("'br-lan'", "'wan'") + LINE, "interface", "is down on every router but the MASTER"),
        (LISTED.replace("'br-lan'", "'wan0'") + LINE, "device", "is another interface"),
        (LISTED + "\tlist track_interface 'wan'\n" + LINE, "track_interface", "its port is tracked anyway"),
        (LISTED + GROUP + LINE, "follow", "this instance is in the group 'G': list it there"),
        (LISTED + LISTED.replace("'lan'", "'b'").replace("51", "52").replace("1.4", "2.4") + LINE, "follow",
         "follows the group 'lan' already"),
        (LISTED.replace("'wan'", "'my wan'"), "follow", "must be the name of a network"),
        (IPV6.replace("@wan", "@lan"), "interface", "names no network with a port"),
        (IPV6.replace("list follow 'wan'\n", "list follow 'wg0'\n").replace(LINE, ""), "interface",
         "names no network with a port"),
        (IPV6 + "\toption mac '02:00:00:00:00:01'\n", "mac", "needs option interface"),
    ],
)  # fmt: skip
def test_errors(text: str, option: str, reason: str) -> None:
    errors = load(text).errors
    assert len(errors) == 1 and errors[0].option == option and reason in errors[0].reason, errors


def test_warnings() -> None:
    warnings = load(LISTED + LINE).warnings
    assert [(found.option, found.reason.split(":")[0]) for found in warnings] == [
        ("follow", "the lease is not told to another router")
    ]
    assert "is not used" in load(INSTANCE + LINE).warnings[0].reason
