# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor` on a pair: healthy, it finds nothing; each check is seen to find what was broken.

What can be broken and mended on a running pair shares one pair; the rest has a pair of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Instance, Lab, Port, Router, SeedLab, Tandem, netns, seed_instances, wait_until
from tests.lab.router import TANDEM
from tests.lab.scenario import tandem_uci

from .doctor import checks, doctor, visit
from .openwrt_firewall import EQUIVALENT

Open = Callable[[Any], Any]

SECRET = "for the eyes of the doctor"


def daemon(number: int, *instances: Instance) -> Tandem:
    """tandemd of router n, which replicates connections."""
    instances = instances or tuple(seed_instances(0.5))
    groups = {"G1": tuple(item.name for item in instances)}
    options = {"router_id": f"r{number}"}
    sync = ["config conntrack_sync", f"\tlist peer '192.168.1.{4 - number}'", f"\toption secret '{SECRET}'"]
    sync += ["\toption heartbeat '0.5'"]
    text = tandem_uci(instances, groups, options).replace("\toption router_id 'lab'\n", "")
    return Tandem(instances, groups, text="\n".join([text, *sync, ""]))


def running(lab: SeedLab) -> SeedLab:
    """Start both, and wait until one is active and the other in step."""
    lab.elect()
    settled(lab)
    return lab


def channel(router: Router) -> dict[str, Any]:
    """The daemon's status of its one peer."""
    found: dict[str, Any] = Tandem.request(router, "conntrack")["channel"]["peers"][0]
    return found


def in_step(router: Router) -> bool:
    peer = channel(router)
    return bool(peer.get("in_step") or peer.get("held_in_step"))


def active_of(lab: SeedLab) -> tuple[Router, Router]:
    active: Router = wait_until(lambda: lab.active, 15, "one is active")
    return active, lab.other(active)


def settled(lab: SeedLab) -> None:
    """Wait until what was broken has healed."""
    wait_until(lambda: lab.active, 20, "one is active")
    wait_until(lambda: all(in_step(router) for router in lab.routers), 20, "in step")


@pytest.fixture(scope="module")
def pair() -> Iterator[SeedLab]:
    """A running pair; every test leaves it as it was."""
    with SeedLab(daemon, "doctor") as lab:
        lab.up()
        yield running(lab)


@contextmanager
def changed(router: Router, key: str, value: object) -> Iterator[None]:
    """A setting under /proc/sys/net that is put back."""
    before = router.sysctl(key)
    netns.write_sysctls(router.namespace, {key: str(value)})
    try:
        yield
    finally:
        netns.write_sysctls(router.namespace, {key: before})


# A pair that stays


def test_nothing_is_wrong_with_a_healthy_pair(pair: SeedLab) -> None:
    for router in pair.routers:
        assert doctor(router) == []


def test_text_for_people(pair: SeedLab) -> None:
    active, _ = active_of(pair)
    active.ip("link set dev br-lan mtu 1400")
    argv = ["ip", "netns", "exec", active.namespace, sys.executable, "-I", str(TANDEM), "doctor"]
    argv += ["--listen", "1"]
    try:
        done = subprocess.run(
            [*argv, "--control", active.file("sock")], capture_output=True, text=True, timeout=100
        )
    finally:
        active.ip("link set dev br-lan mtu 1500")
    assert done.returncode == 1
    assert "the MTU of br-lan is 1400 on" in done.stdout and "\n    -> give both the same mtu" in done.stdout


def test_much_is_wrong_at_once(pair: SeedLab) -> None:
    """Faults that do not hide each other, on the active and on the backup, found by either.

    The active one hears no adverts that its firewall could drop, only those of the other's doctor.
    """
    active, backup = active_of(pair)
    with much_is_wrong(active, backup):
        wanted = {
            ("addresses", backup.name), ("mtu", ""), ("realtime", active.name),
            ("masquerade", active.name), ("forwarding", backup.name), ("arp", active.name),
            ("address_clash", active.name), ("firewall", active.name), ("dhcp", ""), ("reload", backup.name),
            ("ra", ""), ("dhcpv6", ""),
        }  # fmt: skip
        for router in pair.routers:
            found = doctor(router)
            assert checks(found) == wanted
            offers = next(item["what"] for item in found if item["check"] == "dhcp")
            assert offers.startswith(f"{backup.name} is BACKUP and offers DHCP leases on br-lan")
    assert doctor(active) == []


