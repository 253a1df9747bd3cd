# SPDX-License-Identifier: GPL-2.0-or-later
"""The line of one_line.py with IPv6: an address, and a delegated prefix for the LAN.

The provider is ISC's dhcpd, and dnsmasq for router advertisements. netifd has the LAN as well, odhcpd
advertises it to the client, which makes its address of the prefix. Both routers are in a group of an IPv4
and an IPv6 instance; the latter has `dhcp`, so that the backup's odhcpd is not heard.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tandem.follow.line6 import link_local
from tests.lab import Instance, Router, Tandem, wait_until
from tests.lab.netns import write_sysctls
from tests.lab.scenario import tandem_uci
from tests.netns.dhcp_pair import tandem
from tests.netns.shared_line import MAC, UNANSWERED, VIP, line_sections
from tests.netns.slaac import own_addresses

from .one_line import NETWORK, LineTandem, OneLine

GATEWAY6 = "fe80::4"
FAR6 = "2001:db8:f::1"
PREFIX = "2001:db8:1::/56"
LINE_LOCAL = "fe80::1a:2bff:fe3c:4d5e"  # of MAC
DUID = f"00030001{MAC.replace(':', '')}"
NETWORK6 = f"""{NETWORK}
config interface 'wan6'
	option device '@wan'
	option proto 'dhcpv6'
	option clientid '{DUID}'

config interface 'lan'
	option device 'lan0'
	option proto 'static'
	option ipaddr '192.168.1.NUMBER'
	option netmask '255.255.255.0'
	option ip6assign '60'
"""
DHCP = """
config dhcp 'lan'
	option interface 'lan'
	option ra 'server'
	option ra_default '2'

config odhcpd 'odhcpd'
	option maindhcp '0'
"""
PROVIDER = """
default-lease-time 120;
preferred-lifetime 100;
option dhcp-renewal-time 60;
option dhcp-rebinding-time 90;
subnet6 2001:db8:ff::/64 {
    range6 2001:db8:ff::1000 2001:db8:ff::100f;
    prefix6 2001:db8:1:: 2001:db8:1:: /56;
}
"""


def configuration(number: int, guard: bool, patient: bool) -> str:
    """The configuration of router `number` (1, 2); without the guard, odhcpd of the backup is heard.

    `patient`: no busy machine makes it take the role.
    """
    advert_s, timers = (1.0, {"heartbeat_interval": "0.5"}) if patient else (0.1, {})
    common: dict[str, Any] = {"priority": 101, "advert_s": advert_s, "version": 3, "preempt": False}
    instances = [
        Instance("lan", "lan0", 51, (f"{VIP}/24",), **common),
        Instance("lan6", "lan0", 52, (f"{GATEWAY6}/64",), options={"dhcp": str(int(guard))}, **common),
    ]
    text = tandem_uci(instances, {"home": ("lan", "lan6")}, timers)
    follows = "\tlist follow 'wan'\n\tlist follow 'wan6'\n"
    return f"""{text.replace("	list group 'lan6'", "	list group 'lan6'" + chr(10) + follows)}
{line_sections(number)}
config follow 'wan6'
	option interface '@wan'

config dhcp_gateway
	option replicate '0'
"""


class Line6Tandem(LineTandem):
    """tandemd of one of the routers, with netifd's LAN and odhcpd."""

    def __init__(self, number: int, guard: bool, patient: bool) -> None:
        super().__init__(number, network=NETWORK6.replace("NUMBER", str(number + 1)))
        self.text = configuration(number, guard, patient)
        self._guard = guard

    def prepare(self, router: Router) -> None:
        super().prepare(router)
        if self._guard:
            assert tandem(router, "dhcp", "hold") == 0
        self.netifd.sh(f"cat >/etc/config/dhcp <<'END'\n{DHCP}\nEND\n/usr/sbin/odhcpd >/dev/null 2>&1 &")


