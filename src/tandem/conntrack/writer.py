# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries put into the kernel's table, or taken out of it, one chunk a turn of the loop.

A restore message creates its entry (encode.py). When the kernel refuses that with an error, later steps deal
with the reason. By errno:

    EOPNOTSUPP  the flow exists. An update that names it by its reply tuple succeeds when its NAT is the same.
                ENOENT: its NAT is another one, so the entry is deleted and created.
                EBUSY: the kernel's entry has got further (ASSURED, SEEN_REPLY): update all but the status.
    EEXIST      another flow has the reply tuple: a clash. The table is what clients were promised by the
                router that is gone, so the other flow is deleted. It is nearly always the same
                connection, picked up from its middle, without NAT or from the wrong end.
    ENOENT      its master is gone: a transfer outlives what announced it, a call the INVITE. It is created
                without. Likewise where EOPNOTSUPP stays: the kernel lacks the helper.

For a helper that it lacks, the kernel starts modprobe and waits. A child process (aside.py) therefore writes
the first entry of each helper, and all other entries wait for it. When the kernel has no such helper, entries
are written without it for a while.

Where most entries of a chunk were there, those of the next are deleted together before they are
created: 5 us an entry instead of 18. Not so entries with tails: others may belong to them.

The kernel works off a chunk inside sendmsg; an error in it doesn't stop the messages behind it.
"""

from __future__ import annotations

import errno
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tandem.conntrack.encode import Chunk
from tandem.effects.aside import Aside
from tandem.effects.netlink import NETLINK_NETFILTER, Commands, attributes
from tandem.nlmsg import NLATTR, NLMSGHDR, attribute, request

FAILURES_MAX = 1000
_AGAIN_MAX = 1000  # messages that wait for another attempt, before there are new chunks
_AGAIN_AT_ONCE = 64  # messages in one step: 1 ms
_HELPERS_MISSED = 64  # names of helpers that are remembered
_HELPER_MISSED = 60_000_000_000  # ns until such a helper is asked for again
_ANSWER = struct.Struct("=BBH")  # what was done last, whether the helper was missed, errno

_SEND_BUFFER = 1 << 20
_RECEIVE_BUFFER = 4 << 20  # an error is charged 768 to 1280 bytes, and a chunk of deletions has 800 messages

_CT_NEW, _CT_DELETE, _EXP_NEW, _EXP_DELETE = 0x100, 0x102, 0x200, 0x202  # nlmsg_type
_EXP_TUPLE, _EXP_ZONE = 2, 7  # enum ctattr_expect

# enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto, ctattr_nat, ctattr_protonat
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _HELP, _NAT_SRC, _NAT_DST, _TUPLE_MASTER, _ZONE = (
    1,
    2,
    3,
    5,
    6,
    13,
    14,
    18,
)
_TUPLE_IP, _TUPLE_PROTO, _HELP_NAME = 1, 2, 1
_SOURCES, _DESTINATIONS = (1, 3), (2, 4)  # V4, V6
_SOURCE_PORT, _DESTINATION_PORT, _ICMP_ID, _ICMPV6_ID = 2, 3, 4, 7
_NAT_V4_MINIP, _NAT_PROTO, _NAT_V6_MINIP = 1, 3, 4
_PROTONAT_PORT_MIN = 1

_ZONE_HEADER = NLATTR.pack(6, _ZONE)

_WITHOUT_ANSWER = 0xFFFFFFFF  # sequence number of deletions that may find nothing

# The present attempt with a message.
_CREATE, _UPDATE, _UPDATE_REST, _REPLACE, _EVICT, _ALONE, _DELETE, _TOUCH, _OTHER = range(9)
_NEXT = {
    (_CREATE, errno.EOPNOTSUPP): _UPDATE,
    (_CREATE, errno.EEXIST): _EVICT,
    (_UPDATE, errno.ENOENT): _REPLACE,
    (_UPDATE, errno.EBUSY): _UPDATE_REST,
    (_UPDATE_REST, errno.ENOENT): _REPLACE,
    (_REPLACE, errno.EEXIST): _EVICT,
    (_REPLACE, errno.EOPNOTSUPP): _EVICT,  # a packet has made the entry anew in between
    (_EVICT, errno.EOPNOTSUPP): _ALONE,
    **{(what, errno.ENOENT): _ALONE for what in (_CREATE, _REPLACE, _EVICT)},
}


_Attempt = tuple[int, bytes, bytes]  # what to try next, the key of the entry, its restore message


@dataclass(slots=True)
class Figures:
    """Figures of a round so far. They count entries, except `chunks`, `bytes` and the times (ns)."""

    entries: int = 0  # sent for the first time
    updated: int = 0  # were in the table with the same NAT
    replaced: int = 0  # were in the table with another, or among many that were
    clashed: int = 0  # another flow had their place, and lost it
    alone: int = 0  # without their master, or their helper
    gone: int = 0  # to delete or to touch, and not there
    failed: int = 0
    errors: dict[int, int] = field(default_factory=dict)  # of those that failed, by errno
    chunks: int = 0
    bytes: int = 0
    steps: int = 0
    busy: int = 0  # time in the steps
    longest: int = 0  # time of one step


class Restorer:
    """The writer: it sends chunks of restore messages, or of deletions, to this namespace's conntrack.

    `port` is the netlink port id that its changes carry in events. `failures` holds (key, errno) of the
    first entries that failed; b"" stands for a chunk whose errors the kernel could not tell one by one.
    """

    def __init__(self) -> None:
        """OSError when the kernel has no nfnetlink, or without CAP_NET_ADMIN."""
        self._commands = Commands(NETLINK_NETFILTER, _SEND_BUFFER, _RECEIVE_BUFFER)
        self.port = self._commands.port
        self._chunks: Iterator[Chunk] = iter(())
        self._rest: Chunk | None = None  # the rest of a chunk, which waits until a helper is found or missed
        self._again: deque[_Attempt] = deque()
        self._first = _CREATE
        self._crowded = False  # most entries of the last chunk were in the table
        self._there: set[bytes] = set()  # helpers that the kernel has
        self._missed: dict[bytes, int] = {}  # helpers that it lacks, and until when nobody asks for them
        self._aside = Aside()
        self._asked = b"", b""  # key and message of the entry that the child puts into the table
        self.figures = Figures()
        self.failures: list[tuple[bytes, int]] = []
        self.missing: list[bytes] = []  # keys of entries to touch that are not there

    def close(self) -> None:
        """Close the socket."""
        self._aside.close()
        self._commands.close()

    @property
    def waiting(self) -> bool:
        """Whether a child looks for a helper: `step` does nothing until the child has answered."""
        return self._aside.busy

    def restore(self, chunks: Iterable[Chunk], known: bool = False) -> None:
        """Begin to put entries into the table, with each `step`. The round before is broken off.

        The chunks are at most 64 KiB and are asked for one by one. `known`: most entries are there.
        """
        self._begin(chunks, _CREATE)
        self._crowded = known

    def touch(self, chunks: Iterable[Chunk]) -> None:
        """Begin to set the timeouts of entries; `missing` gets the keys of those that are not there."""
        self._begin(chunks, _TOUCH)

    def delete(self, chunks: Iterable[Chunk]) -> None:
        """Begin to delete entries of the table; an entry that is not there counts as `gone`."""
        self._begin(chunks, _DELETE)

    def stop(self) -> None:
        """Break the round off; the entries that are in the table stay there."""
        self._chunks, self._rest = iter(()), None
        self._again.clear()

    def step(self) -> bool:
        """Send one chunk and see what became of it, in about a millisecond; True when all is done."""
        if self._aside.busy and not self._answered():
            return False
        began = time.monotonic_ns()
        # Attempts are held as whole messages, so their number is bounded.
        chunk, self._rest = self._rest, None
        if chunk is None and len(self._again) < _AGAIN_MAX:
            chunk = next(self._chunks, None)
        done = chunk is None and not self._again
        if chunk is not None:
            self._send(chunk)
        elif self._again:
            self._retry()
        figures, took = self.figures, time.monotonic_ns() - began
        figures.steps += 1
        figures.busy += took
        figures.longest = max(figures.longest, took)
        return done

    def _begin(self, chunks: Iterable[Chunk], what: int) -> None:
        self.stop()
        self._chunks = iter(chunks)
        self._first = what
        self._crowded = False
        self.figures = Figures()
        self.failures = []
        self.missing = []

    def _transact(self, data: bytes | bytearray) -> tuple[dict[int, int], int]:
        """Send messages; return errno by sequence number, and how many deletions found nothing."""
        self.figures.chunks += 1
        self.figures.bytes += len(data)
        answers = self._commands.transact(data)
        errors = {sequence: number for sequence, number, _ in answers if sequence != _WITHOUT_ANSWER}
        return errors, sum(sequence == _WITHOUT_ANSWER for sequence, _, _ in answers)

    def _send(self, chunk: Chunk) -> None:
        asked = None
        if self._first == _CREATE and not chunk.simple:
            chunk, asked = self._helped(chunk)
        if chunk.entries:
            self._send_plain(chunk)
        if asked is not None:
            self.figures.entries += 1
            self._asked = asked
            try:
                self._aside.begin(lambda: self._settle(asked[1]))
            except OSError:
                self._settled(_ALONE, True, errno.EAGAIN)

    def _send_plain(self, chunk: Chunk) -> None:
        count = len(chunk.entries)
        self.figures.entries += count
        if self._crowded and chunk.simple:
            flows = [message for kind, _, message in _split(chunk.data) if kind == _CT_NEW]
            deletions = b"".join(deletion(message, _WITHOUT_ANSWER) for message in flows)
            errors, absent = self._transact(deletions + chunk.data)
            self.figures.replaced += len(flows) - absent
            self._crowded = absent < len(flows) / 2
        else:
            errors, absent = self._transact(chunk.data)
        if not errors:
            return
        existing = 0
        for kind, sequence, message in _split(chunk.data):
            number = errors.pop(sequence, 0)
            if number:
                what = _OTHER if kind == _EXP_NEW else self._first
                existing += what == _CREATE and number == errno.EOPNOTSUPP
                self._dealt_with(what, chunk.entries[sequence - chunk.first][0], number, message)
        if existing > count / 2:
            self._crowded = True
        for number in errors.values():
            self._fail(b"", number)

    def _helped(self, chunk: Chunk) -> tuple[Chunk, tuple[bytes, bytes] | None]:
        """Split a chunk before the first entry with an unknown helper: return the first part, and that entry.

        Without the helpers that the kernel lacks, and with what an expectation takes.
        """
        parts, read, now = bytearray(), 0, time.monotonic_ns()
        for number, (kind, _, message) in enumerate(_split(chunk.data), 1):
            name = _helper(message) if kind == _CT_NEW else b""
            missed = name and now < self._missed.get(name, 0)
            read += len(message)
            if name and not missed and name not in self._there:
                rest = Chunk(chunk.data[read:], chunk.first + number, chunk.entries[number:])
                self._rest = rest if rest.entries else None
                asked = chunk.entries[number - 1][0], bytes(message)
                return Chunk(parts, chunk.first, chunk.entries[: number - 1]), asked
            if kind == _EXP_NEW:
                parts += _expectation(message)
            else:
                parts += _without(message, _HELP) if missed else message
        return Chunk(parts, chunk.first, chunk.entries), None

    def _retry(self) -> None:
        tried = [self._again.popleft() for _ in range(min(len(self._again), _AGAIN_AT_ONCE))]
        errors, _ = self._transact(b"".join(_messages_for(what, message) for what, _, message in tried))
        for what, key, message in tried:
            number = errors.pop(_sequence(message), 0)
            if number:
                self._dealt_with(what, key, number, message)
            else:
                self._done(what)
        for number in errors.values():
            self._fail(b"", number)

    def _settle(self, message: bytes) -> bytes:
        """In the child: put an entry into the table, with its helper if there is one."""
        what, missed, number = _CREATE, False, 0
        while True:
            errors, _ = self._transact(_messages_for(what, message))
            number = errors.get(_sequence(message), 0)
            following = _NEXT.get((what, number)) if number else None
            if following is None:
                return _ANSWER.pack(what, missed, number)
            missed |= (following, number) == (_ALONE, errno.EOPNOTSUPP)
            what = following

    def _answered(self) -> bool:
        """Whether the child has answered."""
        answer = self._aside.answer()
        if answer is None:
            return False
        self.figures.chunks += 1
        what, missed, number = _ANSWER.unpack(answer) if answer else (_ALONE, True, errno.EAGAIN)
        self._settled(what, bool(missed), number)
        return True

    def _settled(self, what: int, missed: bool, number: int) -> None:
        """Take note of the child's answer; EAGAIN: write the entry again, without its helper."""
        key, message = self._asked
        name = _helper(message)
        if missed:
            if len(self._missed) >= _HELPERS_MISSED:
                self._missed.clear()
            self._missed[name] = time.monotonic_ns() + _HELPER_MISSED
        if number == errno.EAGAIN:
            self._again.append((_ALONE, key, message))
        elif number:
            self._fail(key, number)
        else:
            self._done(what)
            if what in (_CREATE, _REPLACE, _EVICT):
                self._there.add(name)

    def _done(self, what: int) -> None:
        figures = self.figures
        if what == _EVICT:
            figures.clashed += 1
        elif what == _REPLACE:
            figures.replaced += 1
        elif what == _ALONE:
            figures.alone += 1
        elif what != _CREATE:
            figures.updated += 1

    def _dealt_with(self, what: int, key: bytes, number: int, message: bytes) -> None:
        following = _NEXT.get((what, number))
        if following is not None:
            self._again.append((following, key, message))
        elif what in (_DELETE, _TOUCH) and number == errno.ENOENT:
            self.figures.gone += 1
            if what == _TOUCH:
                self.missing.append(key)
        elif what == _OTHER and number == errno.EEXIST:
            self.figures.updated += 1  # an expectation does not change
        else:
            self._fail(key, number)

    def _fail(self, key: bytes, number: int) -> None:
        self.figures.failed += 1
        self.figures.errors[number] = self.figures.errors.get(number, 0) + 1
        if len(self.failures) < FAILURES_MAX:
            self.failures.append((key, number))


