# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts that only an OpenWrt has: procd, ubus, netifd, a DHCP server whose leases follow the role."""

from __future__ import annotations

from qemu.router import Pair
from qemu.traffic import traffic
from tests.lab import LAN_GATEWAY, wait_until
from tests.netns.dhcp_pair import Client

from .guests import OPENWRT, on


@on(*OPENWRT)
def test_procd_and_ubus_know_it(standing: Pair) -> None:
    lab = standing
    active = lab.in_step()
    for router in lab.routers:
        assert "running" in router.run("service tandem status", 60)
        status = router.parsed("ubus -t 20 call tandem status")
        state = "MASTER" if router is active else "BACKUP"
        assert {item["state"] for item in status["instances"]} == {state}


@on(*OPENWRT)
def test_dhcp_clients_keep_their_leases(standing: Pair) -> None:
    """`tandem init` has seen a DHCP server on the LAN: it follows the role, and its leases are replicated."""
    lab = standing
    active = lab.in_step()
    other = lab.other(active)
    host = Client(lab.client, 7, "laptop")
    try:
        offer = host.until("discover", timeout=120, wait=5)
        wanted = {"requested_addr": offer.address, "server_id": offer.server}
        given = host.until("request", timeout=60, wait=5, **wanted)
        assert given.kind == "ack" and given.options["router"] == LAN_GATEWAY
        lab.client.ip(f"address add {given.address}/24 dev eth0")  # it answers ARP for it from now on
        known = f"grep -c {given.address} /tmp/dhcp.leases"
        wait_until(lambda: "1" in other.run(known, check=False), 120, "the backup knows it", every=1)

        active.run("sync")
        active.power_off()
        wait_until(lambda: other.active, 60, "the other takes over", every=0.2)
        again = host.until("request", timeout=120, wait=5, ciaddr=given.address)
        assert (again.kind, again.address) == ("ack", given.address)
        assert again.server != given.server
    finally:
        host.close()
        if not active.running:
            active.power_on()
            active.wait_booted()
    lab.in_step()


@on(*OPENWRT)
def test_downloads_survive_a_network_reload(standing: Pair) -> None:
    lab = standing
    active = lab.in_step()
    with traffic(lab) as client:
        for verb in ("reload", "restart"):
            active.run(f"service network {verb}", 180)
            client.go_on(120)
            active = lab.in_step()
        client.go_on(120)
