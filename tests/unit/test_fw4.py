# SPDX-License-Identifier: GPL-2.0-or-later
"""What OpenWrt's firewall is told to let in. On a real one: tests/netns/test_fw4.py."""

from __future__ import annotations

import types
from pathlib import Path
from typing import cast

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.effects import fw4
from tandem.log import Logger
from tandem.loop import Loop

INSTANCES = """
config vrrp_instance 'I1'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'

config vrrp_instance 'I6'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress 'fe80::4/64'

config vrrp_instance 'E1'
	option interface 'wan'
	option virtual_router_id '51'
	list unicast_peer '192.168.0.3'
	list virtual_ipaddress '192.168.0.4/24'
"""
SYNC = """
config peer 'r2'
	list address '10.0.0.3 dev eth3'
	list address 'fe80::3%br-lan'
	list address '192.168.1.3'

config conntrack_sync
	option port '4000'
	option insecure '1'
	list peer 'r2'
"""


def config(text: str) -> Config:
    loaded = load_text(text, "test")
    assert loaded.config, loaded.errors
    return loaded.config


def test_adverts_by_the_interface_of_their_instance() -> None:
    assert fw4.rules(config(INSTANCES)) == (
        'iifname "br-lan" ip daddr 224.0.0.18 ip ttl 255 meta l4proto 112 accept',
        'iifname "br-lan" ip6 daddr ff02::12 ip6 hoplimit 255 meta l4proto 112 accept',
        'iifname "wan" ip saddr 192.168.0.3 meta l4proto 112 accept',
    )


def test_replication_by_every_path_of_a_peer() -> None:
    assert fw4.rules(config(SYNC)) == (
        'iifname "eth3" ip saddr 10.0.0.3 tcp dport 4000 accept',
        'iifname "br-lan" ip6 saddr fe80::3 tcp dport 4000 accept',
        "ip saddr 192.168.1.3 tcp dport 4000 fib saddr . iif oif exists accept",
    )


def test_nothing_while_disabled_and_nothing_twice() -> None:
    assert fw4.rules(config("config globals 'globals'\n\toption enabled '0'\n" + INSTANCES)) == ()
    second = INSTANCES.replace("I1", "I2").replace("'51'", "'52'").replace(".4/24", ".5/24")
    only_first = second[: second.index("config vrrp_instance 'I6'")]
    assert len(fw4.rules(config(INSTANCES + only_first))) == 3


def test_no_rule_for_a_device_that_nft_takes_for_a_pattern() -> None:
    for name in ("*", "wan*", 'a"b', "a\\"):
        text = INSTANCES.replace("'br-lan'", f"'{name}'")
        assert all("wan" in rule for rule in fw4.rules(config(text))), name


def test_networks_of_openwrt_stand_for_devices() -> None:
    text = INSTANCES.replace("'br-lan'", "'lan'").replace("'wan'", "'wan6'")
    devices = {"lan": "br-lan", "wan6": None}
    found = fw4.rules(config(text), lambda name: devices.get(name, name))
    assert len(found) == 2 and all(rule.startswith('iifname "br-lan"') for rule in found)


def test_file_and_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fw4, "NFT", "/nowhere/nft")
    log: list[str] = []
    logger = types.SimpleNamespace(warning=log.append)
    kept = fw4.Fw4(Loop(), cast(Logger, logger), str(tmp_path))
    for text in (INSTANCES, SYNC):
        kept.let_in(config(text), lambda name: name)
        assert (tmp_path / fw4.FILE).read_text().splitlines() == list(fw4.rules(config(text)))
    script = (tmp_path / ".fw4-now").read_text().splitlines()
    assert script[0] == "flush chain inet fw4 tandem_input" and len(script) == 4
    assert not list(tmp_path.glob("fw4*draft*")) and (tmp_path / fw4.FILE).stat().st_mode & 0o777 == 0o600
    kept.close()
    assert not list(tmp_path.iterdir()) and not log
    nowhere = fw4.Fw4(Loop(), cast(Logger, logger), str(tmp_path / "nowhere"))
    nowhere.let_in(config(SYNC), lambda name: name)
    assert len(log) == 1 and log[0].startswith("no rules for fw4: ")