def deletion(message: bytes, sequence: int) -> bytes:
    """Return the request that deletes the flow of a message (of an event, a dump or a restore)."""
    length, kind = NLATTR.unpack_from(message, 20)
    if kind & 0x3FFF == _TUPLE_ORIG and _ZONE_HEADER not in message:
        return request(_CT_DELETE, message[16 : 20 + length], sequence=sequence)
    found = attributes(message, 20)  # these bytes may stand for something else, so look
    return _request(_CT_DELETE, message, sequence, _named(found, _TUPLE_ORIG, found[_TUPLE_ORIG]))


# --- other messages out of restore messages ------------------------------------------------


def _messages_for(what: int, message: bytes) -> bytes:
    """Return one message, or several; the error of the last one decides."""
    found = attributes(message, 20)
    if what in (_UPDATE, _UPDATE_REST):
        return _update(message, found, status=what == _UPDATE)
    delete = deletion(message, _WITHOUT_ANSWER)
    if what == _ALONE:
        message = _without(message, _HELP, _TUPLE_MASTER)
    if what == _CREATE:
        return message
    if what != _REPLACE:
        reply = _named(found, _TUPLE_REPLY, _reply_of(found))
        delete += _request(_CT_DELETE, message, _WITHOUT_ANSWER, reply)
    return delete + message


