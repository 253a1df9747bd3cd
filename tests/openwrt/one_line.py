# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers that share one line of a provider, which gives one address by DHCP.

    client ---- lan ----+---- r1 (.2) ---- eth1 ----+---- wan ---- server (dnsmasq) ---- 203.0.113.1
    .10     192.168.1.4 +---- r2 (.3) ---- eth1 ----+              192.168.0.1

The port eth1 has no address on either router. The network `wan` of netifd is on the device wan0, which
tandemd makes on the active router. What leaves by wan0 is masqueraded, as OpenWrt does it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tests.lab import Host, Instance, Lab, Port, Router, Tandem, netns, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_SECRET, SeedEnds
from tests.openwrt_pieces import USR

from .real_netifd import RealNetifd

MAC = "02:1a:2b:3c:4d:5e"
LINE = "eth1"
VIP = "192.168.1.4"
NETWORK = """
config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1'
	option netmask '255.0.0.0'

config interface 'wan_line'
	option device 'eth1'
	option proto 'none'

config interface 'wan'
	option device 'wan0'
	option proto 'dhcp'
	option hostname 'gateway'
"""
RULES = """
table inet fw4 {
    chain input {
        type filter hook input priority filter; policy accept
        ct state established,related accept
        ct state invalid drop
        iifname "wan0" meta l4proto tcp reject with tcp reset
    }
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct state invalid drop
        iifname "lan0" accept
        meta l4proto tcp reject with tcp reset
    }
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept
        meta nfproto ipv4 oifname "wan0" masquerade
    }
}
"""


def configuration(number: int, mac: str = MAC, follow: Sequence[str] = ("wan",), more: str = "") -> str:
    """The configuration of router `number` (1, 2)."""
    instance = Instance(
        "lan", "lan0", 51, (f"{VIP}/24",), priority=101, advert_s=0.1, version=3, preempt=False
    )
    lists = "".join(f"\tlist follow '{name}'\n" for name in follow)
    return f"""{tandem_uci([instance])}
{lists}

config follow 'wan'
	option interface '{LINE}'
	option mac '{mac}'

config peer 'other'
	list address '192.168.1.{4 - number}'
	option secret '{SYNC_SECRET}'

config conntrack_sync
	option enabled '1'
	list peer 'other'
	option sync_after '0'
{more}"""


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


class OneLine(SeedEnds):
    """The lab; `server` is the provider."""

    def __init__(self, **options: Any) -> None:
        super().__init__("line")
        self.routers: list[Router] = []
        for number in (1, 2):
            ports = [Port("lan0", self.lan, f"192.168.1.{number + 1}/24"), Port(LINE, self.wan)]
            self.routers.append(self.add(Router(f"r{number}", ports, LineTandem(number, **options))))

    def start(self) -> None:
        """Start the provider and both routers, and wait until one is active and the other follows it."""
        self.serve()
        for router in self.routers:
            router.start()
        wait_until(lambda: self.active is not None, 20, "one is active", explain=self.logs)
        active = self.active
        assert active is not None
        wait_until(lambda: network(active)["state"] == "bound", 20, "the line is up", explain=self.logs)
        backup = self.other(active)
        wait_until(lambda: network(backup)["address"], 20, "the backup knows the lease", explain=self.logs)

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

    @property
    def active(self) -> Router | None:
        """The only router that holds the virtual address; None in between."""
        holders = [router for router in self.routers if router.active]
        return holders[0] if len(holders) == 1 else None

    def other(self, router: Router) -> Router:
        """The other router."""
        return self.routers[0] if router is self.routers[1] else self.routers[1]


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


def has_device(router: Host) -> bool:
    """Whether the device of the WAN exists."""
    return "wan0" in router.exec("ip", "-br", "link")


def failover(active: Router) -> None:
    """Hand the role over."""
    Tandem.request(active, "failover")


def power_loss(active: Router) -> None:
    """Pull the plug."""
    active.power_off()
