# SPDX-License-Identifier: GPL-2.0-or-later
"""Advertisements as real routers send them, every reason to drop one, and scapy's opinion.

The frames were captured with `tcpdump -i e1 -w` on the far end of a veth pair in a namespace:
keepalived 2.2.7 (Debian 12) with one instance per kind, and FRR 8.4 vrrpd with `vrrp 60
version 3` on macvlans 00:00:5e:00:01:3c and 00:00:5e:00:02:3c. They are whole Ethernet frames.
"""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.vrrp import VRRP, VRRPv3

from tandem.core.packet import (
    GROUP4,
    GROUP6,
    PROTOCOL,
    Advertisement,
    Expected,
    PacketError,
    Reason,
    auth_field,
    check,
    checksum,
    decode,
    encode,
)


def ip(*texts: str) -> tuple[bytes, ...]:
    """Textual addresses, packed."""
    return tuple(socket.inet_pton(socket.AF_INET6 if ":" in t else socket.AF_INET, t) for t in texts)


CAPTURED = {
    "keepalived v2 PASS, password truncated to 8": (
        "01005e000012020000000001080045c0002c00010000ff70d0840a090001e0000012"
        "2133960201024ee8c0a80104c0a801057365637265743939",
        Advertisement(2, 51, 150, 200, ip("192.168.1.4", "192.168.1.5"), 1, b"secret99"),
    ),
    "keepalived v2 without authentication": (
        "01005e000012020000000001080045c0002800010000ff70d0880a090001e0000012"
        "21346401000170bc0a0900040000000000000000",
        Advertisement(2, 52, 100, 100, ip("10.9.0.4")),
    ),
    "keepalived v2 PASS to a unicast peer": (
        "020000000002020000000001080045c0002800010000ff70a6900a0900010a090002"
        "21355a010101b5570a0900056162630000000000",
        Advertisement(2, 53, 90, 100, ip("10.9.0.5"), 1, b"abc\0\0\0\0\0"),
    ),
    "keepalived v3": (
        "01005e000012020000000001080045c0002000010000ff70d0900a090001e00000123136c801001912070a090006",
        Advertisement(3, 54, 200, 25, ip("10.9.0.6")),
    ),
    "keepalived v3 to a unicast peer": (
        "020000000002020000000001080045c0002000010000ff70a6980a0900010a0900023137650100324af40a090007",
        Advertisement(3, 55, 101, 50, ip("10.9.0.7")),
    ),
    "keepalived v3 over IPv6": (
        "33330000001202000000000186dd6c0e0d43002870fffe80000000000000000000fffe000001"
        "ff0200000000000000000000000000123138fe020064a6ef"
        "fe80000000000000000000000000000420010db8000000000000000000000004",
        Advertisement(3, 56, 254, 100, ip("fe80::4", "2001:db8::4")),
    ),
    "keepalived v3 over IPv6 to a unicast peer": (
        "02000000000202000000000186dd6c001a270018704020010db8000000000000000000000001"
        "20010db80000000000000000000000023139fe01006446a5"
        "20010db8000000000000000000000005",
        Advertisement(3, 57, 254, 100, ip("2001:db8::5")),
    ),
    "keepalived v3 over IPv6 resigns": (
        "02000000000202000000000186dd6c001a270018704020010db8000000000000000000000001"
        "20010db800000000000000000000000231390001006444a6"
        "20010db8000000000000000000000005",
        Advertisement(3, 57, 0, 100, ip("2001:db8::5")),
    ),
    "FRR v3": (
        "01005e00001200005e00013c080045c00020db4b4000ff70b5450a090001e0000012313c7801003261e60a090008",
        Advertisement(3, 60, 120, 50, ip("10.9.0.8")),
    ),
    "FRR v3 resigns": (
        "01005e00001200005e00013c080045c00020df324000ff70b15e0a090001e0000012313c00010032d9e60a090008",
        Advertisement(3, 60, 0, 50, ip("10.9.0.8")),
    ),
    "FRR v3 over IPv6": (
        "33330000001200005e00023c86dd6c0f414e002870fffe800000000000000000000000000008"
        "ff020000000000000000000000000012313c780200322c0f"
        "fe80000000000000000000000000000820010db8000000000000000000000008",
        Advertisement(3, 60, 120, 50, ip("fe80::8", "2001:db8::8")),
    ),
}


