# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the resident daemon on OpenWrt's musl and Python, with everything configured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import LanLab, netns, wait_until
from tests.netns.dhcp_pair import V4, DhcpTandem, dhcp
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_dhcp import NETWORK, TANDEM, boot, plug
from tests.packaging.test_opkg import needs_planner

pytestmark = [needs_router, needs_planner]

LIMIT_KIB = 15 * 1024
WAN = """
config interface 'wan'
	option device 'eth1'
	option proto 'static'
	option ipaddr '192.168.0.3'
	option netmask '255.255.255.0'
"""
WAN_INSTANCE = """
config vrrp_instance 'V2'
	option interface 'wan'
	option virtual_router_id '52'
	option version '3'
	option advert_int '0.1'
	list virtual_ipaddress '192.168.0.4/24'

config vrrp_sync_group
	option name 'G1'
	list group 'V1'
	list group 'V2'
"""


def test_everything_stays_below_15_mib(router: OpenWrt, open_lab: Callable[[Any], Any]) -> None:
    router.sh("opkg install tandem")
    router.write("/etc/config/network", NETWORK + WAN)
    first = (
        TANDEM.replace("'eth0'", "'lan'").replace("'100'", "'200'").replace("nopreempt '1'", "nopreempt '0'")
    )
    router.write("/etc/config/tandem", first + WAN_INSTANCE)
    lab: LanLab = open_lab(
        LanLab([DhcpTandem([replace(V4, priority=100)], 1, connections=True)], tag="memory")
    )
    plug(lab, router)
    cable = f"link add name openwrt.wan type veth peer name eth1 netns {router.pid}"
    netns.ip_batch([cable, "link set openwrt.wan up"], lab.switch_namespace)
    [peer] = lab.routers
    peer.start()
    boot(router)
    router.sh("/etc/init.d/tandem start")

    def status() -> Any:
        return json.loads(router.sh("tandem status --json 2>/dev/null", status=None) or "{}")

    def complete() -> bool:
        said = status()
        return (
            bool(said)
            and {item["state"] for item in said["instances"]} == {"MASTER"}
            and said["networks"] == {"lan": "eth0", "wan": "eth1"}
            and len(said["dhcp"]["told"]) == 1
            and json.loads(router.sh("tandem conntrack --json"))["channel"]["peers"][0].get("in_step", False)
        )

    wait_until(complete, 60, "everything works", explain=lambda: router.log, every=0.5)
    wait_until(lambda: not dhcp(peer)["waiting"], 20, "so for the peer")
    for _ in range(5):
        router.sh("tandem status; tandem conntrack; ubus call tandem status")
    pid = status()["pid"]
    assert "libubus" in router.sh(f"cat /proc/{pid}/maps")
    found = re.search(r"VmRSS:\s+(\d+) kB", router.sh(f"cat /proc/{pid}/status"))
    assert found is not None and int(found[1]) < LIMIT_KIB
