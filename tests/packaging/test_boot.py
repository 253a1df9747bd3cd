# SPDX-License-Identifier: GPL-2.0-or-later
"""A boot of OpenWrt's own root file system with a broken Python: a router that routes, and answers DHCP."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import Host, LanLab, Port, netns, wait_until
from tests.netns.dhcp_pair import Client
from tests.packaging.packages import REPOSITORY
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_dhcp import NETWORK, TANDEM, serves

WAN = """
config interface 'wan'
	option device 'eth1'
	option proto 'static'
	option ipaddr '192.168.7.1/24'
"""
LIBRARY = "/usr/lib/tandem/tandem"
BROKEN = {
    "no python": "rm /usr/bin/python3*",
    "a syntax error": f"echo '(' >>{LIBRARY}/__init__.py; find {LIBRARY} -name __pycache__ | xargs rm -r",
    "no library": "rm -r /usr/lib/python3*",
    "no pyroute2": "rm -r /usr/lib/python3*/site-packages/pyroute2",
}


def start_number(name: str) -> int:
    """When the init script runs in a boot."""
    found = re.search(r"^START=(\d+)$", (REPOSITORY / "files/etc/init.d" / name).read_text(), re.M)
    assert found
    return int(found[1])


def test_tandem_starts_when_the_network_is_there_and_dhcp_is_held_before() -> None:
    """The numbers of dnsmasq, odhcpd and the network are those of OpenWrt 22.03 to main."""
    dnsmasq, network, odhcpd = 19, 20, 35
    assert start_number("tandem-dhcp") < dnsmasq < odhcpd
    assert network < start_number("tandem")


@needs_router
@pytest.mark.parametrize("how", BROKEN)
def test_a_router_with_a_broken_python_routes(
    router: OpenWrt, open_lab: Callable[[Any], Any], how: str
) -> None:
    lab = LanLab([], tag="boot")
    wan = lab.switch("wan")
    lab.add(Host("server", [Port("eth0", wan, "192.168.7.10/24")], gateway="192.168.7.1"))
    open_lab(lab)
    cables = {"eth0": "lan", "eth1": "wan"}
    lines = [
        f"link add name {switch}1 type veth peer name {device} netns {router.pid}"
        for device, switch in cables.items()
    ]
    netns.ip_batch(
        [*lines, *(f"link set {switch}1 master {switch} up" for switch in cables.values())],
        lab.switch_namespace,
    )
    router.sh("opkg install tandem")
    router.write("/etc/config/network", NETWORK + WAN)
    router.write("/etc/config/tandem", TANDEM)
    router.sh(BROKEN[how])

    # The work of the init scripts at boot, in the order of their numbers; what fails must not end the boot.
    router.sh("mkdir -p /var/state /tmp/resolv.conf.d; : >/tmp/resolv.conf.d/resolv.conf.auto")
    router.sh("/etc/init.d/tandem-dhcp boot", status=None)
    router.sh("/etc/init.d/dnsmasq boot")
    router.sh("/etc/init.d/network boot")
    said = router.sh("/etc/init.d/tandem boot")
    assert said and "tandemd" in router.log, "nobody says why there is no gateway"
    for name in ("lan", "wan"):
        up = f"ubus call network.interface.{name} status | jsonfilter -e @.up"
        wait_until(lambda up=up: router.sh(up, status=None).strip() == "true", 30, name, every=0.3)
    router.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")

    # No virtual address, nothing that holds DHCP back, and a client of its own.
    assert "192.168.1.4" not in router.sh("ip addr")
    if how != "no pyroute2":
        assert "tandem" not in router.sh("nft list tables")
        wait_until(lambda: serves(router), 30, "dnsmasq serves the LAN", every=0.5)
        Client(lab.client, 1, "laptop").lease()
    lab.client.ip("route add default via 192.168.1.3")
    lab.client.exec("ping", "-c", "1", "-W", "5", "192.168.7.10")

    # Nothing of it needs Python to go.
    router.sh("/etc/init.d/tandem stop; opkg remove tandem")
    assert "tandem" not in router.sh("nft list tables; ls /etc/init.d /etc/rc.d /usr/lib")