def split(frame: bytes) -> tuple[bytes, int, int, bytes, bytes]:
    """Payload, family, hop limit, source and destination of an Ethernet frame."""
    if frame[12:14] == b"\x08\x00":
        assert frame[23] == PROTOCOL
        return frame[34:], 4, frame[22], frame[26:30], frame[30:34]
    assert frame[20] == PROTOCOL
    return frame[54:], 6, frame[21], frame[22:38], frame[38:54]


@pytest.mark.parametrize("name", CAPTURED)
def test_real_routers_are_understood_and_imitated(name: str) -> None:
    text, expected = CAPTURED[name]
    payload, family, hop_limit, source, destination = split(bytes.fromhex(text))
    # keepalived 2.2.7 sends unicast adverts over IPv6 with the system's hop limit, 64
    assert decode(payload, family, hop_limit, source, destination, min_hop_limit=64) == expected
    assert decode(memoryview(payload), family, 255, source, destination) == expected
    assert encode(expected, source, destination) == payload


# ------------------------------------------------------------------ decode, reason by reason

SOURCE, US = ip("10.9.0.1", "10.9.0.2")
SOURCE6, US6 = ip("fe80::1", "fe80::2")
V2 = Advertisement(2, 51, 100, 100, ip("10.9.0.4"), 1, b"secret\0\0")
V3 = Advertisement(3, 51, 100, 100, ip("10.9.0.4"))
V3_6 = Advertisement(3, 51, 100, 100, ip("fe80::4"))


def resum(payload: bytes, source: bytes = SOURCE, destination: bytes = GROUP4) -> bytes:
    """The payload with its checksum made right again (version 3 over IPv4: no pseudo-header)."""
    bare = payload[:6] + b"\0\0" + payload[8:]
    return payload[:6] + checksum(bare).to_bytes(2, "big") + payload[8:]


def patched(payload: bytes, at: int, value: int) -> bytes:
    """The payload with one byte replaced and the checksum made right again."""
    return resum(payload[:at] + bytes([value]) + payload[at + 1 :])


def reason(
    payload: bytes, family: int = 4, hop_limit: int = 255, destination: bytes = GROUP4
) -> Reason | None:
    """Why decode drops the payload; None when it does not."""
    result = decode(payload, family, hop_limit, SOURCE if family == 4 else SOURCE6, destination)
    return result.reason if isinstance(result, PacketError) else None


WIRE2 = encode(V2, SOURCE, GROUP4)
WIRE3 = encode(V3, SOURCE, GROUP4)
WIRE6 = encode(V3_6, SOURCE6, GROUP6)


@pytest.mark.parametrize("payload", [WIRE2, WIRE3], ids=["v2", "v3"])
@pytest.mark.parametrize(
    ("expected", "change"),
    [
        (None, lambda p: p),
        (Reason.TRUNCATED, lambda p: b""),
        (Reason.TRUNCATED, lambda p: p[:7]),
        (Reason.TRUNCATED, lambda p: p[:8]),
        (Reason.TRUNCATED, lambda p: p[:-1]),
        (Reason.TRUNCATED, lambda p: patched(p, 3, 2)),  # claims one address more
        (Reason.TRAILING_BYTES, lambda p: patched(p, 3, 0)),  # claims one less
        (Reason.TRAILING_BYTES, lambda p: p + b"\0"),
        (Reason.BAD_VERSION, lambda p: patched(p, 0, 0x11)),
        (Reason.BAD_VERSION, lambda p: patched(p, 0, 0x41)),
        (Reason.BAD_TYPE, lambda p: patched(p, 0, p[0] & 0xF0)),
        (Reason.BAD_TYPE, lambda p: patched(p, 0, p[0] & 0xF0 | 2)),
        (Reason.BAD_CHECKSUM, lambda p: p[:2] + b"\x63" + p[3:]),
        (Reason.BAD_CHECKSUM, lambda p: p[:6] + b"\0\0" + p[8:]),
        (Reason.VRID_ZERO, lambda p: patched(p, 1, 0)),
        (Reason.INTERVAL_ZERO, lambda p: patched(patched(p, 4, 0), 5, 0)),
    ],
)
def test_each_reason_to_drop(payload: bytes, expected: Reason | None, change) -> None:  # type: ignore[no-untyped-def]
    assert reason(change(payload)) is expected


