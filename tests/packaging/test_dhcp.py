# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenWrt's own dnsmasq, with its init script, netifd and procd, beside a router with Debian's: a pair."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.dhcp6 import DUID_LL, DHCP6_Solicit, DHCP6OptClientId, DHCP6OptIA_NA, DHCP6OptIAAddress
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.lab import Capture, Host, LanLab, netns, stays, wait_until
from tests.lab.frames import say
from tests.netns.daemon import state
from tests.netns.dhcp_pair import SECRET, V4, V6, VIP, Client, DhcpTandem, dhcp, knows, resolve
from tests.netns.slaac import ALONE, answers, listen, own_addresses
from tests.netns.test_dhcp_guard import solicit
from tests.openwrt_pieces import ODHCPD, needs_odhcpd
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_opkg import needs_planner

pytestmark = [needs_router, needs_planner]

NETWORK = """config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1'
	option netmask '255.0.0.0'

config interface 'lan'
	option device 'eth0'
	option proto 'static'
	option ipaddr '192.168.1.3'
	option netmask '255.255.255.0'
"""
TANDEM = f"""config globals 'globals'
	option enabled '1'

config vrrp_instance 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	option priority '100'
	option version '3'
	option advert_int '0.1'
	option nopreempt '1'
	option dhcp '1'
	list virtual_ipaddress '{VIP}/24'

config conntrack_sync
	option enabled '1'
	list peer '192.168.1.2'
	option secret '{SECRET}'
	option heartbeat '0.2'
"""


def plug(lab: LanLab, router: OpenWrt) -> None:
    """A cable from the router's eth0 to the LAN."""
    switch = lab.switch_namespace
    netns.ip_batch(
        [
            f"link add name openwrt.lan type veth peer name eth0 netns {router.pid}",
            "link set openwrt.lan master lan up",
        ],
        switch,
    )


def boot(router: OpenWrt) -> None:
    """Do the work of the init scripts at boot, in the order of their numbers."""
    router.sh("mkdir -p /var/state /tmp/resolv.conf.d; : >/tmp/resolv.conf.d/resolv.conf.auto")
    router.sh("/etc/init.d/tandem-dhcp boot")
    router.sh("/etc/init.d/dnsmasq boot")
    router.sh("/etc/init.d/network boot")
    up = "ubus call network.interface.lan status | jsonfilter -e @.up"
    wait_until(lambda: router.sh(up, status=None).strip() == "true", 30, "netifd has set lan up", every=0.3)


def serves(router: OpenWrt) -> bool:
    """Whether the init script lets dnsmasq serve the LAN."""
    return "dhcp-range=set:lan" in router.sh("cat /var/etc/dnsmasq.conf.*", status=None)


def leases(router: OpenWrt) -> str:
    return router.sh("cat /tmp/dhcp.leases", status=None)


