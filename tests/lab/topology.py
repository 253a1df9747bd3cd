# SPDX-License-Identifier: GPL-2.0-or-later
"""The networks that demo, tests and bench use: the seed's, and any number of routers on LANs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .lab import Host, Lab, Port
from .router import Daemon, Keepalived, Router, Tandem
from .scenario import Instance, tandem_uci
from .wait import wait_until

LAN_GATEWAY = "192.168.1.4"
WAN_ADDRESS = "192.168.0.4"
PROVIDER = "192.168.0.1"
FAR = "203.0.113.1"  # behind the provider, which has no route back to the LAN: only NAT reaches it
SYNC_GROUP = {"G1": ("I1", "E1")}

SYNC_SECRET = "of the lab, and of nothing else"

KEEPALIVED_NAT = f"""
table ip lab {{
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname "eth0.2" ip saddr 192.168.1.0/24 snat to {WAN_ADDRESS}
  }}
}}
"""


def seed_instances(
    advert_s: float = 1.0, version: int | None = None, priority: int = 101, preempt: bool = False
) -> list[Instance]:
    """The two instances of the seed's last chapter; version 3 by default where 2 knows no such interval."""
    version = version or (2 if advert_s == int(advert_s) else 3)
    auth = "s3cret" if version == 2 else None  # version 3 has no authentication
    common = {
        "priority": priority, "advert_s": advert_s, "version": version, "preempt": preempt, "auth_pass": auth,
    }  # fmt: skip
    default = f"src {WAN_ADDRESS} to 0.0.0.0/0 via {PROVIDER} dev eth0.2 metric 5"
    return [
        Instance("I1", "br-lan", 51, (f"{LAN_GATEWAY}/24",), **common),  # type: ignore[arg-type]
        Instance("E1", "eth0.2", 51, (f"{WAN_ADDRESS}/24",), routes=(default,), **common),  # type: ignore[arg-type]
    ]


def seed_daemon(kind: str, advert_s: float = 1.0, version: int | None = None, priority: int = 101) -> Daemon:
    """`kind` "tandemd" or "keepalived" with the seed's configuration."""
    instances = seed_instances(advert_s, version, priority)
    if kind == Tandem.name:
        return Tandem(instances, SYNC_GROUP)
    return Keepalived(instances, SYNC_GROUP, nft=KEEPALIVED_NAT)


def synced_daemon(number: int, advert_s: float = 1.0) -> Tandem:
    """tandemd of router `number` (1, 2), seed configuration, connections replicated to the other."""
    instances = seed_instances(advert_s)
    sync = f"""
config conntrack_sync
\toption enabled '1'
\tlist peer '192.168.1.{4 - number}'
\toption secret '{SYNC_SECRET}'
"""
    return Tandem(instances, SYNC_GROUP, text=tandem_uci(instances, SYNC_GROUP) + sync)


class SeedEnds(Lab):
    """The hosts around the seed's routers: client, switches lan and wan, provider.

              192.168.1.4                 192.168.0.4
    client ---- lan ----+---- r1 (.2) ----+---- wan ---- server (provider) ---- 203.0.113.1
    .10                 +---- r2 (.3) ----+              192.168.0.1

    IPv6 likewise: fd00:1::/64 and fd00::/64, where the server knows the way back (there is no NAT).
    """

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.lan, self.wan = self.switch("lan"), self.switch("wan")
        self.client = self.add(
            Host(
                "client",
                [Port("eth0", self.lan, "192.168.1.10/24", "fd00:1::10/64")],
                gateway=LAN_GATEWAY,
                routes=["::/0 via fd00:1::4"],
            )
        )
        self.server = self.add(
            Host(
                "server",
                [Port("eth0", self.wan, f"{PROVIDER}/24", "fd00::1/64")],
                routes=["fd00:1::/64 via fd00::4"],
            )
        )
        self.server.loopback = (f"{FAR}/32", "fd00:f::1/128")


class SeedLab(SeedEnds):
    """Routers r1 and r2 between the seed's client and provider: the seed's last chapter. r3 is .5."""

    def __init__(self, daemon: Callable[[int], Daemon], tag: str = "seed", count: int = 2) -> None:
        super().__init__(tag)
        self.routers = []
        for number in range(1, count + 1):
            last = number + 1 if number < 3 else number + 2  # .4 is virtual
            ports = [
                Port("br-lan", self.lan, f"192.168.1.{last}/24", f"fd00:1::{last}/64"),
                Port("eth0.2", self.wan, f"192.168.0.{last}/24", f"fd00::{last}/64"),
            ]
            self.routers.append(self.add(Router(f"r{number}", ports, daemon(number))))
        self.r1, self.r2 = self.routers[:2]

    def start(self) -> None:
        """Start every daemon, and wait until each tells its state."""
        for router in self.routers:
            router.start()
        for router in self.routers:
            router.wait_started()

    def elect(self, timeout: float = 15) -> tuple[Router, Router]:
        """Start both tandemd, and wait until one is active and the other follows it: (active, backup).

        Equals that start together may both be active for a moment: who was first is not always who stays.
        """
        self.start()

        def elected() -> tuple[Router, Router] | None:
            active = self.active
            if active is None:
                return None
            backup = self.other(active)
            assert isinstance(backup.daemon, Tandem)
            return (active, backup) if backup.daemon.follows(backup) else None

        return wait_until(elected, timeout, "one is active, the other follows it", explain=self.logs)

    @property
    def active(self) -> Router | None:
        """The one router that holds every virtual address while the others hold none; None in between."""
        for one in self.routers:
            if one.active and all(other.passive for other in self.routers if other is not one):
                return one
        return None

    def other(self, router: Router) -> Router:
        """The router's peer, of two."""
        return self.r2 if router is self.r1 else self.r1


class LanLab(Lab):
    """n routers and a client on one LAN (192.168.1.0/24, fd00:1::/64): routers r1, r2, ... are .2, .3, ..."""

    def __init__(self, daemons: Sequence[Daemon], tag: str = "lan") -> None:
        super().__init__(tag)
        lan = self.switch("lan")
        self.client = self.add(Host("client", [Port("eth0", lan, "192.168.1.10/24", "fd00:1::10/64")]))
        self.routers = [
            self.add(
                Router(
                    f"r{number}",
                    [Port("eth0", lan, f"192.168.1.{number + 1}/24", f"fd00:1::{number + 1}/64")],
                    daemon,
                )
            )
            for number, daemon in enumerate(daemons, 1)
        ]

    def start(self) -> None:
        """Start every daemon."""
        for router in self.routers:
            router.start()

    def elect(self, timeout: float = 15) -> None:
        """Start every daemon, and wait until r1 is active and the others, who may be later, its backups."""
        self.start()
        first, *others = self.routers

        def elected() -> bool:
            return self.active is first and all(router.all_in("BACKUP") for router in others)

        wait_until(elected, timeout, "r1 is active, the others are backups", explain=self.logs)

    @property
    def active(self) -> Router | None:
        """The only router that holds all the virtual addresses; None in between."""
        holders = [router for router in self.routers if not router.passive]
        return holders[0] if len(holders) == 1 and holders[0].active else None
