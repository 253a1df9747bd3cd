# SPDX-License-Identifier: GPL-2.0-or-later
"""DHCP follows the role: one gateway for the clients, one memory of who has which address."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Rebind,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6OptClientFQDN,
    DHCP6OptClientId,
    DHCP6OptDNSServers,
    DHCP6OptIA_NA,
    DHCP6OptIAAddress,
    DHCP6OptOptReq,
    DHCP6OptServerId,
)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.lab import Host, LanLab, Tandem, wait_until
from tests.lab.frames import say
from tests.lab.process import send_signal, tree

from .dhcp_pair import (
    PRINTER,
    PRINTER_ADDRESS,
    V6,
    VIP,
    Client,
    dhcp,
    home,
    knows,
    leases,
    pair,
    resolve,
    told,
)

Open = Callable[[Any], Any]


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Client:
            client = Client(*args, **options)
            stack.callback(client.close)
            return client

        yield make


class Client6:
    """A DHCPv6 client that asks for one address."""

    def __init__(self, host: Host, number: int, name: str = "") -> None:
        self.host, self.name, self.address = host, name, ""
        self.mac = f"02:00:00:06:00:{number:02x}"
        self.source = next(a for a in host.addresses() if a.startswith("fe80:"))
        self.duid = DUID_LL(lladdr=self.mac)

    def until(self, kind: type[Packet], server: Packet | None) -> Packet:
        """Say it until there is an answer with an address."""
        answers: list[Packet] = []
        wait_until(lambda: answers.extend(self._say(kind, server)) or answers, 10, "a DHCPv6 answer")
        self.address = answers[0][DHCP6OptIAAddress].addr
        return answers[0]

    def _say(self, kind: type[Packet], server: Packet | None) -> list[Packet]:
        message = kind(trid=77) / DHCP6OptClientId(duid=self.duid)
        if server is not None:
            message = message / DHCP6OptServerId(duid=server)
        address = [DHCP6OptIAAddress(addr=self.address)] if self.address else []
        message = message / DHCP6OptIA_NA(iaid=1, ianaopts=address) / DHCP6OptOptReq(reqopts=[23])
        if self.name:
            message = message / DHCP6OptClientFQDN(fqdn=f"{self.name}.", flags="S")
        frame = Ether(src=self.mac, dst="33:33:00:01:00:02") / IPv6(src=self.source, dst="ff02::1:2", hlim=1)
        for packet in say(self.host, frame / UDP(sport=546, dport=547) / message, 0.5):
            if DHCP6OptIAAddress in packet and packet[UDP].dport == 546:
                return [packet]
        return []


# The script of both clients: set the address, and note the options.
SCRIPT = """#!/bin/sh
case "${{reason:-$1}}" in
bound | renew) address=$ip told="$router $dns $serverid" ;;
BOUND | RENEW | REBIND | REBOOT)
    address=$new_ip_address
    told="$new_routers $new_domain_name_servers $new_dhcp_server_identifier" ;;
*) exit 0 ;;
esac
ip address replace "$address/24" dev eth0
echo "${{reason:-$1}} $address $told" >>{file}
"""


class RealClient:
    """udhcpc or dhclient on the LAN's host."""

    def __init__(self, lab: LanLab, program: str) -> None:
        self.host = lab.client
        self.program = program
        self.notes = self.host.file(f"{program}.notes")
        self.script = self.host.file(f"{program}.script")
        self.script.write_text(SCRIPT.format(file=self.notes))
        self.script.chmod(0o755)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        leases = self.host.file(f"{self.program}.leases")
        leases.touch()
        argv = {
            "udhcpc": ["udhcpc", "-f", "-i", "eth0", "-s", str(self.script), "-t", "9", "-T", "1", "-A", "1"],
            "dhclient": [
                "dhclient",
                "-d",
                "-sf",
                str(self.script),
                "-lf",
                str(leases),
                "-pf",
                "/dev/null",
                "eth0",
            ],
        }[self.program]
        self.child = self.host.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def told(self, after: int = 0) -> list[str]:
        """The server's last answer: reason, address, router, DNS server, server; more than `after` times."""
        lines = wait_until(
            lambda: found if len(found := self._lines()) > after else None,
            40,
            f"{self.program} was told",
            every=0.1,
        )
        return lines[-1].split()

    def _lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