def test_leases_come_to_openwrts_dnsmasq_and_survive(router: OpenWrt, open_lab: Callable[[Any], Any]) -> None:
    router.sh("opkg install tandem")
    router.write("/etc/config/network", NETWORK)
    router.write("/etc/config/tandem", TANDEM)
    before = router.sh("sha256sum /etc/config/*")
    lab: LanLab = open_lab(LanLab([DhcpTandem([replace(V4, priority=150)], 1)], tag="openwrt"))
    plug(lab, router)
    [debian] = lab.routers
    debian.start()
    wait_until(lambda: debian.active, 15, "the other router is active")
    laptop = Client(lab.client, 1, "laptop")
    assert laptop.lease().options["router"] == VIP

    # OpenWrt's init script finds the other server, and would not serve the LAN ever after.
    boot(router)
    router.sh("/etc/init.d/dnsmasq reload")
    assert not serves(router)

    router.sh("/etc/init.d/tandem start")
    wait_until(lambda: serves(router), 30, "served all the same", explain=lambda: router.log, every=0.3)
    wait_until(lambda: laptop.address in leases(router), 30, "the lease is there", every=0.3)
    assert "laptop" in leases(router)
    assert f"option:router,{VIP}" in router.sh("cat /tmp/dnsmasq.d/tandem.conf")
    # All of that is in memory.
    assert router.sh("sha256sum /etc/config/*") == before
    assert router.sh("uci changes") == ""

    phone = Client(lab.client, 2, "phone")
    phone.lease()
    wait_until(lambda: phone.address in leases(router), 30, "and so is a new one", every=0.3)
    status = json.loads(router.sh("tandem status --json"))["dhcp"]
    assert status["leases"] == 3  # one is of the init script, which has asked for it to find the server
    assert status["answering"] == [] and status["problem"] == ""
    wait_until(
        lambda: not json.loads(router.sh("tandem status --json"))["dhcp"]["waiting"],
        20,
        "restarted",
        every=0.5,
    )

    debian.power_off()
    wait_until(lambda: VIP in router.sh("ip addr show dev eth0"), 20, "OpenWrt took over", every=0.1)
    for client in (laptop, phone):
        ack = client.reboot()
        assert (ack.kind, ack.address, ack.server) == ("ack", client.address, "192.168.1.3")
        assert ack.options["router"] == VIP and ack.options["name_server"] == VIP
    assert resolve(lab.client, VIP, "phone.lan") == phone.address
    tablet = Client(lab.client, 3, "tablet")
    assert tablet.lease().address not in (laptop.address, phone.address)

    # The other router comes back, with an empty lease file.
    debian.power_on()
    knows(debian, laptop.address, phone.address, tablet.address)
    assert dhcp(debian)["answering"] == []

    # The service is stopped and the package removed: DHCP goes its own way again.
    router.sh("/etc/init.d/tandem stop")
    assert "tandem_dhcp" in router.sh("nft list tables")
    router.sh("opkg remove tandem")
    assert "tandem" not in router.sh("nft list tables; ls /tmp/dnsmasq.d; cat /var/state/dhcp", status=None)


DHCP6 = """config dnsmasq
	option leasefile '/tmp/dhcp.leases'

config dhcp 'lan'
	option interface 'lan'
	option ra 'server'
	option dhcpv6 'server'
	option ra_default '2'

config odhcpd 'odhcpd'
	option maindhcp '0'
	option leasefile '/tmp/hosts/odhcpd'
	option leasetrigger '/usr/sbin/odhcpd-update'
"""
TANDEM6 = """config globals 'globals'
	option enabled '1'

config vrrp_instance 'V6'
	option interface 'lan'
	option virtual_router_id '61'
	option priority '100'
	option version '3'
	option native_ipv6 '1'
	option advert_int '0.1'
	option nopreempt '1'
	option dhcp '1'
	list virtual_ipaddress 'fe80::4/64'
	list virtual_ipaddress 'fd00:1::4/64'

config dhcp_gateway
	option replicate '0'
"""


def solicit_address(host: Host) -> dict[str, str]:
    """Return the link-layer address of the router that answers a SOLICIT in a second, and its offer."""
    mac = host.exec("cat", "/sys/class/net/eth0/address").strip()
    source = host.exec("sh", "-c", "ip -6 -o addr show dev eth0 scope link").split()[3].partition("/")[0]
    frame = Ether(src=mac, dst="33:33:00:01:00:02") / IPv6(src=source, dst="ff02::1:2", hlim=1)
    frame = frame / UDP(sport=546, dport=547) / DHCP6_Solicit(trid=77)
    frame = frame / DHCP6OptClientId(duid=DUID_LL(lladdr=mac)) / DHCP6OptIA_NA(iaid=1)
    return {
        packet.src: packet[DHCP6OptIAAddress].addr
        for packet in say(host, frame, 1)
        if UDP in packet and packet[UDP].dport == 546 and DHCP6OptIAAddress in packet
    }


