# SPDX-License-Identifier: GPL-2.0-or-later
"""The packets that tandemd sends, judged by tshark: every kind of advertisement, gratuitous ARP, NA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tandem.core.announcing import ANNOUNCE_AGAIN
from tests.lab import Capture, LanLab, Router, Tandem, netns, wait_until

from .lan import Variant, needs, settled, undisturbed

pytestmark = needs("tshark", "dumpcap")

Open = Callable[[LanLab], LanLab]
PRIORITY = 110
BASE_MAC, PEER_MAC = "02:00:00:00:02:0a", "02:00:00:00:03:0a"  # of r1 and r2; the client is host 1
BASE_LINK_LOCAL = "fe80::ff:fe00:20a"
CS6 = "48"  # DSCP of internetwork control, RFC 4594 section 3.1
# keepalived's defaults, 5 at once and 5 after garp_master_delay, and those that follow in between: a daemon
# that is late says one of them for all that were due.
ANNOUNCED = range(2 * 5 + 1, 2 * 5 + len(ANNOUNCE_AGAIN) + 1)
END = "feedc0de"
OPTIONS = {"state": "MASTER", "garp_master_delay": "1"}

# Each has a VRID of its own, so that one daemon sends them all at once.
VARIANTS = [
    Variant("v2", 2, virtual_router_id=1, addresses=("192.168.1.201/24",)),
    Variant("v2_password", 2, auth_pass="s3cret", virtual_router_id=2, addresses=("192.168.1.202/24",)),
    Variant("v2_unicast", 2, unicast=True, virtual_router_id=3, addresses=("192.168.1.203/24",)),
    Variant("v2_vmac", 2, vmac=True, virtual_router_id=4, addresses=("192.168.1.204/24",)),
    Variant("v3", virtual_router_id=5, addresses=tuple(f"192.168.1.{n}/24" for n in range(100, 108))),
    Variant("v3_unicast", unicast=True, virtual_router_id=6, addresses=("192.168.1.206/24",)),
    Variant("v3_vmac", vmac=True, virtual_router_id=7, addresses=("192.168.1.207/24",)),
    Variant("v6", ipv6=True, virtual_router_id=8, addresses=("fe80::208/64", "fd00:1::208/64")),
    Variant("v6_unicast", ipv6=True, unicast=True, virtual_router_id=9, addresses=("fd00:1::209/64",)),
    Variant("v6_vmac", ipv6=True, vmac=True, virtual_router_id=10, addresses=("fe80::210/64",)),
]
ETHERNET = ("eth.src", "eth.dst")
IP = ("ip.src", "ip.dst", "ip.ttl", "ip.dsfield.dscp")
IPV6 = ("ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.tclass.dscp")
ADVERT = (
    "vrrp.version", "vrrp.type", "vrrp.addr_count", "vrrp.ip_addr", "vrrp.ipv6_addr", "vrrp.auth_type",
    "vrrp.auth_string", "vrrp.adver_int", "vrrp.short_adver_int", "vrrp.prio",
)  # fmt: skip
GARP = (*ETHERNET, "arp.opcode", "arp.isgratuitous", "arp.src.hw_mac", "arp.dst.proto_ipv4")
NA = (
    *ETHERNET, "ipv6.src", "ipv6.dst", "ipv6.hlim", "icmpv6.nd.na.flag.r", "icmpv6.nd.na.flag.s",
    "icmpv6.nd.na.flag.o", "icmpv6.opt.linkaddr",
)  # fmt: skip
EACH = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@pytest.fixture(scope="module")
def wire() -> Iterator[Capture]:
    """Everything on r1's cable from the start of its tandemd to its end."""
    speaker = Tandem([replace(variant, options=OPTIONS).instance(1, PRIORITY) for variant in VARIANTS])
    with LanLab([speaker, Tandem()]) as lab:
        lab.up()
        router = lab.routers[0]
        with Capture(lab, router.cable("eth0")) as capture:
            router.start()
            router.wait_started()
            wait_until(lambda: has_spoken(router), 20, "every instance has spoken", explain=router.log)
            assert router.stop() == 0
            lab.client.exec("ping", "-c1", "-p", END, "192.168.1.2")
            wait_until(lambda: bytes.fromhex(4 * END) in capture.path.read_bytes(), 10, "its end is captured")
        yield capture


