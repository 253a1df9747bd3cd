# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor without a network: facts from another router, checks that nothing upsets, the exchange.

That each check finds what it is for is seen in tests/netns/test_doctor.py.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.channel.topics import DATA_MAX
from tandem.doctor import ruleset
from tandem.doctor.checks_pair import compare
from tandem.doctor.checks_router import examine
from tandem.doctor.command import render
from tandem.doctor.exchange import FACTS_MAX, Exchange
from tandem.doctor.facts import (
    ClaimFacts,
    DeviceFacts,
    HeardFacts,
    InstanceFacts,
    LinkFacts,
    RouterFacts,
    RulesetFacts,
    decode,
    encode,
)
from tandem.doctor.finding import Finding
from tandem.effects.process import Exit
from tandem.log import Logger
from tandem.loop import Loop

LAN = InstanceFacts(
    name="lan", interface="br-lan", virtual_router_id=51, addresses=("192.168.1.4/24",), places=("br-lan",),
    state="MASTER", source="192.168.1.2",
)  # fmt: skip
HEARD = HeardFacts("br-lan", 4, "192.168.1.3", 255, 3, ("192.168.1.3",), arrived=3, passed=3, probe=True)
ACTIVE = RouterFacts(
    name="r1", version="1", clock=1000.0, daemon="1", policy="FIFO 50", sync=True, instances=(LAN,),
    devices=(DeviceFacts("br-lan", True, True, 1500, "02:00:00:00:00:01", ("192.168.1.2", "192.168.1.4")),),
    heard=(HEARD,), links=(LinkFacts("r2", True, "", True),),
)  # fmt: skip
BACKUP = replace(
    ACTIVE,
    name="r2",
    instances=(replace(LAN, state="BACKUP", source="192.168.1.3", peer="192.168.1.2", silence_s=0.5),),
    devices=(DeviceFacts("br-lan", True, True, 1500, "02:00:00:00:00:02", ("192.168.1.3",)),),
    heard=(replace(HEARD, source="192.168.1.2"),),
)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 40) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def test_a_healthy_pair() -> None:
    assert examine(ACTIVE) == examine(BACKUP) == compare(ACTIVE, BACKUP) == compare(BACKUP, ACTIVE) == []


def checks(router: RouterFacts) -> set[str]:
    return {finding.check for finding in examine(router)}


def test_what_can_not_be_broken_for_long_in_a_lab() -> None:
    """The daemon mends it at once, or it takes an overloaded machine."""
    lost = replace(ACTIVE.devices[0], addresses=("192.168.1.2",))
    assert checks(replace(ACTIVE, devices=(lost,))) == {"addresses"}
    assert checks(replace(ACTIVE, late_ms=2000.0)) == set()
    assert checks(replace(ACTIVE, late_ms=2001.0)) == {"realtime"}
    assert checks(replace(ACTIVE, policy="OTHER", realtime=False)) == set()
    behind = replace(ACTIVE, links=(LinkFacts("r2", True, "", False),))
    assert checks(behind) == checks(replace(ACTIVE, stale=("r2: behind",))) == {"replication"}
    assert checks(replace(ACTIVE, unkept=("not kept for 3 connections within a minute",))) == {"guarantee"}
    assert checks(replace(ACTIVE, missing=("macvlan (kmod-macvlan)",))) == {"kernel"}
    assert checks(replace(ACTIVE, health=("a bug in the daemon: KeyError",))) == {"health"}
    assert checks(replace(ACTIVE, daemon="", daemon_error="it did not answer")) == {"daemon"}


def test_a_stranger_that_is_ignored() -> None:
    claimed = replace(LAN, stranger="192.168.1.66 (priority 255)", strangers_ignored=7)
    text = found(replace(ACTIVE, instances=(claimed,)))
    assert list(text) == ["stranger"]
    assert (
        "lan: 192.168.1.66 (priority 255) sends adverts and is no Tandem peer; 7 were ignored"
        in text["stranger"]
    )
    assert "allow_src" in text["stranger"]


def test_versions_that_differ() -> None:
    (finding,) = compare(ACTIVE, replace(BACKUP, version="2"))
    assert finding.check == "version" and "r1 has tandem 1, r2 2" in finding.what