def test_odhcpd_is_silent_until_elected_and_speaks_for_the_virtual_address(
    router: OpenWrt, open_lab: Callable[[Any], Any]
) -> None:
    router.sh("opkg install tandem")
    router.write("/etc/config/network", NETWORK + "\tlist ip6addr 'fd00:1::3/64'\n")
    router.write("/etc/config/dhcp", DHCP6)
    router.write("/etc/config/tandem", TANDEM6)
    debian = DhcpTandem([replace(V6, priority=150)], 1, replicate=False)
    lab: LanLab = open_lab(LanLab([debian], tag="odhcpd"))
    plug(lab, router)
    host, [other] = lab.client, lab.routers
    mac = router.sh("cat /sys/class/net/eth0/address").strip()
    other.start()
    wait_until(lambda: other.active, 15, "the other router is active")
    with Capture(lab, host.cable("eth0")) as capture:
        boot(router)
        router.sh("/etc/init.d/odhcpd boot")
        solicit(host)
        router.sh("/etc/init.d/tandem start")
        backup = "tandem status | grep -q BACKUP && echo yes"
        wait_until(lambda: router.sh(backup, status=None), 30, "BACKUP", every=0.5)
        wait_until(lambda: "fd00:1::3/64" in router.sh("ip -6 addr"), 20, "netifd's address", every=0.3)
        solicit(host)
        assert mac not in solicit_address(host)
        router.sh("/etc/init.d/odhcpd restart")  # with a farewell
        solicit(host)
        assert mac not in solicit_address(host)
        other.power_off()
        wait_until(lambda: "fe80::4/64" in router.sh("ip -6 addr show dev eth0"), 20, "OpenWrt took over")
        solicit(host)
        answered = wait_until(lambda: solicit_address(host), 30, "it answers DHCPv6", every=0.5)
        assert list(answered) == [mac]
        # Leases stay with their server, but an address follows from the client's DUID: no state is needed.
        router.sh("rm -f /tmp/hosts/odhcpd* && kill -9 $(pidof odhcpd) && /etc/init.d/odhcpd restart")
        again = wait_until(lambda: solicit_address(host), 30, "it answers DHCPv6 again", every=0.5)
        assert again == answered
    adverts = capture.fields("icmpv6.type == 134", "ipv6.src", "eth.src", "icmpv6.nd.ra.router_lifetime")
    ours = [advert for advert in adverts if advert[1] == mac]
    assert ours, adverts
    assert {source for source, _, _ in ours} == {"fe80::4"}
    assert "0" not in {lifetime for _, _, lifetime in ours}
    assert capture.count("icmpv6.type == 134 and icmpv6.checksum.status != 1") == 0  # 1: good


# The newest odhcpd in the router's network, on its ubus, with its configuration.
NEWEST = """
mount -t tmpfs tmpfs /run
mkdir /run/ubus /run/config
mount --bind /proc/$0/root/tmp/run/ubus /run/ubus
mount --bind /proc/$0/root/etc/config /run/config
exec "$1" -f -c /run/config
"""


