# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that are routers with Tandem, in the network of the namespace tests."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.lab import Instance, LabError, Port, SeedEnds, seed_instances, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_GROUP, SYNC_SECRET

from . import packages
from .console import ConsoleError
from .image import Image
from .lab_guest import PYTHON
from .machine import Machine

LAN_DEVICE, WAN_DEVICE = "br-lan", "eth1"
VIRTUAL = ("192.168.1.4", "192.168.0.4")

# As OpenWrt's default: what comes unasked from the WAN is rejected, so a connection that a router does not
# know ends by a reset.
FIREWALL = f"""
table inet lab {{
    chain input {{
        type filter hook input priority filter; policy drop
        iif "lo" accept
        ct state established,related accept
        ct state invalid drop
        iifname "{LAN_DEVICE}" accept
        meta l4proto 112 accept
        icmp type echo-request accept
        icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
        meta l4proto tcp reject with tcp reset
        reject
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct state invalid drop
        iifname "{LAN_DEVICE}" accept
        ct status dnat accept
        meta l4proto tcp reject with tcp reset
        reject
    }}
}}
"""


@dataclass(frozen=True)
class Cost:
    """The cost of a daemon: resident memory in KiB, CPU in seconds since its start."""

    rss_kib: int
    cpu_s: float


class RouterMachine(Machine):
    """Router `number` (1, 2) of a pair: its first card is on the LAN, its second on the WAN."""

    def __init__(self, number: int, image: Image, lab: SeedEnds, config: str | None = None) -> None:
        self.position = number  # Host.number counts all hosts
        self.config = pair_config(number) if config is None else config
        super().__init__(f"r{number}", self.ports(lab), image)
        self.seed = self.files()

    def ports(self, lab: SeedEnds) -> Sequence[Port]:
        """Its cards and the switches that they are connected with."""
        return [Port("eth0", lab.lan), Port("eth1", lab.wan)]

    @abstractmethod
    def files(self) -> dict[str, bytes | Path]:
        """Return the files of its disk before its first boot."""

    @abstractmethod
    def install(self) -> None:
        """Install our packages, and start the daemon with the configuration."""

    @abstractmethod
    def upgrade(self) -> None:
        """Install the packages again, in a later version where there is one; another daemon runs then."""

    @abstractmethod
    def configure(self, *, preempt: bool) -> None:
        """Prefer r1, which then takes its role back, or (as at first) neither router."""

    @abstractmethod
    def guarantee_connections(self) -> None:
        """Configure the gate. On the lab guest, what it needs is on the disk (netfilterqueue.py)."""

    @abstractmethod
    def service(self, verb: str) -> None:
        """Run an action of the init script: start, stop, restart or reload."""

    @abstractmethod
    def pid(self) -> int:
        """Process id of the daemon; LabError when there is none."""

    # State and output of the router

    def addresses(self) -> dict[str, tuple[int, int]]:
        """As Host.addresses: {"192.168.1.4": (prefix length, interface index)}."""
        found = {}
        # On the other stream, ip says when something has changed meanwhile.
        for line in self.run("ip -o address show 2>/dev/null").splitlines():
            words = line.split()
            address, _, length = words[3].partition("/")
            found[address] = (int(length or 32), int(words[0].rstrip(":")))
        return found

    @property
    def active(self) -> bool:
        """Whether its kernel holds both virtual addresses."""
        return self.running and all(address in self.addresses() for address in VIRTUAL)

    @property
    def passive(self) -> bool:
        """Whether its kernel holds none of them, or it is off."""
        return not self.running or not any(address in self.addresses() for address in VIRTUAL)

    def status(self, *words: str) -> Any:
        """`tandem WORDS --json`, "status" by default. LabError: the daemon does not answer."""
        try:
            return self.parsed(f"tandem {' '.join(words) or 'status'} --json", 120)
        except ConsoleError as error:
            raise LabError(str(error)) from None

    def parsed(self, command: str, timeout: float = 60.0) -> Any:
        """Return the JSON that a command prints. An emulated serial line may double a character."""
        for _ in range(3):
            text = self.run(command, timeout)
            try:
                return json.loads(text)
            except ValueError:
                continue
        raise ConsoleError(f"{command}: no JSON: {text}")

    def states(self) -> dict[str, str]:
        """Each instance's state: MASTER, BACKUP, FAULT or INIT; empty while the daemon does not answer."""
        try:
            return {item["name"]: item["state"] for item in self.status()["instances"]}
        except LabError:
            return {}

    def entries(self) -> int:
        """How many connections its kernel knows."""
        return int(self.run("cat /proc/sys/net/netfilter/nf_conntrack_count"))

    def cost(self) -> Cost:
        """Return the cost of the daemon's own process up to now."""
        text = self.run(f"grep VmRSS: /proc/{self.pid()}/status; cat /proc/{self.pid()}/schedstat")
        words = text.split()
        return Cost(int(words[1]), int(words[3]) / 1e9)


