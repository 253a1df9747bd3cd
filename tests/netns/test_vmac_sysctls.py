# SPDX-License-Identifier: GPL-2.0-or-later
"""The effect of a virtual MAC address on a LAN, with the settings of `tandem.effects.vmac` and without.

Two routers with the same macvlan (192.168.1.2 active, .3 backup) and a client on one switch; arping
and ping ask, tshark reads what went over the client's cable.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.core.settings import Address, Instance
from tandem.effects.sysctl import Sysctls, ipv4
from tandem.effects.vmac import settings_of
from tests.lab import Capture, Host, Lab, Port, netns, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

VIRTUAL_MAC = "00:00:5e:00:01:07"
VIP, OWN, BACKUP_OWN, CLIENT = "192.168.1.4", "192.168.1.2", "192.168.1.3", "192.168.1.10"
VIP6, OWN6, CLIENT6 = "2001:db8::4", "2001:db8::2", "2001:db8::10"
INSTANCE = Instance(
    name="lan",
    interface="eth0",
    virtual_router_id=7,
    use_vmac="vrrp7",
    virtual_addresses=(Address(VIP, 24, 4), Address(VIP6, 64, 6)),
)
FOUR_ONLY = Instance("lan", "eth0", 7, use_vmac="vrrp7", virtual_addresses=(Address(VIP, 24, 4),))


class Wire(Lab):
    """The lab; `active` and `backup` differ only in that the active has the addresses."""

    def __init__(self) -> None:
        super().__init__("test")
        lan = self.switch("lan")
        self.active = self.add(Host("active", [Port("eth0", lan, f"{OWN}/24", f"{OWN6}/64")]))
        self.backup = self.add(Host("backup", [Port("eth0", lan, f"{BACKUP_OWN}/24", "2001:db8::3/64")]))
        self.client = self.add(Host("client", [Port("eth0", lan, f"{CLIENT}/24", f"{CLIENT6}/64")]))

    def reverse_path_filter(self, value: int) -> None:
        """As a distribution may set it; before the macvlan is made, which inherits the default."""
        for host in (self.active, self.backup):
            values: dict[str, str | int] = {
                f"ipv4/conf/{name}/rp_filter": value for name in ("all", "default", "eth0")
            }
            netns.write_sysctls(host.namespace, values)

    def add_macvlan(self, host: Host, mode: str = "vepa") -> None:
        host.ip(f"link add name vrrp7 link eth0 address {VIRTUAL_MAC} type macvlan mode {mode}")

    def settings(self, host: Host, instance: Instance = INSTANCE) -> Sysctls:
        """Apply the settings as the daemon does."""
        sysctls = Sysctls(str(host.file("sysctls.json")))
        assert host.enter(lambda: sysctls.hold("lan", settings_of(instance, sysctls.read))) == []
        return sysctls

    def take_over(self, options: str = "noprefixroute") -> None:
        self.active.ip(
            "link set vrrp7 up",
            f"address add {VIP}/24 dev vrrp7 {options}",
            f"address add {VIP6}/64 dev vrrp7 nodad {options}",
        )

    def mac(self, host: Host) -> str:
        return f"02:00:00:00:{host.number:02x}:0a"

    def ask(self, *addresses: str) -> None:
        """Ask for the addresses by ARP; every one is answered by somebody."""
        for address in addresses:
            self.client.exec("arping", "-q", "-c", "1", "-w", "5", "-b", "-I", "eth0", address)

    def capture(self) -> Capture:
        """Capture the packets on the client's cable."""
        return Capture(self, self.client.cable("eth0"), filter="arp or ip6 or icmp")

    def flap(self) -> None:
        """The base loses its connected route and gets it back behind that of the macvlan."""
        self.active.ip("link set eth0 down", "link set eth0 up", "link set vrrp7 up")

    def reaches(self, address: str) -> bool:
        return " 0% packet loss" in self.client.exec("ping", "-c1", "-W1", address, check=False)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire() as lab:
        lab.up()
        yield lab


def told(capture: Capture) -> set[tuple[str, str]]:
    """Return the MAC addresses that the routers have told the LAN, in requests and replies: (IP, MAC)."""
    rows = capture.fields(f"arp && arp.src.proto_ipv4 != {CLIENT}", "arp.src.proto_ipv4", "arp.src.hw_mac")
    return {(address, mac) for address, mac in rows}


def truth(wire: Wire) -> set[tuple[str, str]]:
    return {(VIP, VIRTUAL_MAC), (OWN, wire.mac(wire.active)), (BACKUP_OWN, wire.mac(wire.backup))}


