# SPDX-License-Identifier: GPL-2.0-or-later
"""The listeners' reading of packets: adverts, ARP replies, router advertisements, DHCPv6."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tandem.config.schema import Config
from tandem.core.packet import Advertisement, encode
from tandem.core.settings import Address, Instance
from tandem.effects.bpf import assemble
from tandem.listen import adverts, arp, ndp
from tandem.listen.adverts import Datagram, instances_on, on_devices, take_apart, verdict

SOURCE, GROUP = ip_address("192.168.1.2").packed, ip_address("224.0.0.18").packed
SOURCE6, GROUP6 = ip_address("fe80::2").packed, ip_address("ff02::12").packed
LAN = Instance("lan", "br-lan", 51, version=3, virtual_addresses=(Address("192.168.1.4", 24, 4),))
CONFIG = Config(instances=(LAN,))


def ipv4(
    payload: bytes, options: bytes = b"", fragment: int = 0, total: int | None = None, version: int = 4
) -> bytes:
    """A packet without a checksum, which nobody looks at here."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total is None else total
    head = struct.pack(
        "!BBHHHBBH4s4s", version << 4 | words, 0, length, 1, fragment, 255, 112, 0, SOURCE, GROUP
    )
    return head + options + payload


def ipv6(payload: bytes, kind: int = 112, length: int | None = None, version: int = 6) -> bytes:
    length = len(payload) if length is None else length
    return struct.pack("!BxxxHBB16s16s", version << 4, length, kind, 254, SOURCE6, GROUP6) + payload


def test_a_packet_of_ipv4() -> None:
    whole = Datagram(4, ipv4(b"advert")[:20], b"advert", SOURCE, GROUP, 255)
    assert take_apart(ipv4(b"advert"), 4) == take_apart(ipv4(b"advert") + b"padding", 4) == whole
    with_options = take_apart(ipv4(b"advert", b"\1\1\1\1"), 4)
    assert with_options is not None and (with_options.payload, len(with_options.header)) == (b"advert", 20)
    empty = take_apart(ipv4(b""), 4)
    assert empty is not None and empty.payload == b""


@pytest.mark.parametrize(
    "data",
    [
        b"", ipv4(b"")[:19], ipv4(b"", version=5), ipv4(b"abc", total=24), ipv4(b"abc", total=19),
        b"\x44" + ipv4(b"abc")[1:], b"\x46" + ipv4(b"abc")[1:],
    ],
)  # fmt: skip
def test_no_whole_packet_of_ipv4(data: bytes) -> None:
    assert take_apart(data, 4) is None


@pytest.mark.parametrize(
    ("field", "is_fragment"), [(0, False), (0x4000, False), (0x2000, True), (0x1FFF, True), (1, True)]
)
def test_fragments(field: int, is_fragment: bool) -> None:
    """Don't Fragment marks no fragment; More Fragments and every offset mark one."""
    found = take_apart(ipv4(b"x", fragment=field), 4)
    assert found is not None and found.fragment == is_fragment
    assert (verdict(found, CONFIG, [LAN]) == "fragment: judged when it is whole") == is_fragment


def test_a_packet_of_ipv6() -> None:
    whole = Datagram(6, ipv6(b"advert")[:40], b"advert", SOURCE6, GROUP6, 254)
    assert take_apart(ipv6(b"advert"), 6) == take_apart(ipv6(b"advert") + b"padding", 6) == whole
    assert take_apart(ipv6(b""), 6) == replace(whole, header=ipv6(b""), payload=b"")


@pytest.mark.parametrize("data", [b"", ipv6(b"")[:39], ipv6(b"", version=4), ipv6(b"abc", length=4)])
def test_no_whole_packet_of_ipv6(data: bytes) -> None:
    assert take_apart(data, 6) is None


def test_a_packet_of_another_family() -> None:
    assert take_apart(ipv4(b"x" * 40), 6) is take_apart(ipv6(b"x"), 4) is take_apart(ipv4(b"x"), 5) is None


def datagram(vrid: int = 51, **changes: object) -> Datagram:
    advert = Advertisement(3, vrid, 100, 100, (ip_address("192.168.1.4").packed,))
    payload = encode(advert, SOURCE, GROUP)
    return replace(Datagram(4, b"", payload, SOURCE, GROUP, 255), **changes)  # type: ignore[arg-type]


def test_verdicts() -> None:
    assert verdict(None, CONFIG, [LAN]) == "dropped: not a whole IP packet"
    assert verdict(datagram(), None, []) == "well-formed (no configuration to compare it with)"
    assert verdict(datagram(), CONFIG, [LAN]) == "accepted by lan"
    assert verdict(datagram(52), CONFIG, [LAN]).startswith("dropped: ") and "vrid 52" in verdict(
        datagram(52), CONFIG, [LAN]
    )
    assert verdict(datagram(payload=b"\x31"), CONFIG, [LAN]).startswith("dropped: ")
    six = replace(LAN, name="six", family=6)
    assert "vrid 51" in verdict(datagram(), CONFIG, [six])
    two = replace(LAN, name="two", version=2)
    assert verdict(datagram(), CONFIG, [two]).startswith("dropped by two: ")
    assert verdict(datagram(), CONFIG, [two, LAN]) == "accepted by lan"
    assert verdict(datagram(), CONFIG, [LAN], frozenset((SOURCE,))).startswith("dropped by lan: ")


def test_instances_of_an_interface() -> None:
    vmac = replace(LAN, name="vmac", interface="eth0", use_vmac="vrrp.51")
    config = Config(instances=(LAN, vmac))
    assert instances_on("br-lan", config) == (LAN,)
    assert instances_on("eth0", config) == instances_on("vrrp.51", config) == (vmac,)
    assert instances_on("br-lan", None) == instances_on("", config) == ()