def test_a_lan_without_a_way_between_the_routers() -> None:
    (finding,) = compare(replace(ACTIVE, heard=()), replace(BACKUP, heard=()))
    assert finding.check == "hearing" and "neither router hears the other" in finding.what


def test_a_backup_that_advertises_itself() -> None:
    """The provider's router and other strangers may."""
    heard = (ClaimFacts("br-lan", "", "fe80::3"), ClaimFacts("br-lan", "", "fe80::9"))
    (device, *devices) = BACKUP.devices
    backup = replace(BACKUP, devices=(replace(device, addresses=(*device.addresses, "fe80::3")), *devices))
    active = replace(ACTIVE, advertisements=heard, offers6=heard)
    for found in (compare(active, backup), compare(backup, active)):
        assert [finding.check for finding in found] == ["ra", "dhcpv6"]
        assert found[0].what.startswith("r2 is BACKUP and sends router advertisements on br-lan (fe80::3)")
        assert "tandem init" in found[0].advice


def test_facts_travel_unchanged() -> None:
    everything = replace(
        ACTIVE,
        claims=(ClaimFacts("br-lan", "192.168.1.4", "02:00:00:00:00:09"),),
        offers=(ClaimFacts("br-lan", "", "192.168.1.3"),),
        advertisements=(ClaimFacts("br-lan", "", "fe80::3"),),
        offers6=(ClaimFacts("br-lan", "", "fe80::3"),),
        ruleset=RulesetFacts(True, True, True, ("192.168.0.4",), ("ip x y",), ("wan",), ("wan0 input_wan",)),
        config_errors=("an error",),
    )
    assert decode(encode(everything)) == everything


def test_what_another_version_does_not_say_has_its_default() -> None:
    """An old router says less: what its silence means is as much a format as what it says."""
    text = json.dumps({"instances": [{}], "devices": [{}], "heard": [{}]})
    found = decode(zlib.compress(text.encode()))
    [instance], [device], [heard] = found.instances, found.devices, found.heard
    assert (instance.family, instance.virtual_router_id, instance.version) == (4, 0, 2)
    assert (instance.priority, instance.advert_int_cs, instance.preempt) == (100, 100, True)
    assert (instance.silence_s, instance.strangers_ignored) == (0, 0)
    assert (device.mtu, device.rp_filter, device.arp_ignore) == (0, 0, 0)
    assert (heard.family, heard.virtual_router_id, heard.version) == (4, 0, 0)
    assert (heard.arrived, heard.passed) == (0, 0)


@given(st.binary(max_size=200) | _JSON.map(lambda value: zlib.compress(json.dumps(value).encode())))
def test_what_is_no_facts_is_refused_or_empty(data: bytes) -> None:
    try:
        found = decode(data)
    except ValueError:
        return
    examine(found)


@given(st.data())
def test_facts_of_another_version_upset_no_check(data: st.DataObject) -> None:
    """Any member may be missing, or be something else; what is understood is checked."""
    plain = json.loads(json.dumps(asdict(BACKUP)))
    for place in (plain, plain["instances"][0], plain["devices"][0], plain["heard"][0], plain["ruleset"]):
        for name in data.draw(st.lists(st.sampled_from(sorted(place)), max_size=3)):
            place[name] = data.draw(_JSON)
    found = decode(zlib.compress(json.dumps(plain | {"new": 1}).encode()))
    findings = examine(found) + compare(ACTIVE, found) + compare(found, ACTIVE)
    assert render(findings, ["x"]).isprintable() or "\n" in render(findings, ["x"])


def test_facts_that_unpack_to_very_much() -> None:
    with pytest.raises(ValueError, match="no facts"):
        decode(zlib.compress(b" " * 50_000_000 + b"{}"))


def test_text_for_people() -> None:
    text = render([Finding("x", "what is\x1b[2J wrong", "do this", "r1"), Finding("y", "z", "w")], ["a note"])
    assert text.splitlines()[0].startswith("r1: what is") and "\x1b" not in text
    assert "    -> do this" in text and "note: a note" in text
    assert render([], []) == "nothing is wrong\n"