def test_every_address_is_told_with_its_own_mac_only(wire: Wire) -> None:
    for host in (wire.active, wire.backup):
        wire.add_macvlan(host)
        wire.settings(host)
    wire.backup.ip("link set vrrp7 up")  # even a backup that leaves its macvlan up must be silent
    wire.take_over()
    with wire.capture() as capture:
        wire.ask(VIP, OWN, BACKUP_OWN)
        for source in (VIP, OWN):
            wire.active.ip("neigh flush all")
            wire.active.exec("ping", "-c1", "-W2", "-I", source, CLIENT)
        wire.flap()
        wait_until(lambda: wire.reaches(VIP), what="the active answers again")
        wire.ask(VIP, OWN, BACKUP_OWN)
        for source in (VIP, OWN):
            wire.active.ip("neigh flush all")
            wire.active.exec("ping", "-c1", "-W2", "-I", source, CLIENT)
    assert told(capture) == truth(wire)
    assert capture.complaints() == []


def test_without_the_settings_the_lan_learns_wrong_macs(wire: Wire) -> None:
    for host in (wire.active, wire.backup):
        wire.add_macvlan(host)
        host.ip("link set vrrp7 up")
    wire.take_over()
    with wire.capture() as capture:
        wire.ask(VIP, OWN, BACKUP_OWN)
    wrong = {(VIP, wire.mac(wire.active)), (OWN, VIRTUAL_MAC), (BACKUP_OWN, VIRTUAL_MAC)}
    assert told(capture) == truth(wire) | wrong


def test_requests_for_the_virtual_address_need_arp_announce(wire: Wire) -> None:
    wire.add_macvlan(wire.active)
    wire.settings(wire.active)
    netns.write_sysctls(wire.active.namespace, {"ipv4/conf/eth0/arp_announce": 0})
    wire.take_over()
    with wire.capture() as capture:
        wire.active.ip("neigh flush all")
        wire.active.exec("ping", "-c1", "-W2", "-I", VIP, CLIENT)
    assert (VIP, wire.mac(wire.active)) in told(capture)


@pytest.mark.parametrize("strict", [0, 1, 2])
@pytest.mark.parametrize("options", ["noprefixroute", ""])
def test_reverse_path_filter(wire: Wire, strict: int, options: str) -> None:
    wire.reverse_path_filter(strict)
    wire.active.ip("address add 10.9.9.9/32 dev lo")
    wire.client.ip(f"route add 10.9.9.9/32 via {VIP}")
    wire.add_macvlan(wire.active)
    wire.settings(wire.active)
    wire.take_over(options)
    for _ in range(2):
        for address in (VIP, OWN, "10.9.9.9"):
            assert wait_until(lambda address=address: wire.reaches(address), 5, address)  # type: ignore[misc]
        wire.flap()
    assert wire.active.sysctl("ipv4/conf/all/rp_filter") == str(strict)


def test_a_macvlan_that_comes_up_says_nothing_by_itself(wire: Wire) -> None:
    wire.add_macvlan(wire.active)
    wire.settings(wire.active, INSTANCE)
    wire.add_macvlan(wire.backup)
    wire.settings(wire.backup, FOUR_ONLY)
    with wire.capture() as capture:
        for host in (wire.active, wire.backup):
            host.ip("link set vrrp7 up")
        # DAD takes 1 s, MLD reports and router solicitations come within that time: a macvlan that
        # was left as it is shows when it is over.
        wire.client.ip(f"link add name other link eth0 address {VIRTUAL_MAC[:-2]}08 type macvlan mode bridge")
        wire.client.ip("link set other up")
        wait_until(lambda: other_solicits(wire), 10, "the macvlan without settings is through with DAD")
    assert capture.fields(f"eth.src == {VIRTUAL_MAC}", "frame.number") == []
    assert capture.fields(f"eth.src == {VIRTUAL_MAC[:-2]}08", "frame.number") != []


def other_solicits(wire: Wire) -> bool:
    text = wire.client.exec("ip", "-6", "address", "show", "dev", "other")
    return "inet6 fe80" in text and "tentative" not in text


def test_ipv6_neighbours(wire: Wire) -> None:
    for host in (wire.active, wire.backup):
        wire.add_macvlan(host)
        wire.settings(host)
    wire.take_over()
    with wire.capture() as capture:
        for address in (VIP6, OWN6, "2001:db8::3"):
            wait_until(lambda address=address: wire.reaches(address), 5, address)  # type: ignore[misc]
    rows = capture.fields(
        "icmpv6.type == 136 && eth.dst == " + wire.mac(wire.client), "icmpv6.nd.na.target_address", "eth.src"
    )
    answers = {(address, mac) for address, mac in rows}
    assert answers >= {
        (VIP6, VIRTUAL_MAC),
        (OWN6, wire.mac(wire.active)),
        ("2001:db8::3", wire.mac(wire.backup)),
    }
    assert len({address for address, _ in answers}) == len(answers)
    assert "fe80" not in wire.active.exec("ip", "-6", "address", "show", "dev", "vrrp7")