@contextmanager
def much_is_wrong(active: Router, backup: Router) -> Iterator[None]:
    """Break twelve things, and mend them in the end.

    Both routers advertise themselves to IPv6 hosts, as OpenWrt's do by default.
    """
    conf = backup.file("conf")
    text = conf.read_text()
    rules = """
        table ip mine {
            chain p { type nat hook postrouting priority 50; oifname "eth0.2" masquerade; }
            chain i { type filter hook input priority 0; meta l4proto 112 drop; }
        }
    """
    backup.ip("address add 192.168.1.4/32 dev br-lan", "link set dev br-lan mtu 1400")
    subprocess.run(["chrt", "--other", "--pid", "0", str(active.pid)], check=True)
    active.exec("nft", "-f", "-", stdin=rules)
    conf.write_text(text.replace("option priority '101'", "option priority '77'"))
    ipv6 = ("--enable-ra", "--dhcp-range=fd00:1::100,fd00:1::1ff,64")
    servers = [dhcp_server(backup, *ipv6), dhcp_server(active, "--no-dhcpv4-interface=br-lan", *ipv6)]
    try:
        with changed(backup, "ipv4/ip_forward", 0), changed(active, "ipv4/conf/br-lan/arp_ignore", 8):
            yield
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait(5)
        conf.write_text(text)
        backup.ip("address delete 192.168.1.4/32 dev br-lan", "link set dev br-lan mtu 1500")
        subprocess.run(["chrt", "--fifo", "--reset-on-fork", "--pid", "50", str(active.pid)], check=True)
        active.exec("nft", "delete", "table", "ip", "mine")


def dhcp_server(router: Router, *more: str) -> subprocess.Popen[bytes]:
    """dnsmasq on the LAN of a router, as OpenWrt starts it."""
    return router.popen(
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=br-lan",
        "--dhcp-range=192.168.1.50,192.168.1.60", "--no-ping", "--dhcp-authoritative",
        f"--dhcp-leasefile={router.file('leases')}", "--user=root", "--no-resolv", "--no-hosts",
        f"--pid-file={router.file('dnsmasq.pid')}", *more,
    )  # fmt: skip


def test_a_file_with_errors(pair: SeedLab) -> None:
    active, backup = active_of(pair)
    conf = backup.file("conf")
    text = conf.read_text()
    conf.write_text(text.replace("option priority '101'", "option priority 'high'"))
    try:
        assert checks(doctor(active)) == {("configuration", backup.name)}
    finally:
        conf.write_text(text)


def test_a_firewall_drops_adverts(pair: SeedLab) -> None:
    """On the backup, which knows by heartbeats that the other is active. The doctor says why on either."""
    active, backup = active_of(pair)
    rules = "table inet mine { chain i { type filter hook input priority 0; meta l4proto 112 drop; }; }"
    backup.exec("nft", "-f", "-", stdin=rules)
    try:
        wait_until(lambda: silence(backup) > 2, 20, "the adverts are missing")
        found = checks(doctor(active))
        assert ("firewall", backup.name) in found and backup.all_in("BACKUP")
        assert ("firewall", active.name) not in found and ("hearing", "") not in found
    finally:
        backup.exec("nft", "delete", "table", "inet", "mine")
    settled(pair)


