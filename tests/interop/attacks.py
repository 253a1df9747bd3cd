# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile packets, built by scapy, and the counter under which a router must count each."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.layers.vrrp import VRRP, VRRPv3
from scapy.packet import Packet, Raw

from .lan import GATEWAY4, GATEWAY6, LINK_LOCAL6

V3, V2, V6 = 51, 52, 61  # the VRIDs that the routers have
PASSWORD = "s3cret"
V2_ADDRESS = "192.168.1.253"
GROUP4, GROUP6 = "224.0.0.18", "ff02::12"
OWN4, OWN6 = "192.168.1.2", "fe80::ff:fe00:20a"  # of r1
OWN_MAC = "02:00:00:00:02:0a"
ATTACKER_MAC = "02:00:00:00:01:0a"  # the client's own, so that the switch learns nothing wrong

ANY = "any"  # counter of random bytes, which may be wrong in any way
KERNEL = "kernel"  # counter of packets that the router's kernel discards

_random = random.Random(3768)
_MAKERS: list[tuple[str, str, Callable[[], Packet | bytes]]] = []


@dataclass(frozen=True)
class Attack:
    """Frames that a router must count as `counter`, if it sees them: r1 alone when `at_r1`."""

    name: str
    counter: str
    frames: tuple[bytes, ...]
    at_r1: bool


# Correct packets, in which one thing is changed


def _strangers(pattern: str) -> Iterator[str]:
    while True:
        yield from (pattern.format(number) for number in range(130, 200))


_SOURCES4, _SOURCES6 = _strangers("192.168.1.{}"), _strangers("fe80::bad:{:x}")


def ip4(mac: str = "01:00:5e:00:00:12", **fields: Any) -> Packet:
    """The headers of an IPv4 advertisement of a stranger."""
    right = {"src": next(_SOURCES4), "dst": GROUP4, "ttl": 255, "tos": 0xC0, "proto": 112}
    return Ether(src=ATTACKER_MAC, dst=mac) / IP(**right | fields)


def ip6(mac: str = "33:33:00:00:00:12", **fields: Any) -> Packet:
    """The headers of an IPv6 advertisement of a stranger."""
    right = {"src": next(_SOURCES6), "dst": GROUP6, "hlim": 255, "tc": 0xC0, "nh": 112}
    return Ether(src=ATTACKER_MAC, dst=mac) / IPv6(**right | fields)


def v3(**fields: Any) -> Packet:
    """A version 3 advertisement over IPv4 that would depose any router."""
    return VRRPv3(**{"vrid": V3, "priority": 254, "adv": 10, "addrlist": [GATEWAY4]} | fields)


def v6(**fields: Any) -> Packet:
    """A version 3 advertisement over IPv6 that would depose any router."""
    return VRRPv3(**{"vrid": V6, "priority": 254, "adv": 10, "addrlist": [LINK_LOCAL6, GATEWAY6]} | fields)


def v2(password: str = PASSWORD, **fields: Any) -> Packet:
    """A version 2 advertisement with the right password that would depose any router."""
    packed = password.encode().ljust(8, b"\0")
    auth = {
        "authtype": 1,
        "auth1": int.from_bytes(packed[:4], "big"),
        "auth2": int.from_bytes(packed[4:], "big"),
    }
    return VRRP(**{"vrid": V2, "priority": 254, "adv": 1, "addrlist": [V2_ADDRESS]} | auth | fields)


def other_than(*excluded: int, below: int = 256) -> int:
    """A random number that is none of the excluded ones."""
    return _random.choice([number for number in range(below) if number not in excluded])


def with_advert(packet: Packet, change: Callable[[bytes], bytes]) -> Packet:
    """The packet with the bytes of its advertisement changed, and IP lengths that fit them."""
    layer = VRRP if VRRP in packet else VRRPv3
    advert = bytes(packet[layer])
    packet[layer].underlayer.remove_payload()
    return packet / Raw(change(advert))


def cut(packet: Packet, at: int) -> Packet:
    """The packet with only the first bytes of its advertisement."""
    return with_advert(packet, lambda advert: advert[:at])


def bad_sum(packet: Packet) -> Packet:
    """The packet with a checksum that is right neither with nor without the pseudo-header."""
    data = bytearray(bytes(packet))
    data[-3] ^= _random.randrange(1, 256)
    return Raw(bytes(data))


def noise(longest: int) -> bytes:
    """Random bytes of random length."""
    return _random.randbytes(_random.randrange(longest))


# The attacks


def hostile(counter: str) -> Callable[[Callable[[], Packet | bytes]], Callable[[], Packet | bytes]]:
    """Register a maker of packets of this `counter`. "at_r1" in its name: only r1 gets them."""

    def register(maker: Callable[[], Packet | bytes]) -> Callable[[], Packet | bytes]:
        _MAKERS.append((maker.__name__, counter, maker))
        return maker

    return register


def build(variants: int = 40) -> list[Attack]:
    """Return `variants` packets of each kind."""
    return [
        Attack(name, counter, tuple(bytes(maker()) for _ in range(variants)), "at_r1" in name)
        for name, counter, maker in _MAKERS
    ]


@hostile("truncated")
def truncated() -> Packet:
    return cut(ip4() / v3(), _random.randrange(12))


@hostile("truncated")
def truncated_version_2() -> Packet:
    return cut(ip4() / v2(), _random.randrange(20))


@hostile("truncated")
def truncated_ipv6() -> Packet:
    return cut(ip6() / v6(), _random.randrange(40))


@hostile("truncated")
def more_addresses_promised() -> Packet:
    return ip4() / v3(ipcount=_random.randrange(2, 256))