# nft's JSON


def rule(chain: str, *statements: dict[str, Any], table: str = "fw4") -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": table, "chain": chain, "expr": [*statements]}}


def base(name: str, priority: int, kind: str = "nat", table: str = "fw4") -> dict[str, Any]:
    chain = {
        "family": "inet",
        "table": table,
        "name": name,
        "type": kind,
        "hook": "postrouting",
        "prio": priority,
    }
    return {"chain": chain}


def test_masquerading_is_found_behind_jumps_and_in_sets() -> None:
    out = {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": {"set": ["wan", "wan6"]}}}
    not_out = {"match": out["match"] | {"op": "!=", "right": "lan"}}
    facts = ruleset.summary([
        {"metainfo": {}}, {"table": {"family": "inet", "name": "fw4"}},
        base("srcnat", 100), rule("srcnat", out, {"jump": {"target": "a"}}),
        rule("a", {"jump": {"target": "b"}}),
        rule("b", {"masquerade": None}), rule("srcnat", not_out, {"masquerade": {}}),
        base("early", 50, table="mine"), rule("early", {"snat": {"addr": "192.0.2.1"}}, table="mine"),
        base("harmless", 50, table="mine"), rule("harmless", {"accept": None}, table="mine"),
        rule("postrouting", out, {"snat": {"addr": "192.168.0.4"}}, table="tandem"),
    ])  # fmt: skip
    assert facts.masquerading == ("wan", "wan6") and facts.early_nat == ("inet mine early",)
    assert facts.snat == ("192.168.0.4",) and facts.fw4 and not facts.included


def test_chains_that_jump_in_a_circle_come_to_an_end() -> None:
    jump = rule("a", {"jump": {"target": "a"}})
    assert ruleset.summary([base("a", 100), jump, jump]).masquerading == ()


# The exchange


class Channel:
    """Two daemons' exchanges, wired to each other; what they send is kept."""

    def __init__(self, directory: Path) -> None:
        self.sent: list[tuple[str, bytes]] = []
        log = cast(Logger, type("Log", (), {"limited": lambda *_: None})())
        self.loop = Loop()
        to_other = self._wire("one", lambda data: self.other.received("one", data))
        to_one = self._wire("other", lambda data: self.one.received("other", data))
        self.one = Exchange(self.loop, log, to_other, "/pkg", "/conf", str(directory / "one.sock"))
        self.other = Exchange(self.loop, log, to_one, "/pkg", "/conf", str(directory / "other.sock"))
        self.one.peer_opened("other")
        self.other.peer_opened("one")

    def _wire(self, name: str, deliver: Callable[[bytes], None]) -> Callable[[str, bytes], bool]:
        def send(peer: str, data: bytes) -> bool:
            assert len(data) <= DATA_MAX
            self.sent.append((name, data))
            deliver(data)
            return True

        return send

    def collected(self, facts: bytes, path: str = "other.sock.facts") -> None:
        """The other one's child has ended."""
        Path(self.other._path).write_bytes(facts)
        self.other._collected(Exit(0, 1))


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path)