class LabRouter(RouterMachine):
    """The lab guest as a router."""

    def links(self) -> str:
        """Shell commands that make its interfaces and give it its own addresses."""
        return f"""
            ip link add {LAN_DEVICE} type bridge
            ip link set eth0 master {LAN_DEVICE}
            for device in eth0 {LAN_DEVICE} eth1; do ip link set $device up; done
            ip address add 192.168.1.{self.position + 1}/24 dev {LAN_DEVICE}
            ip address add 192.168.0.{self.position + 1}/24 dev {WAN_DEVICE}
        """

    def files(self) -> dict[str, bytes | Path]:
        network = f"""
            hostname r{self.position}
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.default.accept_dad=0
            {self.links()}
            nft -f /etc/lab/firewall
            # A small machine knows 1024 connections, and forgets a datagram without an answer after 30 s.
            sysctl -qw net.netfilter.nf_conntrack_max=65536 net.netfilter.nf_conntrack_udp_timeout=600
            sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0
        """
        files: dict[str, bytes | Path] = {
            "/etc/lab/network": network.encode(),
            "/etc/lab/firewall": FIREWALL.encode(),
            "/etc/config/tandem": self.config.encode(),
        }
        for path in packages.built(PYTHON).glob("tandem_*.ipk"):
            files[f"/root/{path.name}"] = path
        return files

    def install(self) -> None:
        self.run("lab-install /root/tandem_*.ipk", 120)
        self.service("start")
        self.run("sync")

    def upgrade(self) -> None:
        self.run("lab-install /root/tandem_*.ipk", 120)
        self.service("restart")
        self.run("sync")

    def configure(self, *, preempt: bool) -> None:
        self._reconfigure(pair_config(self.position, preempt=preempt))

    def guarantee_connections(self) -> None:
        self._reconfigure(pair_config(self.position, guarantee="connection"))

    def _reconfigure(self, config: str) -> None:
        self.console.write("/etc/config/tandem", config)
        self.service("restart")
        self.run("sync")

    def service(self, verb: str) -> None:
        self.run(f"lab-service {verb}", 60)

    def pid(self) -> int:
        try:
            return int(self.run("lab-service pid"))
        except (ConsoleError, ValueError) as error:
            raise LabError(f"{self.name}: {error}") from None


def pair_config(
    number: int, *, advert_s: float = 1.0, wan: str = WAN_DEVICE, preempt: bool = False, **options: str
) -> str:
    """/etc/config/tandem of router `number`; `options` are more of conntrack_sync, preempt prefers r1."""
    priority = 101 + 50 * (preempt and number == 1)
    instances = [_on(wan, item) for item in seed_instances(advert_s, priority=priority, preempt=preempt)]
    lines = ["config conntrack_sync", "\toption enabled '1'", f"\tlist peer '192.168.1.{4 - number}'"]
    settings = {"secret": SYNC_SECRET} | options
    lines += [f"\toption {key} '{value}'" for key, value in settings.items()]
    return "\n".join([tandem_uci(instances, SYNC_GROUP), *lines, ""])


def _on(wan: str, instance: Instance) -> Instance:
    """The seed's instance, with its WAN on another device."""
    device = wan if instance.device == "eth0.2" else instance.device
    routes = tuple(route.replace("dev eth0.2", f"dev {wan}") for route in instance.routes)
    return replace(instance, device=device, routes=routes)


class Pair(SeedEnds):
    """Two router machines between the seed's client and provider.

    `extra`: more files on the disks, of each router, or one mapping for both.
    """

    def __init__(
        self,
        images: Sequence[Image],
        kind: type[RouterMachine] = LabRouter,
        extra: Sequence[Mapping[str, bytes | Path]] = (),
    ) -> None:
        super().__init__("qemu")
        self.routers = [self.add(kind(number, image, self)) for number, image in enumerate(images, 1)]
        self.r1, self.r2 = self.routers
        for number, router in enumerate(self.routers if extra else ()):
            router.seed |= extra[number % len(extra)]

    def set_up(self) -> None:
        """Install Tandem on both, as a user would; then one is active and the other in step with it."""
        self.install()
        self.in_step()

    def install(self) -> None:
        """Install Tandem on both routers at once: each keeps a processor busy."""
        with ThreadPoolExecutor(len(self.routers)) as pool:
            list(pool.map(lambda router: router.install(), self.routers))

    def boot(self) -> None:
        """Start both machines, and wait until both are up."""
        for router in self.routers:
            router.power_on()
        for router in self.routers:
            router.wait_booted()

    @property
    def active(self) -> RouterMachine | None:
        """The one router that holds both virtual addresses while the other holds none; None in between."""
        for one, other in (self.routers, self.routers[::-1]):
            if one.active and other.passive:
                return one
        return None

    def other(self, router: RouterMachine) -> RouterMachine:
        """The router's peer."""
        return self.r2 if router is self.r1 else self.r1

    def elected(self, timeout: float = 180.0) -> RouterMachine:
        """Wait until one of the two is active."""
        return wait_until(
            lambda: self.active, timeout, "one router is active", every=0.2, explain=self.explain
        )

    def in_step(self, timeout: float = 180.0) -> RouterMachine:
        """Wait until one is active and says that the other knows all its connections."""

        def settled() -> RouterMachine | None:
            active = self.active
            if active is None:
                return None
            peers = active.status("conntrack")["channel"]["peers"]
            return active if peers and peers[0].get("in_step") else None

        return wait_until(settled, timeout, "the backup is in step", every=0.5, explain=self.explain)

    def explain(self) -> str:
        """Return the logs of the routers, for the report of a failure."""
        return "\n".join(f"{router.name}: {router.log()[-1500:]}" for router in self.routers)
