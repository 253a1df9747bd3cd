# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's checks one by one: a healthy router, one thing that is wrong with it, and all that is found.

Each change is made to a pair that has nothing wrong, so that a finding is caused by nothing else.
"""

# ruff: noqa: E501

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import pytest

from tandem.doctor import facts, ruleset
from tandem.doctor.checks_pair import compare
from tandem.doctor.checks_router import examine
from tandem.doctor.facts import (
    ClaimFacts,
    FollowFacts,
    HeardFacts,
    InstanceFacts,
    LinkFacts,
    RouterFacts,
    RulesetFacts,
)
from tests.unit.test_doctor import ACTIVE, BACKUP, HEARD, LAN, base, rule

DEVICE = ACTIVE.devices[0]
V6 = replace(LAN, name="lan6", family=6, addresses=(), places=(), source="fe80::2")


def one(**changes: Any) -> RouterFacts:
    """The active router, changed."""
    return replace(ACTIVE, **changes)


def instance(**changes: Any) -> RouterFacts:
    """The active router with a changed instance."""
    return one(instances=(replace(LAN, **changes),))


def backup(**changes: Any) -> RouterFacts:
    """The backup with a changed instance."""
    return replace(BACKUP, instances=(replace(BACKUP.instances[0], **changes),))


def rules(**changes: Any) -> RulesetFacts:
    return replace(RulesetFacts(readable=True), **changes)


def heard(**changes: Any) -> RouterFacts:
    """The active router, which hears one thing beside its peer."""
    return one(
        heard=(HEARD, replace(HEARD, source="192.168.1.9", virtual_router_id=51, probe=False, **changes))
    )


FOLLOW = FollowFacts(
    "wan",
    "wan0",
    "02:1a:2b:3c:4d:5e",
    "away",
    known=True,
    placed="wan0",
    proto="dhcp",
    clientid="ab",
    hostname="gateway",
    auto=True,
)


def follow(router: RouterFacts = ACTIVE, **changes: Any) -> RouterFacts:
    """A router with a network that follows the role, changed."""
    return replace(router, follows=(replace(FOLLOW, **changes),))


ONE = [
    (follow(), []),
    (follow(placed="eth1"), [("follow", "network wan is on eth1, so that a backup speaks on the line too")]),
    (follow(placed=""), [("follow", "there is no network wan in /etc/config/network")]),
    (follow(placed="", known=False), []),
    (follow(present=True), [("follow", "wan0 exists although the role is elsewhere: this router speaks on the line too")]),
    (follow(present=True, state="bound"), []),
    (follow(held=False), [("follow", "no network holds the port of wan: netifd sets the port down for a moment at a takeover")]),
    (follow(device="", mac=""), [("follow", "network wan comes up at boot, before the role is known")]),
    (follow(device="", mac="", auto=False), []),
    (follow(same_mac=("eth1",)), [("follow", "eth1 has the MAC address of network wan (02:1a:2b:3c:4d:5e) as well")]),
    (follow(device="wan0", parent="wan", placed="@wan", mac=""), []),
    (follow(unfollowed=("wan6",)), [("follow", "the other router does not know the IPv6 lease of wan6: after a takeover its hosts have no IPv6 until the provider has answered")]),
    (follow(session="takeover", proto="pppoe"), []),
    (follow(session="takeover"), [("follow", "network wan has no session that could be taken over: it has proto dhcp")]),
    (follow(problem="no room"), [("follow", "network wan: no room")]),
    (replace(follow(), ruleset=rules(fw4=True, included=True, zones=("br-lan input_lan", "wan0 input_wan"))), []),
    (replace(follow(), ruleset=rules(fw4=True, included=True, zones=("br-lan input_lan",))), [("follow", "no zone of the firewall names wan0: after a takeover the firewall lets nothing out by it until it has been reloaded")]),
    (replace(follow(proto="pppoe", seen="pppoe-wan"), ruleset=rules(fw4=True, included=True, zones=("pppoe-wan input_wan",))), []),
    (replace(follow(proto="pppoe", seen="pppoe-wan"), ruleset=rules(fw4=True, included=True, zones=("wan0 input_wan",))), [("follow", "no zone of the firewall names pppoe-wan: after a takeover the firewall lets nothing out by it until it has been reloaded")]),
    (replace(follow(state="bound"), ruleset=rules(fw4=True, included=True, zones=("br-lan input_lan",))), []),
    (one(enabled=False, daemon="", config_file="/etc/config/tandem"), [("daemon", "tandem is not set up here: /etc/config/tandem has option enabled '0'")]),
    (one(daemon=""), [("daemon", "tandemd does not run")]),
    (one(daemon="", daemon_error="it did not answer"), [("daemon", "it did not answer")]),
    (one(boot="no"), [("boot", "the service is disabled: tandemd does not start when this router boots")]),
    (one(boot="yes"), []),
    (one(standby=("G", "H")), [("standby", f"{name} is in standby by command: this router never takes over") for name in "GH"]),
    (one(health=("a bug",)), [("health", "a bug")]),
    (one(config_errors=("line 3", "line 4")), [("configuration", "line 3"), ("configuration", "line 4")]),
    (one(edited=True, config_file="/etc/config/tandem"), [("reload", "/etc/config/tandem was changed, and the daemon does not run with it yet")]),
    (instance(faults=("standby",)), []),
    (instance(faults=("link", "standby", "script s")), [("fault", "lan can't take its addresses: link, script s")]),
    (one(missing=("macvlan",)), [("kernel", "the kernel lacks macvlan")]),
    (one(forwarding4=False), [("forwarding", "IPv4 packets are not forwarded (net.ipv4.ip_forward is 0)")]),
    (one(forwarding6=False), []),
    (one(forwarding6=False, instances=(LAN, V6)), [("forwarding", "IPv6 packets are not forwarded (net.ipv6.conf.all.forwarding is 0)")]),
    (one(policy="OTHER"), [("realtime", "the daemon has no real-time priority (it is scheduled as OTHER): under load it may be taken for dead")]),
    (one(policy="OTHER", realtime=False), []),
    (one(policy=""), []),
    (one(late_ms=1000.0), []),
    (one(late_ms=2000.5), [("realtime", "the daemon was once 2000 ms late, longer than two of its shortest advert_int: an active router is taken for dead then")]),
    (one(late_ms=2000.0), []),
    (one(late_ms=1001.0, instances=(LAN, replace(V6, advert_int_cs=50))), [("realtime", "the daemon was once 1001 ms late, longer than two of its shortest advert_int: an active router is taken for dead then")]),
    (one(late_ms=1e6, instances=()), []),
    (instance(addresses=("192.168.1.7/24",)), [("addresses", "lan is MASTER, but 192.168.1.7/24 is not on br-lan")]),
    (instance(state="BACKUP"), [("addresses", "lan is BACKUP, but 192.168.1.4/24 is on br-lan")]),
    (instance(state="BACKUP", priority=255), []),
    (instance(state="FAULT"), []),
    (one(claims=(ClaimFacts("br-lan", "192.168.1.4", "02:00:00:00:00:09"),)), [("address_clash", "another host on br-lan answers for 192.168.1.4: 02:00:00:00:00:09")]),
    (backup(silence_s=2.2), []),
    (backup(silence_s=2.21), [("silence", "lan: the last advert of 192.168.1.2 is 2.2 s old, one is due every 1 s")]),
    (backup(silence_s=9.0, peer=""), []),
    (instance(silence_s=9.0, peer="192.168.1.3"), []),
    (heard(dropped="a wrong password", addresses=()), [("adverts_refused", "lan refuses the adverts of 192.168.1.9: a wrong password")]),
    (heard(dropped="a wrong password", addresses=("192.168.1.4",)), [("adverts_refused", "lan refuses the adverts of 192.168.1.9: a wrong password")]),
    (heard(dropped="other addresses", addresses=("10.0.0.1", "10.0.0.2")), [("vrid_clash", "192.168.1.9 on br-lan uses virtual router id 51, that of lan, for other addresses: 10.0.0.1, 10.0.0.2")]),
    (heard(dropped=""), []),
    (one(heard=(HEARD, replace(HEARD, virtual_router_id=51, dropped="x"))), []),
    (one(heard=(HEARD, replace(HEARD, virtual_router_id=52, dropped="x", probe=False))), []),
    (instance(stranger="192.168.1.66 (priority 9)", strangers_ignored=7), [("stranger", "lan: 192.168.1.66 (priority 9) sends adverts and is no Tandem peer; 7 were ignored")]),
    (heard(passed=0), [("firewall", "adverts of 192.168.1.9 arrive at br-lan, but the firewall drops them")]),
    (one(heard=(replace(HEARD, passed=0), replace(HEARD, passed=0, source="192.168.1.8"))), [("firewall", "adverts of 192.168.1.3 arrive at br-lan, but the firewall drops them")]),
    (heard(arrived=0, passed=0), []),
    (replace(heard(passed=0, way="wan"), devices=(replace(DEVICE, rp_filter=1),)), [("rp_filter", "br-lan drops the adverts of 192.168.1.9: rp_filter is 1, and this router would send to it by wan")]),
    (replace(heard(passed=0, way="wan"), devices=(replace(DEVICE, rp_filter=2),)), [("firewall", "adverts of 192.168.1.9 arrive at br-lan, but the firewall drops them")]),
    (replace(heard(passed=0, way="br-lan"), devices=(replace(DEVICE, rp_filter=1),)), [("firewall", "adverts of 192.168.1.9 arrive at br-lan, but the firewall drops them")]),
    (replace(heard(passed=0, way=""), devices=(replace(DEVICE, rp_filter=1),)), [("firewall", "adverts of 192.168.1.9 arrive at br-lan, but the firewall drops them")]),
    (replace(heard(passed=0, way="wan", family=6), devices=(replace(DEVICE, rp_filter=1),)), [("firewall", "adverts of 192.168.1.9 arrive at br-lan, but the firewall drops them")]),
    (one(ruleset=rules(fw4=True)), [("fw4", "fw4 is loaded without the rules that let adverts and replication in")]),
    (one(ruleset=rules(fw4=True, included=True)), []),
    (one(ruleset=rules(included=False)), []),
    (replace(instance(snat="192.168.1.4"), ruleset=rules()), [("snat", "lan is MASTER, but nothing translates to 192.168.1.4: Tandem's nftables table was removed")]),
    (replace(instance(snat="192.168.1.4"), ruleset=rules(snat=("192.168.1.4",))), []),
    (replace(instance(snat="192.168.1.4"), ruleset=RulesetFacts()), []),
    (replace(backup(snat="192.168.1.4"), ruleset=rules()), []),
    (replace(backup(snat="192.168.1.4"), ruleset=rules(early_nat=("inet a b",))), [("masquerade", "the nftables chain inet a b translates before Tandem does, so connections leave with the router's own address and end with it")]),
    (one(ruleset=rules(early_nat=("inet a b",))), []),
    (one(ruleset=rules(masquerading=("br-lan",))), [("masquerade", "lan: connections that leave by br-lan are masqueraded to the router's own address, not to a virtual one, and do not survive a takeover")]),
    (one(ruleset=rules(masquerading=("br-lan",)), sync=False), []),
    (one(ruleset=rules(masquerading=("wan",))), []),
    (replace(instance(family=6), ruleset=rules(masquerading=("br-lan",)), heard=()), []),
    (replace(backup(snat="192.168.1.4"), ruleset=rules(masquerading=("br-lan",))), []),
    (one(devices=(replace(DEVICE, arp_ignore=8),)), [("arp", "br-lan answers no ARP request at all (arp_ignore is 8)")]),
    (one(devices=(replace(DEVICE, arp_ignore=7),)), []),
    (one(links=(LinkFacts("r2", False, ""),)), [("replication", "connections are not replicated: r2 is not connected")]),
    (one(links=(LinkFacts("r2", False, "magic"),)), [("replication", "connections are not replicated: r2 is not connected (magic)")]),
    (one(links=(LinkFacts("r2", True, "", False),)), [("replication", "r2 does not have all connections (yet)")]),
    (one(stale=("x",)), [("replication", "connections: x")]),
    (one(stale=("x",), links=(LinkFacts("r2", True, "", False),)), [("replication", "r2 does not have all connections (yet)")]),
    (one(stale=("x",), links=(LinkFacts("r2", False, "", True),)), [("replication", "connections are not replicated: r2 is not connected")]),
    (one(unkept=("x",)), [("guarantee", "option guarantee does not hold: x")]),
]  # fmt: skip


@pytest.mark.parametrize(("router", "expected"), ONE)
def test_one_router(router: RouterFacts, expected: list[tuple[str, str]]) -> None:
    assert [(finding.check, finding.what) for finding in examine(router)] == expected


def test_every_finding_says_what_to_do_and_where() -> None:
    findings = [finding for router, _ in ONE for finding in examine(router)]
    assert all(finding.advice and finding.router in ("r1", "r2") for finding in findings)


def _advice(router: RouterFacts) -> list[str]:
    return [finding.advice for finding in examine(router)]


def test_advice_for_a_firewall() -> None:
    fw4 = _advice(replace(heard(passed=0), ruleset=rules(fw4=True)))
    assert fw4[0].startswith("make fw4 load Tandem's rules")
    for readable in (rules(fw4=True, included=True), rules()):
        assert _advice(replace(heard(passed=0), ruleset=readable)) == [
            "accept protocol 112 there, from the other router"
        ]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("authentication", "the same secret"), ("unknown_key", "the same secret"), ("insecure", "the same secret"),
        ("refused", "turned this one away"), ("self", "names this router itself"), ("version", "the same version"),
        ("magic", "another one, on both"), ("Connection refused", ""), ("", ""),
    ],
)  # fmt: skip
def test_advice_for_a_link_that_is_down(error: str, advice: str) -> None:
    (found,) = _advice(one(links=(LinkFacts("r2", False, error),)))
    assert found and advice in found


def pair(other: RouterFacts, active: RouterFacts = ACTIVE) -> list[tuple[str, str]]:
    return [(finding.check, finding.what) for finding in compare(active, other)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"virtual_router_id": 52}, "virtual_router_id is 51 on r1 and 52 on r2"),
        ({"family": 6}, "address family is IPv4 on r1 and IPv6 on r2"),
        ({"version": 3}, "version is 2 on r1 and 3 on r2"),
        ({"addresses": ("10.0.0.2", "10.0.0.1")}, "virtual_ipaddress is 192.168.1.4/24 on r1 and 10.0.0.1 10.0.0.2 on r2"),
        ({"addresses": ()}, "virtual_ipaddress is 192.168.1.4/24 on r1 and none on r2"),
        ({"advert_int_cs": 150}, "advert_int is 1 on r1 and 1.5 on r2"),
        ({"auth": "x"}, "auth_pass is not set on r1 and set on r2"),
        ({"unicast": ("192.168.1.2",)}, "unicast_peer is not used on r1 and used on r2"),
        ({"preempt": False}, "preempt is 1 on r1 and 0 (nopreempt) on r2"),
        ({"group": "G"}, "vrrp_sync_group is none on r1 and G on r2"),
        ({"use_vmac": True}, "use_vmac is 0 on r1 and 1 on r2"),
        ({"dhcp": True}, "dhcp is 0 on r1 and 1 on r2"),
        ({"snat": "192.168.1.4"}, "snat is none on r1 and 192.168.1.4 on r2"),
    ],
)  # fmt: skip
def test_options_that_differ(changes: dict[str, Any], told: str) -> None:
    found = [finding for finding in compare(ACTIVE, backup(**changes)) if finding.check == "unequal"]
    assert [finding.what for finding in found] == [f"lan: {told}"]
    option = told.partition(" is ")[0]
    assert found[0].advice == f"make {option} alike on both routers, then reload both"


def test_options_that_may_differ() -> None:
    assert pair(backup(priority=90, addresses=("192.168.1.4/24",))) == []
    two = ("192.168.1.4/24", "192.168.1.5/24")
    assert [check for check, _ in pair(backup(addresses=two[::-1]), instance(addresses=two))] == []
    unicast = [("192.168.1.3",), ("192.168.1.2",)]
    assert pair(backup(unicast=unicast[1]), instance(unicast=unicast[0])) == []


def test_passwords_that_differ_are_not_shown() -> None:
    assert pair(backup(auth="b"), instance(auth="a")) == [("unequal", "lan: auth_pass differs")]


def test_an_instance_that_one_lacks() -> None:
    more = (*BACKUP.instances, replace(V6, name="wan"))
    expected = [("unequal", "r2 has the instance wan, r1 does not")]
    assert pair(replace(BACKUP, instances=more)) == expected == pair(ACTIVE, replace(BACKUP, instances=more))
    for broken in (replace(BACKUP, instances=more, config_errors=("x",)), replace(BACKUP, instances=())):
        assert pair(replace(broken, config_errors=("x",))) == pair(one(config_errors=("x",)), broken) == []


@pytest.mark.parametrize(
    ("ahead", "told"), [(5.0, None), (5.5, "6 s ahead of"), (-5.0, None), (-7.0, "7 s behind")]
)
def test_clocks(ahead: float, told: str | None) -> None:
    found = pair(replace(BACKUP, clock=1000.0 + ahead))
    assert found == (
        [("clock", f"the clock of r2 is {told} that of r1: leases and logs do not fit together")]
        if told
        else []
    )


def test_options_of_replication() -> None:
    mine, theirs = (
        one(sync_options=("port 1", "local 0", "tcp_state A B")),
        ("port 2", "local 0", "tcp_state A C", "new 1"),
    )
    assert [what.partition(":")[2] for check, what in pair(replace(BACKUP, sync_options=theirs), mine)] == [
        " port is 1 on r1 and 2 on r2: which connections live on depends on who takes over",
        " tcp_state is A B on r1 and A C on r2: which connections live on depends on who takes over",
    ]


def test_mtus() -> None:
    def sized(router: RouterFacts, mtu: int) -> RouterFacts:
        return replace(router, devices=(replace(router.devices[0], mtu=mtu),))

    small = sized(BACKUP, 1400)
    assert pair(small) == [
        ("mtu", "the MTU of br-lan is 1500 on r1, that of br-lan is 1400 on r2: large packets of a connection may stop at the takeover")
    ]  # fmt: skip
    two = (replace(LAN, name="b"), LAN)
    twice = replace(
        small, instances=tuple(replace(item, state="BACKUP", source="192.168.1.3") for item in two)
    )
    assert [check for check, _ in pair(twice, one(instances=two))] == ["mtu"]
    assert pair(sized(BACKUP, 0)) == pair(small, sized(ACTIVE, 0)) == []


def test_roles() -> None:
    assert [check for check, _ in pair(backup(state="MASTER"))] == ["two_masters"]
    assert pair(backup(state="FAULT")) == pair(backup(state="FAULT"), instance(state="FAULT")) == []


def test_hearing() -> None:
    deaf = replace(BACKUP, heard=())
    assert pair(deaf) == [("hearing", "IPv4 adverts on br-lan: r2 does not hear r1, but r1 hears r2")]
    assert pair(BACKUP, one(heard=())) == [
        ("hearing", "IPv4 adverts on br-lan: r1 does not hear r2, but r2 hears r1")
    ]
    for change in ({"arrived": 0}, {"interface": "wan"}, {"family": 6}, {"source": "192.168.1.9"}):
        assert [check for check, _ in pair(replace(BACKUP, heard=(replace(BACKUP.heard[0], **change),)))] == [
            "hearing"
        ]
    assert pair(backup(unicast=("x",)), instance(unicast=("y",))) == []
    for unicast in ("mine", "theirs"):
        mine, theirs = (("x",), ()) if unicast == "mine" else ((), ("x",))
        found = pair(replace(backup(unicast=theirs), heard=()), instance(unicast=mine))
        assert [check for check, _ in found] == ["unequal"]
    assert pair(replace(backup(source=""), heard=())) == pair(deaf, instance(source="")) == []
    two = (LAN, replace(LAN, name="x"))
    other = replace(
        deaf, instances=tuple(replace(item, state="BACKUP", source="192.168.1.3") for item in two)
    )
    assert [check for check, _ in pair(other, one(instances=two))] == ["hearing"]
    both6 = [
        replace(router, instances=(replace(V6, state=state, source=source),), heard=())
        for router, state, source in ((ACTIVE, "MASTER", "fe80::2"), (BACKUP, "BACKUP", "fe80::3"))
    ]
    assert pair(both6[1], both6[0]) == [
        (
            "hearing",
            "IPv6 adverts on br-lan: neither router hears the other, though they are connected elsewhere",
        )
    ]


def test_leases_of_a_backup() -> None:
    offer = ClaimFacts("br-lan", "", "192.168.1.3")
    expected = [
        (
            "dhcp",
            "r2 is BACKUP and offers DHCP leases on br-lan (192.168.1.3): clients get its own address as their gateway",
        )
    ]
    assert pair(BACKUP, one(offers=(offer,))) == expected
    assert [what for _, what in pair(one(offers=(offer,)), BACKUP)] == [expected[0][1]]
    assert pair(BACKUP, one(offers=(replace(offer, by="192.168.1.66"),))) == []


# Facts and rules


def test_facts_of_another_shape() -> None:
    assert facts._make(DEVICE.__class__, {"mtu": "1500", "up": True, "addresses": ["a", 1]}) == replace(
        DEVICE.__class__(), up=True
    )
    assert facts._make(InstanceFacts, {"silence_s": 3, "priority": 1.5}).silence_s == 3
    assert facts._make(InstanceFacts, {"silence_s": True}).silence_s == 0.0
    assert facts._make(LinkFacts, {"name": "x", "up": 1}) == LinkFacts("x")
    router = facts.decode(
        zlib.compress(b'{"heard": [3, {"source": "x"}], "links": {}, "ruleset": [], "clock": 5}')
    )
    assert router == RouterFacts(clock=5, heard=(HeardFacts(source="x"),))


@pytest.mark.parametrize(
    "data", [b"", b"x", zlib.compress(b"{}")[:-1], zlib.compress(b"[]"), zlib.compress(b"{")]
)
def test_no_facts(data: bytes) -> None:
    with pytest.raises(ValueError):
        facts.decode(data)


def test_the_largest_facts() -> None:
    assert facts.decode(zlib.compress(b"{}" + b" " * ((2 << 20) - 2))) == RouterFacts()
    with pytest.raises(ValueError):
        facts.decode(zlib.compress(b"{}" + b" " * ((2 << 20) - 1)))


def test_devices_and_addresses() -> None:
    router = one(
        devices=(replace(DEVICE, name="a", addresses=("1",)), replace(DEVICE, name="b", addresses=("2",)))
    )
    assert router.device("b").addresses == ("2",) and router.addresses == {"1", "2"}
    assert router.device("c").name == "c" and not router.device("c").present


JUMP = {"jump": {"target": "a"}}
MASQUERADE = {"masquerade": None}


def chains(depth: int) -> list[dict[str, Any]]:
    """A chain that jumps to a chain, and so on; the last one translates."""
    jumps = [rule(f"c{n}", {"jump": {"target": f"c{n + 1}"}}) for n in range(depth)]
    return [base("c0", 50), *jumps, rule(f"c{depth}", MASQUERADE)]


@pytest.mark.parametrize(("depth", "found"), [(1, True), (8, True), (9, False)])
def test_how_deep_chains_are_followed(depth: int, found: bool) -> None:
    assert bool(ruleset.summary(chains(depth)).early_nat) == found


@pytest.mark.parametrize(("priority", "early"), [(98, True), (99, True), (100, False)])
def test_chains_that_translate_too_early(priority: int, early: bool) -> None:
    items = [base("x", priority), rule("x", MASQUERADE)]
    assert bool(ruleset.summary(items).early_nat) == early
    assert not ruleset.summary(
        [base("x", priority, table="tandem"), rule("x", MASQUERADE, table="tandem")]
    ).early_nat
    assert not ruleset.summary([base("x", priority, kind="filter"), rule("x", MASQUERADE)]).early_nat
    elsewhere = base("x", priority)
    elsewhere["chain"]["hook"] = "prerouting"
    assert not ruleset.summary([elsewhere, rule("x", MASQUERADE)]).early_nat


def test_what_a_ruleset_has() -> None:
    plain = ruleset.summary([{"table": {"family": "ip", "name": "fw4"}}])
    assert plain == RulesetFacts(readable=True)
    for chain in ("tandem_input", "other"):
        items = [rule("input", {"jump": {"target": chain}})]
        assert ruleset.summary(items).included == (chain == ruleset.CHAIN)
        assert ruleset.summary([rule("input", {"goto": {"target": chain}})]).included == (
            chain == ruleset.CHAIN
        )
        assert not ruleset.summary([rule("output", {"jump": {"target": chain}})]).included


def test_devices_of_a_zone() -> None:
    def match(device: Any, key: str = "iifname", op: str = "==") -> dict[str, Any]:
        return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": device}}

    to_lan = {"jump": {"target": "input_lan"}}
    zones = ruleset.summary([
        rule("input", match("a"), to_lan), rule("input", match({"set": ["b", "c"]}), to_lan),
        rule("input", match("d", op="!="), to_lan), rule("input", match("e", key="oifname"), to_lan),
        rule("input", match("f"), {"jump": {"target": "x_input_lan"}}), rule("input", match("g"), MASQUERADE),
    ]).zones  # fmt: skip
    assert zones == ("a input_lan", "b input_lan", "c input_lan")


def test_devices_that_are_masqueraded() -> None:
    """By a rule of the chain itself, or in a chain that it jumps to; not by any other rule."""
    out = {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "wan"}}
    jump = {"jump": {"target": "wan_nat"}}
    for statements, inner, found in (
        ((out, MASQUERADE), {"accept": None}, ("wan",)),
        ((out, jump), MASQUERADE, ("wan",)),
        ((out, jump), {"accept": None}, ()),
        ((out, {"accept": None}), MASQUERADE, ()),
        ((MASQUERADE,), MASQUERADE, ()),
    ):
        items = [base("srcnat", 100), rule("srcnat", *statements), rule("wan_nat", inner)]
        assert ruleset.summary(items).masquerading == found


def test_a_router_that_says_nothing() -> None:
    """A check must find nothing in what another version does not say."""
    data = zlib.compress(b'{"instances": [{}], "devices": [{}], "heard": [{}], "links": [{}]}')
    silent = facts.decode(data)
    (one_instance,), (device,), (source,) = silent.instances, silent.devices, silent.heard
    assert (one_instance.family, one_instance.version, one_instance.priority) == (4, 2, 100)
    assert (one_instance.virtual_router_id, one_instance.advert_int_cs, one_instance.strangers_ignored) == (
        0,
        100,
        0,
    )
    assert (device.mtu, device.rp_filter, device.arp_ignore) == (0, 0, 0)
    assert (source.family, source.virtual_router_id, source.version) == (4, 0, 0)
    assert (source.arrived, source.passed) == (0, 0)
    assert [finding.check for finding in examine(silent)] == ["daemon", "replication"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        (
            {"mac": "02:00:00:00:00:01"},
            [
                "network wan has the MAC address 02:1a:2b:3c:4d:5e on r1 and 02:00:00:00:00:01 on r2: the provider gives two addresses"
            ],
        ),
        (
            {"clientid": ""},
            ["network wan: clientid is ab on r1 and not set on r2: the provider sees two clients"],
        ),
        (
            {"hostname": "r2"},
            ["network wan: hostname is gateway on r1 and r2 on r2: the provider sees two clients"],
        ),
        ({"hostname": "r2", "known": False}, []),
        (
            {"username": "bob"},
            ["network wan: username is not set on r1 and bob on r2: the provider sees two clients"],
        ),
        (
            {"present": True},
            ["wan0 exists on both routers: two hosts speak with one MAC address on the line"],
        ),
        (
            {"session": "takeover", "proto": "pppoe"},
            [
                "network wan: session is 'dial' on r1 and 'takeover' on r2: the sessions of one of them are never taken over",
                "network wan: proto is dhcp on r1 and pppoe on r2: the provider sees two clients",
            ],
        ),
        ({"name": "lte"}, ["network wan follows the role on r1 and not on r2"]),
        (
            {"shares": ("lan ip6assign 60",)},
            [
                "the routers divide the prefix of wan in different ways (lan ip6assign 60): hosts get other addresses after a takeover"
            ],
        ),
    ],
)
def test_the_provider_sees_one_host(changes: dict[str, Any], told: list[str]) -> None:
    there = follow(BACKUP, **changes)
    assert [f.what for f in compare(follow(present=True), there) if f.check == "follow"] == told
