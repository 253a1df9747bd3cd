# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRP advertisements: bytes to `Advertisement` and back, and every reason to drop one.

Version 2 is RFC 3768 section 5.3 (IPv4 only), version 3 is RFC 9568 section 5.2:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------+-------+---------------+---------------+---------------+
    |Version| Type=1| Virtual Rtr ID|   Priority    | Address count |
    +-------+-------+---------------+---------------+---------------+
    | v2: Auth Type | v2: seconds   |           Checksum            |
    | v3: 0 | centiseconds, 12 bits |                               |
    +-------------------------------+-------------------------------+
    |  addresses, 4 or 16 bytes each; v2: then 8 bytes of password  |

Checking is in two steps, because one socket serves many virtual routers: `decode` makes the
checks that need no configuration, `check` those of the virtual router that the VRID names.
Within a step the order is that of RFC 9568 section 7.1 and RFC 3768 section 7.1, and the
first failure is the one reported. Packets are hostile input: a failure is a returned value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

PROTOCOL = 112  # IP protocol number, RFC 9568 section 5.1.1.4
HOP_LIMIT = 255  # TTL and hop limit on sending, RFC 9568 sections 5.1.1.3 and 5.1.2.3
GROUP4 = bytes((224, 0, 0, 18))  # RFC 9568 section 5.1.1.2
GROUP6 = bytes.fromhex("ff020000000000000000000000000012")  # RFC 9568 section 5.1.2.2

MAX_INTERVAL_CS = 0xFFF  # v3: 12 bits
PROBE = 1, MAX_INTERVAL_CS
"""Priority and interval of an advert by which `tandem doctor` is heard; its VRID is nobody's."""
AUTH_NONE = 0
AUTH_PASSWORD = 1  # RFC 2338 section 5.3.6; RFC 3768 withdrew it, users still have it
AUTH_DATA_LENGTH = 8

_ADVERTISEMENT = 1
_HEADER = struct.Struct("!BBBBHH")


@dataclass(frozen=True, slots=True)
class Advertisement:
    """A decoded VRRP advertisement (RFC 9568 section 5.2, RFC 3768 section 5.3)."""

    version: int  # 2 or 3
    vrid: int
    priority: int  # 0..255
    interval_cs: int  # v3: Max Advertise Interval; v2: seconds x 100
    addresses: tuple[bytes, ...]  # packed, 4 or 16 bytes each
    auth_type: int = AUTH_NONE  # v2: 0 none, 1 simple text password, 2 AH
    auth_data: bytes = b""  # v2 with auth_type 1: 8 bytes


class Reason(Enum):
    """Why a packet was dropped: the name of a counter, and a sentence for people.

    The members stand in the order in which the checks are made.
    """

    # decode(): what is wrong with the packet whoever receives it
    BAD_TTL = "bad_ttl", "TTL or hop limit too low: a router has forwarded it"
    TRUNCATED = "truncated", "shorter than its header and address count say"
    BAD_VERSION = "bad_version", "VRRP version is neither 2 nor 3, or 2 over IPv6"
    BAD_TYPE = "bad_type", "not an advertisement"
    TRAILING_BYTES = "trailing_bytes", "longer than its header and address count say"
    BAD_CHECKSUM = "bad_checksum", "checksum is wrong"
    VRID_ZERO = "vrid_zero", "virtual router id is 0"
    NO_ADDRESSES = "no_addresses", "a version 3 advertisement without addresses"
    INTERVAL_ZERO = "interval_zero", "advertisement interval is 0"
    # check(): what does not fit the virtual router here
    UNKNOWN_VRID = "unknown_vrid", "no virtual router here has this virtual router id"
    VERSION_MISMATCH = "version_mismatch", "VRRP version differs from ours"
    OWN_ADDRESS = "own_address", "sent from an address of this router"
    WRONG_DESTINATION = "wrong_destination", "sent to unicast or to a group where we expect the other"
    NOT_A_PEER = "not_a_peer", "source is not one of the configured unicast peers"
    NOT_ALLOWED = "not_allowed", "source is not in allow_src"
    ADDRESS_OWNER = "address_owner", "this router is the address owner (priority 255)"
    AUTH_TYPE_MISMATCH = "auth_type_mismatch", "authentication type differs from ours"
    AUTH_FAILURE = "auth_failure", "password differs from ours"
    INTERVAL_MISMATCH = "interval_mismatch", "version 2 advertisement interval differs from ours"
    ADDRESS_MISMATCH = "address_mismatch", "virtual addresses differ from ours"

    @property
    def counter(self) -> str:
        """The stable name that status, metrics and logs use."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """The reason in words, lower case and without a full stop."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class PacketError:
    """Why a packet was dropped; `detail` says what was seen, never a password."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason.sentence} ({self.detail})" if self.detail else self.reason.sentence


@dataclass(frozen=True, slots=True)
class Expected:
    """The demands of a virtual router on the advertisements that it accepts."""

    vrid: int
    version: int
    family: int  # 4 or 6
    owner: bool = False  # our configured priority is 255
    own_sources: frozenset[bytes] = frozenset()  # packed addresses of this router
    group: bytes | None = GROUP4  # the multicast group; None: unicast peers
    unicast_peers: frozenset[bytes] | None = None  # None: any source will do
    min_hop_limit: int = HOP_LIMIT  # of unicast adverts
    allowed_sources: frozenset[bytes] = frozenset()  # of multicast adverts; empty: any source will do
    auth_pass: bytes | None = None  # version 2; None: no authentication
    interval_cs: int = 100  # compared in version 2 only; version 3 learns it
    addresses: frozenset[bytes] | None = None  # None: do not compare


def checksum(data: bytes | memoryview) -> int:
    """The Internet checksum of `data`, 0 when data holds its own right checksum (RFC 1071).

    A number is congruent to the sum of its 16-bit digits modulo 0xffff, so one big integer
    does what a loop over words would do, 3 to 5 times faster. `data` must not be all zeros
    and must have an even length; an advertisement never fails either.
    """
    return -int.from_bytes(data, "big") % 0xFFFF


def pseudo_header(source: bytes, destination: bytes, length: int, protocol: int = PROTOCOL) -> bytes:
    """The pseudo-header that a checksum covers: RFC 8200 section 8.1 (IPv6), RFC 9293 section 3.1 (IPv4)."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!II", length, protocol)


