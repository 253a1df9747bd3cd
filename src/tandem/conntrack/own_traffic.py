# SPDX-License-Identifier: GPL-2.0-or-later
"""Own traffic: the entries of a backup's kernel that packets through this router use; pure.

A backup forwards as well: for hosts that have its own address as gateway, for networks that only it serves,
for IPv6 hosts that use its link-local address. When it was active in between, a peer has copies of such
connections; nobody uses them there, and when they time out the peer says that the connections have ended.

The kernel counts the packets of each entry. `note` remembers the counts of all entries, at a time when this
router is a backup and the hosts have found the active one. Later an entry that has

    no packets, or as many as were noted    is not used: we used it while active, or put it there for a peer
    another count                           is used
    been offloaded                          is used: such packets are counted late or never
    TCP in a closed state                   is free, whoever used it
    no count (older than the setting)       may be used, if it is TCP's and we did not put it there

Other programs may set the counts to zero (nlbwmon does): a used entry has packets again soon.
"""

from __future__ import annotations

from tandem.nlmsg import NLATTR

from .message import CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_STATUS, Malformed, Span, attributes
from .record import TCP_FLAG_BE_LIBERAL

# enum ctattr_type, ctattr_counters, ctattr_protoinfo_tcp
_COUNTERS_ORIG, _COUNTERS_REPLY, _ID = 9, 10, 12
_COUNTERS_PACKETS, _COUNTERS_BYTES, _TCP_STATE = 1, 2, 1
_TCP_FLAGS = (4, 5)  # of both directions; every entry that a Restorer makes is BE_LIBERAL
_LAST_ACK, _TIME_WAIT, _CLOSE = 6, 7, 8  # enum tcp_conntrack
_OFFLOADED = 1 << 14 | 1 << 15  # IPS_OFFLOAD, IPS_HW_OFFLOAD
_ITEM = 4  # bytes of a number
_BUCKETS = 256  # each has some hundred entries in a large table, which C code searches
_MASK = 0xFFFFFFFF
_ATTRIBUTES = 20  # the offset of the attributes in a message
_NESTED = 0x8000  # NLA_F_NESTED
_ZERO = b"".join(NLATTR.pack(12, kind) + bytes(8) for kind in (_COUNTERS_PACKETS, _COUNTERS_BYTES))
_UNUSED = b"".join(
    NLATTR.pack(4 + len(_ZERO), kind | _NESTED) + _ZERO for kind in (_COUNTERS_ORIG, _COUNTERS_REPLY)
)
"""The counters of an entry without packets, as nearly all have. To parse a message takes 50 times as long."""


class OwnTraffic:
    """Remembers how many packets entries had, 8 bytes for each that had any; judges ctnetlink messages."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[bytearray, bytearray]] = {}  # ids, and packets of each

    def forget(self) -> None:
        """Forget all counts."""
        self._buckets.clear()

    def note(self, message: bytes) -> None:
        """Remember how many packets an entry had at a time when this router did not use it."""
        if _UNUSED in message:
            return
        try:
            found = attributes(message, _ATTRIBUTES, len(message))
            packets = _packets(message, found)
        except Malformed:
            return
        if packets:
            number = _number(message, found.get(_ID)) & _MASK
            if number % _BUCKETS not in self._buckets:
                self._buckets[number % _BUCKETS] = bytearray(), bytearray()
            ids, counts = self._buckets[number % _BUCKETS]
            ids += number.to_bytes(_ITEM, "big")
            counts += packets.to_bytes(_ITEM, "big")

    def uses(self, message: bytes) -> bool:
        """Whether this router's own traffic uses the entry, whatever a peer says of it."""
        try:
            found = attributes(message, _ATTRIBUTES, len(message))
            if _number(message, found.get(CTA_STATUS)) & _OFFLOADED:
                return True
            tcp = _nest(message, _nest(message, found, CTA_PROTOINFO), CTA_PROTOINFO_TCP)
            if _first(message, tcp, _TCP_STATE) in (_LAST_ACK, _TIME_WAIT, _CLOSE):
                return False
            packets = _packets(message, found)
        except Malformed:
            return False
        if packets is None:
            return bool(tcp) and not all(
                _first(message, tcp, kind) & TCP_FLAG_BE_LIBERAL for kind in _TCP_FLAGS
            )
        return bool(packets) and packets != self._noted(_number(message, found.get(_ID)) & _MASK)

    def _noted(self, number: int) -> int | None:
        ids, counts = self._buckets.get(number % _BUCKETS, (b"", b""))
        wanted = number.to_bytes(_ITEM, "big")
        at = ids.find(wanted)
        while at % _ITEM and at > 0:  # the end of a number and the beginning of the next one
            at = ids.find(wanted, at + 1)
        return int.from_bytes(counts[at : at + _ITEM], "big") if at >= 0 else None


def _packets(message: bytes, found: dict[int, Span]) -> int | None:
    """Return the packets of both directions, modulo 32 bits; None when the entry has no counters."""
    if _COUNTERS_ORIG not in found:
        return None
    counters = (_nest(message, found, direction) for direction in (_COUNTERS_ORIG, _COUNTERS_REPLY))
    total = sum(_number(message, counted.get(_COUNTERS_PACKETS)) for counted in counters)
    return total and (total & _MASK or _MASK)


def _nest(message: bytes, found: dict[int, Span], kind: int) -> dict[int, Span]:
    """Return the attributes in an attribute; none when it is missing."""
    return attributes(message, *found[kind]) if kind in found else {}


def _number(message: bytes, span: Span | None) -> int:
    return int.from_bytes(message[span[0] : span[1]], "big") if span else 0


def _first(message: bytes, found: dict[int, Span], kind: int) -> int:
    """Return the first byte of an attribute; 0 when it is missing."""
    span = found.get(kind)
    return message[span[0]] if span and span[0] < span[1] else 0
