# SPDX-License-Identifier: GPL-2.0-or-later
"""Behind OpenWrt's firewall: adverts and replication are let in, and translated flows survive.

The zone wan rejects what comes unasked, and masquerades; with the zone lan made as strict, nothing
gets in but by Tandem's own rules.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem.config.load import load_text
from tandem.effects import fw4
from tests.lab import FAR, Router, SeedLab, Tandem, stays, wait_until
from tests.lab.router import TANDEM
from tests.lab.scenario import tandem_uci
from tests.openwrt_pieces import ROOT, USR, needs

from .doctor import checks, doctor, visit
from .live import (
    Connections,
    connections,
    no_resets,
    power_loss,
    settle,
    started,
    takes_over,
    told,
    transitions,
)
from .openwrt_firewall import NETWORK, Firewall, Fw4Lab, Fw4Tandem, fw4_instances
from .test_init import as_init_names_them

Open = Callable[[Any], Any]
KINDS = [
    pytest.param(True, marks=needs(ROOT / "sbin/fw4", ROOT / "sbin/netifd"), id="genuine"),
    pytest.param(False, id="equivalent"),
]


def behind(genuine: bool, **options: Any) -> Callable[[int], Fw4Tandem]:
    """tandemd of router n; connections are replicated by the WAN, where the zone rejects."""

    def daemon(number: int) -> Fw4Tandem:
        instances = fw4_instances()
        groups = {"G1": ("I1", "E1")}
        sync = ["config conntrack_sync", f"\tlist peer '192.168.0.{4 - number}'"]
        sync += ["\toption secret 'behind the firewall of OpenWrt'", "\toption heartbeat '0.2'", ""]
        text = "\n".join([tandem_uci(instances, groups), *sync])
        return Fw4Tandem(Tandem(instances, groups, text), Firewall(genuine, **options))

    return daemon


def firewall(router: Router) -> Firewall:
    assert isinstance(router.daemon, Fw4Tandem)
    return router.daemon.firewall


def let_in(router: Router) -> str:
    return router.exec("nft", "list", "chain", "inet", "fw4", "tandem_input")


@pytest.mark.parametrize("genuine", KINDS)
def test_translated_connections_survive_behind_the_firewall(open_lab: Open, genuine: bool) -> None:
    """With the zone lan as strict as wan: without Tandem's rules there would be two actives."""
    lab = open_lab(Fw4Lab(behind(genuine, lan="REJECT")))
    started(lab)
    assert "masquerade" in lab.r1.exec("nft", "list", "chain", "inet", "fw4", "srcnat_wan")
    with connections() as flows, no_resets(lab):
        open_flows(lab, flows)
        active, backup = settle(lab)
        before = transitions(active), transitions(backup)
        for router in lab.routers:
            firewall(router).reload(router)
            assert "vrrp" in let_in(router) or "112" in let_in(router)
        stays(lambda: lab.active is active, 1, "a reload of the firewall moves nothing")
        assert (transitions(active), transitions(backup)) == before
        told(lab)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        active.power_on()  # with a firewall that is there before the daemon
        settle(lab)
        Tandem.request(backup, "failover")
        takes_over(lab, active)
        flows.all_go_on()


def open_flows(lab: SeedLab, flows: Connections) -> None:
    flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
    flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
    flows.all_go_on()
    seen = {flow.speaker.getpeername()[0] for flow in flows.flows[:10]}
    assert seen == {"192.168.0.4"}, "masqueraded to the router's own address"


@pytest.mark.parametrize("genuine", KINDS)
def test_without_the_files_of_the_package_there_are_two_actives(open_lab: Open, genuine: bool) -> None:
    """The same lab without the files of the package: it shows what they are for."""
    lab = open_lab(Fw4Lab(behind(genuine, lan="REJECT", included=False)))
    lab.start()
    wait_until(lambda: all(router.all_in("MASTER") for router in lab.routers), 15, "two actives")


def test_nobody_else_is_let_in(open_lab: Open) -> None:
    lab = open_lab(Fw4Lab(behind(False)))
    started(lab)
    assert not connects(lab.server, "192.168.0.2", 3780), "a stranger on the WAN"
    assert connects(lab.r2, "192.168.0.2", 3780), "the peer"
    rules = let_in(lab.r1)
    assert 'iifname "br-lan" ip daddr 224.0.0.18' in rules and 'iifname "wan" ip daddr' in rules


def connects(host: Any, address: str, port: int) -> bool:
    def attempt() -> bool:
        with socket.socket() as sock:
            sock.settimeout(2)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)  # as a peer on the link sends
            return sock.connect_ex((address, port)) == 0

    return bool(host.enter(attempt))


def test_rules_follow_the_configuration(open_lab: Open) -> None:
    """A reload of the daemon changes the table that is loaded, and what the next reload of fw4 includes."""
    lab = open_lab(Fw4Lab(behind(False)))
    started(lab)
    r1 = lab.r1
    daemon = r1.daemon
    instances = [replace(item, options={"mcast_dst_ip": "224.0.0.99"}) for item in daemon.instances]
    daemon.text = tandem_uci(instances, daemon.groups)
    daemon.write(r1)
    Tandem.request(r1, "reload")
    wait_until(lambda: "224.0.0.99" in let_in(r1), 10, "nft has run")
    for _ in range(2):
        rules = let_in(r1)
        assert "224.0.0.99" in rules and "224.0.0.18" not in rules and "3780" not in rules
        firewall(r1).reload(r1)


