# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem capture` without a network: taking packets apart, verdicts and descriptions."""

from __future__ import annotations

import io
import os
import random
import re
import struct
from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tandem.config.schema import Config
from tandem.core.packet import GROUP4, GROUP6, Advertisement, encode
from tandem.core.settings import Address, Instance
from tandem.effects.bpf import assemble
from tandem.effects.vrrp_socket import pack
from tandem.listen import adverts
from tandem.listen.adverts import Datagram, instances_on, on_devices, take_apart, verdict
from tandem.listen.capture import _Scapy, capture

SOURCE, SOURCE6 = pack("192.168.1.3"), pack("fe80::3")
LAN = Instance(
    "lan", "br-lan", 51, version=2, auth_pass=b"hunter2", virtual_addresses=(Address("192.168.1.4", 24, 4),)
)
LAN6 = Instance(
    "lan6", "br-lan", 51, version=3, family=6, multicast_group="ff02::12",
    virtual_addresses=(Address("fe80::4", 64, 6),),
)  # fmt: skip
WAN = Instance("wan", "eth1", 52, use_vmac="vrrp.52")
CONFIG = Config(instances=(LAN, LAN6, WAN))
ADVERT = Advertisement(2, 51, 150, 100, (pack("192.168.1.4"),), 1, b"hunter2\0")
ADVERT6 = Advertisement(3, 51, 150, 25, (pack("fe80::4"),))


def packet4(payload: bytes, **fields: object) -> bytes:
    return bytes(IP(src="192.168.1.3", dst="224.0.0.18", ttl=255, proto=112, **fields) / payload)


def packet6(payload: bytes) -> bytes:
    return bytes(IPv6(src="fe80::3", dst="ff02::12", hlim=255, nh=112) / payload)


PROGRAM = assemble(adverts._PROGRAM)
WIRE = encode(ADVERT, SOURCE, GROUP4)
WIRE6 = encode(ADVERT6, SOURCE6, GROUP6)


PRESENT, TAG, ETHERTYPE = 0xFFFFF000 + 48, 0xFFFFF000 + 44, 0xFFFFF000  # SKF_AD_*


def passes(packet: bytes, ethertype: int, present: int, tag: int) -> bool:
    """The kernel's verdict by the filter: `tag` is skb->vlan_tci, which may hold something old."""
    ancillary = {PRESENT: present, TAG: tag, ETHERTYPE: ethertype}
    program = [struct.unpack_from("=HBBI", PROGRAM, at) for at in range(0, len(PROGRAM), 8)]
    place, register = 0, 0
    while True:
        code, when_true, when_false, operand = program[place]
        place += 1
        if code == 0x20:
            register = ancillary[operand]
        elif code == 0x30:
            register = packet[operand - 0xFFF00000]
        elif code == 0x54:
            register &= operand
        elif code == 0x15:
            place += when_true if register == operand else when_false
        else:
            assert code == 0x06
            return operand != 0


@pytest.mark.parametrize(
    ("present", "tag", "expected"),
    [
        (0, 0, True),
        (0, 1, True),  # a VLAN device of Linux 4.20 to 6.1: the tag of the frame that it has taken
        (0, 0x2FFF, True),
        (1, 0, True),
        (1, 0x2000, True),  # VLAN 0: a priority
        (1, 1, False),
        (1, 0x2001, False),
    ],
)
def test_frames_of_a_vlan_are_those_that_carry_a_tag(present: int, tag: int, expected: bool) -> None:
    assert passes(packet4(WIRE), 0x0800, present, tag) is expected
    assert passes(packet6(WIRE6), 0x86DD, present, tag) is expected
    assert not passes(bytes(IP(proto=17)), 0x0800, present, tag)
    assert not passes(packet6(WIRE6), 0x88CC, present, tag)


@pytest.fixture(scope="module")
def show() -> _Scapy:
    return _Scapy()


def judge(datagram: Datagram | None, own: frozenset[bytes] = frozenset()) -> str:
    return verdict(datagram, CONFIG, instances_on("br-lan", CONFIG), own)


def test_instances_of_an_interface_or_of_its_macvlan() -> None:
    assert instances_on("br-lan", CONFIG) == (LAN, LAN6)
    assert instances_on("eth1", CONFIG) == instances_on("vrrp.52", CONFIG) == (WAN,)
    assert instances_on("br-lan", None) == ()