@contextmanager
def odhcpd(router: OpenWrt, newest: bool) -> Iterator[None]:
    """The root's odhcpd, which ends with the router, or the newest one."""
    if not newest:
        router.sh("/etc/init.d/odhcpd boot")
        yield
        return
    inside = ["nsenter", f"--target={router.pid}", "--net", "--mount"]
    argv = [*inside, "sh", "-ec", NEWEST, str(router.pid), str(ODHCPD)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as child:
        try:
            yield
        finally:
            child.kill()


@pytest.mark.parametrize("newest", [False, pytest.param(True, marks=needs_odhcpd)])
def test_advertisements_are_ordinary_and_hosts_keep_their_addresses(
    router: OpenWrt, open_lab: Callable[[Any], Any], newest: bool
) -> None:
    """odhcpd on one router, dnsmasq on the other; one virtual address beside own ones, one without."""
    router.sh("opkg install tandem")
    router.write("/etc/config/network", NETWORK + "\tlist ip6addr 'fd00:1::3/64'\n")
    router.write("/etc/config/dhcp", DHCP6)
    text = TANDEM6.replace("fd00:1::4/64'", f"fd00:1::4/64'\n\tlist virtual_ipaddress '{ALONE}/64'")
    text = text.replace("option priority '100'", "option priority '200'")
    router.write("/etc/config/tandem", text.replace("\toption nopreempt '1'\n", ""))
    v6 = replace(V6, addresses=(*V6.addresses, f"{ALONE}/64"), preempt=True)
    more = "enable-ra\ndhcp-range=set:lan,::,constructor:eth0,slaac,64,2h"
    lab: LanLab = open_lab(LanLab([DhcpTandem([v6], 1, more=more, replicate=False)], tag="slaac"))
    plug(lab, router)
    host, [other] = lab.client, lab.routers
    listen(host)
    mac = router.sh("cat /sys/class/net/eth0/address").strip()
    debian = other.exec("cat", "/sys/class/net/eth0/address").strip()
    boot(router)
    with odhcpd(router, newest), Capture(lab, host.cable("eth0"), filter="icmp6") as capture:
        router.sh("/etc/init.d/tandem start")
        wait_until(
            lambda: len(own_addresses(host)) == 2, 40, "two addresses", every=0.5, explain=lambda: router.log
        )
        other.start()
        wait_until(lambda: state(other, "V6") == "BACKUP", 15, "the other is a backup")
        hosts_addresses = own_addresses(host)
        assert sorted(address[:8] for address in hosts_addresses) == ["fd00:1::", "fd00:8::"]
        wait_until(lambda: solicit(host) == mac, 15, "it advertises", every=0.5)
        stays(lambda: own_addresses(host) == hosts_addresses, 6)
        assert answers(host, ALONE) == {mac}

        # The daemon hangs. The address stays, and nobody finds the router by it.
        router.sh("kill -STOP $(pgrep -f tandemd | head -1)")
        wait_until(lambda: other.active, 20, "the other took over")
        wait_until(lambda: answers(host, ALONE) == {debian}, 10, "only the other one answers")
        assert ALONE in router.sh("ip -6 addr show dev eth0")
        assert "fd00:1::4/" not in router.sh("ip -6 addr show dev eth0")
        wait_until(lambda: solicit(host) == debian, 15, "the other advertises", every=0.5)
        assert own_addresses(host) == hosts_addresses
        assert "via fe80::4 " in host.exec("ip", "-6", "route", "show", "default")
    resolvers = "ubus call network.interface.lan status | jsonfilter -e '@.data.dns[*]'"
    assert router.sh(resolvers).split() == ["fd00:1::4"]
    router.sh("kill -CONT $(pgrep -f tandemd | head -1); /etc/init.d/tandem stop; tandem dhcp release")
    assert router.sh(resolvers, status=None).split() == []
    assert "FAILED to start up" not in router.log  # OpenWrt's dnsmasq knows no options of DHCPv6
    adverts = capture.fields(
        "icmpv6.type == 134", "eth.src", "ipv6.src", "icmpv6.nd.ra.router_lifetime", "icmpv6.opt.rdnss",
        "icmpv6.opt.prefix", "icmpv6.opt.prefix.valid_lifetime", "icmpv6.opt.prefix.preferred_lifetime",
        "icmpv6.opt.rdnss.lifetime",
    )  # fmt: skip
    by = {one: [advert[1:] for advert in adverts if advert[0] == one] for one in (mac, debian)}
    assert by[mac] and by[debian] and len(by[mac]) + len(by[debian]) == len(adverts)
    assert len(by[mac]) <= 6, "one each four seconds, with short lifetimes"
    for source, lifetime, resolver, prefixes, valid, preferred, of_resolver in (*by[mac], *by[debian]):
        assert (source, lifetime, resolver) == ("fe80::4", "1800", "fd00:1::4")
        assert set(prefixes.split(",")) == {"fd00:1::", "fd00:8::"}
        lifetimes = [int(text) for text in f"{valid},{preferred},{of_resolver}".split(",")]
        assert min(lifetimes) >= 1800, adverts
    # Nothing is announced of a virtual address that stands beside a router's own but what the own one says.
    for _, _, _, prefixes, valid, _, _ in by[mac]:
        found = dict(zip(prefixes.split(","), valid.split(","), strict=True))
        assert found["fd00:1::"] == ("5400" if newest else str(2**32 - 1))  # the newest says at most that
