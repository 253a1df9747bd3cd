# SPDX-License-Identifier: GPL-2.0-or-later
"""Two OpenWrt routers that share a line and an account with PPPoE, and the provider's concentrator.

    client ---- lan ----+---- r1 ----+---- access ---- concentrator ---- wan ---- server ---- 203.0.113.1
    .10     192.168.1.4 +---- r2 ----+                 10.64.0.1         192.168.0.9   192.168.0.1

The concentrator is a machine with rp-pppoe's server. It allows a MAC address one session: while it believes
that there is one, it does not answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.lab import PROVIDER, Port, SeedEnds, wait_until

from .image import Image
from .machine import Machine
from .openwrt_router import OpenWrtPair, RootRouter
from .router import RouterMachine

PACKAGES = ("ppp", "pppoe")  # of Debian
ACCESS = "access"
ADDRESS = "10.64.0.1"  # of the concentrator
CALLERS = "10.64.0.0/16"
HEARTBEAT_S = 0.5  # a router is dead when it misses three
_WAN = "192.168.0.9"
_LAN_ADDRESS = "192.168.1.4"

_SECRETS = '"home" * "of the lab" *\n'
# As providers have it: a caller that does not answer is noticed after a minute.
_OPTIONS = "require-chap\nlcp-echo-interval 20\nlcp-echo-failure 3\nms-dns 10.64.0.1\nnobsdcomp\nnodeflate\n"


class Concentrator(Machine):
    """The provider's end of the line."""

    def __init__(self, image: Image, lab: SeedEnds) -> None:
        super().__init__("ac", [Port("eth0", ACCESS), Port("eth1", lab.wan)], image)
        network = f"""
            hostname ac
            sysctl -qw net.ipv4.ip_forward=1
            ip link set eth0 up
            ip link set eth1 up
            ip address add {_WAN}/24 dev eth1
            ip route add default via {PROVIDER}
        """
        texts = {
            "/etc/lab/network": network,
            "/etc/ppp/chap-secrets": _SECRETS,
            "/etc/ppp/pppoe-server-options": _OPTIONS,
        }
        self.seed = {name: text.encode() for name, text in texts.items()}

    def serve(self, addresses: Sequence[str]) -> None:
        """Start the server anew; its sessions get these addresses in turn."""
        self.run("killall pppoe-server pppd 2>/dev/null; true")
        wait_until(lambda: not self.sessions(), 30, "no session is left")
        self.console.write("/etc/ppp/pool", "\n".join(addresses))
        limits = f"-N {len(addresses)} -x 1"
        self.run(f"pppoe-server -I eth0 -L {ADDRESS} -p /etc/ppp/pool {limits}")

    def forget(self) -> None:
        """End all sessions at once. The server says so to the callers (PADT), if they are there."""
        self.run("killall -9 pppd pppoe; true")

    def sessions(self) -> list[str]:
        """The ids of the sessions: for each, the server runs a program."""
        return sorted(set(re.findall(r"pppoe -n .*-e (\d+):", self.run("ps axww"))))


class PppoeRouter(RootRouter):
    """An OpenWrt whose way out is PPPoE; before Tandem is there, it dials by itself."""

    def ports(self, lab: SeedEnds) -> Sequence[Port]:
        return [Port("eth0", lab.lan), Port("eth1", ACCESS)]

    def files(self) -> dict[str, bytes | Path]:
        files = super().files()
        network = files["/etc/config/network"]
        assert isinstance(network, bytes)
        head, wan, _ = network.decode().partition("config interface 'wan'\n")
        pppoe = "\toption device 'eth1'\n\toption proto 'pppoe'\n\toption ipv6 '0'\n"
        pppoe += "\toption username 'home'\n\toption password 'of the lab'\n"
        pppoe += "\toption padi_timeout '1'\n\toption padi_attempts '9'\n"
        return files | {"/etc/config/network": f"{head}{wan}{pppoe}".encode()}

    @property
    def active(self) -> bool:
        return self.running and _LAN_ADDRESS in self.addresses()

    @property
    def passive(self) -> bool:
        return not self.running or _LAN_ADDRESS not in self.addresses()


class PppoePair(OpenWrtPair):
    """The routers, their client and their provider."""

    def __init__(self, router: Image, concentrator: Image, feeds: Path) -> None:
        super().__init__([router, router], PppoeRouter, feeds)
        self.switch(ACCESS)
        self.concentrator = self.add(Concentrator(concentrator, self))
        self.server.routes.append(f"{CALLERS} via {_WAN}")

    def boot(self) -> None:
        """Boot the concentrator first, so that both routers can dial."""
        self.concentrator.power_on()
        for router in self.routers:
            router.power_on()
        self.concentrator.wait_booted()
        self.concentrator.serve(["10.64.0.100", "10.64.0.101"])
        for router in self.routers:
            router.wait_booted()
            router.networks = ("lan",)  # afterwards, the line follows the role

    def set_up(self) -> None:
        """Set Tandem up with the router's own opkg and with `tandem init`; the routers share the line."""
        self.serve()
        self.install()
        self.init("--network lan=192.168.1.4 --one-line wan --advert-int 1")
        for router in self.routers:  # an emulated machine may stand still for longer than 150 ms
            router.run(f"uci set tandem.globals.heartbeat_interval={HEARTBEAT_S}; uci commit tandem; sync")
            router.run("service tandem enable; service tandem restart", 300)
        self.line_up(300)

    def set_session(self, session: str) -> None:
        """Set `option session` on both routers."""
        for router in self.routers:
            router.run(f"uci set tandem.@follow[0].session={session}; uci commit tandem; sync")
            router.run("service tandem reload", 120)

    def line_up(self, timeout: float = 120.0) -> RouterMachine:
        """Wait until one router is active and has a session, and the other is in step and knows of it."""

        def settled() -> RouterMachine | None:
            active = self.in_step(timeout)
            up = follows(active) == ("bound", True) and follows(self.other(active)) == ("away", True)
            return active if up else None

        return wait_until(settled, timeout, "the line is up", every=0.5, explain=self.explain)


def follows(router: RouterMachine) -> tuple[str, bool]:
    """Return the state of the network that follows, and whether the router knows its address."""
    (network,) = router.status()["follow"]
    return network["state"], bool(network["address"])