def test_overdue_adverts(pair: SeedLab) -> None:
    """On one LAN alone: as the active one is heard on the other, the backup waits."""
    active, backup = active_of(pair)
    rules = """table inet mine { chain i {
        type filter hook input priority 0; iifname "br-lan" meta l4proto 112 drop
    }; }"""
    backup.exec("nft", "-f", "-", stdin=rules)
    try:
        wait_until(lambda: silence(backup) > 1.2, 15, "two adverts are missing")
        assert ("silence", backup.name) in checks(doctor(backup))
        assert pair.active is active
    finally:
        backup.exec("nft", "delete", "table", "inet", "mine")
    wait_until(lambda: silence(backup) < 1, 15, "heard again")


def silence(router: Router) -> float:
    peer = Tandem.request(router, "status")["instances"][0]["peer"]
    return float(peer["last_advert_s"]) if peer else 0.0


def test_fw4_without_the_rules_of_the_package(pair: SeedLab) -> None:
    active, _ = active_of(pair)
    rules = EQUIVALENT % {"table": "", "input": "meta l4proto 112 accept", "forward": "", "lan": "accept"}
    before = channel(active)["sessions"]
    active.exec("nft", "-f", "-", stdin=rules)
    try:
        assert checks(doctor(active)) == {("fw4", active.name)}
        assert channel(active)["sessions"] == before  # which no firewall tracks
    finally:
        active.exec("nft", "delete", "table", "inet", "fw4")


def test_rp_filter_drops_adverts(pair: SeedLab) -> None:
    active, backup = active_of(pair)
    source = "192.168.1.2" if active is pair.r1 else "192.168.1.3"
    backup.ip(f"route add {source}/32 dev eth0.2")
    try:
        with changed(backup, "ipv4/conf/br-lan/rp_filter", 1):
            found, _ = visit(backup)
        assert ("rp_filter", backup.name) in checks(found)
    finally:
        backup.ip(f"route delete {source}/32 dev eth0.2")
    settled(pair)


def test_one_way(pair: SeedLab) -> None:
    """A switch that drops multicast of one router, as IGMP snooping does when it errs."""
    active, backup = active_of(pair)
    rules = f"""table netdev mine {{ chain e {{
        type filter hook ingress device "{active.cable("br-lan")}" priority 0;
        ip daddr 224.0.0.18 drop
    }}; }}"""
    switches = ["ip", "netns", "exec", pair.switch_namespace, "nft"]
    netns.run([*switches, "-f", "-"], stdin=rules)
    try:
        found = doctor(active)
        assert ("hearing", "") in checks(found)
        sentence = next(item["what"] for item in found if item["check"] == "hearing")
        assert f"{backup.name} does not hear {active.name}" in sentence and "br-lan" in sentence
    finally:
        netns.run([*switches, "delete", "table", "netdev", "mine"])
    settled(pair)


def test_another_router_with_our_virtual_router_id(pair: SeedLab) -> None:
    """Somebody's own VRRP on the same segment, found from both routers."""
    foreign = Instance("X", "eth0", 51, ("192.168.1.99/24",), priority=50, advert_s=0.5, version=3)
    with foreign_router(pair, foreign) as stranger:
        found = checks(doctor(active_of(pair)[0]))
        assert found == {("vrid_clash", router.name) for router in pair.routers}
        assert stranger.running


@contextmanager
def foreign_router(lab: SeedLab, instance: Instance) -> Iterator[Router]:
    """One more router on the LAN, with a daemon that knows nothing of the others."""
    with Lab("stranger") as other:
        lan = other.switch("lan")
        router = other.add(Router("x", [Port("eth0", lan, "192.168.1.77/24")], Tandem([instance])))
        other.up()
        # A cable from the LAN's switch to the stranger's.
        netns.ip_batch(
            [
                f"link add name uplink type veth peer name downlink netns {other.switch_namespace}",
                "link set uplink master lan up",
            ],
            lab.switch_namespace,
        )
        netns.ip_batch(["link set downlink master lan up"], other.switch_namespace)
        router.start()
        router.wait_started()
        wait_until(lambda: router.all_in("MASTER"), 15, "the stranger advertises")
        yield router


