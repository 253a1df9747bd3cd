# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of networks in the configuration, followed through netifd: here a stand-in for it on a real ubusd."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import Instance, LanLab, Router, Tandem, stays, wait_until
from tests.lab.router import TANDEM
from tests.lab.scenario import tandem_uci
from tests.openwrt_pieces import USR, needs_ubus

from .ubusd import FakeNetifd, Ubusd

pytestmark = needs_ubus

VIP = "192.168.1.4"
LAN = Instance("V1", "lan", 51, (f"{VIP}/24",), priority=150, advert_s=0.1, version=3)
PEER = replace(LAN, device="eth0", priority=100)
Open = Callable[[Any], Any]


def on_ubus(ubusd: Ubusd, *instances: Instance, **options: Any) -> Tandem:
    return Tandem(instances, ubus=(ubusd.socket, str(USR / "lib")), **options)


def pair(open_lab: Open, ubusd: Ubusd, *instances: Instance, **options: Any) -> LanLab:
    """r1, which follows netifd, and r2, which does not."""
    lab: LanLab = open_lab(LanLab([on_ubus(ubusd, *instances, **options), Tandem((PEER,))]))
    lab.start()
    for router in lab.routers:
        wait_until(lambda: router.states(), 15, explain=router.log)  # noqa: B023
    return lab


def holds(router: Router, device: str, address: str = VIP) -> bool:
    return address in router.exec("ip", "-br", "addr", "show", "dev", device, check=False)


def status(router: Router) -> dict[str, Any]:
    found: dict[str, Any] = Tandem.request(router, "status")
    return found


def instance(router: Router) -> dict[str, Any]:
    found: dict[str, Any] = status(router)["instances"][0]
    return found


