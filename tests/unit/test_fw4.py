# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets that OpenWrt's firewall must accept. With a real firewall: tests/netns/test_fw4.py."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.effects import fw4
from tandem.effects.nftables import Shape
from tandem.effects.process import Exit
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


# Answers to our own connections, which conntrack does not know; none that begins a connection.
UNTRACKED = "tcp sport 4000 ct state untracked tcp flags & (syn | ack) != syn"


def test_replication_by_every_path_of_a_peer() -> None:
    assert fw4.rules(config(SYNC)) == (
        'iifname "eth3" ip saddr 10.0.0.3 tcp dport 4000 accept',
        f'iifname "eth3" ip saddr 10.0.0.3 {UNTRACKED} accept',
        'iifname "br-lan" ip6 saddr fe80::3 tcp dport 4000 accept',
        f'iifname "br-lan" ip6 saddr fe80::3 {UNTRACKED} accept',
        "ip saddr 192.168.1.3 fib saddr . iif oif exists tcp dport 4000 accept",
        f"ip saddr 192.168.1.3 fib saddr . iif oif exists {UNTRACKED} accept",
    )


def test_heartbeats_by_every_path_and_segment() -> None:
    secret = SYNC.replace("option insecure '1'", "option secret 'sixteen bytes long'")
    ports = "udp sport 4000 udp dport 4000"
    found = [rule for rule in fw4.rules(config(INSTANCES + secret)) if "udp" in rule]
    assert found == [
        f'iifname "br-lan" ip ttl 255 {ports} accept',
        f'iifname "br-lan" ip6 hoplimit 255 {ports} accept',
        f'iifname "wan" ip saddr 192.168.0.3 {ports} accept',
        f'iifname "eth3" ip saddr 10.0.0.3 {ports} accept',
        f'iifname "br-lan" ip6 saddr fe80::3 {ports} accept',
        f"ip saddr 192.168.1.3 fib saddr . iif oif exists {ports} accept",
    ]
    off = "config globals 'globals'\n\toption heartbeat_interval '0'\n"
    assert not [rule for rule in fw4.rules(config(off + INSTANCES + secret)) if "udp" in rule]


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
    assert script[0] == "flush chain inet fw4 tandem_input" and len(script) == 7
    assert not list(tmp_path.glob("fw4*draft*")) and (tmp_path / fw4.FILE).stat().st_mode & 0o777 == 0o600
    kept.close()
    assert not list(tmp_path.iterdir()) and not log
    nowhere = fw4.Fw4(Loop(), cast(Logger, logger), str(tmp_path / "nowhere"))
    nowhere.let_in(config(SYNC), lambda name: name)
    assert len(log) == 1 and log[0].startswith("cannot write the rules for fw4: ")


# Virtual devices


class Machinery:
    """Fw4 on a kernel that is played: the shape of its table, and the processes that are started."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shape: Shape | None = Shape(1, ((b"input\0", 3),), 7)
        self.started: list[tuple[str, ...]] = []
        self.warnings: list[str] = []
        self._ends: list[Callable[[Exit], None]] = []
        monkeypatch.setattr(fw4, "NFT", "/bin/sh")
        monkeypatch.setattr(fw4, "shape_found", lambda table: self.shape)
        monkeypatch.setattr(fw4, "Processes", lambda *args, **kw: self)
        logger = types.SimpleNamespace(warning=self.warnings.append, limited=self._limited)
        self.fw4 = fw4.Fw4(Loop(), cast(Logger, logger), str(directory))

    def _limited(self, _key: object, _level: str, text: str) -> None:
        self.warnings.append(text)

    def start(self, argv: tuple[str, ...], _timeout: int, on_exit: Callable[[Exit], None]) -> int:
        if fw4._START in argv:
            self.started.append(argv[argv.index(fw4._START) + 2 :])
            self._ends.append(on_exit)
        return 1

    def ends(self, status: int) -> None:
        """The oldest process ends."""
        self._ends.pop(0)(Exit(status, 0))


@pytest.fixture
def machinery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machinery:
    return Machinery(tmp_path, monkeypatch)


VMAC = INSTANCES.replace("\toption virtual_router_id", "\toption use_vmac '1'\n\toption virtual_router_id", 1)


def test_virtual_devices_and_their_interfaces(tmp_path: Path, machinery: Machinery) -> None:
    assert fw4.virtual_devices(config(VMAC)) == {"vrrp.51": "br-lan"}
    assert fw4.virtual_devices(config(VMAC), lambda name: None) == {}
    assert fw4.virtual_devices(config(VMAC.replace("br-lan", 'a"b'))) == {}
    machinery.fw4.let_in(config(VMAC), lambda name: name)
    rules = (tmp_path / fw4.WAITING_FILE).read_text().splitlines()
    assert rules[-1] == 'iifname "vrrp.51" drop' and "established" in rules[0]
    assert machinery.started == [("vrrp.51=br-lan",)]


def test_the_process_runs_until_nothing_is_missing_and_again_when_the_table_changes(
    machinery: Machinery,
) -> None:
    kept = machinery.fw4
    kept.changed()
    assert not machinery.started  # nothing is virtual: nothing is read
    kept.let_in(config(VMAC), lambda name: name)
    machinery.ends(10)  # it has made a copy, and fw4 may have made another table meanwhile
    machinery.ends(0)
    assert len(machinery.started) == 2
    kept.changed()  # a set was filled
    assert len(machinery.started) == 2
    machinery.shape = Shape(1, ((b"input\0", 3),), 99)
    kept.changed()
    kept.changed()  # while it runs: what it has read may be old
    assert len(machinery.started) == 3
    machinery.ends(0)
    machinery.ends(0)
    assert len(machinery.started) == 4
    machinery.shape = None  # fw4 stop
    kept.changed()
    assert len(machinery.started) == 4 and not machinery.warnings


def test_a_process_that_fails_is_told_and_not_tried_for_ever(machinery: Machinery) -> None:
    machinery.fw4.let_in(config(VMAC), lambda name: name)
    machinery.ends(1)
    assert len(machinery.started) == 1
    (warning,) = machinery.warnings
    assert "vrrp.51 may be in no zone" in warning


def test_copies_go_with_the_option(machinery: Machinery) -> None:
    machinery.fw4.let_in(config(VMAC), lambda name: name)
    machinery.ends(0)
    machinery.fw4.let_in(config(INSTANCES), lambda name: name)
    assert machinery.started[1:] == [()]
