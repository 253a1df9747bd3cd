# SPDX-License-Identifier: GPL-2.0-or-later
"""An OpenWrt as a router of the pair: whatever is done to it is done by OpenWrt's own tools."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.lab import PROVIDER, LabError, wait_until

from .console import ConsoleError
from .feeds import FeedServer
from .image import Image
from .machine import BOOT_TIMEOUT
from .package_tool import PackageTool
from .router import LAN_DEVICE, WAN_DEVICE, Pair, RouterMachine

FEEDS_PORT = 8000  # of the provider, which serves feeds by HTTP
MIRROR = "openwrt"  # its path for what OpenWrt's mirror has

# One console: two shells on one terminal would share what is typed.
_INITTAB = """::sysinit:/etc/init.d/rcS S boot
::shutdown:/etc/init.d/rcS K shutdown
::askconsole:/usr/libexec/login.sh
"""
_NETWORK = """config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1'
	option netmask '255.0.0.0'

config device
	option name '{lan}'
	option type 'bridge'
	list ports '{port}'

config interface 'lan'
	option device '{lan}'
	option proto 'static'
	option ipaddr '192.168.1.{host}'
	option netmask '255.255.255.0'

config interface 'wan'
	option device '{wan}'
	option proto 'static'
	option ipaddr '192.168.0.{host}'
	option netmask '255.255.255.0'
	option gateway '{provider}'
"""
_FIREWALL = """config defaults
	option input 'ACCEPT'
	option output 'ACCEPT'
	option forward 'REJECT'
	option synflood_protect '1'

config zone
	option name 'lan'
	list network 'lan'
	option input 'ACCEPT'
	option output 'ACCEPT'
	option forward 'ACCEPT'

config zone
	option name 'wan'
	list network 'wan'
	option input 'REJECT'
	option output 'ACCEPT'
	option forward 'REJECT'
	option masq '1'

config forwarding
	option src 'lan'
	option dest 'wan'
"""
# 1024 connections for every 16 MiB, by default; a datagram without an answer is forgotten after a minute.
_SYSCTL = "net.netfilter.nf_conntrack_max=65536\nnet.netfilter.nf_conntrack_udp_timeout=600\n"
# The services of a default OpenWrt; another root file system may start many more.
_SERVICES = (
    "boot done dnsmasq firewall log network odhcpd rpcd sysctl sysfixtime system umount urandom_seed urngd"
)
DEFAULT_SERVICES = f"""
for link in /etc/rc.d/[SK]*; do
	name=${{link##*/[SK]??}}
	case ' {_SERVICES} ' in *" $name "*) ;; *) rm "$link" ;; esac
done
rm -f /etc/uci-defaults/*luci* /etc/uci-defaults/*mwan3* /etc/uci-defaults/*uhttpd*
# This init script starts a program for each of 64 terminals.
rm -f /etc/hotplug.d/*/*modemmanager*
"""


class OpenWrtRouter(RouterMachine):
    """Router `number` of a pair, with a default OpenWrt's network and firewall."""

    lan_port, wan_device = "eth0", WAN_DEVICE
    networks: Sequence[str] = ("lan", "wan")  # those that are up when it has booted

    @abstractmethod
    def first_boot(self) -> str:
        """A script that the machine runs once."""

    def files(self) -> dict[str, bytes | Path]:
        names = {"lan": LAN_DEVICE, "port": self.lan_port, "wan": self.wan_device}
        network = _NETWORK.format(**names, host=self.position + 1, provider=PROVIDER)
        hostname = f"config system\n\toption hostname 'r{self.position}'\n\toption log_size '256'\n"
        texts = {
            "/etc/inittab": _INITTAB,
            "/etc/config/network": network,
            "/etc/config/firewall": _FIREWALL,
            "/etc/config/system": hostname,
            "/etc/sysctl.d/90-lab.conf": _SYSCTL,
            "/first-boot": self.first_boot(),
        }
        return {name: text.encode() for name, text in texts.items()}

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until procd says "init complete" and netifd has brought up both networks."""
        self._wait_init(timeout)
        if not self.image.seeded and "no" in self.run("[ -e /first-boot ] || echo no", check=False):
            self._seed_by_hand()
            self._wait_init(timeout)
        self.run("logread -f >$(echo /dev/vport*p1) 2>/dev/null &")
        for name in self.networks:
            wait_until(lambda name=name: self.network_up(name), 120, f"{self.name}: {name} is up", every=0.5)

    def _wait_init(self, timeout: float) -> None:
        super().wait_booted(timeout)
        self.run("dmesg -n 1")
        complete = "logread 2>/dev/null | grep -c 'init complete'"
        wait_until(lambda: int(self.run(complete, check=False)), timeout, f"{self.name}: booted", every=1)

    def _seed_by_hand(self) -> None:
        """Do the work of other images' initramfs (guest/initramfs-init): the files, then a reboot."""
        for name, content in self.seed.items():
            assert isinstance(content, bytes), f"{name}: only texts come through a console"
            self.console.write(name, content.decode())
        self.run("sh /first-boot; sync", 60)
        self.console.send("reboot\n")

    def network_up(self, name: str) -> bool:
        """Whether netifd says that a network is up."""
        try:
            return bool(self.parsed(f"ubus call network.interface.{name} status")["up"])
        except ConsoleError:
            return False

    def install(self) -> None:
        """Install Tandem from our feed, and what it needs from the distribution's."""
        self.run(PackageTool.of(self).install("tandem"), 900)

    def upgrade(self) -> None:
        """Upgrade to the later release in the feed `next`."""
        tool = PackageTool.of(self)
        self.run(tool.upgrade("tandem", "next"), 900)
        assert re.search(r"-r?2\b", self.run(tool.version("tandem"))), "it is another version"
        self.run("sync")

    def configure(self, *, preempt: bool) -> None:
        priority = 150 if preempt and self.position == 1 else 101
        self.run(
            "uci show tandem | sed -n 's/=vrrp_instance$//p' | while read -r section; do\n"
            f"uci set $section.priority={priority}; uci set $section.nopreempt={int(not preempt)}\n"
            "done; uci commit tandem; sync"
        )
        self.service("reload")

    def guarantee_connections(self) -> None:
        self.run(PackageTool.of(self).install("tandem-gate"), 600)
        self.run("uci set tandem.sync.guarantee=connection; uci commit tandem; sync")
        self.service("reload")

    def service(self, verb: str) -> None:
        self.run(f"service tandem {verb}", 120)

    def pid(self) -> int:
        listed = self.parsed("""ubus call service list '{"name":"tandem"}'""")
        for instance in listed.get("tandem", {}).get("instances", {}).values():
            if instance["running"]:
                return int(instance["pid"])
        raise LabError(f"{self.name}: procd runs no tandemd: {listed}")