@pytest.mark.parametrize("size", [0, 1, DATA_MAX - 64, DATA_MAX, 100_000, FACTS_MAX])
def test_facts_arrive_whole(channel: Channel, size: int) -> None:
    replies: list[Any] = []
    channel.one.examine("4", replies.append)
    assert channel.sent == [("one", b"?4")] and not replies
    facts = bytes(range(256)) * (size // 256) + bytes(size % 256)
    channel.collected(facts)
    ((reply),) = replies
    ahead, packed = reply["result"]["other"]
    assert bytes.fromhex(packed) == facts and abs(ahead) < 5
    assert not Path(channel.other._path).exists()


def test_more_than_may_be_is_given_up(channel: Channel) -> None:
    replies: list[Any] = []
    channel.one.examine("4", replies.append)
    for _ in range(FACTS_MAX // DATA_MAX + 2):
        channel.one.received("other", b"+" + bytes(DATA_MAX - 1))
    assert replies == [{"ok": True, "result": {}}]


def test_nobody_there_and_a_peer_that_goes(channel: Channel) -> None:
    replies: list[Any] = []
    channel.one.examine("4", replies.append)
    channel.one.examine("4", replies.append)  # both get the one answer
    channel.one.peer_closed("other")
    channel.one.examine("4", replies.append)
    assert replies == [{"ok": True, "result": {}}] * 3
    channel.one.received("other", b"." + bytes(8) + b"late")
    channel.one.received("other", b"")
    channel.one.received("stranger", b"+x")


@pytest.mark.parametrize(
    ("asked", "listens"), [(b"7", "7"), (b"31", "4"), (b"-1", "4"), (b"", "4"), (b"9" * 999, "4")]
)
def test_a_peer_can_not_make_it_listen_for_long(channel: Channel, asked: bytes, listens: str) -> None:
    channel.other.received("one", b"?" + asked)
    channel.other.received("one", b"?5")  # it has asked already
    assert channel.other._seconds == listens and channel.other._askers == ["one"]


def test_nothing_is_started_after_the_end(channel: Channel) -> None:
    channel.other.received("one", b"?1")
    channel.other.close()
    channel.other.received("two", b"?1")
    assert channel.other._processes is None and channel.other._askers == ["one"]


# Findings that keep a router from its job without a fault


def found(router: RouterFacts) -> dict[str, str]:
    """The findings of each check, with its advice."""
    return {finding.check: f"{finding.what} -> {finding.advice}" for finding in examine(router)}


def test_a_router_that_is_not_set_up() -> None:
    """The shipped example names devices and addresses that nobody wanted: only what to do is told."""
    broken = replace(ACTIVE, daemon="", devices=(), forwarding4=False, missing=("macvlan",), boot="no")
    findings = found(replace(broken, enabled=False))
    assert list(findings) == ["daemon"] and "not set up" in findings["daemon"]
    assert "tandem init" in findings["daemon"]
    assert {"boot", "daemon", "kernel", "forwarding"} <= found(broken).keys()
    assert "does not run" in found(broken)["daemon"]


def test_a_service_that_is_disabled() -> None:
    """A disabled service may run all the same, until the next boot."""
    findings = found(replace(ACTIVE, boot="no"))
    assert list(findings) == ["boot"] and "/etc/init.d/tandem enable" in findings["boot"]
    assert found(replace(ACTIVE, boot="yes")) == found(replace(ACTIVE, boot="")) == {}


def test_standby_is_told_with_the_way_out_of_it() -> None:
    fault = replace(ACTIVE.instances[0], state="FAULT", faults=("standby",))
    findings = found(replace(ACTIVE, standby=("G1",), instances=(fault,)))
    assert list(findings) == ["standby"] and "tandem resume G1" in findings["standby"]
    fault = replace(fault, faults=("interface br-lan", "standby"))
    assert found(replace(ACTIVE, standby=("G1",), instances=(fault,))).keys() == {"standby", "fault"}


def jump(chain: str, *devices: str) -> dict[str, Any]:
    """A rule of fw4 as `nft --json` shows it."""
    right = {"set": list(devices)} if len(devices) > 1 else devices[0]
    match = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": right}}
    rule = {"family": "inet", "table": "fw4", "chain": "input", "expr": [match, {"jump": {"target": chain}}]}
    return {"rule": rule}


def test_a_virtual_device_outside_of_the_zone_of_its_interface() -> None:
    vmac = (replace(LAN, vmac="vrrp.51", places=("vrrp.51",), state="BACKUP"),)
    items: list[Any] = [{"table": {"family": "inet", "name": "fw4"}}, jump("input_lan", "br-lan", "wg0")]
    router = replace(ACTIVE, instances=vmac, ruleset=replace(ruleset.summary(items), included=True))
    assert list(found(router)) == ["zone"] and "vrrp.51" in found(router)["zone"]
    items.append(jump("input_lan", "vrrp.51"))
    assert found(replace(router, ruleset=replace(ruleset.summary(items), included=True))) == {}
    # No zone at all: fw4 treats both alike.
    items = [items[0], jump("input_wan", "wan")]
    assert found(replace(router, ruleset=replace(ruleset.summary(items), included=True))) == {}
