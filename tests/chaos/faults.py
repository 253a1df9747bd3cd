# SPDX-License-Identifier: GPL-2.0-or-later
"""The faults of the walk, done to the routers of a lab."""

from __future__ import annotations

import compileall
import random
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos import full
from tests.chaos.walk import ENDING, PORTS, WAN, Step, Walk
from tests.lab import LabError, Router, SeedLab, Tandem, netns
from tests.lab.clock import LIBRARY, build, preload, set_clock
from tests.lab.router import ROOT
from tests.netns.live import FAR6, SyncedTandem, synced, udp_flows

TINY = {"receive_buffer": "16K", "queue_limit": "64K"}
NEW_OPTIONS = (
    "sync_after",
    "fault_policy",
    "partition_policy",
    *TINY,
)  # that the earlier release does not know
FLOOD = 3000  # flows
UDP_S = 5  # until they end
BOOT_S = 1.5  # at least, of a machine
YEAR = 365 * 86400
OFFSETS = (-20 * YEAR, -3600, -1, 0, 1, 3600, 10 * YEAR)  # of the time of day, seconds
HEARTBEATS = "insert rule inet fw4 input udp sport 3780 udp dport 3780 accept\n"  # as for OpenWrt
BLOCK = """
table inet chaos {
    chain input {
        type filter hook input priority -10
        tcp dport 3780 reject with tcp reset
        tcp sport 3780 reject with tcp reset
    }
}
"""


class Policies(NamedTuple):
    """What a seed decides beside the walk: the options fault_policy and partition_policy."""

    fault: str
    partition: str
    lasting: bool  # no daemon ends, so that what it leaks adds up

    def walk(self, seed: int, without: frozenset[str] = frozenset()) -> Walk:
        """Return the walk of a seed on a machine `without` some faults."""
        if self.lasting:
            without |= ENDING
        if self.partition == "split":  # who hears no adverts at all is active as well then
            without |= {"deafen everywhere"}
        return Walk(seed, without, self.fault == "compare")


def policies(seed: int) -> Policies:
    """Return the policies of a walk: every second one has the options' defaults."""
    fault, partition = (
        ("compare", "hold"),
        ("strict", "hold"),
        ("compare", "hold"),
        ("strict", "split"),  # who hears nobody is active, so that there is no best one
    )[(seed - 1) % 4]
    return Policies(fault, partition, seed % 5 == 0)


class ChaosTandem(SyncedTandem):
    """tandemd whose time of day can be set, with the configuration and the release that the walk says."""

    def __init__(
        self, number: int, chosen: Policies, release: Path | None = None, tiny: bool = False
    ) -> None:
        options = {"fault_policy": chosen.fault, "partition_policy": chosen.partition}
        made = synced(number, ipv6=True, options_of_globals=options, **(TINY if tiny else {}))
        super().__init__(made.instances, number, HEARTBEATS)
        self.text, self.release = made.text, release
        if release is not None and self.text is not None:
            lines = self.text.splitlines(keepends=True)
            self.text = "".join(
                line for line in lines if not any(f"option {name} " in line for name in NEW_OPTIONS)
            )

    def prepare(self, router: Router) -> None:
        super().prepare(router)
        netns.write_sysctls(router.namespace, {"netfilter/nf_conntrack_udp_timeout": UDP_S})
        set_clock(router.file("clock"), 0)

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        if self.release is not None:
            argv = [sys.executable, "-IS", str(self.release / "files/usr/sbin/tandemd"), *argv[3:]]
        library = router.lab.directory / LIBRARY
        if library.exists():
            argv = [*preload(library, router.file("clock")), *argv]
        return [argv]