@hostile("trailing_bytes")
def fewer_addresses_promised() -> Packet:
    return ip6() / v6(ipcount=_random.randrange(2))


@hostile("trailing_bytes")
def trailing_bytes() -> Packet:
    return with_advert(ip4() / v3(), lambda advert: advert + noise(800) + b"!")


@hostile("bad_version")
def wrong_version() -> Packet:
    return ip4() / v3(version=other_than(2, 3, below=16))


@hostile("bad_version")
def version_2_over_ipv6() -> Packet:
    return ip6() / v6(version=2)


@hostile("bad_type")
def wrong_type() -> Packet:
    return ip4() / v3(type=other_than(1, below=16))


@hostile("bad_ttl")
def forwarded() -> Packet:
    return ip4(ttl=_random.randrange(1, 255)) / v3()


@hostile("bad_ttl")
def forwarded_ipv6() -> Packet:
    return ip6(hlim=_random.randrange(1, 255)) / v6()


@hostile("bad_checksum")
def bad_checksum() -> Packet:
    return bad_sum(ip4() / v3())


@hostile("bad_checksum")
def bad_checksum_version_2() -> Packet:
    return bad_sum(ip4() / v2())


@hostile("bad_checksum")
def bad_checksum_ipv6() -> Packet:
    return bad_sum(ip6() / v6())


@hostile("bad_checksum")
def ip_options() -> Packet:
    return bad_sum(ip4(options=[IPOption_NOP()] * 4 * _random.randrange(1, 11)) / v3())


@hostile("bad_checksum")
def extension_header() -> Packet:
    advert = bytes((ip6() / v6())[VRRPv3])
    return bad_sum(ip6(nh=60) / IPv6ExtHdrDestOpt(nh=112) / Raw(advert))


@hostile("vrid_zero")
def vrid_0() -> Packet:
    return ip4() / v3(vrid=0)


@hostile("no_addresses")
def no_addresses() -> Packet:
    return ip4() / v3(addrlist=[])


@hostile("interval_zero")
def no_interval() -> Packet:
    return ip6() / v6(adv=0)


@hostile("unknown_vrid")
def unknown_vrid() -> Packet:
    return ip4() / v3(vrid=other_than(0, V2, V3))


@hostile("unknown_vrid")
def vrid_of_the_other_family() -> Packet:
    return ip6() / v6(vrid=V3)


@hostile("version_mismatch")
def version_mismatch() -> Packet:
    return ip4() / v2(vrid=V3)


@hostile("own_address")
def own_address_at_r1() -> Packet:
    return ip4(src=OWN4, mac=OWN_MAC) / v3()


@hostile("own_address")
def own_address_ipv6_at_r1() -> Packet:
    return ip6(src=OWN6, mac=OWN_MAC) / v6()


@hostile("wrong_destination")
def unicast_at_r1() -> Packet:
    return ip4(dst=OWN4, mac=OWN_MAC) / v3()


@hostile("wrong_destination")
def unicast_ipv6_at_r1() -> Packet:
    return ip6(dst=OWN6, mac=OWN_MAC) / v6()


@hostile("auth_type_mismatch")
def no_password() -> Packet:
    return ip4() / v2(authtype=other_than(1))


@hostile("auth_failure")
def wrong_password() -> Packet:
    return ip4() / v2(password=_random.choice(["", "S3cret", "s3cre", "s3cret1", "\0s3cret", "aaaaaaaa"]))


@hostile("interval_mismatch")
def wrong_interval() -> Packet:
    return ip4() / v2(adv=other_than(0, 1))


@hostile("address_mismatch")
def wrong_address() -> Packet:
    return ip4() / v3(addrlist=[f"192.168.1.{_random.randrange(1, 250)}"])


@hostile("address_mismatch")
def one_address_repeated() -> Packet:
    return ip6() / v6(addrlist=[GATEWAY6, GATEWAY6])


@hostile("address_mismatch")
def as_many_addresses_as_can_be() -> Packet:
    return ip4() / v3(addrlist=[GATEWAY4] * 255)


@hostile("malformed")
def longer_than_any_advert() -> Packet:
    return ip4() / Raw(_random.randbytes(1400))


@hostile(ANY)
def random_bytes() -> Packet:
    return ip4() / Raw(noise(80))


@hostile(ANY)
def random_bytes_ipv6() -> Packet:
    return ip6() / Raw(noise(80))


@hostile(ANY)
def random_change() -> bytes:
    """One byte of a version 3 advertisement changed at random: the checksum is then wrong."""
    data = bytearray(bytes(ip4() / v3()))
    data[_random.randrange(34, len(data))] ^= _random.randrange(1, 256)
    return bytes(data)


@hostile(KERNEL)
def bad_ip_checksum() -> Packet:
    return ip4(chksum=1) / v3()


@hostile(KERNEL)
def impossible_source() -> Packet:
    return ip4(src=_random.choice(["127.0.0.1", "224.0.0.18", "255.255.255.255"])) / v3()


@hostile(KERNEL)
def shorter_than_its_ip_header_says() -> Packet:
    return ip4(len=_random.randrange(60, 1500)) / v3()


@hostile(KERNEL)
def first_fragment_only() -> Packet:
    return ip4(flags="MF", id=_random.randrange(1 << 16)) / Raw(bytes(v3(chksum=0)) + bytes(4))


def send(device: str, frames: Sequence[bytes], drained: Callable[[], bool], batch: int = 64) -> None:
    """Send the frames; after each batch wait until the receivers have taken all (`drained` returns)."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((device, 0))
        for start in range(0, len(frames), batch):
            for frame in frames[start : start + batch]:
                sock.send(frame)
            drained()
