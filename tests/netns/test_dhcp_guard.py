# SPDX-License-Identifier: GPL-2.0-or-later
"""A router that is not elected answers no DHCP request and sends no router advertisement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import Ether

from tests.lab import Capture, Host, LanLab, Tandem, stays, wait_until
from tests.lab.frames import say
from tests.lab.netns import write_sysctls

from . import slaac
from .daemon import ip_json, state
from .dhcp_pair import V4, V6, VIP, Client, DhcpTandem, dhcp, home, knows, leases, pair, tandem

Open = Callable[[Any], Any]
ALONE = slaac.ALONE
LINK_LOCAL = "fe80::4"
RA = """
enable-ra
ra-param=eth0,1,60
dhcp-range=set:lan,::100,::1ff,constructor:eth0,slaac,64,10m
"""


def mac_of(router: Host) -> str:
    return router.exec("cat", "/sys/class/net/eth0/address").strip()


def answers(client: Client) -> set[str]:
    """Return the servers that answer a DISCOVER within a second."""
    return {answer.server for answer in client.say("discover", wait=1)}


def solicit(host: Host, wait: float = 0.5) -> str | None:
    """A router solicitation of a host that has come up; who answers first, by link-layer address."""
    frame = Ether(src="02:00:00:00:01:0a", dst="33:33:00:00:00:02") / IPv6(dst="ff02::2", hlim=255, src="::")
    adverts = (packet for packet in say(host, frame / ICMPv6ND_RS(), wait) if ICMPv6ND_RA in packet)
    return next((str(packet.src) for packet in adverts), None)


def test_silent_from_boot_until_elected(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, start=False)
    r1, r2 = lab.routers
    client = Client(lab.client, 1)
    assert answers(client) == set()
    r1.start()
    wait_until(lambda: r1.active, 15, "r1 is active")
    assert client.until("discover").server == "192.168.1.2"
    # The hold of a boot does not silence who has been elected since.
    assert tandem(r1, "dhcp", "hold") == 0
    assert client.until("discover").server == "192.168.1.2"
    # r2 has a daemon with errors in its configuration: it must not answer.
    text = r2.file("conf").read_text()
    r2.file("conf").write_text(text.replace("'51'", "'5100'"))
    r2.exec("nft", "delete", "table", "inet", "tandem_dhcp")
    assert tandem(r2, "dhcp", "hold") == 0
    assert "eth0" in r2.exec("nft", "list", "table", "inet", "tandem_dhcp")
    client.close()


def test_a_backup_neither_answers_nor_makes_leases(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, replicate=False)
    r1, r2 = lab.routers
    client = Client(lab.client, 1)
    assert client.lease().server == "192.168.1.2"
    # Straight to the backup, as a client does that had its lease from it.
    heard = client.say("request", wait=1, requested_addr=client.address, server_id="192.168.1.3")
    assert {answer.server for answer in heard} <= {"192.168.1.2"}
    assert leases(r2) == {}
    r1.stop()
    wait_until(lambda: r2.active, 10, "r2 took over")
    assert client.until("discover").server == "192.168.1.3"
    # The daemon has been stopped: that router has not been elected, and stays silent.
    stays(lambda: all(a.server == "192.168.1.3" for a in client.say("discover")), 1)
    client.close()


def test_a_dead_or_hanging_active_falls_silent(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, replicate=False, lifetime="2")
    r1, r2 = lab.routers
    r2.stop()  # nobody takes over: r1 would go on for ever
    client = Client(lab.client, 1)
    assert client.until("discover").server == "192.168.1.2"
    r1.freeze()
    wait_until(lambda: not r1.has(VIP) and answers(client) == set(), 15, "silent by the kernel's own hand")
    r1.thaw()
    wait_until(lambda: answers(client) == {"192.168.1.2"}, 15, "and heard again")
    r1.kill()
    wait_until(lambda: answers(client) == set(), 15, "silent by the kernel's own hand")
    client.close()


def test_a_new_master_waits_until_its_dnsmasq_knows_the_leases(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab)
    r1, r2 = lab.routers
    first, second = Client(lab.client, 1), Client(lab.client, 2)
    first.lease()
    knows(r2, first.address)
    (home(r2) / "slow").touch()
    second.lease()
    wait_until(lambda: dhcp(r2)["leases"] == 2, 10, "r2 has heard of it")
    r1.power_off()
    wait_until(lambda: r2.active, 10, "r2 took over")
    assert dhcp(r2)["waiting"] and dhcp(r2)["answering"] == []
    assert answers(Client(lab.client, 3)) == set()
    (home(r2) / "slow").unlink()
    wait_until(lambda: dhcp(r2)["answering"] == ["V1"], 10, "its dnsmasq has been restarted")
    assert second.reboot().address == second.address
    assert Client(lab.client, 3).lease().address not in (first.address, second.address)


def test_a_restart_that_fails_is_told_and_tried_again(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab)
    r1, r2 = lab.routers
    (home(r2) / "broken").touch()
    client = Client(lab.client, 1)
    client.lease()
    wait_until(lambda: "exit status 3" in dhcp(r2)["problem"], 10, "the failure is in the status")
    assert "exit status 3" in r2.log()
    (home(r2) / "broken").unlink()
    r1.power_off()
    wait_until(lambda: dhcp(r2)["answering"] == ["V1"], 20, "it answers as soon as it knows the lease")
    assert not dhcp(r2)["problem"]
    assert client.reboot().address == client.address
    client.close()


def test_a_table_that_somebody_has_flushed_comes_back(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, replicate=False)
    r1, r2 = lab.routers
    client = Client(lab.client, 1)
    for router in lab.routers:
        router.exec("nft", "flush", "ruleset")
    wait_until(lambda: "answer4" in r2.exec("nft", "list", "ruleset"), 10, "the backup's")
    wait_until(lambda: "answer4" in r1.exec("nft", "list", "ruleset"), 10, "the active's")
    assert client.until("discover").server == "192.168.1.2"
    client.close()


@pytest.mark.parametrize("vmac", ["", "1"])
def test_router_advertisements_come_from_the_virtual_address_of_the_master_only(
    open_lab: Open, vmac: str
) -> None:
    with_ra = [
        DhcpTandem([replace(V6, priority=priority, vmac=vmac)], n, more=RA, replicate=False)
        for n, priority in ((1, 150), (2, 100))
    ]
    lab: LanLab = open_lab(LanLab(with_ra, tag="ra"))
    r1, r2 = lab.routers
    host = lab.client
    write_sysctls(host.namespace, {"ipv6/conf/eth0/accept_ra": 2})

    def gateways() -> set[str]:
        return {route["gateway"] for route in ip_json(host, "-6", "route", "show", "default")}

    with Capture(lab, host.cable("eth0")) as capture:
        r1.start()
        wait_until(lambda: r1.active, 15, "r1 is active")
        r2.start()
        wait_until(lambda: state(r2, "V6") == "BACKUP", 15, "r2 is not")
        wait_until(
            lambda: solicit(host) or gateways() == {LINK_LOCAL}, 15, "the host has one router", every=0.5
        )
        Tandem.request(r1, "failover")
        wait_until(lambda: r2.active and r1.passive, 15, "r2 took over")
        r1.exec(str(home(r1) / "restart"))  # a farewell of a router that has been left
        assert wait_until(lambda: solicit(host), 15, "it advertises") == mac_of(r2)
        assert gateways() == {LINK_LOCAL}
    adverts = capture.fields("icmpv6.type == 134", "ipv6.src", "icmpv6.nd.ra.router_lifetime", "eth.src")
    assert {source for source, _, _ in adverts} == {LINK_LOCAL}
    assert "0" not in {lifetime for _, lifetime, _ in adverts}
    assert {mac for _, _, mac in adverts} == {mac_of(r1), mac_of(r2)}
    capture.assert_clean(filter="icmpv6.type == 134")


def test_prefixes_keep_their_lifetime_and_a_dead_active_is_quiet(open_lab: Open) -> None:
    """Beside the router's own address a virtual one is a /128 that expires; alone it is silenced."""
    v6 = replace(V6, addresses=(*V6.addresses, f"{ALONE}/64"))
    more = RA.replace("::100,::1ff", "::")
    lab: LanLab = open_lab(LanLab([DhcpTandem([v6], 1, more=more, replicate=False, lifetime="2")], tag="ra"))
    [router], host = lab.routers, lab.client
    slaac.listen(host)

    def prefixes() -> dict[str, int]:
        found = ip_json(router, "-6", "addr", "show", "dev", "eth0")[0]["addr_info"]
        return {item["local"]: item["prefixlen"] for item in found}

    with Capture(lab, host.cable("eth0"), filter="icmp6") as capture:
        router.start()
        wait_until(lambda: len(slaac.own_addresses(host)) == 2, 20, "two addresses", explain=router.log)
        mine = slaac.own_addresses(host)
        stays(lambda: slaac.own_addresses(host) == mine, 3)
        assert slaac.answers(host, ALONE) == {mac_of(router)}
        assert (prefixes()["fd00:1::4"], prefixes()[ALONE]) == (128, 64)
        router.kill()
        wait_until(lambda: "fd00:1::4" not in prefixes(), 10, "gone by the kernel's own hand")
        wait_until(lambda: slaac.answers(host, ALONE) == set(), 10, "silent by the kernel's own hand")
        assert prefixes()[ALONE] == 64
        assert solicit(host) is None
    fields = ("icmpv6.opt.prefix.valid_lifetime", "icmpv6.opt.prefix.preferred_lifetime", "icmpv6.opt.rdnss")
    adverts = capture.fields("icmpv6.type == 134", "icmpv6.opt.prefix", *fields)
    assert {advert[3] for advert in adverts} == {"fd00:1::4"}
    assert {text for advert in adverts for text in f"{advert[1]},{advert[2]}".split(",")} == {"600"}
    assert "fd00:1::,fd00:8::" in {",".join(sorted(advert[0].split(","))) for advert in adverts}

    # The next life clears it, and follows the router's own addresses.
    router.start()
    wait_until(lambda: router.active and slaac.answers(host, ALONE), 15, "active again", explain=router.log)
    router.ip("address add fd00:8::2/64 dev eth0")
    wait_until(lambda: prefixes().get(ALONE) == 128, 10, "beside the other one", explain=router.log)
    router.ip("address del fd00:8::2/64 dev eth0")
    wait_until(lambda: prefixes().get(ALONE) == 64, 10, "alone again", explain=router.log)
    router.stop()
    assert ALONE not in prefixes()
    assert "tandem_addresses" not in router.exec("nft", "list", "tables")


