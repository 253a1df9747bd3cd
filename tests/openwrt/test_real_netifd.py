# SPDX-License-Identifier: GPL-2.0-or-later
"""Networks followed through OpenWrt's own netifd: what it has is left alone, what we have survives it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import LanLab, Tandem, stays, wait_until
from tests.openwrt_pieces import needs_root, needs_ubus

from .real_netifd import MACVLAN, NetifdTandem, RealNetifd
from .test_netifd import LAN, PEER, VIP, holds, instance

pytestmark = [needs_ubus, needs_root]

Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open) -> LanLab:
    """r1 on netifd, active; r2 without."""
    lab: LanLab = open_lab(LanLab([NetifdTandem(LAN), Tandem((PEER,))]))
    lab.elect(20)
    return lab


def netifd(lab: LanLab) -> RealNetifd:
    daemon = lab.routers[0].daemon
    assert isinstance(daemon, NetifdTandem)
    return daemon.netifd


def own_addresses(lab: LanLab) -> list[str]:
    """Return the addresses that netifd gave to lan."""
    return [item["address"] for item in netifd(lab).status("lan")["ipv4-address"]]


def configure(lab: LanLab, text: str) -> None:
    """Write /etc/config/network and reload it as a user does."""
    (lab.routers[0].file("bus") / "network").write_text(text)
    netifd(lab).sh("cp /var/run/ubus/network /etc/config/network && /etc/init.d/network reload")


def test_a_reload_without_a_change_is_not_noticed(lab: LanLab) -> None:
    r1 = lab.routers[0]
    assert holds(r1, "lan0") and instance(r1)["device"] == "lan0"
    before = instance(r1)["transitions"]
    netifd(lab).sh("/etc/init.d/network reload")
    stays(lambda: lab.active is r1, 1, "active")
    assert own_addresses(lab) == ["192.168.1.2"]
    assert holds(r1, "lan0", "192.168.1.2/24") and instance(r1)["transitions"] == before
    assert instance(r1)["counters"].get("restored", 0) == 0


def test_a_reload_with_another_address_of_its_own(lab: LanLab) -> None:
    r1 = lab.routers[0]
    configure(lab, MACVLAN.replace("192.168.1.2", "192.168.1.7"))
    wait_until(lambda: own_addresses(lab) == ["192.168.1.7"], 10, explain=netifd(lab).log)
    wait_until(lambda: instance(r1)["source"] == "192.168.1.7", 10, explain=r1.log)
    wait_until(lambda: lab.active is r1 and holds(r1, "lan0"), 15, explain=r1.log)
    assert not holds(r1, "lan0", "192.168.1.2")
    lab.client.exec("ping", "-c1", "-W3", VIP)


def test_ifdown_and_ifup(lab: LanLab) -> None:
    r1, r2 = lab.routers
    netifd(lab).sh("ifdown lan")
    wait_until(lambda: lab.active is r2, 10, explain=r1.log)
    assert instance(r1)["state"] == "FAULT" and instance(r1)["device"] is None
    netifd(lab).sh("ifup lan")
    wait_until(lambda: lab.active is r1, 15, explain=r1.log)
    assert own_addresses(lab) == ["192.168.1.2"]


def test_it_moves_to_the_device_below_and_back(lab: LanLab) -> None:
    r1 = lab.routers[0]
    flat = MACVLAN.replace("'lan0'\n\toption proto", "'eth0'\n\toption proto")
    configure(lab, flat)
    wait_until(lambda: instance(r1)["device"] == "eth0", 10, explain=r1.log)
    wait_until(lambda: lab.active is r1 and holds(r1, "eth0"), 15, explain=r1.log)
    configure(lab, MACVLAN)
    wait_until(lambda: instance(r1)["device"] == "lan0", 10, explain=r1.log)
    wait_until(lambda: lab.active is r1 and holds(r1, "lan0"), 15, explain=r1.log)
    lab.client.exec("ping", "-c1", "-W3", VIP)


def test_netifd_is_started_anew(lab: LanLab) -> None:
    r1 = lab.routers[0]
    netifd(lab).restart()
    wait_until(lambda: "network lan: down" in r1.log(), 10, explain=r1.log)
    wait_until(lambda: lab.active is r1 and holds(r1, "lan0"), 20, explain=r1.log)
    assert own_addresses(lab) == ["192.168.1.2"]


def test_a_virtual_mac_on_a_device_of_netifd(open_lab: Open) -> None:
    lab: LanLab = open_lab(LanLab([NetifdTandem(replace(LAN, vmac="vrrp.51"))]))
    lab.start()
    r1 = lab.routers[0]
    wait_until(lambda: holds(r1, "vrrp.51"), 20, explain=r1.log)
    netifd(lab).sh("/etc/init.d/network reload")
    stays(lambda: holds(r1, "vrrp.51"), 0.5)
    netifd(lab).sh("ifdown lan; ifup lan")
    wait_until(lambda: "BACKUP" in r1.log().partition("FAULT")[2], 10, explain=r1.log)
    wait_until(lambda: holds(r1, "vrrp.51"), 20, explain=r1.log)
    lab.client.exec("ping", "-c1", "-W3", VIP)


DHCP = MACVLAN.replace("'static'\n\toption ipaddr '192.168.1.2'\n\toption netmask '255.255.255.0'", "'dhcp'")


def test_a_network_whose_address_comes_by_dhcp(open_lab: Open) -> None:
    """As on the WAN of most routers: the address is there later, and another one after a new lease."""
    lab: LanLab = open_lab(LanLab([NetifdTandem(LAN, network=DHCP)]))
    lab.start()
    r1, client = lab.routers[0], lab.client
    wait_until(lambda: r1.states() == {"V1": "FAULT"}, 15, explain=r1.log)

    def serve(address: str) -> subprocess.Popen[bytes]:
        argv = ["dnsmasq", "--conf-file=/dev/null", "--no-daemon", "--port=0", "--dhcp-authoritative"]
        argv += [f"--dhcp-range={address},{address},2m", f"--dhcp-leasefile={client.file('leases')}"]
        return client.popen(*argv, f"--pid-file={client.file('pid')}", stderr=subprocess.DEVNULL)

    server = serve("192.168.1.77")
    wait_until(lambda: lab.active is r1 and instance(r1)["source"] == "192.168.1.77", 30, explain=r1.log)
    assert own_addresses(lab) == ["192.168.1.77"]
    server.kill()
    server.wait(10)
    client.file("leases").unlink()
    serve("192.168.1.78")
    netifd(lab).sh("ifup lan")
    wait_until(lambda: lab.active is r1 and instance(r1)["source"] == "192.168.1.78", 30, explain=r1.log)
    assert own_addresses(lab) == ["192.168.1.78"]
