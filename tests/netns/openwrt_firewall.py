# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenWrt's firewall on the routers of the lab: the genuine fw4 on its genuine netifd, or rules like its.

Either way the two files that the package brings are included as fw4 includes them, and what they
include in turn lies where the router's tandemd writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.lab import Instance, Port, Router, SeedLab, Tandem, seed_instances
from tests.lab.router import ROOT as CHECKOUT
from tests.openwrt.booted import Booted
from tests.openwrt_pieces import LOOPBACK, OVERLAY, UBUSD, USR

INCLUDES = CHECKOUT / "files/usr/share/nftables.d"

# The configuration that OpenWrt 22.03 to 24.10 install, without parts that do not matter here.
CONFIG = """
config defaults
	option syn_flood '1'
	option input 'REJECT'
	option output 'ACCEPT'
	option forward 'REJECT'
	option drop_invalid '1'
	option flow_offloading '%(offloading)d'

config zone
	option name 'lan'
	list network 'lan'
	option input '%(lan)s'
	option output 'ACCEPT'
	option forward 'ACCEPT'

config zone
	option name 'wan'
	list network 'wan'
	option input 'REJECT'
	option output 'ACCEPT'
	option forward 'REJECT'
	option masq '1'
	option mtu_fix '1'

config forwarding
	option src 'lan'
	option dest 'wan'

config rule
	option name 'Allow-Ping'
	option src 'wan'
	option proto 'icmp'
	option icmp_type 'echo-request'
	option family 'ipv4'
	option target 'ACCEPT'
"""

NETWORK = (
    LOOPBACK
    + """
config interface 'lan'
	option device 'br-lan'
	option proto 'static'
	option ipaddr '192.168.1.%(host)d'
	option netmask '255.255.255.0'

config interface 'wan'
	option device 'wan'
	option proto 'static'
	option ipaddr '192.168.0.%(host)d'
	option netmask '255.255.255.0'
"""
)

# In the shape of what fw4 prints for this configuration: chains, their order and their priorities.
EQUIVALENT = """
table inet fw4
flush table inet fw4
table inet fw4 {
    # flowtable
    %(table)s
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        %(input)s
        ct state established,related accept
        ct state invalid drop
        tcp flags & (fin | syn | rst | ack) == syn jump syn_flood
        iifname "br-lan" jump input_lan
        iifname "wan" jump input_wan
        jump handle_reject
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        # offload
        %(forward)s
        ct state established,related accept
        ct state invalid drop
        iifname "br-lan" jump forward_lan
        iifname "wan" jump handle_reject
        jump handle_reject
    }
    chain handle_reject {
        meta l4proto tcp reject with tcp reset
        reject with icmpx type port-unreachable
    }
    chain syn_flood {
        limit rate 25/second burst 50 packets return
        drop
    }
    chain input_lan { %(lan)s; }
    chain forward_lan { oifname { "br-lan", "wan" } accept; }
    chain input_wan {
        meta nfproto ipv4 icmp type 8 accept
        jump handle_reject
    }
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" jump srcnat_wan
    }
    chain srcnat_wan { meta nfproto ipv4 masquerade; }
}
"""


def offloading(ruleset: str) -> str:
    """The ruleset with `flow_offloading 1`: established flows bypass the forward chain."""
    flowtable = 'flowtable ft { hook ingress priority 0; devices = { "br-lan", "wan" }; }'
    ruleset = ruleset.replace("# flowtable", flowtable)
    return ruleset.replace("# offload", "meta l4proto { tcp, udp } flow offload @ft")


_BOOT = f"""{OVERLAY}
mkdir -p tmp/run/tandem usr/share/nftables.d
mount -t sysfs sysfs sys
mkdir -p "$STATE/ubus"
mount --bind "$STATE" tmp/run/tandem
mount --bind "$STATE/ubus" tmp/run/ubus
cp -r "$INCLUDES/." usr/share/nftables.d/
cp "$FILES/network" "$FILES/firewall" etc/config/
{UBUSD}
chroot . /sbin/netifd &
until chroot . ubus call network.interface.wan status 2>/dev/null | grep -q '"up": true'; do sleep 0.05; done
until chroot . ubus call network.interface.lan status 2>/dev/null | grep -q '"up": true'; do sleep 0.05; done
$LOAD && chroot . fw4 start
touch "$FILES/ready"
wait
"""


