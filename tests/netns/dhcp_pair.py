# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers with tandemd and dnsmasq on a LAN, and DHCP clients there.

Each router's dnsmasq is Debian's, with a lease file that a reboot loses, as OpenWrt's in /tmp does. It
gives out the first free address and confirms no lease that it does not know: one that knew nothing would
give somebody's address to somebody else.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.lab import Host, Instance, LanLab, Router, Tandem, wait_until
from tests.lab.router import TANDEM
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, status

SECRET = "a secret of more than sixteen bytes"
POOL = ("192.168.1.100", "192.168.1.150")
PRINTER = "02:00:00:00:99:99"  # has a static lease
PRINTER_ADDRESS = "192.168.1.200"
V4 = replace(V1, preempt=False, options={"dhcp": "1", "dhcp_tag": "lan"})
V6 = replace(
    V4, name="V6", virtual_router_id=61, addresses=("fe80::4/64", "fd00:1::4/64"), options=V4.options
)

_SERVER = """\
interface=eth0
bind-dynamic
no-resolv
no-hosts
no-ping
dhcp-sequential-ip
dhcp-range=set:lan,{pool},255.255.255.0,{time}
dhcp-host={printer},{address},printer
domain=lan
expand-hosts
local=/lan/
log-dhcp
log-facility={directory}/dnsmasq.log
dhcp-leasefile={directory}/leases
pid-file={directory}/pid
conf-dir={directory}/conf.d
user=root
{more}
"""
# The restart of OpenWrt's init script; the file `slow` delays it.
_RESTART = """\
#!/bin/sh
cd {directory} || exit 1
echo restart >>restarts
[ -e broken ] && exit 3
while [ -e slow ]; do sleep 0.05; done
if pid=$(cat pid 2>/dev/null); then
    kill "$pid" 2>/dev/null
    while [ -e pid ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
fi
mkdir -p conf.d
exec dnsmasq --conf-file={directory}/dnsmasq.conf
"""


class DhcpTandem(Tandem):
    """tandemd whose router also runs dnsmasq; `more` are lines of its configuration.

    `replicate`: it has a channel to the other router, for leases, with `connections` for connections too.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        number: int,
        *,
        more: str = "",
        lease_time: str = "10m",
        replicate: bool = True,
        connections: bool = False,
        lifetime: str = "3",
        **options: str,
    ) -> None:
        super().__init__(instances)
        self.number, self.more, self.lease_time, self.replicate = number, more, lease_time, replicate
        self.options, self.lifetime, self.connections = options, lifetime, connections

    def prepare(self, router: Router) -> None:
        """A boot: /tmp is empty, dnsmasq starts before tandemd does."""
        directory = home(router)
        directory.mkdir(exist_ok=True)
        for name in ("leases", "conf.d/tandem.conf"):
            (directory / name).unlink(missing_ok=True)
        text = {
            "pool": ",".join(POOL),
            "time": self.lease_time,
            "printer": PRINTER,
            "address": PRINTER_ADDRESS,
        }
        server = _SERVER.format(directory=directory, more=self.more, **text)
        (directory / "dnsmasq.conf").write_text(server)
        restart = directory / "restart"
        restart.write_text(_RESTART.format(directory=directory))
        restart.chmod(0o755)
        self.write(router)
        assert tandem(router, "dhcp", "hold") == 0  # as files/etc/init.d/tandem-dhcp does it
        router.exec(str(restart))

    def write(self, router: Router) -> None:
        directory = home(router)
        text = tandem_uci(self.instances, options={"address_lifetime": self.lifetime})
        if self.replicate:
            text += f"""
config peer 'other'
\tlist address '192.168.1.{4 - self.number}'
\toption secret '{SECRET}'
\toption heartbeat '0.2'
"""
        if self.connections:
            text += "\nconfig conntrack_sync\n\toption enabled '1'\n"
        settings = {
            "leasefile": str(directory / "leases"),
            "confdir": str(directory / "conf.d"),
            "restart": str(directory / "restart"),
            "restart_delay": "0.1",
        }
        lines = [f"\toption {key} '{value}'" for key, value in (settings | self.options).items()]
        router.file("conf").write_text("\n".join([text, "config dhcp_gateway", *lines, ""]))


def tandem(router: Router, *words: str) -> int:
    """The exit status of a command of `tandem` that needs no daemon, run in the router."""
    argv = [sys.executable, "-I", str(TANDEM), *words, "-c", str(router.file("conf"))]
    return router.popen(*argv, stdout=subprocess.DEVNULL).wait(20)


def home(router: Router) -> Path:
    """The directory of its dnsmasq."""
    return router.file("dnsmasq")


def pair(
    open_lab: Callable[[Any], Any],
    *instances: Instance,
    start: bool = True,
    lesser: int = 100,
    **options: Any,
) -> LanLab:
    """Two routers; r1 is MASTER and both know each other's leases."""
    instances = instances or (V4,)
    second = [replace(instance, priority=lesser) for instance in instances]
    lab: LanLab = open_lab(
        LanLab([DhcpTandem(instances, 1, **options), DhcpTandem(second, 2, **options)], tag="dhcp")
    )
    if start:
        lab.routers[0].start()
        wait_until(lambda: lab.routers[0].active, 15, "r1 is active")
        lab.routers[1].start()
        lab.routers[1].wait_started()
        wait_until(lambda: lab.active is lab.routers[0], 15, "r2 is not")
        for router in lab.routers:
            wait_until(lambda router=router: not dhcp(router)["waiting"], 15, "dnsmasq has been restarted")  # type: ignore[misc]
        if options.get("replicate", True):
            wait_until(lambda: told(lab), 15, "they know each other")
    return lab