def test_real_clients_keep_their_addresses(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab)
    r1, r2 = lab.routers
    busybox, isc = (RealClient(lab, program) for program in ("udhcpc", "dhclient"))
    busybox.start()
    _, address, *rest = busybox.told()
    assert rest == [VIP, VIP, "192.168.1.2"]
    knows(r2, address)
    r1.power_off()
    wait_until(lambda: r2.active, 10, "r2 took over")
    # The client renews with the router that it knows, which is dead, and then with everybody.
    assert busybox.child is not None
    send_signal(tree(busybox.child.pid)[-1:], signal.SIGUSR1)
    assert busybox.told(1)[1:] == [address, VIP, VIP, "192.168.1.3"]
    busybox.child.kill()

    # The same host, with another program (and client id), and then once more as after its reboot.
    isc.start()
    _, address, *rest = isc.told()
    assert rest == [VIP, VIP, "192.168.1.3"]
    assert isc.child is not None
    isc.child.kill()
    r1.power_on()
    wait_until(lambda: r1.running and told(lab), 15, "r1 is back")
    knows(r1, address)
    r2.power_off()
    wait_until(lambda: r1.active, 10, "r1 took over")
    isc.start()
    reason, *rest = isc.told(1)
    assert (reason, rest) == ("REBOOT", [address, VIP, VIP, "192.168.1.2"])


def test_a_lease_granted_just_before_a_handover_is_known(
    open_lab: Open, clients: Callable[..., Client]
) -> None:
    lab: LanLab = pair(open_lab)
    given: list[str] = []
    for number in range(4):
        before, after = lab.routers[number % 2], lab.routers[1 - number % 2]
        client = clients(lab.client, number + 1)
        given.append(client.lease().address)
        Tandem.request(before, "failover")
        wait_until(lambda after=after, before=before: after.active and before.passive, 10, "handed over")  # type: ignore[misc]
        another = clients(lab.client, number + 101)
        given.append(another.lease().address)
        assert client.reboot().kind == "ack"
    assert len(set(given)) == len(given)


def test_ipv6_leases_of_dnsmasq_survive_too(open_lab: Open) -> None:
    lab: LanLab = pair(open_lab, V6, more="dhcp-range=set:lan,::100,::1ff,constructor:eth0,64,10m")
    r1, r2 = lab.routers
    client = Client6(lab.client, 1, "laptop")
    reply = client.until(DHCP6_Solicit, server=None)
    reply = client.until(DHCP6_Request, server=reply[DHCP6OptServerId].duid)
    assert reply[DHCP6OptDNSServers].dnsservers == ["fd00:1::4"]
    knows(r2, client.address)
    r1.power_off()
    wait_until(lambda: r2.active, 10, "r2 took over")
    before = client.address
    reply = client.until(DHCP6_Rebind, server=None)
    assert client.address == before and reply[DHCP6OptIAAddress].validlft > 0
    another = Client6(lab.client, 2)
    another.until(DHCP6_Solicit, server=None)
    assert another.address != before
    r1.power_on()
    wait_until(lambda: r1.running and told(lab), 15, "r1 is back")
    knows(r1, before)
    # Each has a DUID of its own, as before.
    duids = {
        line for r in lab.routers for line in (home(r) / "leases").read_text().splitlines() if "duid" in line
    }
    assert len(duids) == 2


def test_leases_survive_whatever_router_reboots(open_lab: Open, clients: Callable[..., Client]) -> None:
    lab: LanLab = pair(open_lab)
    r1, r2 = lab.routers
    laptop, phone, printer = (
        clients(lab.client, 1, "laptop"),
        clients(lab.client, 2, "phone"),
        clients(lab.client, 3, mac=PRINTER),
    )
    ack = laptop.lease()
    assert ack.options["router"] == VIP and ack.options["name_server"] == VIP
    assert ack.server == "192.168.1.2"
    assert printer.lease().address == PRINTER_ADDRESS
    knows(r2, laptop.address, PRINTER_ADDRESS)
    assert leases(r2)[laptop.address] == (laptop.mac, "laptop")

    r1.power_off()
    wait_until(lambda: r2.active, 10, "r2 took over")
    again = laptop.rebind()
    assert (again.kind, again.address, again.server) == ("ack", laptop.address, "192.168.1.3")
    assert again.options["router"] == VIP
    assert printer.reboot().address == PRINTER_ADDRESS
    assert phone.lease().address not in (laptop.address, PRINTER_ADDRESS)
    assert resolve(lab.client, VIP, "laptop.lan") == laptop.address

    # r1 boots with an empty lease file, and learns all of them.
    r1.power_on()
    wait_until(lambda: r1.running and told(lab), 15, "r1 is back")
    knows(r1, laptop.address, phone.address, PRINTER_ADDRESS)
    r2.power_off()
    wait_until(lambda: r1.active, 10, "r1 took over")
    for client in (laptop, phone):
        again = client.reboot()
        assert (again.kind, again.address, again.server) == ("ack", client.address, "192.168.1.2")
    assert printer.rebind().address == PRINTER_ADDRESS
    tablet = clients(lab.client, 4)
    assert tablet.lease().address not in (laptop.address, phone.address, PRINTER_ADDRESS)
    assert resolve(lab.client, VIP, "phone.lan") == phone.address

    # And the other direction once more.
    r2.power_on()
    wait_until(lambda: r2.running and told(lab), 15, "r2 is back")
    knows(r2, *(client.address for client in (laptop, phone, tablet)))
    assert dhcp(r2)["leases"] == 4
