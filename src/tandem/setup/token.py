# SPDX-License-Identifier: GPL-2.0-or-later
"""The token that carries a configuration and the secret from the first router to the second.

A token is one word of base64url: version u8, CRC-32 of the rest, zlib-packed JSON. It is packed because
OpenWrt's shell accepts lines of at most 512 characters (CONFIG_FEATURE_EDITING_MAX_LEN of its BusyBox). The
CRC finds a word that was not copied whole. Whoever has a token has the secret.
"""

from __future__ import annotations

import binascii
import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from ipaddress import ip_address

from tandem.setup.networks import Network, Networks
from tandem.setup.pair import (
    SECOND,
    Setup,
    SetupError,
    Shared,
    address_problem,
    peer_problem,
    share,
    shared_line,
    uplinks,
)

LONGEST = 4096  # characters
_LARGEST = 16384  # bytes, unpacked
_VERSION = 2
_DAMAGED = "this is not a token of `tandem init`, or not all of it: copy the whole line"


@dataclass(frozen=True, slots=True)
class Invitation:
    """Everything that the second router must know."""

    virtual_router_id: int
    advert_int: str
    networks: tuple[tuple[str, tuple[str, ...], bool, bool], ...]  # name, shared addresses, dhcp, ra
    secret: str = ""
    track: bool = False  # hand over without a way out that can't move along
    host: str = ""  # the address of the router that joins
    peer: str = ""  # the router that invites; like `host` and `secret`, "" without replication
    line: tuple[str, str, str] = ("", "", "")  # network, MAC address and hostname of a line that both share


def invitation(setup: Setup, networks: Networks, secret: str) -> Invitation:
    """Return the part of this router's set-up that the other router must know."""
    host, peer = "", ""
    if setup.peer:
        network = networks.of(setup.peer)
        assert network is not None  # peer_problem() has checked it
        wanted = ip_address(setup.peer)
        host, peer = setup.peer, next(str(own.ip) for own in network.addresses if wanted in own.network)
    shared = tuple((one.network.name, one.addresses, one.dhcp, one.ra) for one in setup.shared)
    track = setup.uplinks is not None
    line = ("", "", "") if setup.line is None else (setup.line.name, setup.line.mac, setup.hostname)
    return Invitation(setup.virtual_router_id, setup.advert_int, shared, secret, track, host, peer, line)


def encode(invited: Invitation) -> str:
    """Return the token of an invitation."""
    fields = [
        invited.virtual_router_id, invited.advert_int, invited.networks,
        invited.secret, int(invited.track), invited.host, invited.peer,
    ]  # fmt: skip
    if invited.line[0]:
        fields += invited.line
    packed = zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 9)
    data = bytes((_VERSION,)) + zlib.crc32(packed).to_bytes(4, "big") + packed
    return urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> Invitation:
    """Return the invitation in a token. SetupError when the token is damaged or of another version."""
    word = "".join(text.split())
    try:
        data = urlsafe_b64decode(word + "=" * (-len(word) % 4))
        if len(word) > LONGEST or len(data) < 6:
            raise ValueError
        if data[0] != _VERSION:
            raise SetupError(f"the token is of version {data[0]}: install the same version on both routers")
        if zlib.crc32(data[5:]) != int.from_bytes(data[1:5], "big"):
            raise ValueError
        vrid, advert_int, networks, secret, track, host, peer, *line = json.loads(_unpack(data[5:]))
        return _invitation(vrid, advert_int, networks, track, secret, host, peer, *line)
    except (ValueError, TypeError, binascii.Error, zlib.error, RecursionError):
        raise SetupError(_DAMAGED) from None


def _invitation(
    vrid: object, advert_int: object, networks: object, track: object, *texts: object
) -> Invitation:
    """Return the invitation in decoded JSON. ValueError: `encode` does not write such values."""
    if type(vrid) is not int or not 1 <= vrid <= 255:
        raise ValueError
    if not isinstance(networks, list) or track not in (0, 1):
        raise ValueError
    found = []
    for name, words, dhcp, ra in networks:
        if not (isinstance(words, list) and isinstance(dhcp, bool) and isinstance(ra, bool)):
            raise ValueError
        found.append((_text(name), tuple(map(_text, words)), dhcp, ra))
    secret, host, peer, *rest = map(_text, texts)
    name, mac, hostname = rest or ("", "", "")
    identity = vrid, _text(advert_int)
    return Invitation(*identity, tuple(found), secret, bool(track), host, peer, (name, mac, hostname))


def _text(value: object) -> str:
    if not isinstance(value, str) or not (value.isprintable() or not value):
        raise ValueError
    return value


def _unpack(packed: bytes) -> bytes:
    inflate = zlib.decompressobj()
    data = inflate.decompress(packed, _LARGEST)
    if not inflate.eof:
        raise ValueError
    return data


def accept(invited: Invitation, networks: Networks, secret_file: str, port: str | None = None) -> Setup:
    """Return the set-up of the second router. SetupError with every part of the token that does not fit.

    `port`: that of the shared line here.
    """
    shared: list[Shared] = []
    problems: list[str] = []
    for name, addresses, dhcp, ra in invited.networks:
        try:
            shared.append(replace(_place(networks, name, addresses), dhcp=dhcp, ra=ra))
        except SetupError as error:
            problems += error.problems
    peer = invited.peer or None
    if peer:
        problems += _strangers(invited, networks, shared)
    line, (name, mac, hostname) = None, invited.line
    try:
        line = shared_line(name, port, mac) if name else None
    except SetupError as error:
        problems += error.problems
    if problems:
        raise SetupError(*problems)
    tracked = uplinks(shared, networks) if invited.track else None
    identity = invited.virtual_router_id, invited.advert_int
    return Setup(
        tuple(shared), peer, SECOND, *identity, secret_file, line, hostname=hostname, uplinks=tracked
    )


def _place(networks: Networks, name: str, addresses: tuple[str, ...]) -> Shared:
    """Return the network of this name, or another network with the right subnet."""
    by_subnet: Network | None = None
    if networks.get(name) is None:
        try:
            by_subnet = networks.of(addresses[0])
        except (ValueError, IndexError):
            by_subnet = None
    if by_subnet is not None and address_problem(by_subnet, addresses[0]) is None:
        name = by_subnet.name
    return share(networks, name, addresses)


def _strangers(invited: Invitation, networks: Networks, shared: list[Shared]) -> list[str]:
    """Return the problems of the two routers' own addresses."""
    if problem := peer_problem(shared, networks, invited.peer):
        return [f"the other router's address does not fit here: {problem}"]
    if not any(str(own.ip) == invited.host for network in networks.static for own in network.addresses):
        network = networks.of(invited.peer)
        own = ", ".join(str(item.ip) for item in network.addresses) if network else "none"
        return [
            f"the other router expects this one at {invited.host}, but this router has {own} there:"
            " run `tandem init --force` on the other router again, with this address"
        ]
    return []