def test_networks_become_devices() -> None:
    config = Config(
        instances=(
            replace(LAN, interface="lan"),
            replace(LAN, interface="wan"),
            replace(LAN, interface="eth7"),
        )
    )
    found = on_devices(config, {"lan": "br-lan", "wan": None})
    assert found is not None and [item.interface for item in found.instances] == ["br-lan", "wan", "eth7"]
    assert on_devices(None, {}) is None


# ARP


MAC = bytes.fromhex("020000000009")


def reply(operation: int = 2, protocol: int = 0x0800) -> bytes:
    return struct.pack("!HHBBH6s4s6s4s", 1, protocol, 6, 4, operation, MAC, SOURCE, bytes(6), GROUP)


def test_arp() -> None:
    assert arp.probe(MAC, "192.168.1.4") == bytes.fromhex(
        "0001 0800 06 04 0001 020000000009 00000000 000000000000 c0a80104"
    )
    assert arp.answer(reply()) == arp.answer(reply() + b"padding") == ("192.168.1.2", "02:00:00:00:00:09")
    assert (
        arp.answer(reply(1))
        is arp.answer(reply(3))
        is arp.answer(reply(2, 0x86DD))
        is arp.answer(reply()[:-1])
        is None
    )
    assert arp.BROADCAST == b"\xff\xff\xff\xff\xff\xff" and arp.ETH_P_ARP == 0x806


# Router advertisements and DHCPv6


def test_answers_of_routers() -> None:
    advert = b"\x86" + bytes(15)
    assert ndp.answer(ipv6(advert, 58)) == (ndp.ADVERTISEMENT, "fe80::2")
    assert ndp.answer(ipv6(b"\x85" + bytes(15), 58)) is ndp.answer(ipv6(advert, 6)) is None
    assert ndp.answer(ipv6(advert[:-1], 58)) is ndp.answer(ipv6(advert, 58, version=4)) is None


def passes(packet: bytes) -> bool:
    """The kernel's verdict by the filter of the packet socket."""
    code = assemble(ndp._ANSWERS)
    program = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    place = register = 0
    while True:
        what, when_true, when_false, operand = program[place]
        place += 1
        if what == 0x06:
            return operand != 0
        if what == 0x15:
            place += when_true if register == operand else when_false
        else:
            size = {0x30: 1, 0x28: 2}[what]
            register = int.from_bytes(packet[operand : operand + size], "big")


@pytest.mark.parametrize(
    ("kind", "payload", "passed"),
    [
        (58, b"\x86", True),
        (58, b"\x85", False),
        (58, b"\x87", False),
        (17, b"\x02\x23\x02\x22", True),
        (17, b"\x02\x22\x02\x23", False),
        (17, b"\x02\x23\x02\x23", False),
        (17, b"\x02\x22\x02\x22", False),
        (17, b"\x86", False),
        (6, b"\x02\x23\x02\x22", False),
        (0, b"\x86", False),
    ],
)
def test_the_kernel_keeps_all_packets_back_but_answers(kind: int, payload: bytes, passed: bool) -> None:
    packet = ipv6(payload.ljust(16, b"\0"), kind)
    assert passes(packet) is passed and (ndp.answer(packet) is not None) is passed


@pytest.mark.parametrize(
    ("ports", "found"), [((547, 546), True), ((546, 547), False), ((547, 547), False), ((53, 546), False)]
)
def test_answers_of_dhcpv6(ports: tuple[int, int], found: bool) -> None:
    data = ipv6(struct.pack("!HH", *ports) + bytes(12), 17)
    assert ndp.answer(data) == ((ndp.DHCPV6, "fe80::2") if found else None)
    assert ndp.answer(ipv6(struct.pack("!HH", *ports) + bytes(12), 58)) is None


def test_questions() -> None:
    assert ndp.solicitation() == (b"\x85" + bytes(7), ("ff02::2", 0))
    message, where = ndp.information_request()
    assert where == ("ff02::1:2", 547) and message[0] == 11
    number, options = message[1:4], message[4:]
    assert options[:6] == bytes.fromhex("0001 000a 0003") and options[6:10] == bytes.fromhex("0001 0200")
    assert options[10:13] == number and options[14:] == bytes.fromhex("0008 0002 0000  0006 0002 0017")
    assert ndp.information_request()[0] != message, "another client each time"
    assert socket.inet_pton(socket.AF_INET6, where[0])


# Sockets


@pytest.mark.parametrize(
    "opens", [arp.open_arp, ndp.open_answers, ndp.open_solicitor, ndp.open_client, adverts.listen]
)
def test_a_device_that_is_not_there_costs_no_descriptor(opens: Callable[[str], socket.socket]) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError) as failed:
        opens("no-such-device")
    assert os.listdir("/proc/self/fd") == before, failed  # whose traceback holds the socket


@pytest.mark.skipif(os.geteuid() != 0, reason="port 546 is root's")
def test_a_port_that_a_client_has_costs_no_descriptor() -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    with ndp.open_client("lo"):
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError) as failed:
            ndp.open_client("lo")
        assert os.listdir("/proc/self/fd") == before, failed


@pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets are root's")
def test_listeners_are_not_woken_by_other_packets() -> None:
    with adverts.listen("lo") as vrrp, ndp.open_answers("lo") as answers:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", 9))
        if os.path.exists("/proc/net/if_inet6"):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", ("::1", 9))
        for listener in (vrrp, answers):
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.recv(100)


@pytest.mark.skipif(os.geteuid() != 0, reason="raw sockets are root's")
def test_a_router_solicitation_has_the_hop_limit_that_routers_demand() -> None:
    """RFC 4861 section 6.1.1."""
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    with ndp.open_solicitor("lo") as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 255
