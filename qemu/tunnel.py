# SPDX-License-Identifier: GPL-2.0-or-later
"""Two OpenWrt routers with one WireGuard tunnel, and the office at its other end.

    client ---- lan ----+---- r1 ----+---- wan ---- office, 10.7.0.2 in the tunnel
    .10     192.168.1.4 +---- r2 ----+     192.168.0.9
                      192.168.0.4, 10.7.0.1 in the tunnel

The routers' configuration does not say where the office is: it speaks first, to the address that they share.
So only the router that it has spoken to knows.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab import Port, SeedEnds, probe
from tests.openwrt_pieces import ROOT23

from .image import Image
from .machine import Machine
from .openwrt_router import OpenWrtPair, RootRouter

PACKAGES = ("wireguard-tools",)  # of Debian
PIECES = ("usr/bin/wg", "lib/netifd/proto/wireguard.sh")  # of OpenWrt 23.05; 22.03's packages are the same
OFFICE = "10.7.0.2"
PORT = 51820
_ON_WAN = "192.168.0.9"
_SHARED = "192.168.0.4"

# Private and public keys (wg pubkey): of the routers, and of the office.
_ROUTERS = (
    "AAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAUE=",
    "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=",
)
_OFFICE = (
    "AAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAkI=",
    "zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=",
)
_NETWORK = f"""
config interface 'vpn'
	option proto 'wireguard'
	option private_key '{_ROUTERS[0]}'
	option listen_port '{PORT}'
	list addresses '10.7.0.1/24'
	option auto '0'

config wireguard_vpn
	option public_key '{_OFFICE[1]}'
	list allowed_ips '{OFFICE}/32'
"""
# The tunnel is in the zone of the WAN, whose addresses are translated; the office calls its port.
_FIREWALL = f"""
config rule
	option src 'wan'
	option proto 'udp'
	option dest_port '{PORT}'
	option target 'ACCEPT'
"""


class Office(Machine):
    """The other end of the tunnel; it answers there, on port 7."""

    def __init__(self, image: Image, lab: SeedEnds) -> None:
        super().__init__("office", [Port("eth0", lab.wan)], image)
        script = f"""
            hostname office
            ip link set eth0 up
            ip address add {_ON_WAN}/24 dev eth0
            ip link add wg0 type wireguard
            echo {_OFFICE[0]} >/etc/lab/key
            wg set wg0 private-key /etc/lab/key peer {_ROUTERS[1]} \\
                endpoint {_SHARED}:{PORT} allowed-ips 10.7.0.1/32
            ip address add {OFFICE}/24 dev wg0
            ip link set wg0 up
            python3 -IS /etc/lab/probe.py echo {OFFICE} 7 >/dev/null 2>&1 &
        """
        self.seed = {"/etc/lab/network": script.encode(), "/etc/lab/probe.py": Path(probe.__file__)}

    def speak(self) -> None:
        """Send something into the tunnel, which begins a handshake."""
        self.run("python3 -c \"import socket; s = socket.socket(2, 2); s.sendto(b'x', ('10.7.0.1', 9))\"")


class TunnelRouter(RootRouter):
    """An OpenWrt with the tunnel, which is down until somebody brings it up."""

    def files(self) -> dict[str, bytes | Path]:
        files = super().files()
        for name, more in (("network", _NETWORK), ("firewall", _FIREWALL)):
            text = files[f"/etc/config/{name}"]
            assert isinstance(text, bytes)
            text = text.replace(b"\tlist network 'wan'\n", b"\tlist network 'wan'\n\tlist device 'vpn'\n")
            files[f"/etc/config/{name}"] = text + more.encode()
        return files | {f"/{name}": ROOT23 / name for name in PIECES}

    def first_boot(self) -> str:
        return f"{super().first_boot()}\nchmod 755 {' '.join(f'/{name}' for name in PIECES)}\n"

    def handshake(self) -> int:
        """When the last handshake was (s of the router's clock); 0: there was none, or no tunnel."""
        found = self.run("wg show vpn latest-handshakes 2>/dev/null", check=False).split()
        return int(found[1]) if len(found) == 2 else 0


class TunnelPair(OpenWrtPair):
    """The routers and the office."""

    def __init__(self, router: Image, office: Image, feeds: Path) -> None:
        super().__init__([router, router], TunnelRouter, feeds)
        self.office = self.add(Office(office, self))

    def boot(self) -> None:
        self.office.power_on()
        super().boot()
        self.office.wait_booted()

    def set_up(self) -> None:
        """The tunnel follows the role of both networks."""
        super().set_up()
        for router in self.routers:
            # An emulated machine may stand still for longer than 150 ms.
            router.run("uci set tandem.globals.heartbeat_interval=0.5")
            router.run("uci add_list tandem.@vrrp_sync_group[0].follow=vpn; uci commit tandem; sync")
            router.run("service tandem reload", 300)
        self.in_step()