class ChaosLab(SeedLab):
    """The seed's lab with networks that can be split, and hosts that repeat lost segments soon."""

    def __init__(self, chosen: Policies) -> None:
        super().__init__(lambda number: ChaosTandem(number, chosen), "chaos")
        self.policies = chosen
        for router in self.routers:
            router.routes.append(f"{FAR6} via fd00::1")
        self.split_lan, self.split_wan = self.switch("lan2"), self.switch("wan2")

    def router(self, name: str) -> Router:
        """Return a router by its name."""
        return next(one for one in self.routers if one.name == name)

    def up(self) -> ChaosLab:
        compileall.compile_dir(ROOT / "src/tandem", quiet=1)  # a daemon that does so itself needs 2 MiB more
        super().up()
        if shutil.which("gcc"):
            build(self.directory)
        for host in (self.client, self.server):
            netns.write_sysctls(host.namespace, {"ipv4/tcp_retries2": 200})  # while nobody forwards
            with suppress(OSError):  # before Linux 6.15
                netns.write_sysctls(host.namespace, {"ipv4/tcp_rto_max_ms": 1000})
        netns.run(["ip", "netns", "exec", self.switch_namespace, "nft", "-f", "-"], stdin=EARS)
        return self


# A deaf router hears no adverts by this cable, or nothing at all of a sender: the switch's end of the cable.
EARS = """
table bridge chaos {
    set deaf { type ifname; }
    set lost { type ifname . ether_addr; }
    chain forward {
        type filter hook forward priority 0
        ether type ip ip protocol 112 oifname @deaf drop
        ether type ip6 ip6 nexthdr 112 oifname @deaf drop
        oifname . ether saddr @lost drop
    }
}
"""


def impossible() -> frozenset[str]:
    """Return the faults that this machine can't do."""
    clock = frozenset() if shutil.which("gcc") else frozenset({"clock"})
    return clock if full.possible() else clock | {"fill"}