def has_spoken(router: Router) -> bool:
    status = Tandem.request(router, "status")
    return all(
        item["counters"].get("adverts_sent", 0) >= 3
        and item["counters"].get("announcements_sent", 0) >= ANNOUNCED[0] * len(variant.addresses)
        for variant, item in zip(VARIANTS, status["instances"], strict=True)
    )


def addresses_of(variant: Variant) -> list[str]:
    return [address.split("/")[0] for address in variant.addresses]


Packet = dict[str, str]  # fields, as tshark names them, and their text


@pytest.fixture(scope="module")
def adverts(wire: Capture) -> dict[str, list[Packet]]:
    """The advertisements of each virtual router, by its id."""
    names = ("frame.number", "vrrp.virt_rtr_id", *ETHERNET, *IP, *IPV6, *ADVERT)
    # A host that does not speak VRRP quotes what it got by unicast in its ICMP errors.
    return grouped(wire, "vrrp && !icmp && !icmpv6", names, "vrrp.virt_rtr_id")


@pytest.fixture(scope="module")
def announcements(wire: Capture) -> dict[str, list[Packet]]:
    """The announcements of each address, by the address."""
    arp = grouped(wire, "arp", ("frame.number", *GARP, "arp.src.proto_ipv4"), "arp.src.proto_ipv4")
    target = "icmpv6.nd.na.target_address"
    return arp | grouped(wire, "icmpv6.type == 136", ("frame.number", *NA, target), target)


def grouped(wire: Capture, filter: str, names: Sequence[str], key: str) -> dict[str, list[Packet]]:
    found: dict[str, list[Packet]] = {}
    for fields in wire.fields(filter, *names):
        packet = dict(zip(names, fields, strict=True))
        found.setdefault(packet[key], []).append(packet)
    return found


def virtual_mac(variant: Variant) -> str:
    return f"00:00:5e:00:0{2 if variant.ipv6 else 1}:{variant.virtual_router_id:02x}"


def the_same(packets: Sequence[Packet], *names: str) -> list[str]:
    """These fields of all packets, which must not differ."""
    assert packets, "no packet"
    seen = {tuple(packet[name] for name in names) for packet in packets}
    assert len(seen) == 1, sorted(seen)
    return [*seen.pop()]


def test_tshark_finds_no_fault(wire: Capture) -> None:
    sent = f"eth.src == {BASE_MAC} || eth.src[0:4] == 00:00:5e:00"
    wire.assert_clean(at_least=3 * len(VARIANTS), filter="vrrp")
    assert wire.count(f"arp && ({sent})")
    assert wire.count(f"icmpv6.type == 136 && ({sent})")
    assert wire.count("vrrp && !(vrrp.checksum.status == 1)") == 0


@EACH
def test_headers(adverts: dict[str, list[Packet]], variant: Variant) -> None:
    names = (*ETHERNET, *(IPV6 if variant.ipv6 else IP))
    fields = the_same(adverts[str(variant.virtual_router_id)], *names)
    if variant.unicast:
        source, destination = ("fd00:1::2", "fd00:1::3") if variant.ipv6 else ("192.168.1.2", "192.168.1.3")
        destination_mac = PEER_MAC
    elif variant.ipv6:
        source, destination, destination_mac = BASE_LINK_LOCAL, "ff02::12", "33:33:00:00:00:12"
    else:
        source, destination, destination_mac = "192.168.1.2", "224.0.0.18", "01:00:5e:00:00:12"
    mac = virtual_mac(variant) if variant.vmac else BASE_MAC
    assert fields == [mac, destination_mac, source, destination, "255", CS6]