def test_the_first_failure_is_the_one_reported() -> None:
    everything = patched(WIRE3, 1, 0)[:6] + b"\xff\xff\xff"  # truncated, bad checksum, VRID 0
    assert reason(everything, hop_limit=254) is Reason.BAD_TTL
    assert reason(b"\x40" + everything[1:]) is Reason.BAD_VERSION
    assert reason(b"\x30" + everything[1:]) is Reason.BAD_TYPE
    assert reason(everything) is Reason.TRUNCATED
    assert reason(everything + b"\0" * 3) is Reason.BAD_CHECKSUM


def test_hop_limit_is_255_unless_a_unicast_peer_may_be_far() -> None:
    assert reason(WIRE3, hop_limit=254) is Reason.BAD_TTL
    far = encode(V3, SOURCE, US)
    assert isinstance(decode(far, 4, 64, SOURCE, US), PacketError)
    assert decode(far, 4, 64, SOURCE, US, min_hop_limit=64) == V3
    assert isinstance(decode(far, 4, 63, SOURCE, US, min_hop_limit=64), PacketError)
    # the allowance is not for multicast
    assert isinstance(decode(WIRE3, 4, 64, SOURCE, GROUP4, min_hop_limit=1), PacketError)
    assert isinstance(decode(WIRE6, 6, 64, SOURCE6, GROUP6, min_hop_limit=1), PacketError)


def test_version_3_over_ipv4_with_and_without_pseudo_header() -> None:
    bare = encode(V3, SOURCE, GROUP4, checksum_as_v2=True)
    assert bare != WIRE3
    assert bare == resum(WIRE3)
    assert decode(WIRE3, 4, 255, SOURCE, GROUP4) == V3
    assert decode(bare, 4, 255, SOURCE, GROUP4) == V3
    # with the pseudo-header, another source address is another packet
    assert decode(WIRE3, 4, 255, US, GROUP4) == PacketError(Reason.BAD_CHECKSUM, f"0x{WIRE3[6:8].hex()}")


def test_ipv6_checksum_always_has_the_pseudo_header() -> None:
    assert encode(V3_6, SOURCE6, GROUP6, checksum_as_v2=True) == WIRE6
    assert reason(resum(WIRE6), family=6, destination=GROUP6) is Reason.BAD_CHECKSUM
    assert decode(WIRE6, 6, 255, SOURCE6, GROUP6) == V3_6


def test_version_2_is_for_ipv4_alone() -> None:
    assert reason(WIRE2, family=6, destination=GROUP6) is Reason.BAD_VERSION
    with pytest.raises(ValueError, match="version 2"):
        encode(replace(V3_6, version=2), SOURCE6, GROUP6)


def test_version_3_needs_an_address_and_version_2_does_not() -> None:
    assert reason(encode(replace(V3, addresses=()), SOURCE, GROUP4)) is Reason.NO_ADDRESSES
    none = replace(V2, addresses=())
    assert decode(encode(none, SOURCE, GROUP4), 4, 255, SOURCE, GROUP4) == none


