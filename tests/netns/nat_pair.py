# SPDX-License-Identifier: GPL-2.0-or-later
"""Routers with NAT between a client and a server, for tests of conntrack; no daemon runs.

    client 192.168.1.100 - br0 - lan [r1] wan - br0 - 192.168.0.1 server
                             \\ - lan [r2] wan - /

One router at a time has the shared addresses: 192.168.1.1 on the LAN and 192.168.0.4 on the WAN, to which
it translates. Mid-stream packets make no entries, invalid ones are dropped, and what the WAN sends unasked
is rejected, as OpenWrt's firewall does.
"""

from __future__ import annotations

import socket
from functools import partial

from tests.lab import netns
from tests.lab.wait import wait_until

CLIENT, SERVER = {4: "192.168.1.100", 6: "2001:db8:1::100"}, {4: "192.168.0.1", 6: "2001:db8:0::1"}
GATEWAY, VIP = {4: "192.168.1.1", 6: "2001:db8:1::1"}, {4: "192.168.0.4", 6: "2001:db8:0::4"}
OWN = {4: "192.168.0.1{}", 6: "2001:db8:0::1{}"}  # of router n on the WAN
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
FORWARDED_PORT = 8080
RULES = f"""
table inet test {{
    chain forward {{
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        ct state established,related accept
        ct state invalid drop
        iifname "wan" tcp dport != 22 reject with tcp reset
    }}
    chain dstnat {{
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr {VIP[4]} tcp dport {FORWARDED_PORT} dnat ip to {CLIENT[4]}
    }}
    chain srcnat {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" ip saddr 192.168.1.0/24 snat ip to {VIP[4]}
        oifname "wan" ip6 saddr 2001:db8:1::/64 snat ip6 to {VIP[6]}
    }}
}}
"""


class NatPair:
    """Its namespaces, one of them for each router."""

    def __init__(self, routers: int = 1) -> None:
        prefix = netns.prefix("pair")
        self.client, self.server = f"{prefix}client", f"{prefix}server"
        self.routers = [f"{prefix}r{number + 1}" for number in range(routers)]
        self.all = [self.client, self.server, *self.routers]
        netns.ip_batch([f"netns add {name}" for name in self.all])
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        self.activate(0)

    def close(self) -> None:
        netns.remove(self.all)

    def _build(self) -> None:
        for name in self.all:  # link-local addresses are usable at once
            netns.write_sysctls(name, {"ipv6/conf/default/accept_dad": 0})
        for name, addresses, gateways in ((self.client, CLIENT, GATEWAY), (self.server, SERVER, {})):
            netns.ip_batch(
                [
                    "link set lo up",
                    "link add br0 type bridge mcast_snooping 0",
                    "link set br0 up",
                    *(f"address add {addresses[f]}/{24 if f == 4 else 64} dev br0 nodad" for f in (4, 6)),
                    *(f"route add default via {gateway}" for gateway in gateways.values()),
                ],
                name,
            )
        for number, router in enumerate(self.routers, 1):
            ends = ((self.client, "lan"), (self.server, "wan"))
            # Ends with the same index would learn of their carrier up to 1 s late, see lab.py.
            lines = [
                f"link add {dev} index {index} type veth peer name r{number} netns {host}"
                for index, (host, dev) in enumerate(ends, 100 * number)
            ]
            lines += ["link set lo up", "link set lan up", "link set wan up"]
            lines += [
                f"address add 192.168.1.1{number}/24 dev lan",
                f"address add {OWN[4].format(number)}/24 dev wan",
            ]
            lines += [f"address add 2001:db8:1::1{number}/64 dev lan nodad"]
            lines += [f"address add {OWN[6].format(number)}/64 dev wan nodad"]
            netns.ip_batch(lines, router)
            for host, _ in ends:
                netns.ip_batch([f"link set r{number} up master br0"], host)
            settings = {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1}
            settings |= {"netfilter/nf_conntrack_events": 1, "netfilter/nf_conntrack_tcp_loose": 0}
            netns.write_sysctls(router, settings)
            netns.run(["ip", "netns", "exec", router, "nft", "-f", "-"], stdin=RULES)
        for host in (self.client, self.server):  # a port forwards when the kernel has noticed its carrier
            wait_until(partial(self._forwarding, host), what="bridge ports forward")

    def _forwarding(self, host: str) -> bool:
        return netns.run(["bridge", "-n", host, "link"]).count("state forwarding") == len(self.routers)

    def _addresses(self, verb: str, router: str) -> None:
        lines = []
        for addresses, device in ((GATEWAY, "lan"), (VIP, "wan")):
            lines += [f"address {verb} {addresses[4]}/24 dev {device}"]
            lines += [f"address {verb} {addresses[6]}/64 dev {device}" + " nodad" * (verb == "add")]
        netns.ip_batch(lines, router)

    def activate(self, number: int) -> None:
        """Give the shared addresses to a router; the hosts look for it anew."""
        self._addresses("add", self.routers[number])
        for host in (self.client, self.server):
            netns.ip_batch(["neighbor flush dev br0"], host)

    def fail(self, number: int) -> None:
        """Take the router off the network at once, as a power failure does."""
        for host in (self.client, self.server):
            netns.ip_batch([f"link set r{number + 1} nomaster down"], host)

    def socket(self, where: str, kind: int, family: int = 4, protocol: int = 0) -> socket.socket:
        """A socket in a namespace, bound, with a timeout of 5 s."""

        def body() -> socket.socket:
            opened = socket.socket(AF[family], kind, protocol)
            opened.bind(("", 0))
            opened.settimeout(5)
            return opened

        return netns.enter(where, body)

    def connection(self, family: int = 4) -> tuple[socket.socket, socket.socket]:
        """A TCP connection from the client to the server: (client's end, server's end)."""
        with self.socket(self.server, socket.SOCK_STREAM, family) as listener:
            listener.listen()
            client = self.socket(self.client, socket.SOCK_STREAM, family)
            client.connect((SERVER[family], listener.getsockname()[1]))
            return client, listener.accept()[0]