def test_features_that_the_kernel_lacks() -> None:
    """The kernel really is asked: it knows no such kind of link, subsystem, or expression."""
    from tandem.doctor import probes

    assert probes.has_link_kind("macvlan") and not probes.has_link_kind("tandemlan")
    assert probes.has_subsystem(1, 4) and not probes.has_subsystem(63, 0)
    assert probes.has_rules("table inet x { chain c { type nat hook postrouting priority 99; }; }")
    assert not probes.has_rules("table inet x { chain c { type nat hook nowhere priority 99; }; }")


# Pairs that are wrong from the start


def test_no_daemon_at_all(open_lab: Open) -> None:
    lab = open_lab(SeedLab(daemon))
    lab.r1.daemon.write(lab.r1)
    findings, _ = visit(lab.r1, "-c", str(lab.r1.file("conf")))
    assert checks(findings) == {("daemon", "r1")}


def test_the_other_one_is_down(open_lab: Open) -> None:
    lab = open_lab(SeedLab(daemon))
    lab.r1.start()
    wait_until(lambda: lab.r1.active, 15, "active alone")
    wait_until(lambda: channel(lab.r1)["last_error"], 15, "it has tried to connect")
    findings, _ = visit(lab.r1)
    assert checks(findings) == {("replication", "r1")} and "refused" in findings[0]["what"]


def test_port_3780_is_closed(open_lab: Open) -> None:
    lab = open_lab(SeedLab(daemon))
    rules = "table inet mine { chain i { type filter hook input priority 0; tcp dport 3780 drop; }; }"
    for router in lab.routers:
        router.exec("nft", "-f", "-", stdin=rules)
        router.start()
        router.wait_started()
    wait_until(lambda: "timeout" in channel(lab.r1)["last_error"], 20, "it has tried to connect")
    active_of(lab)
    findings, _ = visit(lab.r1)
    assert checks(findings) == {("replication", "r1")} and "firewall" in findings[0]["advice"]


def test_different_secrets(open_lab: Open) -> None:
    def secretive(number: int) -> Tandem:
        plain = daemon(number)
        assert plain.text is not None
        return Tandem(plain.instances, plain.groups, plain.text.replace(SECRET, f"{SECRET} {number}"))

    lab = open_lab(SeedLab(secretive))
    lab.start()
    errors = [lambda r=router: channel(r)["last_error"] for router in lab.routers]
    wait_until(lambda: any("secret" in error() for error in errors), 20, "refused")
    active_of(lab)
    told = [finding for router in lab.routers for finding in visit(router)[0]]
    assert checks(told) == {("replication", "r1"), ("replication", "r2")}
    # One router finds it and reports it, the other one was turned away: the two take turns.
    assert all("the same secret" in finding["advice"] for finding in told)
    assert SECRET not in json.dumps(told)


def test_unequal_configurations(open_lab: Open) -> None:
    """Everything that must be alike, except what keeps the two from hearing each other at all."""

    def unequal(number: int) -> Tandem:
        lan, wan = seed_instances()  # version 2, which has a password
        if number == 1:
            return split(daemon(number, lan, wan))
        more = replace(lan, name="I2", virtual_router_id=60, addresses=("192.168.1.5/24",))
        lan = replace(lan, preempt=True, auth_pass="other")
        wan = replace(wan, virtual_router_id=52, advert_s=2.0, routes=(), addresses=("192.168.0.5/24",))
        made = daemon(number, lan, replace(wan, preempt=True), replace(more, preempt=True))
        made.text = f"{made.text}\tlist ignore_address '10.0.0.0/8'\n\toption limit_entries '1000'\n"
        return split(made)

    def split(made: Tandem) -> Tandem:
        """Without this, heartbeats keep the backup from becoming active."""
        assert made.text is not None
        line = "\toption partition_policy 'split'\n"
        made.text = made.text.replace("config globals 'globals'\n", f"config globals 'globals'\n{line}")
        assert line in made.text
        return made

    lab = open_lab(SeedLab(unequal))
    lab.start()
    wait_until(lambda: all(channel(router)["state"] == "up" for router in lab.routers), 20, "connected")
    wait_until(lambda: all(router.all_in("MASTER") for router in lab.routers), 20, "two actives")
    found = doctor(lab.r1)
    told = " / ".join(item["what"] for item in found if item["check"] == "unequal")
    for word in (
        "r2 has the instance I2", "E1: virtual_router_id is 51 on r1 and 52 on r2", "E1: advert_int is 1",
        "E1: virtual_ipaddress is 192.168.0.4/24", "I1: auth_pass differs", "I1: preempt", "E1: snat is",
        "conntrack_sync: ignore_address is none on r1 and 10.0.0.0/8 on r2",
        "conntrack_sync: limit_entries is 262144 on r1 and 1000 on r2",
    ):  # fmt: skip
        assert word in told, word
    assert "s3cret" not in json.dumps(found)
    assert {("adverts_refused", "r1"), ("adverts_refused", "r2"), ("two_masters", "")} <= checks(found)