def test_a_network_stands_for_its_device(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    r1, _ = pair(open_lab, ubusd, LAN).routers
    wait_until(lambda: r1.active, 15, "r1 is active", explain=r1.log)
    assert "FAULT" not in r1.log()  # a healthy router's start is no fault
    assert holds(r1, "eth0")
    assert (instance(r1)["interface"], instance(r1)["device"]) == ("lan", "eth0")
    assert instance(r1)["addresses"] == [f"{VIP}/24 dev eth0"]
    assert status(r1)["networks"] == {"lan": "eth0"}


def test_down_is_a_fault_and_up_ends_it(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    r1, r2 = pair(open_lab, ubusd, LAN).routers
    wait_until(lambda: r1.active, 15, explain=r1.log)
    netifd.set("lan", "eth0", up=False)
    wait_until(lambda: r2.active and r1.passive, 10, "r2 takes over", explain=r1.log)
    assert instance(r1)["state"] == "FAULT" and instance(r1)["device"] is None
    assert "interface lan down" in instance(r1)["faults"]
    netifd.set("lan", "eth0")
    wait_until(lambda: r1.active and r2.passive, 10, "r1 is back", explain=r1.log)


@pytest.mark.parametrize("lifetime", ["60", "0"])
def test_it_moves_to_another_device(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd, lifetime: str) -> None:
    netifd.set("lan", "eth0")
    lab = pair(open_lab, ubusd, LAN, options={"address_lifetime": lifetime})
    r1 = lab.routers[0]
    wait_until(lambda: r1.active, 15, explain=r1.log)
    # As when the user makes a bridge of it.
    r1.ip(
        "link add br-lan type bridge",
        "link set br-lan up",
        "link set eth0 master br-lan",
        "addr add 192.168.1.2/24 dev br-lan",
    )
    netifd.set("lan", "br-lan")
    wait_until(lambda: holds(r1, "br-lan"), 10, "moved", explain=r1.log)
    wait_until(lambda: not holds(r1, "eth0"), 10, "nothing is left behind", explain=r1.log)
    wait_until(lambda: lab.active is r1, 10, "r1 alone is active", explain=r1.log)
    r1.ip("addr del 192.168.1.2/24 dev eth0")  # with its connected route
    lab.client.exec("ping", "-c1", "-W3", VIP)


def test_the_network_wins_over_a_device_of_its_name(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    lab: LanLab = open_lab(LanLab([on_ubus(ubusd, LAN)]))
    r1 = lab.routers[0]
    r1.ip("link add lan type veth peer name other", "link set lan up", "link set other up")
    r1.ip("addr add 192.168.9.1/24 dev lan")
    lab.start()
    wait_until(lambda: holds(r1, "eth0"), 15, explain=r1.log)
    assert not holds(r1, "lan")


def test_other_names_are_devices(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth9")
    r1, _ = pair(open_lab, ubusd, replace(LAN, device="eth0")).routers
    wait_until(lambda: r1.active, 15, explain=r1.log)
    assert instance(r1)["device"] == "eth0" and status(r1)["networks"] == {}


def test_what_netifd_said_outlives_it_and_ubusd(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    r1, _ = pair(open_lab, ubusd, LAN).routers
    wait_until(lambda: r1.active, 15, explain=r1.log)
    transitions = instance(r1)["transitions"]
    netifd.kill()
    stays(lambda: r1.active, 0.5, "netifd has gone")
    ubusd.kill()
    wait_until(lambda: "ubusd has gone" in r1.log(), 10)
    stays(lambda: r1.active, 0.5, "ubusd has gone")
    ubusd.start()
    netifd.start()
    wait_until(lambda: "tandem" in ubusd.cli("list").split(), 10, "back on the bus", explain=r1.log)
    assert r1.active and instance(r1)["transitions"] == transitions
    netifd.set("lan", "eth0", up=False)
    wait_until(lambda: r1.passive, 10, "it listens to the new netifd", explain=r1.log)


def test_a_network_that_comes_later(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    r1, r2 = pair(open_lab, ubusd, LAN).routers
    wait_until(lambda: instance(r1)["state"] == "FAULT", 10)  # there is no device of that name
    netifd.set("lan", "eth0")
    wait_until(lambda: r1.active and r2.passive, 10, explain=r1.log)
    netifd.delete("lan")
    stays(lambda: r1.active, 0.3, "netifd says that it is down before it removes one")


def test_routes_addresses_trackers_and_snat(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    netifd.set("wan", "wan0")
    far = replace(
        LAN,
        options={
            "virtual_ipaddress_excluded": ("203.0.113.4/24 dev wan",),
            "virtual_routes": ("src 203.0.113.4 to 0.0.0.0/0 via 203.0.113.1 dev wan metric 5",),
            "track_interface": ("wan",),
            "snat": "203.0.113.4",
        },
    )
    lab: LanLab = open_lab(LanLab([on_ubus(ubusd, far)]))
    r1 = lab.routers[0]
    r1.ip("link add wan0 type veth peer name isp", "link set wan0 up", "link set isp up")
    r1.ip("link add wan1 type veth peer name isp1", "link set wan1 up", "link set isp1 up")
    lab.start()

    def all_on(device: str) -> bool:
        routes = r1.exec("ip", "route", "show", "default")
        rules = r1.exec("nft", "list", "table", "inet", "tandem", check=False)
        return (
            holds(r1, device, "203.0.113.4") and f"dev {device} " in routes and f'oifname "{device}"' in rules
        )

    wait_until(lambda: all_on("wan0"), 15, explain=r1.log)
    netifd.set("wan", "wan1")
    wait_until(lambda: all_on("wan1"), 10, explain=r1.log)
    assert not holds(r1, "wan0", "203.0.113.4") and r1.has(VIP)
    netifd.set("wan", "wan1", up=False)
    wait_until(lambda: instance(r1)["state"] == "FAULT", 10, explain=r1.log)
    assert "interface wan down" in instance(r1)["faults"]


def test_a_virtual_mac_moves_along(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    lab: LanLab = open_lab(LanLab([on_ubus(ubusd, replace(LAN, vmac="vrrp.51"))]))
    r1 = lab.routers[0]
    lab.start()
    wait_until(lambda: r1.active, 15, explain=r1.log)
    assert "vrrp.51@eth0" in r1.exec("ip", "link", "show", "vrrp.51")
    r1.ip("link add eth1 type veth peer name other", "link set eth1 up", "link set other up")
    r1.ip("addr add 192.168.1.7/24 dev eth1")
    netifd.set("lan", "eth1")
    wait_until(lambda: "vrrp.51@eth1" in r1.exec("ip", "link", "show", "vrrp.51", check=False), 10)
    wait_until(lambda: holds(r1, "vrrp.51"), 10, explain=r1.log)
    assert r1.sysctl("ipv4/conf/eth0/arp_ignore") == "0" and r1.sysctl("ipv4/conf/eth1/arp_ignore") == "1"


SYNC = """
config conntrack_sync
	option enabled '1'
	list peer '{peer}'
	option interface '{interface}'
	option secret 'at least sixteen bytes'
"""


def test_replication_on_a_network(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    first = tandem_uci((LAN,)) + SYNC.format(peer="192.168.1.3", interface="lan")
    second = tandem_uci((PEER,)) + SYNC.format(peer="192.168.1.2", interface="eth0")
    lab: LanLab = open_lab(LanLab([on_ubus(ubusd, LAN, text=first), Tandem((PEER,), text=second)]))
    lab.start()
    r1, r2 = lab.routers

    def connected() -> bool:
        channels = [Tandem.request(router, "conntrack")["channel"] for router in (r1, r2)]
        return all(channel["peers"][0]["state"] == "up" for channel in channels)

    wait_until(lambda: r1.states() and r2.states(), 15)
    assert not connected()  # netifd does not know it yet
    netifd.set("lan", "eth0")
    wait_until(connected, 20, explain=r1.log)
    assert ubusd.call("tandem", "conntrack")["channel"]["peers"][0]["state"] == "up"
    wait_until(lambda: r1.active, 15, explain=r1.log)
    netifd.set("lan", "eth0", up=False)
    wait_until(lambda: not connected(), 20, explain=r1.log)
    netifd.set("lan", "eth0")
    wait_until(connected, 20, explain=r1.log)


def test_capture_knows_networks(open_lab: Open, ubusd: Ubusd, netifd: FakeNetifd) -> None:
    netifd.set("lan", "eth0")
    r1, _ = pair(open_lab, ubusd, LAN).routers
    wait_until(lambda: r1.active, 15, explain=r1.log)
    for name in ("lan", "eth0"):
        argv = [
            sys.executable,
            str(TANDEM),
            "capture",
            name,
            "--count",
            "1",
            "--control",
            str(r1.file("sock")),
        ]
        assert "sent by this router" in r1.exec("timeout", "30", *argv)