def _update(message: bytes, found: dict[int, bytes], *, status: bool) -> bytes:
    """Return an update of the entry that has this reply tuple, by which the kernel finds the entry."""
    body = _named(found, _TUPLE_REPLY, _reply_of(found))
    left_out = {_TUPLE_ORIG, _TUPLE_REPLY, _NAT_SRC, _NAT_DST, _TUPLE_MASTER, _HELP, _ZONE}
    for kind, value in found.items():
        if kind not in left_out and (status or kind != _STATUS):
            body += attribute(kind, value)
    return _request(_CT_NEW, message, _sequence(message), body)


def _expectation(message: bytes) -> bytes:
    """Return messages that make an expectation, whether it exists or not.

    The kernel changes nothing but the timeout of one that is there, and gives a new one the timeout of its
    helper.
    """
    found = attributes(message, 20)
    names = b"".join(attribute(kind, found[kind]) for kind in (_EXP_TUPLE, _EXP_ZONE) if kind in found)
    return _request(_EXP_DELETE, message, _WITHOUT_ANSWER, names) + message + message


def _helper(message: bytes) -> bytes:
    """Return the name of a flow's helper, or b""."""
    nest = attributes(message, 20).get(_HELP, b"")
    return attributes(nest, 0).get(_HELP_NAME, b"")