def test_reserved_bits_of_version_3_are_ignored() -> None:
    assert decode(patched(WIRE3, 4, 0xF0), 4, 255, SOURCE, GROUP4) == V3


def test_authentication_data_of_type_0_is_ignored() -> None:
    plain = replace(V2, auth_type=0, auth_data=b"")
    noisy = resum(encode(plain, SOURCE, GROUP4)[:-8] + b"whatever")
    assert decode(noisy, 4, 255, SOURCE, GROUP4) == plain


def test_the_largest_advertisement() -> None:
    many = tuple(bytes((10, 1, 0, n)) for n in range(255))
    for advert in (replace(V2, addresses=many), replace(V3, addresses=many)):
        assert decode(encode(advert, SOURCE, GROUP4), 4, 255, SOURCE, GROUP4) == advert


@pytest.mark.parametrize(
    "advert",
    [
        replace(V2, interval_cs=0),
        replace(V2, interval_cs=150),
        replace(V2, interval_cs=25600),
        replace(V3, interval_cs=0),
        replace(V3, interval_cs=4096),
        replace(V3, interval_cs=-1),
    ],
)
def test_an_interval_that_does_not_fit_is_our_own_error(advert: Advertisement) -> None:
    with pytest.raises(ValueError, match="cannot carry"):
        encode(advert, SOURCE, GROUP4)


@pytest.mark.parametrize(("advert", "interval_cs"), [(V2, 100), (V2, 25500), (V3, 1), (V3, 4095)])
def test_every_interval_that_fits_is_carried(advert: Advertisement, interval_cs: int) -> None:
    advert = replace(advert, interval_cs=interval_cs)
    assert decode(encode(advert, SOURCE, GROUP4), 4, 255, SOURCE, GROUP4) == advert


# ------------------------------------------------------------------ check, reason by reason

OURS2 = Expected(51, 2, 4, auth_pass=b"secret", interval_cs=100, addresses=frozenset(ip("10.9.0.4")))
OURS3 = Expected(51, 3, 4, addresses=frozenset(ip("10.9.0.4")))


def verdict(advert: Advertisement, expected: Expected, destination: bytes = GROUP4) -> Reason | None:
    """Why check drops the advert; None when it does not."""
    error = check(advert, expected, SOURCE, destination)
    return error.reason if error else None


@pytest.mark.parametrize(
    ("expected_reason", "advert", "expected"),
    [
        (None, V2, OURS2),
        (None, V3, OURS3),
        (Reason.UNKNOWN_VRID, V3, replace(OURS3, vrid=52)),
        (Reason.UNKNOWN_VRID, V3, replace(OURS3, family=6)),
        (Reason.VERSION_MISMATCH, V2, OURS3),
        (Reason.VERSION_MISMATCH, V3, OURS2),
        (Reason.OWN_ADDRESS, V3, replace(OURS3, own_sources=frozenset((SOURCE, US)))),
        (None, V3, replace(OURS3, own_sources=frozenset((US,)))),
        (Reason.WRONG_DESTINATION, V3, replace(OURS3, group=None)),
        (Reason.WRONG_DESTINATION, V3, replace(OURS3, group=bytes((224, 0, 0, 19)))),
        (Reason.ADDRESS_OWNER, V3, replace(OURS3, owner=True)),
        (Reason.AUTH_TYPE_MISMATCH, V2, replace(OURS2, auth_pass=None)),
        (Reason.AUTH_TYPE_MISMATCH, replace(V2, auth_type=0, auth_data=b""), OURS2),
        (Reason.AUTH_TYPE_MISMATCH, replace(V2, auth_type=2, auth_data=b""), OURS2),
        (None, replace(V2, auth_type=0, auth_data=b""), replace(OURS2, auth_pass=None)),
        (Reason.AUTH_FAILURE, V2, replace(OURS2, auth_pass=b"Secret")),
        (Reason.AUTH_FAILURE, V2, replace(OURS2, auth_pass=b"secret2")),
        (Reason.INTERVAL_MISMATCH, V2, replace(OURS2, interval_cs=200)),
        (None, V3, replace(OURS3, interval_cs=200)),
        (Reason.ADDRESS_MISMATCH, V3, replace(OURS3, addresses=frozenset(ip("10.9.0.5")))),
        (Reason.ADDRESS_MISMATCH, V3, replace(OURS3, addresses=frozenset(ip("10.9.0.4", "10.9.0.5")))),
        (Reason.ADDRESS_MISMATCH, replace(V3, addresses=V3.addresses * 2), OURS3),
        (None, V3, replace(OURS3, addresses=None)),
    ],
)
def test_each_verdict(expected_reason: Reason | None, advert: Advertisement, expected: Expected) -> None:
    assert verdict(advert, expected) is expected_reason