AN_HOUR_AHEAD = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += 3600;
    return result;
}
"""


class FakedClock(Tandem):
    """tandemd on a router whose clock is an hour ahead; monotonic time is as it is."""

    library: Path

    def commands(self, router: Router) -> list[list[str]]:
        return [["env", f"LD_PRELOAD={self.library}", *argv] for argv in super().commands(router)]


def test_clocks_differ(open_lab: Open, tmp_path: Path) -> None:
    def clock(number: int) -> Tandem:
        plain = daemon(number)
        if number == 1:
            return plain
        faked = FakedClock(plain.instances, plain.groups, plain.text)
        faked.library = tmp_path / "ahead.so"
        return faked

    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", tmp_path / "ahead.so", "-x", "c", "-"],
        input=AN_HOUR_AHEAD.encode(),
        check=True,
    )
    lab = running(open_lab(SeedLab(clock)))
    found = doctor(lab.r1)
    assert checks(found) == {("clock", "")} and "clock of r2 is 3600 s ahead of" in found[0]["what"]


def test_the_other_one_hangs(open_lab: Open) -> None:
    active, backup = active_of(running(open_lab(SeedLab(daemon))))
    active.freeze()
    try:
        _, notes = visit(backup)
    finally:
        active.thaw()
    assert len(notes) == 1 and "did not tell its facts" in notes[0]


def test_masquerade_hides_the_virtual_address(open_lab: Open) -> None:
    """A WAN whose default route is not Tandem's, so that nothing asks for source NAT."""

    def plain(number: int) -> Tandem:
        lan, wan = seed_instances(0.5)
        return daemon(number, lan, replace(wan, routes=()))

    lab = running(open_lab(SeedLab(plain)))
    masquerade = """table inet fw4 {
        chain srcnat { type nat hook postrouting priority 100; oifname { "eth0.2", "eth7" } jump srcnat_wan; }
        chain srcnat_wan { meta nfproto ipv4 masquerade; }
    }"""
    lab.r2.exec("nft", "-f", "-", stdin=masquerade.replace("inet fw4", "inet other"))
    found = doctor(lab.r1)
    assert checks(found) == {("masquerade", "r2")} and "snat '1'" in found[0]["advice"]


def test_a_fault_and_without_replication(open_lab: Open) -> None:
    instances = seed_instances(0.5)
    text = tandem_uci(instances, {"G1": ("I1", "E1")}, {})
    lab = open_lab(SeedLab(lambda number: Tandem(instances, text=text)))
    lab.r1.start()
    wait_until(lambda: lab.r1.active, 15, "active")
    lab.cut(lab.r1, "eth0.2")
    wait_until(lambda: lab.r1.all_in("FAULT"), 10, "fault")
    findings, notes = visit(lab.r1)
    assert checks(findings) == {("fault", "lab")}
    assert len(notes) == 1 and "run the doctor there too" in notes[0]