def _without(message: bytes, *kinds: int) -> bytes:
    """Return the message without these attributes."""
    kept = [attribute(kind, value) for kind, value in attributes(message, 20).items() if kind not in kinds]
    body = message[16:20] + b"".join(kept)
    _, kind, flags, sequence, port = NLMSGHDR.unpack_from(message)
    return NLMSGHDR.pack(16 + len(body), kind, flags, sequence, port) + body


def _reply_of(found: dict[int, bytes]) -> bytes:
    """Return the reply tuple with its NAT, which a restore message has in attributes of its own."""
    changed = attributes(found[_TUPLE_REPLY], 0)
    address, port = _nat(found.get(_NAT_SRC))
    if address or port:
        changed = _changed(changed, _DESTINATIONS, address, (_DESTINATION_PORT, _ICMP_ID, _ICMPV6_ID), port)
    address, port = _nat(found.get(_NAT_DST))
    if address or port:
        changed = _changed(changed, _SOURCES, address, (_SOURCE_PORT,), port)
    return b"".join(attribute(kind, value) for kind, value in changed.items())


def _nat(value: bytes | None) -> tuple[bytes, bytes]:
    if value is None:
        return b"", b""
    found = attributes(value, 0)
    address = found.get(_NAT_V4_MINIP) or found.get(_NAT_V6_MINIP) or b""
    return address, attributes(found.get(_NAT_PROTO, b""), 0).get(_PROTONAT_PORT_MIN, b"")


