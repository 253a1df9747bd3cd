# SPDX-License-Identifier: GPL-2.0-or-later
"""Encoding: records become the ctnetlink messages that make, update or delete entries of the kernel, in bulk.

What the kernel demands (tried on Linux 6.18, net/netfilter/nf_conntrack_netlink.c):

* A dump sent back verbatim does not NAT. The reply tuple must be the plain inverse of the original
  one; CTA_NAT_SRC and CTA_NAT_DST say what to change, and the kernel sets the NAT bits. The port must
  be given even where it stays the same: otherwise the kernel may choose another.
* CTA_STATUS must have IPS_CONFIRMED, and on creation must not have IPS_EXPECTED (EBUSY).
* An entry that exists is updated, whether NLM_F_CREATE is there or not, but not with CTA_NAT_* or
  CTA_TUPLE_MASTER in the message (EOPNOTSUPP). Such are sent again as an update, which has neither.
  EEXIST: another entry has the reply tuple (or the address and port that the NAT would take).
* TCP windows: the backup knows nothing of the sequence numbers, so IP_CT_TCP_FLAG_BE_LIBERAL is set.

Timeouts are those of the last event, not shortened by the time since: data refreshes the active's
timer without an event, so a flow without events isn't an idle one. For TCP in ESTABLISHED the caller
gives this router's own timeout: the last event of a connection may have carried the shorter one for
unacknowledged data. A dead entry costs memory until its timeout. A live entry whose timeout is too short
costs the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

from tandem.nlmsg import NLATTR, attribute

from .bulk import CREATE, GET, REMOVE, TOUCH, Template
from .expectation import expectation_deletion, expectation_message
from .message import (
    CTA_HELP,
    CTA_HELP_NAME,
    CTA_LABELS,
    CTA_PROTOINFO,
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_SEQ_ADJ_ORIG,
    CTA_SEQ_ADJ_REPLY,
    CTA_SYNPROXY,
    CTA_TUPLE_MASTER,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_REPLY,
    CTA_TUPLE_ZONE,
    NESTED,
    labels,
    nest,
    tuple_attribute,
)
from .record import (
    EXPECTATION,
    EXPECTED,
    ICMP,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPV6,
    T_DCCP,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_SCTP,
    T_SEQ_ADJ_ORIG,
    T_SEQ_ADJ_REPLY,
    T_SYNPROXY,
    T_ZONE,
    TAIL,
    TCP,
    TIMEOUT_AT,
    ZONED,
    Entry,
    tail,
)

EXPECTATIONS_AT_ONCE = 300  # messages of at most 200 bytes to delete them

_U32, _BE32 = Struct("=I"), Struct(">I")


class Chunk:
    """Messages for one send: the entry of sequence number s is `entries[s - first]`.

    `simple`: their bodies have no tails, so that no entry needs another or is needed by one.
    """

    __slots__ = ("data", "entries", "first", "simple")

    def __init__(
        self, data: bytes | bytearray, first: int, entries: list[Entry], simple: bool = False
    ) -> None:
        self.data = data
        self.first = first
        self.entries = entries
        self.simple = simple


class Builder:
    """Makes messages from entries; keeps the templates it has needed, a few KB each."""

    def __init__(self, max_bytes: int = 65536) -> None:
        """A chunk has at most `max_bytes`."""
        self._max_bytes = max_bytes
        self._templates: dict[tuple[int, int], Template] = {}

    def template(self, kind: int, purpose: int) -> Template:
        """Return the template for bodies of a kind, without TAIL."""
        found = self._templates.get((kind, purpose))
        if found is None:
            found = self._templates[kind, purpose] = Template(kind, purpose)
        return found

    def chunks(
        self,
        entries: Iterable[Entry],
        first: int = 1,
        established: int | None = None,
        purpose: int = CREATE,
        least: int = 0,
    ) -> Iterator[Chunk]:
        """Yield messages that restore the entries (CREATE), or that update existing ones (CHANGE, TOUCH).

        `entries` may be lazy and is read as far as the next chunk needs. The order isn't kept: entries
        that need another (the master of an FTP data connection, of an expectation) come last. Sequence
        numbers begin with `first` and go on without a gap. `established`: s, the timeout of TCP
        connections in ESTABLISHED; None: the one in the entry. `least`: s, of all others.
        """
        own = None if established is None else _BE32.pack(established)
        floor = _BE32.pack(least) if least else b""
        groups: dict[int, list[Entry]] = {}
        limits: dict[int, int] = {}
        late: list[Entry] = []
        rare: list[Entry] = []
        for entry in entries:
            kind = entry[1][0]
            if kind & TAIL:
                if kind == EXPECTATION and purpose == TOUCH:
                    continue  # the kernel takes its timeout from the helper
                if kind == EXPECTATION or T_MASTER in tail(entry[1]):
                    late.append(entry)
                else:
                    rare.append(entry)
                    if len(rare) == 100:
                        for chunk in self._one_by_one(rare, first, purpose, floor):
                            first += len(chunk.entries)
                            yield chunk
                        rare = []
                continue
            group = groups.get(kind)
            if group is None:
                group = groups[kind] = []
                limits[kind] = max(1, self._max_bytes // len(self.template(kind, purpose).data))
            group.append(entry)
            if len(group) == limits[kind]:
                del groups[kind]
                yield self._bulk(group, first, own, purpose, floor)
                first += len(group)
        for group in groups.values():
            yield self._bulk(group, first, own, purpose, floor)
            first += len(group)
        late.sort(key=lambda entry: entry[1][0] == EXPECTATION)
        for chunk in self._one_by_one(rare + late, first, purpose, floor):
            yield chunk

    def _bulk(self, group: list[Entry], first: int, own: bytes | None, purpose: int, least: bytes) -> Chunk:
        kind = group[0][1][0]
        keys = b"".join([entry[0] for entry in group])
        bodies = b"".join([entry[1] for entry in group])
        own = own if kind & TCP else None
        data = self.template(kind, purpose).fill(keys, bodies, len(group), first, own, least)
        return Chunk(data, first, group, simple=True)

    def _one_by_one(self, entries: list[Entry], first: int, purpose: int, least: bytes) -> Iterator[Chunk]:
        data, begin = bytearray(), 0
        for number, (key, body) in enumerate(entries):
            if body[0] != EXPECTATION and body[TIMEOUT_AT : TIMEOUT_AT + 4] < least:
                body = body[:TIMEOUT_AT] + least + body[TIMEOUT_AT + 4 :]
            message = self.message(key, body, first + number, purpose)
            if data and len(data) + len(message) > self._max_bytes:
                yield Chunk(data, first + begin, entries[begin:number])
                data, begin = bytearray(), number
            data += message
        if data:
            yield Chunk(data, first + begin, entries[begin:])

    def message(
        self, key: bytes, body: bytes, sequence: int = 0, purpose: int = CREATE, *, plain: bool = False
    ) -> bytes:
        """Return the message for one entry; `plain`: without its tail (helper, labels, master, ...)."""
        kind = body[0]
        if kind == EXPECTATION:
            return expectation_message(key, body, sequence)
        values = tail(body)
        base = kind & ~TAIL
        if T_ZONE in values:
            base &= ~ZONED
        template = self.template(base, purpose)
        data = template.fill(key, body[: template.body_size], 1, sequence, None)
        if T_ZONE in values:
            _insert_zone(data, values[T_ZONE])
        if not plain and purpose != TOUCH:
            data += b"".join(
                _rare(type_, value, purpose) for type_, value in values.items() if type_ != T_ZONE
            )
        _U32.pack_into(data, 0, len(data))
        return bytes(data)

    def deletes(self, keys: Iterable[bytes], first: int = 1) -> Iterator[Chunk]:
        """Yield messages that delete entries. Expectations come last: they may end with their masters."""
        groups: dict[int, list[Entry]] = {}
        expected: list[Entry] = []
        for key in keys:
            if key[2] & EXPECTED:
                expected.append((key, b""))
                continue
            kind = _kind_of(key)
            group = groups.setdefault(kind, [])
            group.append((key, b""))
            if (len(group) + 1) * len(self.template(kind, REMOVE).data) > self._max_bytes:
                del groups[kind]
                yield self._delete_all(kind, group, first)
                first += len(group)
        for kind, group in groups.items():
            yield self._delete_all(kind, group, first)
            first += len(group)
        for start in range(0, len(expected), EXPECTATIONS_AT_ONCE):
            some = expected[start : start + EXPECTATIONS_AT_ONCE]
            data = b"".join(expectation_deletion(key, first + n) for n, (key, _) in enumerate(some))
            yield Chunk(data, first, some)
            first += len(some)

    def asks(self, keys: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
        """Return messages that ask for entries, and their keys: message n, from 1 on, asks for the nth key.

        Expectations are left out: they have no entries.
        """
        groups: dict[int, list[bytes]] = {}
        for key in keys:
            if not key[2] & EXPECTED:
                groups.setdefault(_kind_of(key), []).append(key)
        data, order = bytearray(), list[bytes]()
        for kind, group in groups.items():
            template = self.template(kind, GET)
            data += template.fill(b"".join(group), b"", len(group), len(order) + 1, None)
            order += group
        return bytes(data), order

    def _delete_all(self, kind: int, group: list[Entry], first: int) -> Chunk:
        keys = b"".join([entry[0] for entry in group])
        return Chunk(self.template(kind, REMOVE).fill(keys, b"", len(group), first, None), first, group)

    def delete(self, key: bytes, sequence: int = 0) -> bytes:
        """Return the message that deletes the entry of a key."""
        return bytes(self.template(_kind_of(key), REMOVE).fill(key, b"", 1, sequence, None))

    def get(self, key: bytes, sequence: int = 0) -> bytes:
        """Return the message that asks for the entry of a key; the answer looks as in a dump."""
        return bytes(self.template(_kind_of(key), GET).fill(key, b"", 1, sequence, None))


def _kind_of(key: bytes) -> int:
    """Return the bits of the kind that a key determines."""
    v6 = key[2] == 6
    icmp = key[3] == (IPPROTO_ICMPV6 if v6 else IPPROTO_ICMP)
    return (IPV6 if v6 else 0) | (ICMP if icmp else 0) | (ZONED if key[:2] != b"\0\0" else 0)


def _rare(type_: int, value: bytes, purpose: int) -> bytes:
    if type_ == T_MASTER:
        return tuple_attribute(CTA_TUPLE_MASTER, value) if purpose == CREATE else b""
    if type_ == T_HELPER:
        name = attribute(CTA_HELP_NAME, value + b"\0")
        return nest(CTA_HELP, name) if purpose == CREATE else b""
    if type_ == T_LABELS:
        return attribute(CTA_LABELS, labels(value))
    if type_ in _THREE:
        return nest(_THREE[type_], *(attribute(n + 1, value[4 * n : 4 * n + 4]) for n in range(3)))
    if type_ == T_SCTP:
        parts = attribute(1, value[:1]), attribute(2, value[1:5]), attribute(3, value[5:9])
        return nest(CTA_PROTOINFO, nest(CTA_PROTOINFO_SCTP, *parts))
    if type_ == T_DCCP:
        parts = attribute(1, value[:1]), attribute(2, value[1:2]), attribute(3, value[2:10])
        return nest(CTA_PROTOINFO, nest(CTA_PROTOINFO_DCCP, *parts))
    return b""


_THREE = {T_SEQ_ADJ_ORIG: CTA_SEQ_ADJ_ORIG, T_SEQ_ADJ_REPLY: CTA_SEQ_ADJ_REPLY, T_SYNPROXY: CTA_SYNPROXY}


def _insert_zone(data: bytearray, value: bytes) -> None:
    """Put the zone of one direction into that direction's tuple."""
    at = 20
    for direction in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY):
        length, type_ = NLATTR.unpack_from(data, at)
        if type_ & ~NESTED != direction:
            return
        if value[0] == direction:
            NLATTR.pack_into(data, at, length + 8, type_)
            data[at + length : at + length] = attribute(CTA_TUPLE_ZONE, value[1:])
            return
        at += length
