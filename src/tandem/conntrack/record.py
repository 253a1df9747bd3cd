# SPDX-License-Identifier: GPL-2.0-or-later
"""Records: the neutral form in which one router tells another about an entry, as (op, key, body).

Everything is in network byte order and free of word sizes, so that any two routers understand each other.

    key    zone u16 | family u8 (4, 6) | protocol u8 | source | destination | 4 bytes
           The original tuple; addresses of 4 or 16 bytes. The last 4 bytes are two ports (or the two
           keys of GRE), or type, code and id of ICMP, or zeros. 16 bytes for IPv4, 40 for IPv6.
    body   kind u8 | status u16 | timeout u32 | [TCP] | [mark u32] | [SNAT] | [DNAT] | [tail]
           TCP:  state, window scale of both directions, flags of both directions, u8 each;
                 state 0: unknown (the kernel doesn't say for offloaded flows)
           SNAT: the reply's destination and its port; DNAT: the reply's source and its port;
                 only where they differ from the original's source and destination. The port is
                 there for every protocol: the id for ICMP, zero where there are none.
           tail: the rare parts: (type u8, length u8, value)*, in ascending order of type.

`kind` alone says which parts a body has and how long each is, the family included: bodies of one kind
have one size (but for the tail), and their netlink messages too. That makes bulk building possible.

Expectations (a helper's "such a connection will come") have a key and a kind of their own:

    key    zone | family + EXPECTED | protocol | tuple | tuple of the master | protocol of the master
    body   EXPECTATION | timeout u32 | flags u32 | class u32 | mask | direction of NAT u32, or FFFFFFFF |
           tuple of NAT | name of the helper, 0 | name of the function, 0
           A mask and each tuple are two addresses and 4 bytes, as at the end of a key.
"""

from __future__ import annotations

from collections.abc import Iterator

# The op of a record.
NEW, UPDATE, DESTROY = 1, 2, 3

Record = tuple[int, bytes, bytes]  # (op, key, body); the body of DESTROY is b""
Entry = tuple[bytes, bytes]  # (key, body)

# Bits of the kind.
SNAT, DNAT, TCP, MARK, IPV6, ICMP, ZONED, TAIL = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
EXPECTATION = 0xFF  # no flow is both TCP and ICMP

EXPECTED = 0x40  # in the family byte of an expectation's key

# Offsets in a body; the mark comes behind TCP where there is TCP.
STATUS_AT, TIMEOUT_AT, TCP_AT = 1, 3, 7
TCP_SIZE = 5

# enum ip_conntrack_status: the bits a body may have; the kernel sets or refuses all others.
IPS_EXPECTED, IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED = 0x01, 0x02, 0x04, 0x08
IPS_FIXED_TIMEOUT = 0x400

IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6 = 1, 6, 17, 58
TCP_ESTABLISHED, TCP_SYN_SENT2 = 3, 9
TCP_FLAG_BE_LIBERAL = 0x08

# Types in a tail.
T_MASTER = 1  # the master's key
T_HELPER = 2  # name
T_LABELS = 3  # 16 bytes, label 0 in the lowest bit of the first
T_SEQ_ADJ_ORIG, T_SEQ_ADJ_REPLY = 4, 5  # position, offset before, offset after: u32 each
T_SCTP = 6  # state u8, verification tags u32 of both directions
T_DCCP = 7  # state u8, role u8, handshake sequence number u64
T_SYNPROXY = 8  # isn, its, tsoff: u32 each
T_ZONE = 9  # a zone in one direction only: 1 original, 2 reply; then the zone u16
TAIL_SIZES = {3: 16, 4: 12, 5: 12, 6: 9, 7: 10, 8: 12, 9: 3}


def fixed_size(kind: int) -> int:
    """Return how many bytes a body of this kind has without its tail."""
    one = 18 if kind & IPV6 else 6
    tcp = TCP_SIZE if kind & TCP else 0
    return 7 + tcp + (4 if kind & MARK else 0) + one * (kind & SNAT) + one * (kind >> 1 & 1)


FIXED_SIZE = bytes(fixed_size(kind) for kind in range(256))  # by kind


def _common() -> dict[bytes, tuple[int, int]]:
    sizes = {}
    for family, size in ((4, 16), (6, 40)):
        icmp = IPPROTO_ICMPV6 if family == 6 else IPPROTO_ICMP
        for protocol, bit in ((IPPROTO_TCP, TCP), (IPPROTO_UDP, 0), (icmp, ICMP)):
            for rest in range(16):
                if not rest & TCP:
                    kind = rest | bit | (IPV6 if family == 6 else 0)
                    sizes[bytes((0, 0, family, protocol, kind))] = size, FIXED_SIZE[kind]
    return sizes


_COMMON = _common()  # sizes of key and body, by the first 4 bytes of the key and the kind


def valid(key: bytes, body: bytes) -> bool:
    """Whether key and body fit each other: what comes from a peer is checked once, here."""
    if _COMMON.get(key[:4] + body[:1]) == (len(key), len(body)):
        return (
            not body[1]
            and body[2] & 0xF8 == IPS_CONFIRMED
            and body[3:7] != b"\0\0\0\0"
            and (not body[0] & TCP or (body[7] < 10 and body[8] < 15 and body[9] < 15))
        )
    return _valid(key, body)


