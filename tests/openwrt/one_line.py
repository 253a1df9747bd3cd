# SPDX-License-Identifier: GPL-2.0-or-later
"""The line of tests/netns/shared_line.py: genuine netifd, to which a provider lends one address by DHCP."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from tests.lab import Host, Instance, Lab, Router, Tandem, netns, wait_until
from tests.netns.shared_line import LINE, MAC, RULES, VIP, SharedLine, configuration
from tests.openwrt_pieces import LOOPBACK, USR

from .real_netifd import RealNetifd

NETWORK = (
    LOOPBACK
    + """
config interface 'wan_line'
	option device 'eth1'
	option proto 'none'

config interface 'wan'
	option device 'wan0'
	option proto 'dhcp'
	option hostname 'gateway'
"""
)


class LineTandem(Tandem):
    """tandemd of one of the routers, on the bus of its genuine netifd."""

    def __init__(self, number: int, network: str = NETWORK, **options: Any) -> None:
        instance = Instance("lan", "lan0", 51, (f"{VIP}/24",))
        super().__init__([instance], text=configuration(number, **options))
        self.network = network
        self.netifd = RealNetifd()

    def prepare(self, router: Router) -> None:
        router.exec("nft", "-f", "-", stdin=RULES)
        self.netifd.start(router, self.network)
        self.ubus = (str(router.file("bus") / "ubus.sock"), str(USR / "lib"))


class OneLine(SharedLine):
    """The lab; `server` is the provider."""

    def __init__(self, **options: Any) -> None:
        super().__init__(lambda number: LineTandem(number, **options))

    def start(self) -> None:
        """Start the provider and both routers, and wait until one is active and the other follows it."""
        self.serve()
        super().start()

    def settle(self) -> Router:
        """Also the provider has answered, and the backup knows the lease."""
        active = super().settle()
        for router, state in ((active, "bound"), (self.other(active), "away")):

            def settled(router: Router = router, state: str = state) -> bool:
                return network(router)["state"] == state and bool(network(router)["address"])

            wait_until(settled, 20, f"the line of {router.name} is {state}", explain=self.logs)
        return active

    def serve(self, first: int = 50, lease: str = "2m") -> None:
        """Start the provider's DHCP server with ten addresses."""
        argv = ["dnsmasq", "--conf-file=/dev/null", "--no-daemon", "--port=0", "--dhcp-authoritative"]
        argv += [f"--dhcp-range=192.168.0.{first},192.168.0.{first + 9},{lease}", "--no-ping"]
        argv += [f"--dhcp-leasefile={self.server.file('leases')}", f"--pid-file={self.server.file('pid')}"]
        with self.server.file("dnsmasq.log").open("ab") as log:
            self.provider = self.server.popen(*argv, stderr=log)

    def leases(self) -> list[str]:
        """The lines of the provider's lease file."""
        path = self.server.file("leases")
        return [line for line in path.read_text().splitlines() if line] if path.exists() else []


class IscLine(OneLine):
    """The same with ISC's dhcpd as the provider, which has one address: a second client would get none."""

    def serve(self, first: int = 50, lease: str = "120") -> None:
        """Start the provider's DHCP server; `lease` in seconds."""
        server, address = self.server, f"192.168.0.{first}"
        server.file("dhcpd.conf").write_text(f"""
authoritative;
ping-check false;
default-lease-time {lease};
max-lease-time {lease};
subnet 192.168.0.0 netmask 255.255.255.0 {{
    range {address} {address};
    option routers 192.168.0.1;
    option broadcast-address 192.168.0.255;
}}
""")
        server.file("leases").touch()
        argv = ["dhcpd", "-4", "-f", "--no-pid", "-cf", str(server.file("dhcpd.conf"))]
        with server.file("dhcpd.log").open("ab") as log:
            self.provider = server.popen(*argv, "-lf", str(server.file("leases")), "eth0", stderr=log)

    def leases(self) -> list[str]:
        """The clients in the provider's lease file, in the form of dnsmasq's lines."""
        found = re.findall(
            r"^lease (\S+) {[^}]*hardware ethernet (\S+);", self.server.file("leases").read_text(), re.M
        )
        return sorted({f"- {mac} {address}" for address, mac in found})


class Spoken:
    """Counts what a router sends on the line, by counters where its cable enters the switch."""

    def __init__(self, lab: Lab, router: Host) -> None:
        self._lab, self._table = lab, f"spoken_{router.name}"
        cable = router.cable(LINE)
        rules = f"""
table netdev {self._table} {{
    chain shared {{
        type filter hook ingress device "{cable}" priority 0
        ether saddr {MAC} counter
        ether saddr != {MAC} counter
    }}
}}
"""
        self._nft("delete", "table", "netdev", self._table, check=False)
        self._nft("-f", "-", stdin=rules)

    @property
    def frames(self) -> tuple[int, int]:
        """How many frames had the MAC address of the line, and how many had another one."""
        found = re.findall(r"counter packets (\d+)", self._nft("list", "table", "netdev", self._table))
        return int(found[0]), int(found[1])

    def _nft(self, *words: str, stdin: str = "", check: bool = True) -> str:
        argv = ["ip", "netns", "exec", self._lab.switch_namespace, "nft", *words]
        return netns.run(argv, stdin=stdin, check=check)


def network(router: Router) -> dict[str, Any]:
    """The status of the followed network."""
    found: dict[str, Any] = Tandem.request(router, "status")["follow"][0]
    return found


def failover(active: Router) -> None:
    """Hand the role over."""
    Tandem.request(active, "failover")


def renew(active: Router) -> None:
    """Have the DHCP client ask the provider now, and not when half of the lease is over."""
    for pid in map(int, netns.run(["ip", "netns", "pids", active.namespace]).split()):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "udhcpc":
            os.kill(pid, signal.SIGUSR1)


def power_loss(active: Router) -> None:
    """Pull the plug."""
    active.power_off()