class RootRouter(OpenWrtRouter):
    """Somebody's root file system. What its feeds would have, and we need, stands in a feed of its own."""

    def first_boot(self) -> str:
        url = f"http://{PROVIDER}:{FEEDS_PORT}"
        return f"""
{DEFAULT_SERVICES}
: >/etc/opkg/distfeeds.conf
for feed in tandem standin; do
	echo "src/gz $feed {url}/feeds/$feed"
done >/etc/opkg/customfeeds.conf
printf 'arch all 1\\narch noarch 1\\narch x86_64 10\\n' >>/etc/opkg.conf
sed -i /check_signature/d /etc/opkg.conf
"""


class ReleaseRouter(OpenWrtRouter):
    """A released image. Its own feeds are behind the provider, who passes on what the mirror has."""

    def first_boot(self) -> str:
        url = f"http://{PROVIDER}:{FEEDS_PORT}"
        return f"""
for list in /etc/opkg/distfeeds.conf /etc/apk/repositories.d/distfeeds.list; do
	[ -e $list ] && sed -i 's,https*://[^/]*/,{url}/{MIRROR}/,' $list
done
if [ -d /etc/apk ]; then
	echo '{url}/feeds/tandem/packages.adb' >/etc/apk/repositories.d/customfeeds.list
else
	echo 'src/gz tandem {url}/feeds/tandem' >/etc/opkg/customfeeds.conf
	# Our feed is not signed. The images' sha256 are pinned, what the mirror's feeds have is not.
	sed -i /check_signature/d /etc/opkg.conf
fi
"""


class OpenWrtPair(Pair):
    """Two OpenWrt routers whose provider serves feeds by HTTP: `feeds` has tandem, next, and more."""

    def __init__(
        self, images: Sequence[Image], kind: type[OpenWrtRouter], feeds: Path, mirror: str | None = None
    ) -> None:
        super().__init__(images, kind)
        self._feeds, self._mirror = feeds, mirror
        self._server: FeedServer | None = None

    def set_up(self) -> None:
        """Set Tandem up with the router's own opkg or apk, and with `tandem init`."""
        self.serve()
        self.install()
        self.init("--network lan=192.168.1.4 --network wan=192.168.0.4", " --start")
        self.in_step()

    def init(self, options: str, start: str = "") -> None:
        """`tandem init` on one router, and the line that it prints on the other; `start`: " --start"."""
        printed = self.r1.run(f"tandem init {options} --peer 192.168.1.3{start}", 300)
        line = re.search(r"^\s+(echo \S+ \| tandem init --join) --start$", printed, re.MULTILINE)
        assert line, printed
        self.r2.run(line[1] + start, 300)

    def serve(self) -> None:
        """Begin to serve the feeds."""
        bases = {"feeds": str(self._feeds)}
        if self._mirror:
            bases[MIRROR] = self._mirror
        self._server = FeedServer(self.server, FEEDS_PORT, bases)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        super().close()