def is_multicast(address: bytes) -> bool:
    """Whether a packed IPv4 or IPv6 address is a multicast group."""
    return address[0] & 0xF0 == 0xE0 if len(address) == 4 else address[0] == 0xFF


def auth_field(password: bytes) -> bytes:
    """The 8 bytes that carry `password`: truncated or padded with zeros, as keepalived does."""
    return password[:AUTH_DATA_LENGTH].ljust(AUTH_DATA_LENGTH, b"\0")


def decode(
    data: bytes | memoryview,
    family: int,
    hop_limit: int,
    source: bytes,
    destination: bytes,
    min_hop_limit: int = HOP_LIMIT,
) -> Advertisement | PacketError:
    """Decode what followed the IP header, with the checks that need no configuration.

    `family` is 4 or 6; `source` and `destination` are packed. `min_hop_limit` applies to
    unicast destinations only: a multicast packet must always have 255. Over IPv4, version 3
    is accepted with and without the pseudo-header in its checksum (RFC 5798 was read both
    ways). A packet must have exactly the length that its count says, as for keepalived and
    FRR; version 2 always ends in 8 bytes of authentication data, covered by the checksum.
    """
    if hop_limit < (HOP_LIMIT if is_multicast(destination) else min_hop_limit):
        return PacketError(Reason.BAD_TTL, f"{hop_limit}")
    if len(data) < _HEADER.size:
        return PacketError(Reason.TRUNCATED, f"{len(data)} bytes")
    version_type, vrid, priority, count, variable, _checksum = _HEADER.unpack_from(data)
    version = version_type >> 4
    if version not in (2, 3) or (version == 2 and family == 6):
        return PacketError(Reason.BAD_VERSION, f"version {version}")
    if version_type & 0x0F != _ADVERTISEMENT:
        return PacketError(Reason.BAD_TYPE, f"type {version_type & 0x0F}")
    size = 4 if family == 4 else 16
    end = _HEADER.size + count * size
    length = end + AUTH_DATA_LENGTH if version == 2 else end
    if len(data) != length:
        reason = Reason.TRUNCATED if len(data) < length else Reason.TRAILING_BYTES
        return PacketError(reason, f"{len(data)} bytes, {length} with {count} addresses")
    if not _checksum_right(data, version, family, source, destination):
        return PacketError(Reason.BAD_CHECKSUM, f"0x{_checksum:04x}")
    if vrid == 0:
        return PacketError(Reason.VRID_ZERO)
    if count == 0 and version == 3:  # RFC 9568 section 5.2.5; RFC 3768 has no such rule
        return PacketError(Reason.NO_ADDRESSES)
    interval_cs = variable & MAX_INTERVAL_CS if version == 3 else (variable & 0xFF) * 100
    if interval_cs == 0:
        return PacketError(Reason.INTERVAL_ZERO)
    addresses = tuple([bytes(data[at : at + size]) for at in range(_HEADER.size, end, size)])
    if version == 3:
        return Advertisement(3, vrid, priority, interval_cs, addresses)
    auth_type = variable >> 8
    auth_data = bytes(data[end:]) if auth_type == AUTH_PASSWORD else b""
    return Advertisement(2, vrid, priority, interval_cs, addresses, auth_type, auth_data)