def _valid(key: bytes, body: bytes) -> bool:
    if len(key) < 16 or not body:
        return False
    kind, family = body[0], key[2]
    if kind == EXPECTATION:
        size = {4 | EXPECTED: 12, 6 | EXPECTED: 36}.get(family, 0)
        return bool(size) and len(key) == 5 + 2 * size and _expectation_valid(body, size)
    if len(key) != (40 if kind & IPV6 else 16) or family != (6 if kind & IPV6 else 4):
        return False
    protocol = key[3]
    icmp = protocol == (IPPROTO_ICMPV6 if kind & IPV6 else IPPROTO_ICMP)
    if bool(kind & TCP) != (protocol == IPPROTO_TCP) or bool(kind & ICMP) != icmp:
        return False
    if bool(kind & ZONED) != (key[:2] != b"\0\0"):
        return False
    size = FIXED_SIZE[kind]
    if len(body) < size or body[1] & 0xFB or body[2] & 0xF8 != IPS_CONFIRMED:
        return False
    if not any(body[TIMEOUT_AT : TIMEOUT_AT + 4]):
        return False
    if kind & TCP and (body[TCP_AT] > 9 or max(body[TCP_AT + 1 : TCP_AT + 3]) > 14):
        return False
    if not kind & TAIL:
        return len(body) == size and not body[1]
    return _tail_valid(key, body, size)


def _tail_valid(key: bytes, body: bytes, offset: int) -> bool:
    last, end = 0, len(body)
    while offset < end:
        if offset + 2 > end:
            return False
        type_, length = body[offset], body[offset + 1]
        value = body[offset + 2 : offset + 2 + length]
        if type_ <= last or len(value) != length:
            return False
        if type_ == T_MASTER:
            if length != len(key) or value[2] != key[2]:
                return False
        elif type_ == T_HELPER:
            if not 0 < length < 16 or 0 in value:
                return False
        elif TAIL_SIZES.get(type_) != length or (type_ == T_ZONE and value[0] not in (1, 2)):
            return False
        last, offset = type_, offset + 2 + length
    return True


def _expectation_valid(body: bytes, size: int) -> bool:
    names = body[17 + 2 * size :].split(b"\0")
    return len(names) == 3 and not names[2] and max(map(len, names)) < 32


def tail(body: bytes) -> dict[int, bytes]:
    """Return the values of a body's tail by type; none for a body without a tail."""
    if not body[0] & TAIL or body[0] == EXPECTATION:
        return {}
    return dict(_walk_tail(body, FIXED_SIZE[body[0]]))


def _walk_tail(body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 2 <= len(body):
        end = offset + 2 + body[offset + 1]
        yield body[offset], body[offset + 2 : end]
        offset = end


def pack_tail(values: dict[int, bytes]) -> bytes:
    """Return the tail of a body, in the one order that makes equal flows equal bytes."""
    return b"".join(bytes((type_, len(value))) + value for type_, value in sorted(values.items()))


def complete(body: bytes) -> bool:
    """Whether an UPDATE is complete. Otherwise `merge` adds what was known before."""
    return body[0] & (TCP | TAIL) != TCP or body[TCP_AT] != 0


def merge(old: bytes, new: bytes) -> bytes:
    """Return `new`, an UPDATE of the flow of `old`, with the parts of `old` that the event left out.

    The kernel puts the mark, the NAT, the helper and the status into every event; the TCP state, labels,
    sequence adjustments and the master only where they changed. Both bodies are of one key.
    """
    if new[0] == EXPECTATION or old[0] == EXPECTATION:
        return new
    if new[0] & TCP and not new[TCP_AT] and old[0] & TCP:
        new = new[:TCP_AT] + old[TCP_AT : TCP_AT + TCP_SIZE] + new[TCP_AT + TCP_SIZE :]
    if old[0] & TAIL:
        known = tail(old)
        if known:
            size = FIXED_SIZE[new[0]]
            new = bytes((new[0] | TAIL,)) + new[1:size] + pack_tail({**known, **tail(new)})
    return new


_FLOW_OF_TCP = TCP | ICMP  # a flow of TCP has the first bit alone, an expectation has both


def further(ours: bytes, theirs: bytes) -> bool:
    """Whether `ours` is a later stage of a TCP connection than `theirs`; other flows have no stages."""
    if ours[0] & _FLOW_OF_TCP != TCP or theirs[0] & _FLOW_OF_TCP != TCP:
        return False
    return _stage(ours[TCP_AT]) > _stage(theirs[TCP_AT]) > 0


def _stage(state: int) -> int:
    return 1 if state == TCP_SYN_SENT2 else state


def same_flow(old: bytes | None, new: bytes) -> bool:
    """Whether a dump tells the known body of a flow; the timeout, which runs down, does not count."""
    if old is None or old[0] == EXPECTATION or new[0] == EXPECTATION:
        return old is not None and old[:1] + old[5:] == new[:1] + new[5:]
    if old[TIMEOUT_AT + 4 :] == new[TIMEOUT_AT + 4 :] and old[:TIMEOUT_AT] == new[:TIMEOUT_AT]:
        return True
    new = merge(old, new)
    return old[:TIMEOUT_AT] + old[TIMEOUT_AT + 4 :] == new[:TIMEOUT_AT] + new[TIMEOUT_AT + 4 :]
