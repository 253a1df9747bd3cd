# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers that share one line of a provider, and who of them speaks with its MAC address.

    client ---- lan ----+---- r1 (.2) ---- eth1 ----+---- wan ---- server (provider) ---- 203.0.113.1
    .10     192.168.1.4 +---- r2 (.3) ---- eth1 ----+              192.168.0.1

The port eth1 has no address on either router. The network `wan` is on the device wan0, which tandemd makes on
the active router. What leaves by wan0 is masqueraded, as OpenWrt does it.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from types import TracebackType

from tests.lab import Instance, Port, Router, Tandem, netns, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import PROVIDER, SYNC_SECRET, SeedEnds

MAC = "02:1a:2b:3c:4d:5e"
LINE = "eth1"
VIP = "192.168.1.4"
ADDRESS = "192.168.0.50"
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
# Of the provider, whose routers then tell nobody their MAC addresses.
UNANSWERED = """
table netdev unanswered {
    chain questions {
        type filter hook ingress device eth0 priority 0
        arp operation request drop
        icmpv6 type { nd-neighbor-solicit, nd-router-solicit } drop
    }
}
"""


def configuration(
    number: int,
    mac: str = MAC,
    follow: Sequence[str] = ("wan",),
    more: str = "",
    patient: bool = False,
    track: str = "",
) -> str:
    """The configuration of router `number` (1, 2). `patient`: no busy machine makes it take the role.

    `track`: a way out (config internet, in `more`) that moves the role to the router that reaches more.
    """
    advert_s, options = (1.0, {"heartbeat_interval": "0.5"}) if patient else (0.1, {})
    instance = Instance(
        "lan", "lan0", 51, (f"{VIP}/24",), priority=101, advert_s=advert_s, version=3, preempt=bool(track)
    )
    lists = "".join(f"\tlist follow '{name}'\n" for name in follow)
    lists += f"\tlist track_internet '{track}'\n" if track else ""
    return f"{tandem_uci([instance], options=options)}\n{lists}{line_sections(number, mac)}{more}"


def line_sections(number: int, mac: str = MAC) -> str:
    """The sections of router `number` for the line, and for connections that go on over it."""
    return f"""
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
"""


# netifd in a few words, with a network of `proto static`: it comes up when the device appears.
_NETIFD = f"""
import os, subprocess, time
known = 0
while True:
    try:
        found = os.stat('/sys/class/net/wan0/ifindex').st_ino
    except OSError:
        found = 0
    if found != known and found:
        for words in ('address replace {ADDRESS}/24', 'route replace default via {PROVIDER}'):
            subprocess.run(['ip', *words.split(), 'dev', 'wan0'], stderr=subprocess.DEVNULL)
    known = found
    time.sleep(0.005)
"""


class StandInTandem(Tandem):
    """tandemd of one of the routers, beside a stand-in for netifd."""

    def __init__(self, number: int, **options: str) -> None:
        text = configuration(number, patient=True, **options)  # type: ignore[arg-type]
        super().__init__([Instance("lan", "lan0", 51, (f"{VIP}/24",))], text=text)

    def prepare(self, router: Router) -> None:
        router.exec("nft", "-f", "-", stdin=RULES)
        router.popen(sys.executable, "-ISc", _NETIFD)


class SharedLine(SeedEnds):
    """The lab; `server` is the provider."""

    def __init__(self, daemon: Callable[[int], Tandem] = StandInTandem) -> None:
        super().__init__("line")
        self.routers: list[Router] = []
        for number in (1, 2):
            ports = [Port("lan0", self.lan, f"192.168.1.{number + 1}/24"), Port(LINE, self.wan)]
            self.routers.append(self.add(Router(f"r{number}", ports, daemon(number))))

    def start(self) -> None:
        """Start both routers, and wait until one is active and the other follows it."""
        for router in self.routers:
            router.start()
        self.settle()

    def settle(self) -> Router:
        """Wait until one router is active and another one that is on follows it; return the active one."""

        def settled() -> Router | None:
            active = self.active
            other = active and self.other(active)
            if active is None or other is None or not has_device(active):
                return None
            return active if not other.powered or _follows(other) else None

        return wait_until(settled, 30, "one is active and the other follows", explain=self.logs)

    @property
    def active(self) -> Router | None:
        """The only router that holds the virtual address; None in between."""
        holders = [router for router in self.routers if router.active]
        return holders[0] if len(holders) == 1 else None

    def other(self, router: Router) -> Router:
        """The other router."""
        return self.routers[0] if router is self.routers[1] else self.routers[1]


def _follows(router: Router) -> bool:
    return router.all_in("BACKUP") and not has_device(router)


def has_device(router: Router) -> bool:
    """Whether the device of the WAN exists."""
    return "wan0" in router.exec("ip", "-br", "link")


class Speakers:
    """Notes which router speaks with the MAC address of the line, where its cable enters the switch.

    `turns` are the names of the routers in the order in which they spoke, each once for all frames in a row.
    """

    def __init__(self, lab: SharedLine) -> None:
        self._cables = {router.cable(LINE): router.name for router in lab.routers}
        self._socket = netns.enter(lab.switch_namespace, _ear)
        self._heard: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def turns(self) -> list[str]:
        """Return the turns up to now."""
        return [name for name, _ in groupby(self._heard)]

    def _run(self) -> None:
        mac = bytes.fromhex(MAC.replace(":", ""))
        while not self._stop.is_set():
            try:
                frame, (device, _, kind, *_) = self._socket.recvfrom(64)
            except TimeoutError:
                continue
            if kind != socket.PACKET_OUTGOING and frame[6:12] == mac and device in self._cables:
                self._heard.append(self._cables[device])

    def __enter__(self) -> Speakers:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()


def _ear() -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    found.settimeout(0.2)
    return found
