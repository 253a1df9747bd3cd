# SPDX-License-Identifier: GPL-2.0-or-later
"""`config internet`: what it makes, and what is wrong with it."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import load_text
from tandem.config.schema import Internet
from tandem.core.settings import Track

CHECKS = "".join(
    f"config check '{name}'\n\toption kind 'ping'\n\toption host '192.0.2.{number}'\n"
    for number, name in enumerate(("a", "b"), 1)
)
TEXT = f"""
config vrrp_instance 'lan'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
	list track_internet 'uplink'

config internet 'uplink'
	list check 'a b'
	option network 'wan'

{CHECKS}"""


def test_a_way_out() -> None:
    loaded = load_text(TEXT, "f")
    assert loaded.config is not None and not loaded.warnings
    assert loaded.config.internets == (Internet("uplink", ("a", "b"), network="wan"),)
    assert loaded.config.instances[0].tracks == (Track("internet", "uplink", -50),)
    assert load_text(render(loaded.config), "f").config == loaded.config


def test_all_of_it() -> None:
    more = "\toption policy 'all'\n\toption settle '2.5'\n\toption memory '60'\n\toption weight '-20'\n"
    config = load_text(TEXT.replace("\toption network 'wan'\n", more), "f").config
    assert config is not None
    assert config.internets == (Internet("uplink", ("a", "b"), "all", "", 2500, 60000),)
    assert config.instances[0].tracks == (Track("internet", "uplink", -20),)
    assert load_text(render(config), "f").config == config


@pytest.mark.parametrize(
    ("change", "option", "reason"),
    [
        (("'uplink'\n\n", "'uplonk'\n\n"), "track_internet", "there is no internet section 'uplonk'"),
        (("'uplink'\n\n", "'uplink weight 0'\n\n"), "track_internet", "no router would stay MASTER"),
        (("list check 'a b'", "list check 'c'"), "check", "there is no check of this name"),
        (("\tlist check 'a b'\n", ""), "check", "is missing"),
        (("option network 'wan'", "option policy 'most'"), "policy", "must be any or all"),
    ],
)
def test_errors(change: tuple[str, str], option: str, reason: str) -> None:
    found = load_text(TEXT.replace(*change), "f").errors
    assert [error.option for error in found] == [option] and reason in found[0].reason, found


def test_one_that_nobody_tracks() -> None:
    warnings = load_text(TEXT.replace("\tlist track_internet 'uplink'\n", ""), "f").warnings
    assert ["is not used" in warning.reason for warning in warnings] == [True]


def test_a_weight_that_moves_nothing() -> None:
    fixed = TEXT.replace("\tlist track_internet", "\toption nopreempt '1'\n\tlist track_internet")
    assert "moves nothing" in load_text(fixed, "f").warnings[0].reason