class Fw4Lab(SeedLab):
    """The seed's networks; the WAN device is called wan, because netifd takes eth0.2 for a VLAN of eth0."""

    def __init__(self, daemon: Callable[[int], Tandem]) -> None:
        super().__init__(daemon, "fw4")
        for router in self.routers:
            lan, wan = router.ports
            router.ports = lan, Port("wan", wan.switch, *wan.addresses)


def fw4_instances(advert_s: float = 0.1) -> list[Instance]:
    """The seed's instances on these devices."""
    lan, wan = seed_instances(advert_s)
    routes = tuple(route.replace("eth0.2", "wan") for route in wan.routes)
    return [lan, replace(wan, device="wan", routes=routes)]


class Firewall:
    """The firewall of one router. `lan`: the policy of the zone lan, "ACCEPT" or "REJECT"."""

    def __init__(
        self, genuine: bool, *, lan: str = "ACCEPT", included: bool = True, offloading: bool = False
    ) -> None:
        self.genuine = genuine
        self.lan = lan
        self.included = included
        self.offloading = offloading
        self.load = True  # False: only `run(router, "fw4", "print")` is wanted
        self._root: Booted | None = None

    def start(self, router: Router) -> None:
        """Load it, as at boot: the daemon is not there yet."""
        state = state_dir(router)
        state.mkdir(mode=0o700, exist_ok=True)
        if not self.genuine:
            self.reload(router)
            return
        files, includes = (router.file(name) for name in ("fw4", "includes"))
        for directory in (files, includes):
            directory.mkdir(exist_ok=True)
        host = {"host": int(router.name[1:]) + 1}
        (files / "network").write_text(NETWORK % host)
        (files / "firewall").write_text(CONFIG % {"lan": self.lan, "offloading": self.offloading})
        self._root = Booted(
            router, "fw4.log", _BOOT, files / "ready", STATE=state, FILES=files,
            LOAD="true" if self.load else "! true", INCLUDES=INCLUDES if self.included else includes,
        )  # fmt: skip

    def run(self, router: Router, *argv: str) -> str:
        """A command of the router's own, in its root file system."""
        assert self._root is not None
        return self._root.run(*argv)

    def reload(self, router: Router) -> None:
        """`fw4 reload`."""
        if self.genuine:
            self.run(router, "fw4", "reload")
            return
        table, chain, forward = "", "", ""
        if self.included:
            table = (INCLUDES / "table-pre/tandem.nft").read_text()
            table = table.replace("/var/run/tandem", str(state_dir(router)))
            chain = (INCLUDES / "chain-pre/input/tandem.nft").read_text()
            forward = (INCLUDES / "chain-pre/forward/tandem.nft").read_text()
        lan = "accept" if self.lan == "ACCEPT" else "jump handle_reject"
        includes = {"table": table, "input": chain, "forward": forward}
        router.exec("nft", "-f", "-", stdin=EQUIVALENT % {**includes, "lan": lan})


def printed() -> str:
    """The ruleset that the genuine fw4 prints, but need not load, with `flow_offloading 1`."""
    firewall = Firewall(True, offloading=True)
    firewall.load = False
    lab = Fw4Lab(lambda number: Fw4Tandem(Tandem(fw4_instances()), firewall) if number == 1 else Tandem())
    with lab:
        return firewall.run(lab.up().r1, "fw4", "print")


def state_dir(router: Router) -> Path:
    """Where the router's tandemd keeps its control socket and what fw4 includes."""
    return router.file("run")


class Fw4Tandem(Tandem):
    """tandemd behind OpenWrt's firewall, with its state in a directory of its own."""

    def __init__(self, daemon: Tandem, firewall: Firewall) -> None:
        super().__init__(daemon.instances, daemon.groups, daemon.text)
        self.firewall = firewall

    def prepare(self, router: Router) -> None:
        self.firewall.start(router)

    def write(self, router: Router) -> None:
        super().write(router)
        state_dir(router).mkdir(mode=0o700, exist_ok=True)
        router.file("sock").unlink(missing_ok=True)
        router.file("sock").symlink_to(state_dir(router) / "control.sock")

    def commands(self, router: Router) -> list[list[str]]:
        (argv,) = super().commands(router)
        argv = [*argv[:-1], str(state_dir(router) / "control.sock")]
        if not self.firewall.genuine:
            return [argv]
        ubus = ["--ubus", str(state_dir(router) / "ubus/ubus.sock")]
        return [["env", f"LD_LIBRARY_PATH={USR / 'lib'}", *argv, *ubus]]
