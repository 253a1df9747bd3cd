# SPDX-License-Identifier: GPL-2.0-or-later
"""A lease, as a line of dnsmasq's lease file and as a line between two routers.

dnsmasq's file (lease.c, lease_update_file), times in seconds since the epoch, 0 for ever:

    <time> <hardware address> <IPv4 address> <name or *> <client id or *>
    duid <server DUID>
    <time> <IAID, with T for a temporary address> <IPv6 address> <name or *> <client DUID>

Between routers, <time> is the number of seconds that are left, because the clocks of two routers differ; `-`
means for ever. Inside the daemon, times are seconds of this router's monotonic clock: the wall clock of a
router without a battery jumps when the router reaches its time server.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace

NAME_MAX = 255  # characters of a host name
IDENTITY_MAX = 764  # characters of a client id or DUID: dnsmasq reads no more
HARDWARE_MAX = 16  # bytes of a hardware address: DHCP_CHADDR_MAX
LINE_MAX = 1200  # bytes of any line that is a lease
LEFT_MAX = 0xFFFFFFFF  # seconds; more is for ever

_HEX = "0123456789abcdefABCDEF"
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease: an address and its holder."""

    address: str  # canonical
    client: str  # hardware address, "06-..." for other than Ethernet; for IPv6 the IAID
    name: str  # "*": none
    identity: str  # client id or DUID in hexadecimal with colons; "*": none
    expires: int | None  # seconds of the monotonic clock; None: never

    @property
    def holder(self) -> tuple[str, str]:
        """The holder of the lease, who has one address; dnsmasq uses the client id, if there is one."""
        if ":" in self.address:
            return self.client, self.identity
        return "", self.client if self.identity == "*" else self.identity

    def left(self, now: int) -> int:
        """Return the seconds that are left; LEFT_MAX: for ever; 0 or less: the lease has ended."""
        return LEFT_MAX if self.expires is None else self.expires - now

    def shifted(self, seconds: int) -> Lease:
        """Return the same lease by a clock that is so many seconds ahead."""
        return self if self.expires is None or not seconds else replace(self, expires=self.expires + seconds)

    def same(self, other: Lease | None) -> bool:
        """Return whether this lease and the other one differ in nothing but the time."""
        return other is not None and replace(other, expires=self.expires) == self


# The lease file


def read_file(text: str, offset: int) -> tuple[dict[str, Lease], list[str]]:
    """Return the leases by address, and unchanged the lines that are no leases.

    `offset` is the wall clock minus the monotonic clock, in seconds.
    """
    leases: dict[str, Lease] = {}
    others: list[str] = []
    for line in text.splitlines():
        lease = _from_words(line.split(" "), lambda word: _wall(word, offset))
        if lease is None:
            others += [line] if line else []
        else:
            leases[lease.address] = lease
    return leases, others


def file_line(lease: Lease, offset: int) -> str:
    """Return the line of a lease file, without its end."""
    wall = 0 if lease.expires is None else max(1, lease.expires + offset)
    return f"{wall} {lease.client} {lease.address} {lease.name} {lease.identity}"


def _wall(word: str, offset: int) -> int | None:
    wall = int(word)
    return None if wall == 0 else wall - offset


# Between routers


def to_wire(lease: Lease, now: int) -> str:
    """Return the line for a peer, without its end."""
    left = "-" if lease.expires is None else str(max(0, lease.left(now)))
    return f"{left} {lease.client} {lease.address} {lease.name} {lease.identity}"


def from_wire(line: str, now: int) -> Lease | None:
    """Return the lease in a peer's line, or None. An accepted lease can't harm a lease file."""
    return _from_words(line.split(" "), lambda word: None if word == "-" else now + int(word))


def _from_words(words: list[str], expires) -> Lease | None:  # type: ignore[no-untyped-def]
    if len(words) != 5 or sum(map(len, words)) > LINE_MAX:
        return None
    time, client, address, name, identity = words
    canonical = canonical_address(address)
    if canonical is None or not (time == "-" or (time.isascii() and time.isdigit() and len(time) <= 10)):
        return None
    client_fits = _is_iaid(client) if ":" in canonical else _is_hardware(client)
    if not client_fits or not _is_name(name) or not _is_identity(identity):
        return None
    try:
        return Lease(canonical, client, name, identity, expires(time))
    except ValueError:
        return None


def canonical_address(text: str) -> str | None:
    """Return an IPv4 or IPv6 address in its usual form; None when `text` is no address."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return None


def _is_name(text: str) -> bool:
    return text == "*" or (1 <= len(text) <= NAME_MAX and not text.strip(_NAME))


def _is_identity(text: str) -> bool:
    return text == "*" or (len(text) <= IDENTITY_MAX and _is_bytes(text))


def _is_hardware(text: str) -> bool:
    kind, dash, address = text.rpartition("-")
    if dash and (len(kind) != 2 or kind.strip(_HEX)):
        return False
    return len(address) < 3 * HARDWARE_MAX and _is_bytes(address)


def _is_iaid(text: str) -> bool:
    digits = text.removeprefix("T")
    return digits.isascii() and digits.isdigit() and len(digits) <= 10


def _is_bytes(text: str) -> bool:
    return all(len(part) == 2 and not part.strip(_HEX) for part in text.split(":"))