def test_unicast_instances_take_unicast_from_their_peers() -> None:
    unicast = replace(OURS3, group=None)
    assert verdict(V3, OURS3, destination=US) is Reason.WRONG_DESTINATION
    assert verdict(V3, unicast, destination=US) is None
    assert verdict(V3, replace(unicast, unicast_peers=frozenset((SOURCE,))), destination=US) is None
    assert verdict(V3, replace(unicast, unicast_peers=frozenset((US,))), destination=US) is Reason.NOT_A_PEER


def test_password_is_truncated_and_padded_as_keepalived_does() -> None:
    assert auth_field(b"abc") == b"abc\0\0\0\0\0"
    assert auth_field(b"secret99x") == b"secret99"


def test_no_message_shows_a_password() -> None:
    for error in (
        check(V2, replace(OURS2, auth_pass=b"hunter2"), SOURCE, GROUP4),
        check(V2, replace(OURS2, auth_pass=None), SOURCE, GROUP4),
    ):
        assert error is not None
        assert "secret" not in str(error)
        assert "hunter2" not in str(error)


def test_reasons_have_stable_names_and_sentences() -> None:
    assert len({item.counter for item in Reason}) == len(list(Reason)) == 20
    for item in Reason:
        assert item.counter == item.name.lower()
        assert item.sentence and not item.sentence.endswith(".")
    assert str(PacketError(Reason.BAD_TTL, "64")) == f"{Reason.BAD_TTL.sentence} (64)"
    assert str(PacketError(Reason.VRID_ZERO)) == "virtual router id is 0"


# ------------------------------------------------------------------ scapy agrees


@pytest.mark.parametrize("auth", [(0, b""), (1, b"secret\0\0")])
def test_scapy_reads_and_writes_the_same_version_2(auth: tuple[int, bytes]) -> None:
    advert = replace(V2, addresses=ip("10.9.0.4", "10.9.0.5"), auth_type=auth[0], auth_data=auth[1])
    wire = encode(advert, SOURCE, GROUP4)
    read = VRRP(wire)
    assert (read.version, read.type, read.vrid, read.priority, read.ipcount) == (2, 1, 51, 100, 2)
    assert (read.authtype, read.adv, read.addrlist) == (auth[0], 1, ["10.9.0.4", "10.9.0.5"])
    del read.chksum
    assert bytes(read) == wire


def test_scapy_reads_and_writes_the_same_version_3() -> None:
    cases = (
        (replace(V3, interval_cs=4095), IP(src="10.9.0.1", dst="224.0.0.18", ttl=255), SOURCE, GROUP4),
        (V3_6, IPv6(src="fe80::1", dst="ff02::12", hlim=255), SOURCE6, GROUP6),
    )
    for advert, header, source, destination in cases:
        made = bytes(
            header
            / VRRPv3(
                vrid=advert.vrid,
                priority=advert.priority,
                adv=advert.interval_cs,
                addrlist=[
                    socket.inet_ntop(socket.AF_INET if len(a) == 4 else socket.AF_INET6, a)
                    for a in advert.addresses
                ],
            )
        )
        assert made.endswith(encode(advert, source, destination))