def test_networks_are_told_by_their_device() -> None:
    named = replace(CONFIG, instances=(replace(LAN, interface="lan"), replace(WAN, interface="wan")))
    found = on_devices(named, {"lan": "br-lan", "wan": None})
    assert found is not None
    assert instances_on("br-lan", found) == (LAN,)
    assert [item.interface for item in found.instances] == ["br-lan", "wan"]
    assert on_devices(None, {}) is None


def test_padding_and_options_are_taken_off() -> None:
    whole = take_apart(packet4(WIRE) + b"\0" * 10, 4)
    assert whole is not None
    assert (whole.payload, whole.source, whole.destination, whole.hop_limit) == (WIRE, SOURCE, GROUP4, 255)
    options = take_apart(packet4(WIRE, options=[b"\x94\x04\0\0"]), 4)
    assert options is not None
    assert options.payload == WIRE
    six = take_apart(packet6(WIRE6) + b"\0" * 10, 6)
    assert six is not None
    assert (six.payload, six.source, six.destination, six.hop_limit) == (WIRE6, SOURCE6, GROUP6, 255)


def test_an_advertisement_in_words(show: _Scapy) -> None:
    datagram = take_apart(packet4(WIRE), 4)
    assert show.describe(datagram) == (
        "192.168.1.3 -> 224.0.0.18 vrid 51 v2 priority 150 every 1 s 192.168.1.4 password"
    )
    assert judge(datagram) == "accepted by lan"
    datagram = take_apart(packet6(WIRE6), 6)
    assert show.describe(datagram) == "fe80::3 -> ff02::12 vrid 51 v3 priority 150 every 0.25 s fe80::4"
    assert judge(datagram) == "accepted by lan6"
    resigning = take_apart(packet4(encode(replace(ADVERT, priority=0), SOURCE, GROUP4)), 4)
    assert "priority 0 (resigns)" in show.describe(resigning)


def test_options_and_fragments_change_no_word(show: _Scapy) -> None:
    words = show.describe(take_apart(packet4(WIRE), 4))
    for packet in (
        packet4(WIRE, options=[b"\x94\x04\0\0"]),
        packet4(WIRE, flags="MF"),
        packet4(WIRE, frag=3),
    ):
        assert show.describe(take_apart(packet, 4)) == words


V3 = Advertisement(3, 51, 100, 100, (pack("192.168.1.4"), pack("192.168.1.5")))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (encode(replace(ADVERT, priority=255), SOURCE, GROUP4), "v2 priority 255 (owner) every 1 s"),
        (encode(replace(ADVERT, auth_type=0), SOURCE, GROUP4), "192.168.1.4 no auth"),
        (encode(replace(ADVERT, auth_type=2), SOURCE, GROUP4), "192.168.1.4 auth AH"),
        (encode(replace(ADVERT, auth_type=7), SOURCE, GROUP4), "192.168.1.4 auth type 7"),
        (encode(replace(ADVERT, addresses=()), SOURCE, GROUP4), "every 1 s no addresses password"),
        (encode(V3, SOURCE, GROUP4), "vrid 51 v3 priority 100 every 1 s 192.168.1.4,192.168.1.5"),
        (b"\x32" + encode(V3, SOURCE, GROUP4)[1:], "vrid 51 v3 type 2 priority 100 every 1 s 2 addresses"),
        (WIRE[:8], "vrid 51 v2 priority 150 every 1 s 1 addresses password"),
        (WIRE[:7], "7 bytes"),
        (b"", "0 bytes"),
    ],
)
def test_what_an_advertisement_says(payload: bytes, expected: str, show: _Scapy) -> None:
    said = show.describe(take_apart(packet4(payload), 4))
    assert said.startswith("192.168.1.3 -> 224.0.0.18 ") and expected in said


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (encode(replace(ADVERT, vrid=9), SOURCE, GROUP4), "dropped: no virtual router here"),
        (encode(replace(ADVERT, auth_data=b"wrong"), SOURCE, GROUP4), "dropped by lan: password differs"),
        (encode(replace(ADVERT, interval_cs=200), SOURCE, GROUP4), "(2 s, ours 1 s)"),
        (WIRE[:-1], "dropped: shorter than"),
        (WIRE + b"\0", "dropped: longer than"),
        (b"", "dropped: shorter than"),
        (b"\x41" + WIRE[1:], "dropped: VRRP version is neither"),
    ],
)
def test_verdicts(payload: bytes, expected: str, show: _Scapy) -> None:
    datagram = take_apart(packet4(payload), 4)
    assert expected in judge(datagram)
    assert show.describe(datagram).startswith("192.168.1.3 -> 224.0.0.18 ")