@EACH
def test_advertisement(adverts: dict[str, list[Packet]], variant: Variant) -> None:
    names = ["vrrp.version", "vrrp.type", "vrrp.addr_count", f"vrrp.ip{'v6' if variant.ipv6 else ''}_addr"]
    names += ["vrrp.auth_type", "vrrp.auth_string", "vrrp.adver_int", "vrrp.short_adver_int"]
    fields = the_same(adverts[str(variant.virtual_router_id)], *names)
    addresses = addresses_of(variant)
    expected = [str(variant.version), "1", str(len(addresses)), ",".join(addresses)]
    if variant.version == 3:
        expected += ["", "", "", "10"]
    else:
        expected += ["1", variant.auth_pass, "1", ""] if variant.auth_pass else ["0", "", "1", ""]
    assert fields == expected


@EACH
def test_priorities(adverts: dict[str, list[Packet]], variant: Variant) -> None:
    """An instance sends its own priority all the time, then one farewell."""
    priorities = [advert["vrrp.prio"] for advert in adverts[str(variant.virtual_router_id)]]
    assert len(priorities) >= 4
    assert set(priorities[:-1]) == {str(PRIORITY)}
    assert priorities[-1] == "0"


@EACH
def test_announcements(announcements: dict[str, list[Packet]], variant: Variant) -> None:
    mac = virtual_mac(variant) if variant.vmac else BASE_MAC
    for address in addresses_of(variant):
        if variant.ipv6:
            names, expected = NA, [mac, "33:33:00:00:00:01", address, "ff02::1", "255", "1", "0", "1", mac]
        else:
            names, expected = GARP, [mac, "ff:ff:ff:ff:ff:ff", "1", "1", mac, address]
        fields = the_same(announcements[address], *names)
        assert [{"True": "1", "False": "0"}.get(field, field) for field in fields] == expected
        assert len(announcements[address]) in ANNOUNCED


@EACH
def test_order(
    adverts: dict[str, list[Packet]], announcements: dict[str, list[Packet]], variant: Variant
) -> None:
    """The advertisement comes before the announcements: it stops a third router at once."""
    said = [int(advert["frame.number"]) for advert in adverts[str(variant.virtual_router_id)]]
    for address in addresses_of(variant):
        announced = [int(packet["frame.number"]) for packet in announcements[address]]
        assert said[0] < announced[0] < announced[-1] < said[-1]


def test_both_checksums_of_version_3(open_lab: Open) -> None:
    """Over IPv4 with and without the pseudo-header: each router takes what the other one sends."""
    old, new = Variant("VI", options={"v3_checksum_as_v2": "1"}), Variant("VI")
    lab = open_lab(LanLab([Tandem([old.instance(1, 110)]), Tandem([new.instance(2, 90)])]))
    one, other = lab.routers
    with Capture(lab, one.cable("eth0"), filter="proto 112") as capture:
        lab.start()
        settled(lab, one, [other])
        undisturbed(one, other)
        one.stop()
        settled(lab, other, [])
        one.start()
        settled(lab, one, [other])
        undisturbed(one, other)
    assert checksum_statuses(capture, as_v2=True) == {"192.168.1.2": {"1"}, "192.168.1.3": {"0"}}
    assert checksum_statuses(capture, as_v2=False) == {"192.168.1.2": {"0"}, "192.168.1.3": {"1"}}


def checksum_statuses(capture: Capture, *, as_v2: bool) -> dict[str, set[str]]:
    """tshark's verdicts on the checksums by source: 1 is good, 0 is bad."""
    options = ["-o", f"vrrp.v3_checksum_as_in_v2:{str(as_v2).upper()}"]
    options += ["-Y", "ip && vrrp", "-T", "fields", "-e", "ip.src", "-e", "vrrp.checksum.status"]
    found: dict[str, set[str]] = {}
    for line in netns.run(["tshark", "-n", "-r", str(capture.path), *options]).splitlines():
        source, status = line.split("\t")
        found.setdefault(source, set()).add(status)
    return found
