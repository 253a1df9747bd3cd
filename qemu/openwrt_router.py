# SPDX-License-Identifier: GPL-2.0-or-later
"""An OpenWrt as a router of the pair: whatever is done to it is done by OpenWrt's own tools."""

from __future__ import annotations

import json
from pathlib import Path

from tests.lab import PROVIDER, LabError, wait_until

from .console import ConsoleError
from .machine import BOOT_TIMEOUT
from .router import LAN_DEVICE, WAN_DEVICE, RouterMachine

FEEDS_PORT = 8000  # of the provider, which serves feeds by HTTP

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
	list ports 'eth0'

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
# What a default OpenWrt has; a root file system of somebody's may start much more.
_SERVICES = (
    "boot done dnsmasq firewall log network odhcpd rpcd sysctl sysfixtime system umount urandom_seed urngd"
)
_FIRST_BOOT = f"""
for link in /etc/rc.d/[SK]*; do
	name=${{link##*/[SK]??}}
	case ' {_SERVICES} ' in *" $name "*) ;; *) rm "$link" ;; esac
done
rm -f /etc/uci-defaults/*luci* /etc/uci-defaults/*mwan3* /etc/uci-defaults/*uhttpd*
# It starts a program for each of 64 terminals.
rm -f /etc/hotplug.d/*/*modemmanager*
for feed in tandem standin; do
	echo "src/gz $feed http://{PROVIDER}:{FEEDS_PORT}/$feed"
done >/etc/opkg/customfeeds.conf
: >/etc/opkg/distfeeds.conf
printf 'arch all 1\\narch noarch 1\\narch x86_64 10\\n' >>/etc/opkg.conf
sed -i /check_signature/d /etc/opkg.conf
"""


class OpenWrtRouter(RouterMachine):
    """Router `number` of a pair, with a default OpenWrt's network, firewall and services."""

    def files(self) -> dict[str, bytes | Path]:
        network = _NETWORK.format(lan=LAN_DEVICE, wan=WAN_DEVICE, host=self.position + 1, provider=PROVIDER)
        hostname = f"config system\n\toption hostname 'r{self.position}'\n\toption log_size '256'\n"
        texts = {
            "/etc/inittab": _INITTAB,
            "/etc/config/network": network,
            "/etc/config/firewall": _FIREWALL,
            "/etc/config/system": hostname,
            "/first-boot": _FIRST_BOOT,
        }
        return {name: text.encode() for name, text in texts.items()}

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Until procd says "init complete" and netifd has brought up both networks."""
        super().wait_booted(timeout)
        if not self.image.seeded and self.run("cat /first-boot", check=False) == "":
            self._seed_by_hand()
            super().wait_booted(timeout)
        self.run("dmesg -n 1")
        complete = "logread 2>/dev/null | grep -c 'init complete'"
        wait_until(lambda: int(self.run(complete, check=False)), timeout, f"{self.name}: booted", every=1)
        self.run("logread -f >$(echo /dev/vport*p1) 2>/dev/null &")
        for name in ("lan", "wan"):
            wait_until(lambda name=name: self.network_up(name), 120, f"{self.name}: {name} is up", every=0.5)

    def _seed_by_hand(self) -> None:
        """What an initramfs does for other images (guest/initramfs-init): the files, then a reboot."""
        for name, content in self.seed.items():
            if isinstance(content, bytes):
                self.console.write(name, content.decode())
        self.run("sh /first-boot; sync", 60)
        self.console.send("reboot\n")

    def network_up(self, name: str) -> bool:
        """Whether netifd says that a network is up."""
        text = self.run(f"ubus call network.interface.{name} status", check=False)
        return text.startswith("{") and bool(json.loads(text)["up"])

    def install(self) -> None:
        """By opkg, from the feed."""
        self.run("opkg update && opkg install tandem", 600)

    def service(self, verb: str) -> None:
        self.run(f"service tandem {verb}", 120)

    def pid(self) -> int:
        text = self.run("""ubus call service list '{"name":"tandem"}'""")
        try:
            for instance in json.loads(text)["tandem"]["instances"].values():
                if instance["running"]:
                    return int(instance["pid"])
        except (KeyError, ConsoleError):
            pass
        raise LabError(f"{self.name}: procd runs no tandemd: {text}")
