# SPDX-License-Identifier: GPL-2.0-or-later
"""Encoding: records become the ctnetlink messages that make, update or delete entries of the kernel, in bulk.

Bodies of one kind have one size, and so have their messages: n of them are n copies of a template,
and a field is a column. A column is filled with one slice assignment, `buffer[at::size] =
column[from::step]`, which is a loop in C: 0.4 µs an entry instead of 1.5 µs one by one.

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

import sys
from array import array
from collections.abc import Iterable, Iterator
from struct import Struct

from tandem.nlmsg import NFNL_HEADER, NLATTR, NLM_F_CREATE, NLM_F_REQUEST, attribute

from .expectation import expectation_deletion, expectation_message
from .message import (
    AF_INET,
    AF_INET6,
    CTA_HELP,
    CTA_HELP_NAME,
    CTA_LABELS,
    CTA_MARK,
    CTA_NAT_DST,
    CTA_NAT_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_ICMP_ID,
    CTA_PROTO_ICMPV6_ID,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_PROTOINFO,
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_PROTOINFO_TCP,
    CTA_SEQ_ADJ_ORIG,
    CTA_SEQ_ADJ_REPLY,
    CTA_STATUS,
    CTA_SYNPROXY,
    CTA_TIMEOUT,
    CTA_TUPLE_IP,
    CTA_TUPLE_MASTER,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
    CTA_TUPLE_ZONE,
    CTA_ZONE,
    MSG_DELETE,
    MSG_GET,
    MSG_NEW,
    NESTED,
    SUBSYS_CTNETLINK,
    labels,
    nest,
    tuple_attribute,
)
from .record import (
    DNAT,
    EXPECTATION,
    EXPECTED,
    FIXED_SIZE,
    ICMP,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPV6,
    MARK,
    SNAT,
    STATUS_AT,
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
    TCP_AT,
    TCP_ESTABLISHED,
    TCP_FLAG_BE_LIBERAL,
    TIMEOUT_AT,
    ZONED,
    Entry,
    tail,
)

CREATE, CHANGE, REMOVE, GET, TOUCH = 0, 1, 2, 3, 4  # what a template is for; TOUCH: the timeout alone

EXPECTATIONS_AT_ONCE = 300  # messages of at most 200 bytes to delete them

_U32, _BE32 = Struct("=I"), Struct(">I")
_FLAG_BITS = 0x0B  # the TCP flags that a message sets or clears: window scale, SACK, liberal


def _table(changes: dict[int, int]) -> bytes:
    return bytes(changes.get(number, number) for number in range(256))


# Each table says which byte takes the place of a byte.
_INVERSE4 = _table({8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17})  # nf_conntrack_proto_icmp.c
_INVERSE6 = _table({128: 129, 129: 128, 139: 140, 140: 139})  # nf_conntrack_proto_icmpv6.c
_LIBERAL = bytes(number & 3 | TCP_FLAG_BE_LIBERAL for number in range(256))
# 0: an offloaded flow, only established ones are. SYN_SENT: the answer may be on its way, and in that state
# the client's ACK to it is invalid; in SYN_RECV it passes, and so does a SYN or SYN,ACK that comes again.
_STATE = _table({0: TCP_ESTABLISHED, 1: 2})
_NOT_EXPECTED = bytes(number & 0xFE for number in range(256))
_IS_ESTABLISHED = bytes(255 if number in (0, TCP_ESTABLISHED) else 0 for number in range(256))


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


class Template:
    """A message with holes, and for each byte of a hole which byte of key or body goes there."""

    __slots__ = ("body", "body_size", "changed", "data", "key", "key_size", "timeout_at")

    def __init__(self, kind: int, purpose: int) -> None:
        """`kind` is without TAIL: a template has the fixed part of a body only."""
        self.key_size = 40 if kind & IPV6 else 16
        self.body_size = FIXED_SIZE[kind]
        self.data = bytearray(20)
        self.key: list[tuple[int, int]] = []  # (offset in the message, offset in the key)
        self.body: list[tuple[int, int]] = []
        self.changed: list[tuple[int, bool, int, bytes]] = []  # the same through a table; True: of the key
        self.timeout_at = 0
        self._tuple(CTA_TUPLE_ORIG, kind, False)
        if purpose == CREATE:
            self._tuple(CTA_TUPLE_REPLY, kind, True)
        if kind & ZONED:
            self._field(CTA_ZONE, 2, self.key, 0)
        if purpose in (CREATE, CHANGE):
            self._values(kind, purpose)
        if purpose == TOUCH:
            self._timeout()
        subsystem = SUBSYS_CTNETLINK << 8
        type_ = {REMOVE: MSG_DELETE, GET: MSG_GET}.get(purpose, MSG_NEW)
        flags = NLM_F_CREATE if purpose == CREATE else 0
        family = AF_INET6 if kind & IPV6 else AF_INET
        NFNL_HEADER.pack_into(
            self.data, 0, len(self.data), subsystem | type_, NLM_F_REQUEST | flags, 0, 0, family, 0, 0
        )

    def _values(self, kind: int, purpose: int) -> None:
        at = self._room(CTA_STATUS, 4)
        self.body.append((at + 2, STATUS_AT))
        if purpose == CREATE:
            self.changed.append((at + 3, False, STATUS_AT + 1, _NOT_EXPECTED))
        else:
            self.body.append((at + 3, STATUS_AT + 1))
        self._timeout()
        offset = TCP_AT
        if kind & TCP:
            outer = self._open(CTA_PROTOINFO)
            inner = self._open(CTA_PROTOINFO_TCP)
            self.changed.append((self._room(1, 1), False, offset, _STATE))
            self._field(2, 1, self.body, offset + 1)
            self._field(3, 1, self.body, offset + 2)
            for number in (3, 4):
                at = self._room(number + 1, 2)
                self.changed.append((at, False, offset + number, _LIBERAL))
                self.data[at + 1] = _FLAG_BITS
            self._close(inner)
            self._close(outer)
            offset += 5
        if kind & MARK:
            self._field(CTA_MARK, 4, self.body, offset)
            offset += 4
        for bit, type_ in ((SNAT, CTA_NAT_SRC), (DNAT, CTA_NAT_DST)):
            if kind & bit:
                size = 16 if kind & IPV6 else 4
                if purpose == CREATE:
                    outer = self._open(type_)
                    # without a maximum, address and port are the only ones possible
                    self._field(4 if kind & IPV6 else 1, size, self.body, offset)
                    inner = self._open(3)  # CTA_NAT_PROTO
                    self._field(1, 2, self.body, offset + size)  # CTA_PROTONAT_PORT_MIN
                    self._close(inner)
                    self._close(outer)
                offset += size + 2

    def _timeout(self) -> None:
        self._field(CTA_TIMEOUT, 4, self.body, TIMEOUT_AT)
        self.timeout_at = len(self.data) - 4

    def _tuple(self, type_: int, kind: int, inverse: bool) -> None:
        size = 16 if kind & IPV6 else 4
        source, destination, last = 4, 4 + size, 4 + 2 * size
        outer = self._open(type_)
        inner = self._open(CTA_TUPLE_IP)
        first = 3 if kind & IPV6 else 1
        self._field(first, size, self.key, destination if inverse else source)
        self._field(first + 1, size, self.key, source if inverse else destination)
        self._close(inner)
        inner = self._open(CTA_TUPLE_PROTO)
        self._field(CTA_PROTO_NUM, 1, self.key, 3)
        if kind & ICMP:
            first = CTA_PROTO_ICMPV6_ID if kind & IPV6 else CTA_PROTO_ICMP_ID
            self._field(first, 2, self.key, last + 2)
            if inverse:
                table = _INVERSE6 if kind & IPV6 else _INVERSE4
                self.changed.append((self._room(first + 1, 1), True, last, table))
            else:
                self._field(first + 1, 1, self.key, last)
            self._field(first + 2, 1, self.key, last + 1)
        else:
            self._field(CTA_PROTO_SRC_PORT, 2, self.key, last + 2 if inverse else last)
            self._field(CTA_PROTO_DST_PORT, 2, self.key, last if inverse else last + 2)
        self._close(inner)
        self._close(outer)

    def _room(self, type_: int, size: int) -> int:
        self.data += NLATTR.pack(4 + size, type_) + bytes(size + -size % 4)
        return len(self.data) - size - -size % 4

    def _field(self, type_: int, size: int, columns: list[tuple[int, int]], source: int) -> None:
        at = self._room(type_, size)
        columns += [(at + number, source + number) for number in range(size)]

    def _open(self, type_: int) -> int:
        self.data += NLATTR.pack(0, type_ | NESTED)
        return len(self.data) - 4

    def _close(self, at: int) -> None:
        self.data[at : at + 2] = (len(self.data) - at).to_bytes(2, sys.byteorder)

    def fill(
        self,
        keys: bytes,
        bodies: bytes,
        count: int,
        first: int,
        established: bytes | None,
        least: bytes = b"",
    ) -> bytearray:
        """`count` messages from as many keys and bodies (without tails), numbered from `first` on.

        `established` and `least` are timeouts, u32 in network byte order: see `Builder.chunks`.
        """
        size, key_size, body_size = len(self.data), self.key_size, self.body_size
        buffer = self.data * count
        for at, source in self.key:
            buffer[at::size] = keys[source::key_size]
        for at, source in self.body:
            buffer[at::size] = bodies[source::body_size]
        for at, of_key, source, table in self.changed:
            column = keys[source::key_size] if of_key else bodies[source::body_size]
            buffer[at::size] = column.translate(table)
        sequence = array("I", range(first, first + count)).tobytes()
        for number in range(4):
            buffer[8 + number :: size] = sequence[number::4]
        if least and self.timeout_at:
            told = [bodies[at : at + 4] for at in range(TIMEOUT_AT, len(bodies), body_size)]
            column = b"".join([timeout if timeout > least else least for timeout in told])
            for number in range(4):
                buffer[self.timeout_at + number :: size] = column[number::4]
        if established is not None and self.timeout_at:
            chosen = int.from_bytes(bodies[TCP_AT::body_size].translate(_IS_ESTABLISHED), "big")
            if chosen:
                for number in range(4):
                    at = self.timeout_at + number
                    own = int.from_bytes(established[number : number + 1] * count, "big")
                    now = int.from_bytes(buffer[at::size], "big")
                    buffer[at::size] = (now ^ (now ^ own) & chosen).to_bytes(count, "big")
        return buffer


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