def test_everything_is_put_back(wire: Wire) -> None:
    wire.reverse_path_filter(1)
    before = snapshot(wire.active)
    wire.add_macvlan(wire.active)
    sysctls = wire.settings(wire.active)
    assert snapshot(wire.active) != before
    wire.active.ip("link delete vrrp7")
    # A daemon that was killed: the next one knows what it was.
    again = Sysctls(str(wire.active.file("sysctls.json")))
    assert wire.active.enter(lambda: again.load() + again.settle()) == []
    assert snapshot(wire.active) == before
    sysctls.forget("vrrp7")
    assert sysctls.read(ipv4("vrrp7", "arp_ignore")) is None


def snapshot(host: Host) -> dict[str, str]:
    """Everything below net.*.conf.* except the macvlan's own."""

    def read() -> dict[str, str]:
        found = {}
        for family in ("ipv4", "ipv6"):
            for path in Path("/proc/sys/net", family, "conf").glob("*/*"):
                if "vrrp7" not in path.parts and path.is_file():
                    try:
                        found[str(path)] = path.read_text()
                    except OSError:
                        continue  # stable_secret, as long as there is none
        return found

    return host.enter(read)


# --- where adverts from the virtual MAC arrive ------------------------------------------


@pytest.mark.parametrize(
    ("mode", "strict", "macvlan_up", "heard_on"),
    [
        ("vepa", 0, True, {"eth0"}),
        ("vepa", 1, True, {"eth0"}),
        ("vepa", 1, False, {"eth0"}),
        ("bridge", 0, True, {"eth0"}),
        ("bridge", 1, True, {"eth0"}),
        ("bridge", 1, False, {"eth0"}),
        ("private", 0, True, {"vrrp7"}),
        ("private", 1, True, set()),  # rp_filter drops it: the macvlan of a backup has no address
        ("private", 1, False, {"eth0"}),
    ],
)
def test_adverts_of_a_peer_with_the_same_mac(
    wire: Wire, mode: str, strict: int, macvlan_up: bool, heard_on: set[str]
) -> None:
    wire.reverse_path_filter(strict)
    for host in (wire.active, wire.backup):
        wire.add_macvlan(host, mode)
        wire.settings(host)
    wire.take_over()
    if macvlan_up:
        wire.backup.ip("link set vrrp7 up")
    listeners = {name: wire.backup.enter(lambda name=name: multicast(name)) for name in ("eth0", "vrrp7")}  # type: ignore[misc]
    sender = wire.active.enter(lambda: multicast("vrrp7"))
    fence = wire.active.enter(lambda: multicast("eth0"))  # heard on eth0 in any case, and later
    try:
        sender.bind((OWN, 0))
        sender.sendto(b"from the virtual MAC", ("224.0.0.18", 0))
        fence.bind((OWN, 0))
        fence.sendto(b"fence", ("224.0.0.18", 0))
        heard = set()
        for name, listener in listeners.items():
            while not (name == "vrrp7" and name in heard):
                try:
                    payload = listener.recv(200)[20:]
                except TimeoutError:
                    break
                if payload == b"fence":
                    break
                heard.add(name)
        assert heard == heard_on
    finally:
        for sock in (*listeners.values(), sender, fence):
            sock.close()


def multicast(interface: str) -> socket.socket:
    """A raw VRRP socket on one interface, member of the group there."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    index = struct.pack("=i", socket.if_nametoindex(interface))
    group = socket.inet_aton("224.0.0.18") + bytes(4) + index
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + index)
    sock.settimeout(0.5)
    return sock


def test_a_host_is_found_when_the_first_answers_are_lost(wire: Wire) -> None:
    """The kernel drops answers to an address that has just come. By default, it asks three times in 3 s."""
    wire.add_macvlan(wire.active)
    wire.settings(wire.active)
    wire.take_over("")
    lost = f"ether saddr {VIRTUAL_MAC} icmpv6 type nd-neighbor-solicit quota until 300 bytes drop"
    rules = f"""
table netdev deaf {{
    chain asked {{
        type filter hook ingress device eth0 priority 0
        {lost}
    }}
}}
"""
    wire.client.exec("nft", "-f", "-", stdin=rules)
    assert " 0% packet loss" in wire.active.exec("ping", "-c1", "-W3", "-I", "vrrp7", CLIENT6, check=False)
    assert wire.active.sysctl("ipv6/neigh/vrrp7/mcast_solicit") == "50", "for as long as by default"