def _changed(
    parts: dict[int, bytes], addresses: tuple[int, ...], address: bytes, ports: tuple[int, ...], port: bytes
) -> dict[int, bytes]:
    """Return the attributes of a tuple with another address and port (b"": the same)."""
    changed = dict(parts)
    for nest, kinds, new in ((_TUPLE_IP, addresses, address), (_TUPLE_PROTO, ports, port)):
        if new:
            inner = attributes(parts.get(nest, b""), 0)
            inner.update({kind: new for kind in kinds if kind in inner})
            changed[nest] = b"".join(attribute(kind, value) for kind, value in inner.items())
    return changed


def _named(found: dict[int, bytes], kind: int, tuple_: bytes) -> bytes:
    """Return the attributes that name a flow: one of its tuples, and its zone."""
    body = attribute(kind, tuple_)
    return body + attribute(_ZONE, found[_ZONE]) if _ZONE in found else body


def _request(kind: int, like: bytes, sequence: int, body: bytes) -> bytes:
    """Return a message about a flow of the family of `like`."""
    return request(kind, like[16:20] + body, sequence=sequence)


def _sequence(message: bytes) -> int:
    return int(NLMSGHDR.unpack_from(message)[3])


def _split(chunk: bytes | bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, sequence number, message) of each message in a chunk of our own."""
    offset = 0
    while offset < len(chunk):
        length, kind, _, sequence, _ = NLMSGHDR.unpack_from(chunk, offset)
        yield kind, sequence, bytes(chunk[offset : offset + length])
        offset += length + -length % 4