class OneLine6(OneLine):
    """The lab. The server routes the prefix to the link-local address of the line, as providers do."""

    def __init__(self, guard: bool = True, patient: bool = False) -> None:
        super().__init__()
        self.servers6: list[subprocess.Popen[bytes]] = []
        for number, router in enumerate(self.routers, 1):
            router.daemon = Line6Tandem(number, guard, patient)
        self.client.ports[0].addresses = ("192.168.1.10/24",)
        self.client.routes = [route for route in self.client.routes if not route.startswith("::/0")]
        self.server.ports[0].addresses = ("192.168.0.1/24", "2001:db8:ff::1/64")
        self.server.routes = [f"{PREFIX} via {LINE_LOCAL} dev eth0"]
        self.server.loopback = (*self.server.loopback[:1], f"{FAR6}/128")

    def start(self) -> None:
        """Start everything, and wait until the client has its address and the backup knows the prefix."""
        write_sysctls(self.client.namespace, {"ipv6/conf/eth0/accept_ra": 2})
        self.serve6()
        super().start()
        wait_until(lambda: own_addresses(self.client), 20, "the client has an address", explain=self.logs)

    def settle(self) -> Router:
        """Also the prefix has come, and the backup knows it."""
        active = super().settle()
        for router, state in ((active, "bound"), (self.other(active), "away")):

            def settled(router: Router = router, state: str = state) -> bool:
                found = network6(router)
                return found["state"] == state and found["prefixes"] == [PREFIX]

            wait_until(settled, 30, f"the prefix of {router.name} is {state}", explain=self.logs)
        return active

    def serve6(self, text: str = PROVIDER) -> None:
        """Start the provider's servers of IPv6, which know nothing of an earlier life."""
        server = self.server
        for child in self.servers6:
            child.kill()
            child.wait(10)
        server.file("dhcpd6.conf").write_text(text)
        server.file("dhcpd6.leases").write_text("")
        argv = ["dhcpd", "-6", "-f", "-cf", str(server.file("dhcpd6.conf")), "--no-pid"]
        with server.file("dhcpd6.log").open("ab") as log:
            leases = str(server.file("dhcpd6.leases"))
            self.servers6 = [server.popen(*argv, "-lf", leases, "eth0", stderr=log)]
        argv = [
            "dnsmasq",
            "--conf-file=/dev/null",
            "--no-daemon",
            "--port=0",
            "--enable-ra",
            "--ra-param=eth0,5,1800",
        ]
        argv += ["--dhcp-range=2001:db8:ff::,ra-only,64,1h", "--interface=eth0", "--bind-interfaces"]
        with server.file("ra.log").open("ab") as log:
            leases = f"--dhcp-leasefile={server.file('ra.leases')}"
            self.servers6.append(server.popen(*argv, leases, stderr=log))

    @contextmanager
    def unanswered(self) -> Iterator[None]:
        """The provider's routers say nothing of themselves: neither addresses nor advertisements."""
        _, adverts = self.servers6
        self.server.exec("nft", "-f", "-", stdin=UNANSWERED)
        adverts.send_signal(signal.SIGSTOP)
        yield
        adverts.send_signal(signal.SIGCONT)
        self.server.exec("nft", "delete", "table", "netdev", "unanswered")

    def delegations(self) -> set[str]:
        """The clients in the provider's lease file that have a prefix, and the one that they have."""
        found, client = set(), ""
        for line in self.server.file("dhcpd6.leases").read_text().splitlines():
            words = line.split()
            if words[:1] == ["ia-pd"]:
                client = words[1]
            elif words[:1] == ["iaprefix"]:
                found.add(f"{client} {words[1]}")
        return found


def network6(router: Router) -> dict[str, Any]:
    """The status of the network with IPv6."""
    found: dict[str, Any] = Tandem.request(router, "status")["follow"][1]
    return found


def own_address(router: Router) -> str:
    """The address that the router has of the prefix as a backup, of its MAC address."""
    mac = bytes.fromhex(router.exec("cat", "/sys/class/net/lan0/address").strip().replace(":", ""))
    return link_local(mac).replace("fe80::", "2001:db8:1::")


def lan_addresses(router: Router, prefix: str = "2001:db8:1:") -> dict[str, tuple[int, int]]:
    """The router's addresses of the prefix in its LAN: preferred and valid lifetimes in seconds."""
    shown = json.loads(router.exec("ip", "-6", "-j", "addr", "show", "dev", "lan0"))
    return {
        item["local"]: (item["preferred_life_time"], item["valid_life_time"])
        for entry in shown
        for item in entry["addr_info"]
        if item["local"].startswith(prefix)
    }
