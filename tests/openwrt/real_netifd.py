# SPDX-License-Identifier: GPL-2.0-or-later
"""The genuine netifd of an OpenWrt root on a router of the lab, with the genuine ubusd, as at boot.

They run in a throw-away overlay of the root; ubusd's socket lies in the lab's directory, where a tandemd
outside finds it.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.lab import Router, Tandem, wait_until
from tests.openwrt_pieces import OVERLAY, UBUSD, USR

from .booted import Booted

# A macvlan where a router would have a bridge: the build machine's kernel has bridges without VLAN filtering,
# and netifd can't make those.
MACVLAN = """
config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1'
	option netmask '255.0.0.0'

config device
	option name 'lan0'
	option type 'macvlan'
	option ifname 'eth0'
	option mode 'bridge'

config interface 'lan'
	option device 'lan0'
	option proto 'static'
	option ipaddr '192.168.1.2'
	option netmask '255.255.255.0'
"""

_BOOT = f"""{OVERLAY}
mount -t sysfs sysfs sys
mount --bind "$BUS" tmp/run/ubus
cp "$BUS/network" etc/config/network
{UBUSD}
chroot . /sbin/netifd &
echo $! >"$BUS/netifd.pid"
until chroot . ubus call network.interface.loopback status 2>/dev/null | grep -q '"up": true'; do
    sleep 0.05
done
touch "$BUS/ready"
wait
"""


class RealNetifd:
    """netifd of one router, from `start` to the end of the lab."""

    def __init__(self) -> None:
        self._router: Router
        self._root: Booted

    def start(self, router: Router, network: str) -> None:
        """Boot with this /etc/config/network."""
        self._router = router
        bus = router.file("bus")
        bus.mkdir(exist_ok=True)
        (bus / "network").write_text(network)
        self._root = Booted(router, "netifd.log", _BOOT, bus / "ready", BUS=bus)

    def log(self) -> str:
        """Return the output of netifd and ubusd."""
        return self._root.log()

    def sh(self, command: str) -> str:
        """A shell command in the root. LabError when it fails."""
        return self._root.run("/bin/sh", "-c", command)

    def restart(self) -> None:
        """As `/etc/init.d/network restart` does it."""
        pid = int((self._router.file("bus") / "netifd.pid").read_text())
        self.sh("ifdown -a || true")  # its exit status means nothing
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), 10, "netifd ends")
        self.sh("/sbin/netifd </dev/null >/dev/null 2>&1 & echo $! >/var/run/ubus/netifd.pid")

    def status(self, network: str) -> dict[str, Any]:
        """Return the status of a network, from netifd."""
        found: dict[str, Any] = json.loads(self.sh(f"ubus call network.interface.{network} status"))
        return found


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class NetifdTandem(Tandem):
    """tandemd outside of the root, on its bus."""

    def __init__(self, *instances: Any, network: str = MACVLAN, **options: Any) -> None:
        super().__init__(instances, **options)
        self.network = network
        self.netifd = RealNetifd()

    def prepare(self, router: Router) -> None:
        self.netifd.start(router, self.network)
        self.ubus = (str(router.file("bus") / "ubus.sock"), str(USR / "lib"))