def test_verdicts_about_the_ip_header() -> None:
    assert judge(None) == "dropped: not a whole IP packet"
    assert "forwarded it (254)" in judge(take_apart(packet4(WIRE)[:8] + b"\xfe" + packet4(WIRE)[9:], 4))
    assert judge(take_apart(packet4(WIRE, flags="MF"), 4)).startswith("fragment")
    assert "sent from an address of this router" in judge(take_apart(packet4(WIRE), 4), frozenset((SOURCE,)))
    assert verdict(take_apart(packet4(WIRE), 4), None, ()).startswith("well-formed")


def test_the_password_is_never_shown(show: _Scapy) -> None:
    spied = ("hunter2", "104.117.110.116", "101.114.50.0")  # as text, and as scapy would misread it
    for count in range(5):
        payload = bytearray(WIRE)
        payload[3] = count
        for kind in (0x21, 0x31, 0x11, 0x22):
            payload[0] = kind
            datagram = take_apart(packet4(bytes(payload)), 4)
            text = f"{show.describe(datagram)} {judge(datagram)}"
            assert not any(word in text for word in spied), text


def test_hostile_packets_are_described_not_raised(show: _Scapy) -> None:
    rng = random.Random(0)
    for _ in range(3000):
        family, whole = rng.choice(((4, packet4(WIRE)), (6, packet6(WIRE6))))
        data = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(6)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.1:
            data = bytearray(os.urandom(rng.randrange(90)))
        datagram = take_apart(bytes(data), family)
        line = f"{show.describe(datagram)}: {judge(datagram)}"
        assert line.isprintable()


# The command, with packets that the test brings


class Packets:
    """A packet socket that gets these, then Ctrl-C."""

    def __init__(self, *packets: tuple[bytes, int, int]) -> None:
        self.packets = list(packets)
        self.closed = False

    def __enter__(self) -> Packets:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int, int]]:
        assert size >= 0xFFFF
        if not self.packets:
            raise KeyboardInterrupt
        data, ethertype, kind = self.packets.pop(0)
        return data, ("br-lan", ethertype, kind)


def captured(
    monkeypatch: pytest.MonkeyPatch,
    config: Config | None,
    count: int | None,
    *packets: tuple[bytes, int, int],
) -> list[str]:
    sock, out = Packets(*packets), io.StringIO()
    monkeypatch.setattr("tandem.listen.capture.listen", lambda interface: sock)
    assert capture("br-lan", config, count, out) == 0
    assert sock.closed
    first, *lines = out.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line) for line in lines)
    return [first, *(line[13:] for line in lines)]


HOST, OTHERHOST, OUTGOING = 0, 3, 4  # PACKET_*


def test_each_packet_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    four, six = packet4(WIRE), packet6(WIRE6)
    packets = [
        (four, 0x0800, HOST), (six, 0x86DD, HOST), (four, 0x0800, OUTGOING), (four, 0x0800, OTHERHOST),
        (b"?", 0x0800, HOST), (four, 0x86DD, HOST),
    ]  # fmt: skip
    advert = "192.168.1.3 -> 224.0.0.18 vrid 51 v2 priority 150 every 1 s 192.168.1.4 password"
    lines = captured(monkeypatch, CONFIG, None, *packets)
    assert lines == [
        "Listening on br-lan, home of lan (vrid 51), lan6 (vrid 51). Ctrl-C ends.",
        f"{advert}: accepted by lan",
        "fe80::3 -> ff02::12 vrid 51 v3 priority 150 every 0.25 s fe80::4: accepted by lan6",
        f"{advert}: sent by this router",
        f"{advert}: for another host",
        "unreadable packet: dropped: not a whole IP packet",
        "unreadable packet: dropped: not a whole IP packet",
    ]
    assert captured(monkeypatch, CONFIG, 2, *packets) == lines[:3]
    nothing = captured(monkeypatch, None, 1, *packets)
    assert nothing[0] == "Listening on br-lan. Ctrl-C ends."
    assert nothing[1:] == [f"{advert}: well-formed (no configuration to compare it with)"]
    none = captured(monkeypatch, Config(), 0, *packets)
    assert none == ["Listening on br-lan, home of no instance. Ctrl-C ends."]


def test_this_routers_own_addresses(show: _Scapy) -> None:
    assert {pack("127.0.0.1")} <= show.own_addresses()