@pytest.mark.parametrize("genuine", KINDS)
def test_a_virtual_device_is_in_the_zone_of_its_interface(open_lab: Open, genuine: bool) -> None:
    """Packets for the virtual MAC come in by the virtual device; also after fw4 has loaded its table anew."""

    def daemon(number: int) -> Fw4Tandem:
        lan, wan = fw4_instances()
        instances, groups = [replace(lan, vmac="vrrp.51"), wan], {"G1": ("I1", "E1")}
        return Fw4Tandem(Tandem(instances, groups), Firewall(genuine))

    lab = open_lab(Fw4Lab(daemon))
    active, _ = lab.elect()
    wait_until(lambda: zoned(active), 10, "in its zone", explain=lambda: fw4_table(active))
    before = fw4_table(active).count('"vrrp.51"')
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 4, server_speaks=True)
        flows.all_go_on()
        assert "00:00:5e:00:01:33" in lab.client.exec("ip", "neigh", "show", "192.168.1.4")
        firewall(active).reload(active)
        # A connection that begins at this moment is delayed, not refused.
        flows.add(lab.client, lab.server, FAR, 4, server_speaks=True)
        wait_until(lambda: zoned(active), 10, "again", explain=lambda: fw4_table(active))
        flows.all_go_on()
    assert fw4_table(active).count('"vrrp.51"') == before, "every rule has one copy"
    assert not {check for check, _ in checks(visit(active)[0])} & {"zone", "firewall", "fw4"}


def zoned(router: Router) -> bool:
    """Whether the firewall has put the device into its zone, and nothing waits for that any more."""
    table = fw4_table(router)
    return 'iifname "vrrp.51" jump input_lan' in table and 'iifname "vrrp.51" drop' not in table


def fw4_table(router: Router) -> str:
    return router.exec("nft", "list", "table", "inet", "fw4")


SHAPES = """
config vrrp_instance 'I1'
	option interface '{device}'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'

config vrrp_instance 'I6'
	option interface '{device}'
	option virtual_router_id '51'
	list virtual_ipaddress 'fe80::4/64'

config vrrp_instance 'U1'
	option interface '{device}'
	option virtual_router_id '52'
	list unicast_peer '192.168.0.3'
	list virtual_ipaddress '192.168.0.4/24'

config vrrp_instance 'U6'
	option interface '{device}'
	option virtual_router_id '52'
	list unicast_peer 'fd00::3'
	list virtual_ipaddress 'fe80::5/64'

config peer 'r2'
	list address 'fe80::3%{device}'
	list address 'fd00::3'
	list address '192.168.1.3'

config conntrack_sync
	option insecure '1'
	list peer 'r2'
"""


def test_every_rule_is_one_that_nft_takes(open_lab: Open) -> None:
    """One that it does not take would keep fw4 from loading anything."""
    lab = open_lab(SeedLab(lambda number: Tandem()))
    for device in DEVICES:
        loaded = load_text(SHAPES.replace("{device}", device.replace("'", "'\\''")), "shapes")
        assert loaded.config is not None, loaded.errors
        rules = fw4.rules(loaded.config)
        if device in ("wan*", 'a"b', "back\\"):
            assert len(rules) == 4  # by address alone
        else:
            assert len(rules) == 10
        text = "\n".join(["table inet x {", "chain tandem_input {", *rules, "}", "}"])
        lab.r1.exec("nft", "-f", "-", stdin=text)
        lab.r1.exec("nft", "delete", "table", "inet", "x")


DEVICES = (
    "br-lan.7", "pppoe-wan", "@wan", "a'b", "x;y", "$a", "#a", "{a}", "7", "lan", "drop", "größe", "wan*",
    'a"b', "back\\",
)  # fmt: skip


@needs(ROOT / "sbin/fw4", ROOT / "sbin/netifd", USR / "lib/libubus.so")
def test_what_init_writes_on_the_genuine_fw4_and_netifd(open_lab: Open, tmp_path: Path) -> None:
    """The configuration names OpenWrt's networks: lan is br-lan. The doctor finds nothing."""
    texts = init_both(tmp_path)

    def daemon(number: int) -> Fw4Tandem:
        instances = as_init_names_them(fw4_instances())
        return Fw4Tandem(Tandem(instances, text=texts[number]), Firewall(True, lan="REJECT"))

    lab = open_lab(Fw4Lab(daemon))
    lab.start()
    wait_until(lambda: all("br-lan" in let_in(router) for router in lab.routers), 20, "netifd has told")
    active, backup = settle(lab)
    assert "0% packet loss" in lab.client.exec("ping", "-c1", "-W2", FAR)
    for router in lab.routers:
        # A ubusd that gets no processor costs the daemon up to 0.25 s, which the doctor tells.
        assert {check for check, _ in checks(doctor(router))} <= {"realtime"}
        firewall(router).run(router, "fw4", "restart")  # it removes the table first
        assert "br-lan" in let_in(router)
    power_loss(lab, active)
    takes_over(lab, backup)
    assert "0% packet loss" in lab.client.exec("ping", "-c1", "-W2", FAR)


def init_both(directory: Path) -> dict[int, str]:
    """The configurations that `tandem init` writes on both, by number, without DHCP."""
    texts, token = {}, ""
    for number in (1, 2):
        network = directory / f"network{number}"
        network.write_text(NETWORK % {"host": number + 1} + "\toption gateway '192.168.0.1'\n")
        argv = [sys.executable, "-I", str(TANDEM), "init", f"--network-config={network}"]
        argv += [f"--config={directory}/tandem{number}", f"--secret-file={directory}/secret{number}"]
        first = ["--network=lan=192.168.1.4", "--network=wan=192.168.0.4", "--peer=192.168.1.3"]
        argv += first if number == 1 else ["--join"]
        done = subprocess.run(argv, input=token, capture_output=True, text=True, check=True)
        token = token or re.findall(r"echo (\S+) \|", done.stdout)[0]
        texts[number] = (directory / f"tandem{number}").read_text()
    return texts