def test_released_when_it_is_switched_off(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, replicate=False)
    r1, r2 = lab.routers
    r2.stop()
    off = r2.file("conf").read_text().replace("option enabled '1'", "option enabled '0'", 1)
    r2.file("conf").write_text(off)
    r2.popen(*r2.daemon.commands(r2)[0]).wait(10)
    assert "tandem_dhcp" not in r2.exec("nft", "list", "ruleset")
    # And by the command that the package's removal runs.
    r1.stop()
    assert tandem(r1, "dhcp", "release") == 0
    assert "tandem_dhcp" not in r1.exec("nft", "list", "ruleset")
    assert not (home(r1) / "conf.d/tandem.conf").exists()
    client = Client(lab.client, 1)
    wait_until(lambda: answers(client), 10, "DHCP as before Tandem")
    client.close()


def test_a_reload_adds_and_takes_away_the_guard(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, replicate=False)
    r1 = lab.routers[0]
    client = Client(lab.client, 1)
    without = DhcpTandem([replace(V4, options={})], 1, replicate=False)
    r1.configure(without)
    Tandem.request(r1, "reload")
    assert "tandem_dhcp" not in r1.exec("nft", "list", "ruleset")
    assert not (home(r1) / "conf.d/tandem.conf").exists()
    wait_until(lambda: client.until("discover").options["router"] != VIP, 10, "as before Tandem")
    r1.configure(DhcpTandem([V4], 1, replicate=False))
    Tandem.request(r1, "reload")
    wait_until(lambda: dhcp(r1)["answering"] == ["V1"], 10, "it follows the role again")
    wait_until(lambda: client.until("discover").options["router"] == VIP, 10, "with the virtual address")
    assert client.until("discover").server == "192.168.1.2"
    assert r1.running
    client.close()