class Faults:
    """Does the steps of a walk: a method for each row of its table.

    `seed` chooses details; `release` is the tree of an earlier release.
    """

    def __init__(self, lab: ChaosLab, seed: int, release: Path | None) -> None:
        self._lab = lab
        self._random = random.Random(seed)
        self._release = release
        self._cut: list[tuple[str, str]] = []
        self._lost: list[tuple[str, str, str]] = []  # a deaf router, its port, and the MAC it does not hear
        self._split = self._blocked = False

    def do(self, step: Step) -> None:
        """Do one step of the walk."""
        router = self._lab.router(step.router or "r1")
        method = getattr(self, step.what.replace(" ", "_"))
        method(router, step.port) if step.port else method(router)

    def _daemon(self, router: Router, tiny: bool = False, release: Path | None = None) -> ChaosTandem:
        return ChaosTandem(int(router.name[1:]), self._lab.policies, release, tiny)

    # The daemon

    def kill(self, router: Router) -> None:
        router.kill()

    def stop(self, router: Router) -> None:
        status = router.stop(15)
        assert status == 0, f"{router.name} ended with {status}"

    def start(self, router: Router) -> None:
        self._renew(router)
        router.start()

    def respawn(self, router: Router) -> None:
        """procd starts again what has died. Until then the kernel has the addresses."""
        router.kill()
        self.start(router)
        router.wait_started()

    def freeze(self, router: Router) -> None:
        router.freeze()

    def thaw(self, router: Router) -> None:
        router.thaw()

    def downgrade(self, router: Router) -> None:
        router.stop(15)
        router.daemon = self._daemon(router, release=self._release)
        router.start()

    def upgrade(self, router: Router) -> None:
        router.stop(15)
        self.start(router)

    def reload(self, router: Router) -> None:
        router.wait_started()
        with suppress(OSError):  # an earlier release answers later than we wait
            Tandem.request(router, "reload")

    def tiny(self, router: Router) -> None:
        router.wait_started()
        router.configure(self._daemon(router, tiny=True))
        Tandem.request(router, "reload")

    def roomy(self, router: Router) -> None:
        router.wait_started()
        router.configure(self._daemon(router))
        Tandem.request(router, "reload")

    def clock(self, router: Router) -> None:
        set_clock(router.file("clock"), self._random.choice(OFFSETS))

    def standby(self, router: Router) -> None:
        router.wait_started()
        Tandem.request(router, "standby", force="yes", by="chaos")

    def resume(self, router: Router) -> None:
        router.wait_started()
        Tandem.request(router, "resume")

    def failover(self, router: Router) -> None:
        router.wait_started()
        with suppress(LabError):  # nobody would take over
            Tandem.request(router, "failover")

    def _renew(self, router: Router) -> None:
        """Start this release from now on."""
        if getattr(router.daemon, "release", None) is not None:
            router.daemon = self._daemon(router)

    # The machine

    def power_off(self, router: Router) -> None:
        if router.running:
            router.power_off()
        else:
            self._lab.cut(router)
            router.powered = False

    def both_die(self, _router: Router) -> None:
        for router in self._lab.routers:
            if router.powered:
                self.power_off(router)

    def power_on(self, router: Router) -> None:
        self._renew(router)
        router.power_on()
        for port in self._out(router):
            self._lab.cut(router, port)
        if self._split and router is self._lab.r2:
            self.split(router)
        if self._blocked and router is self._lab.r1:
            self.block(router)

    def reboot(self, router: Router) -> None:
        """A machine boots for longer than another router needs to take over.

        Otherwise it forwards already while hosts still send to its MAC address, knows none of their
        connections, and its firewall resets them.
        """
        self.power_off(router)
        time.sleep(BOOT_S)
        self.power_on(router)

    def fill(self, router: Router) -> None:
        full.fill(router)

    def drain(self, router: Router) -> None:
        full.drain(router)

    # The networks

    def _out(self, router: Router) -> list[str]:
        return [port for name, port in self._cut if name == router.name]

    def cable_out(self, router: Router, port: str) -> None:
        self._cut.append((router.name, port))
        self._lab.cut(router, port)

    def cable_in(self, router: Router, port: str) -> None:
        self._cut.remove((router.name, port))
        if router.powered:
            self._lab.plug(router, port)

    def provider_dies(self, _router: Router) -> None:
        for router in self._lab.routers:
            self.cable_out(router, WAN)

    def deafen(self, router: Router, port: str) -> None:
        self._ears("add", router, port)

    def deafen_everywhere(self, router: Router) -> None:
        for port in PORTS:
            self.deafen(router, port)

    def one_way(self, router: Router, port: str) -> None:
        self._ears("add", router, port)
        sender = self._lab.other(router).mac(port)
        self._element("add", f"lost {{ {router.cable(port)} . {sender} }}")
        self._lost.append((router.name, port, sender))

    def hear(self, router: Router, port: str) -> None:
        self._ears("delete", router, port)
        for name, lost, sender in list(self._lost):
            if (name, lost) == (router.name, port):
                self._element("delete", f"lost {{ {router.cable(port)} . {sender} }}")
                self._lost.remove((name, lost, sender))

    def _ears(self, verb: str, router: Router, port: str) -> None:
        self._element(verb, f"deaf {{ {router.cable(port)} }}")

    def _element(self, verb: str, element: str) -> None:
        command = f"{verb} element bridge chaos {element}"
        netns.run(["ip", "netns", "exec", self._lab.switch_namespace, "nft", command])

    def split(self, _router: Router) -> None:
        self._split = True
        for port, switch in zip(PORTS, (self._lab.split_lan, self._lab.split_wan), strict=True):
            self._lab.partition(self._lab.r2, port, switch)

    def heal(self, _router: Router) -> None:
        self._split = False
        for port, switch in zip(PORTS, (self._lab.lan, self._lab.wan), strict=True):
            self._lab.partition(self._lab.r2, port, switch)

    def block(self, _router: Router) -> None:
        """Refuse the channel, also after a reboot of r1."""
        self._blocked = True
        self._lab.r1.exec("nft", "-f", "-", stdin=BLOCK)

    def unblock(self, _router: Router) -> None:
        self._blocked = False
        self._lab.r1.exec("nft", "delete", "table", "inet", "chaos", check=False)

    def flood(self, _router: Router) -> None:
        """More flows than the kernel's tables hold."""
        udp_flows(self._lab.client, FLOOD, source=self._random.randrange(5000, 60000))