def _checksum_right(
    data: bytes | memoryview, version: int, family: int, source: bytes, destination: bytes
) -> bool:
    """Whether the checksum is one that `decode` accepts; `data` has the length it should have."""
    bare = checksum(data)
    if version == 2:
        return bare == 0
    if bare == 0 and family == 4:
        return True
    return (bare + checksum(pseudo_header(source, destination, len(data)))) % 0xFFFF == 0


def check(
    advert: Advertisement, expected: Expected, source: bytes, destination: bytes, hop_limit: int = HOP_LIMIT
) -> PacketError | None:
    """The first reason why the virtual router `expected` has to drop `advert`, or None.

    Interval (version 2) and addresses are compared as keepalived does by default: a
    difference drops the packet (RFC 3768 section 7.1; optional in RFC 9568 section 7.1).
    """
    if (advert.vrid, len(source)) != (expected.vrid, 4 if expected.family == 4 else 16):
        return PacketError(Reason.UNKNOWN_VRID, f"vrid {advert.vrid}")
    if advert.version != expected.version:
        return PacketError(Reason.VERSION_MISMATCH, f"version {advert.version}, ours {expected.version}")
    if source in expected.own_sources:
        return PacketError(Reason.OWN_ADDRESS)
    if is_multicast(destination) if expected.group is None else destination != expected.group:
        return PacketError(Reason.WRONG_DESTINATION)
    if expected.unicast_peers is not None and source not in expected.unicast_peers:
        return PacketError(Reason.NOT_A_PEER)
    if expected.group is None and hop_limit < expected.min_hop_limit:
        return PacketError(Reason.BAD_TTL, f"{hop_limit}")
    if expected.allowed_sources and source not in expected.allowed_sources:
        return PacketError(Reason.NOT_ALLOWED)
    if expected.owner:
        return PacketError(Reason.ADDRESS_OWNER)
    if advert.version == 2:
        auth_type = AUTH_NONE if expected.auth_pass is None else AUTH_PASSWORD
        if advert.auth_type != auth_type:
            return PacketError(Reason.AUTH_TYPE_MISMATCH, f"type {advert.auth_type}, ours {auth_type}")
        if expected.auth_pass is not None and advert.auth_data != auth_field(expected.auth_pass):
            return PacketError(Reason.AUTH_FAILURE)
        if advert.interval_cs != expected.interval_cs:
            detail = f"{advert.interval_cs / 100:g} s, ours {expected.interval_cs / 100:g} s"
            return PacketError(Reason.INTERVAL_MISMATCH, detail)
    if expected.addresses is not None and (
        len(advert.addresses) != len(expected.addresses) or expected.addresses != set(advert.addresses)
    ):
        detail = f"{len(advert.addresses)} addresses, ours {len(expected.addresses)}"
        return PacketError(Reason.ADDRESS_MISMATCH, detail)
    return None


def encode(advert: Advertisement, source: bytes, destination: bytes, checksum_as_v2: bool = False) -> bytes:
    """The bytes of `advert` that follow an IP header with these packed addresses.

    `checksum_as_v2` leaves the pseudo-header out of a version 3 checksum over IPv4. Over IPv6
    it is always in. ValueError or struct.error when a field does not fit its bits: the
    configuration has been checked, so that is a bug here and not a peer's fault.
    """
    if advert.version == 2:
        seconds, rest = divmod(advert.interval_cs, 100)
        if rest or not 1 <= seconds <= 0xFF or len(source) != 4:
            raise ValueError(f"VRRP version 2 cannot carry {advert}")
        variable = advert.auth_type << 8 | seconds
        trailer = auth_field(advert.auth_data)
    else:
        if not 1 <= advert.interval_cs <= MAX_INTERVAL_CS:
            raise ValueError(f"VRRP version 3 cannot carry {advert}")
        variable = advert.interval_cs
        trailer = b""
    first = advert.version << 4 | _ADVERTISEMENT
    body = b"".join(advert.addresses) + trailer
    count = len(advert.addresses)
    unsummed = _HEADER.pack(first, advert.vrid, advert.priority, count, variable, 0) + body
    summed = unsummed
    if advert.version == 3 and not (checksum_as_v2 and len(source) == 4):
        summed = pseudo_header(source, destination, len(unsummed)) + unsummed
    return _HEADER.pack(first, advert.vrid, advert.priority, count, variable, checksum(summed)) + body