def told(lab: LanLab) -> bool:
    """Whether both have told each other all leases."""
    try:
        return all(len(dhcp(router)["told"]) == 1 for router in lab.routers)
    except OSError:  # one is booting
        return False


def dhcp(router: Router) -> dict[str, Any]:
    """The part of `tandem status` about DHCP."""
    found: dict[str, Any] = status(router)["dhcp"]
    return found


def leases(router: Router) -> dict[str, tuple[str, str]]:
    """The content of the lease file: {address: (hardware address, name)}."""
    lines = (home(router) / "leases").read_text().splitlines()
    words = [line.split() for line in lines if not line.startswith("duid")]
    return {address: (client, name) for _, client, address, name, _ in words}


def settled(router: Router) -> bool:
    """Whether its dnsmasq has read every lease that the router knows."""
    try:
        said = dhcp(router)
        return not said["waiting"] and said["leases"] == len(leases(router))
    except OSError:  # it is booting
        return False


def knows(router: Router, *addresses: str) -> None:
    """Wait until its dnsmasq has read these leases."""
    wait_until(
        lambda: settled(router) and set(addresses) <= leases(router).keys(),
        15,
        f"{router.name} knows {addresses}",
        explain=router.log,
    )


@dataclass(frozen=True)
class Answer:
    """The answer of a server."""

    kind: str  # "offer", "ack", "nak"
    address: str
    options: dict[str, Any]
    source: str  # hardware address

    @property
    def server(self) -> str:
        return str(self.options["server_id"])


_KINDS = {2: "offer", 5: "ack", 6: "nak"}


class Client:
    """A DHCP client of one hardware address, on any host of the LAN. It does nothing by itself."""

    def __init__(self, host: Host, number: int, name: str = "", mac: str = "") -> None:
        self.host = host
        self.mac = mac or f"02:00:00:01:00:{number:02x}"
        self.name = name
        self.address = ""
        self._xid = number << 16
        self._socket = host.enter(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        self._socket.bind(("eth0", 0x800))

    def close(self) -> None:
        self._socket.close()

    def lease(self, timeout: float = 10) -> Answer:
        """DISCOVER until there is an offer, and REQUEST it: the ACK."""
        offer = self.until("discover", timeout=timeout)
        ack = self.until("request", timeout=timeout, requested_addr=offer.address, server_id=offer.server)
        assert ack.kind == "ack"
        self.address = ack.address
        self.host.ip(
            f"address replace {ack.address}/24 dev eth0"
        )  # the answer to a rebind asks for it by ARP
        return ack

    def rebind(self, timeout: float = 10) -> Answer:
        """A REQUEST to everybody, as at T2 (RFC 2131 section 4.3.2, REBINDING)."""
        return self.until("request", timeout=timeout, ciaddr=self.address)

    def reboot(self, timeout: float = 10) -> Answer:
        """A REQUEST for the address that it had, as a host does that was switched on (INIT-REBOOT)."""
        return self.until("request", timeout=timeout, requested_addr=self.address)

    def until(self, kind: str, timeout: float = 10, **fields: Any) -> Answer:
        """Repeat a request until an answer comes, as clients do."""
        answers: list[Answer] = []
        wait_until(
            lambda: answers.extend(self.say(kind, **fields)) or answers, timeout, f"an answer to {kind}"
        )
        return answers[0]

    def say(self, kind: str, wait: float = 0.3, ciaddr: str = "0.0.0.0", **options: Any) -> list[Answer]:
        """Send a request once; return all answers within `wait` seconds, or the first one at once."""
        self._xid += 1
        words = [("message-type", kind), *options.items()]
        if self.name:
            words.append(("hostname", self.name))
        words += [("param_req_list", [1, 3, 6, 12, 15, 51, 54]), "end"]
        packet = (
            Ether(src=self.mac, dst="ff:ff:ff:ff:ff:ff")
            / IP(src=ciaddr, dst="255.255.255.255")
            / UDP(sport=68, dport=67)
            / BOOTP(chaddr=bytes.fromhex(self.mac.replace(":", "")), xid=self._xid, ciaddr=ciaddr)
            / DHCP(options=words)
        )
        self._socket.send(bytes(packet))
        return self._answers(wait)

    def _answers(self, wait: float) -> list[Answer]:
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                frame = Ether(self._socket.recv(2000))
            except TimeoutError:
                break
            if DHCP not in frame or frame[BOOTP].op != 2 or frame[BOOTP].xid != self._xid:
                continue
            options = {option[0]: option[1] for option in frame[DHCP].options if isinstance(option, tuple)}
            return [Answer(_KINDS[options["message-type"]], frame[BOOTP].yiaddr, options, frame.src)]
        return []


def resolve(host: Host, server: str, name: str, timeout: float = 1) -> str | None:
    """The IPv4 address that a DNS server gives for a name; None: no answer, or no such name."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
            sock.sendto(struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1", (server, 53))
            return sock.recv(512)

    try:
        answer = host.enter(ask)
    except OSError:
        return None
    return socket.inet_ntoa(answer[-4:]) if struct.unpack_from("!H", answer, 6)[0] else None


__all__ = [
    "PRINTER", "PRINTER_ADDRESS", "V4", "V6", "VIP", "Answer", "Client", "DhcpTandem", "dhcp",
    "home", "knows", "leases", "pair", "resolve", "settled", "tandem", "told",
]  # fmt: skip
