# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair of genuine OpenWrt routers: installed by opkg, set up by `tandem init`, run by procd."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu.openwrt_router import FEEDS_PORT, OpenWrtRouter
from qemu.root_guest import root_guest
from qemu.router import Pair
from qemu.traffic import traffic
from tests.lab import LAN_GATEWAY, wait_until
from tests.netns.dhcp_pair import Client
from tests.openwrt_pieces import ROOT, needs
from tests.packaging.conftest import feed, python310, router_feeds  # noqa: F401

from .conftest import booted

pytestmark = [
    needs(ROOT / "sbin/procd", ROOT / "bin/opkg", ROOT / "usr/bin/python3"),
    pytest.mark.skipif(python310() is None, reason="no python3.10: the root lacks what pyroute2 imports"),
]


@pytest.fixture(scope="module")
def openwrt(request: pytest.FixtureRequest, router_feeds: Path) -> Iterator[Pair]:  # noqa: F811
    """Two routers, set up as a user would; for all scenarios of this module, which leave them in step."""
    image = root_guest(ROOT, "x86_64")
    lab = Pair([image, image], OpenWrtRouter)
    with booted(f"{request.module.__name__}", lab):
        argv = ["-m", "http.server", str(FEEDS_PORT), "--directory", str(router_feeds)]
        server = lab.server.popen(sys.executable, *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for router in lab.routers:
            router.install()
        _init(lab)
        lab.in_step(180)
        yield lab
        server.kill()


def _init(lab: Pair) -> None:
    """`tandem init` on one router, and the line that it prints on the other."""
    networks = "--network lan=192.168.1.4 --network wan=192.168.0.4"
    printed = lab.r1.run(f"tandem init {networks} --peer 192.168.1.3 --start", 300)
    line = re.search(r"^\s+(echo \S+ \| tandem init --join --start)$", printed, re.MULTILINE)
    assert line, printed
    lab.r2.run(line[1], 300)


def test_procd_and_ubus_know_it_x86_64(openwrt: Pair) -> None:
    lab = openwrt
    active = lab.in_step(120)
    for router in lab.routers:
        assert "running" in router.run("service tandem status", 60)
        status = json.loads(router.run("ubus -t 20 call tandem status", 60))
        state = "MASTER" if router is active else "BACKUP"
        assert {item["state"] for item in status["instances"]} == {state}


def test_dhcp_clients_keep_their_leases_x86_64(openwrt: Pair) -> None:
    """`tandem init` has seen a DHCP server on the LAN: it follows the role, and its leases are replicated."""
    lab = openwrt
    active = lab.in_step(120)
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
            active.wait_booted(600)
    lab.in_step(300)


def test_downloads_survive_upgrade_reload_and_power_loss_x86_64(openwrt: Pair) -> None:
    lab = openwrt
    active = lab.in_step(120)
    with traffic(lab) as client:
        active.run("service network reload", 180)
        client.go_on(120)
        active = lab.in_step(120)

        # The newer package of another feed: the daemon is exchanged, its peer takes over meanwhile.
        for router in (lab.other(active), active):
            before = router.pid()
            router.run("sed -i s,/tandem$,/next, /etc/opkg/customfeeds.conf; opkg update", 300)
            router.run("opkg upgrade tandem", 600)
            assert re.search(r"-r?2$", router.run("opkg list-installed tandem").strip())
            wait_until(lambda r=router, p=before: r.pid() != p, 60, "another daemon runs", every=0.5)
            client.go_on(120)
            lab.in_step(180)

        active = lab.in_step(120)
        active.run("sync")
        start = time.monotonic()
        active.power_off()
        client.outage_since(start, 120)
        client.go_on(120)
        active.power_on()
        active.wait_booted(600)
        lab.in_step(300)
        client.go_on(120)
