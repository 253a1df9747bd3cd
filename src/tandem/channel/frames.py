# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of the peer protocol: the hello, sealed frames, and records packed by shape.

A connection begins with one hello from each end, in the clear. Everything after is frames:

    length u16 | type u8 | flags u8 | payload (length bytes) | MAC (16 bytes)

The MAC is keyed BLAKE2b over header and payload, with the frame's sequence number as salt, so
that a frame which is lost, repeated or moved fails its check. Keys are made anew for every
connection and direction from the shared secret and both hellos, which carry fresh nonces: what
was recorded on another connection, or is sent back to where it came from, fails as well.
Nothing is encrypted. All numbers are in network byte order.

Records in a frame stand in runs of one shape (lengths of key and body), so that `struct` takes
a run apart in one call: 0.2 µs a record.
"""

from __future__ import annotations

from _operator import _compare_digest as same  # what hmac.compare_digest is; hmac costs 4 MiB
from dataclasses import dataclass
from struct import Struct, iter_unpack
from struct import error as StructError

from tandem.limits import SECRET_MAX, SECRET_MIN

try:  # hashlib would load OpenSSL: 4 MiB; this is 70 KiB
    from _blake2 import blake2b
except ImportError:  # CPython was built without its own hashes
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Mapping, Sequence

    from tandem.conntrack.record import Record

Digest = tuple[int, bytes]
"""Number of entries, and at most `DIGEST_MAX` bytes that stand for what they are."""

MAGIC = b"TNDM"
VERSIONS = (1, 1)  # lowest and highest that this code speaks
NODE_SIZE = 8
NONCE_SIZE = 16
MAC_SIZE = 16
HELLO_MAX = 128  # bytes, all included
ROUTER_ID_MAX = 32  # bytes in a hello; a longer one is cut
PAYLOAD_MAX = 0xFFFF
KEY_MAX, BODY_MAX, RECORDS_MAX = 96, 1024, 1024  # bytes, bytes, records in a frame
DIGEST_MAX = 32

# Frame types
AUTH, OPEN, HEARTBEAT, ACK, STREAM, RECORDS = range(1, 7)
BULK_BEGIN, BULK_END, DIGEST, RESYNC, GOODBYE, TOPIC = range(7, 13)
# Flags of RECORDS
BULK, ACK_NOW = 1, 2
LATER = 4  # nobody waits for the acknowledgement of these, nor of those that follow: read them later
# Flag of DIGEST
HANDED_OVER = 1  # the peer has given a group up, and has told the last of it
# Capabilities in a hello
TOPICS = 1  # takes TOPIC frames
NO_CONNECTIONS = 2  # does not replicate connections; releases that know no capability 2 all do
UPGRADES = 4  # obeys the orders of `tandem upgrade`
HEARTBEATS = 8  # sends and takes heartbeats, see heartbeat.py

HEAD = Struct("!HBB")  # length of the payload, type, flags
_PREFIX = Struct("!4sBBH")  # magic, lowest and highest version, bytes that follow
# Node, nonce, key id, flags, word size, heartbeat (ms), capabilities, length of router_id, which follows.
_HELLO = Struct("!8s16sBBBHIB")
_INSECURE, _LITTLE_ENDIAN = 1, 2
_RUN = Struct("!BHH")  # length of each key, of each body, number of records
_DIGEST = Struct("!IB")  # entries, length of the digest, which follows; length 0: not known
_OP = [bytes((op,)) for op in range(256)]


class ProtocolError(Exception):
    """The peer sent something that is not accepted; `reason` is a short word to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Hello:
    """How an end introduces itself. Word size and byte order are for people: the data know neither."""

    node: bytes  # NODE_SIZE random bytes, new whenever the daemon starts
    nonce: bytes  # NONCE_SIZE random bytes, new for every connection
    key_id: int  # of the secret that this end sends with; 0: none
    router_id: str = ""
    insecure: bool = False
    heartbeat_ms: int = 1000
    word_size: int = 64
    little_endian: bool = True
    capabilities: int = 0
    versions: tuple[int, int] = VERSIONS

    def encode(self) -> bytes:
        """The hello as it goes on the wire; a long router_id is cut."""
        name = self.router_id.encode()[:ROUTER_ID_MAX]
        flags = _INSECURE * self.insecure | _LITTLE_ENDIAN * self.little_endian
        ours = self.node, self.nonce, self.key_id, flags, self.word_size
        rest = _HELLO.pack(*ours, self.heartbeat_ms, self.capabilities, len(name))
        return _PREFIX.pack(MAGIC, *self.versions, len(rest) + len(name)) + rest + name


def decode_hello(data: bytes) -> tuple[Hello, int] | None:
    """The hello at the start of `data` and its length; None while more is needed.

    What a later version appends is left alone. ProtocolError: `magic`, `version` or `hello`.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise ProtocolError("magic", "the peer does not speak this protocol")
    if len(data) < _PREFIX.size:
        return None
    _, lowest, highest, length = _PREFIX.unpack_from(data)
    size = _PREFIX.size + length
    if lowest > VERSIONS[1] or highest < VERSIONS[0]:
        ours = "{}..{}".format(*VERSIONS)
        raise ProtocolError("version", f"the peer speaks versions {lowest}..{highest}, this router {ours}")
    if not _HELLO.size <= length <= HELLO_MAX - _PREFIX.size:
        raise ProtocolError("hello", f"a hello of {length} bytes")
    if len(data) < size:
        return None
    fields = _HELLO.unpack_from(data, _PREFIX.size)
    node, nonce, key_id, flags, word_size, heartbeat_ms, capabilities, name = fields
    start = _PREFIX.size + _HELLO.size
    if start + name > size or not heartbeat_ms:
        raise ProtocolError("hello", "a malformed hello")
    return Hello(
        node,
        nonce,
        key_id,
        data[start : start + name].decode(errors="replace"),
        bool(flags & _INSECURE),
        heartbeat_ms,
        word_size,
        bool(flags & _LITTLE_ENDIAN),
        capabilities,
        (lowest, highest),
    ), size


def check_secrets(secrets: Mapping[int, bytes], key_id: int, insecure: bool) -> None:
    """ValueError with a sentence unless these can protect a session, or none is wanted."""
    if insecure:
        if secrets:
            raise ValueError("a secret and insecure contradict each other")
        return
    if not secrets:
        raise ValueError("no secret is configured")
    if key_id not in secrets:
        raise ValueError(f"there is no secret with key id {key_id}")
    for number, secret in secrets.items():
        if not 1 <= number <= 255:
            raise ValueError(f"the key id {number} is not in 1..255")
        if not SECRET_MIN <= len(secret) <= SECRET_MAX:
            raise ValueError(f"the secret {number} does not have {SECRET_MIN} to {SECRET_MAX} bytes")


class Seal:
    """Makes and checks the MACs of one direction of one connection; counts its frames.

    The `secret` is b"" in an insecure session: the MACs then find corruption and confusion, but
    anyone can make them.
    """

    __slots__ = ("_key", "sequence")

    def __init__(self, secret: bytes, by_initiator: bool, hellos: bytes) -> None:
        direction = b"tandem initiator" if by_initiator else b"tandem responder"
        self._key = blake2b(hellos, key=secret, person=direction, digest_size=32).digest()
        self.sequence = 0

    def mac(self, frame: bytes | memoryview) -> bytes:
        """The MAC of the next frame."""
        salt = self.sequence.to_bytes(16, "big")
        self.sequence += 1
        return blake2b(frame, key=self._key, salt=salt, digest_size=MAC_SIZE).digest()

    def make(self, kind: int, flags: int, payload: bytes) -> bytes:
        """The next frame, whole."""
        frame = HEAD.pack(len(payload), kind, flags) + payload
        return frame + self.mac(frame)

    def check(self, frame: memoryview) -> bool:
        """Whether `frame`, whole, is the peer's next one."""
        return same(frame[-MAC_SIZE:], self.mac(frame[:-MAC_SIZE]))


def pack_records(records: Sequence[Record]) -> list[bytes]:
    """Payloads that hold `records`, usually one; the order of different keys may change.

    No key may come twice; ValueError for a record beyond KEY_MAX and BODY_MAX.
    """
    if len(records) == 1:  # as mostly
        [(op, key, body)] = records
        if 1 <= len(key) <= KEY_MAX and len(body) <= BODY_MAX:
            return [_RUN.pack(len(key), len(body), 1) + _OP[op] + key + body]
    shapes: dict[int, list[bytes]] = {}
    for op, key, body in records:
        shape = len(key) << 16 | len(body)
        parts = shapes.get(shape)
        if parts is None:
            parts = shapes[shape] = []
        parts += _OP[op], key, body
    payload = []
    for shape, parts in shapes.items():
        key_size, body_size = shape >> 16, shape & 0xFFFF
        if not 1 <= key_size <= KEY_MAX or body_size > BODY_MAX:
            raise ValueError(f"a record with a key of {key_size} and a body of {body_size} bytes")
        payload.append(_RUN.pack(key_size, body_size, len(parts) // 3))
        payload += parts
    packed = b"".join(payload)
    if len(records) > RECORDS_MAX or len(packed) > PAYLOAD_MAX - 8:
        half = len(records) // 2
        return pack_records(records[:half]) + pack_records(records[half:])
    return [packed]


def unpack_records(payload: memoryview) -> list[Record]:
    """The records of a payload. ProtocolError `malformed`."""
    records: list[Record] = []
    start, size, count = 0, len(payload), 0
    while start < size:
        if start + _RUN.size > size:
            raise ProtocolError("malformed", "records are cut off")
        key_size, body_size, number = _RUN.unpack_from(payload, start)
        start += _RUN.size
        end = start + number * (1 + key_size + body_size)
        count += number
        if (
            not (1 <= key_size <= KEY_MAX and body_size <= BODY_MAX and end <= size and number)
            or count > RECORDS_MAX
        ):
            raise ProtocolError("malformed", "a run of records beyond its limits")
        records += iter_unpack(f"!B{key_size}s{body_size}s", payload[start:end])
        start = end
    return records


def pack_digest(digest: Digest | None) -> bytes:
    """A digest, or that none is known."""
    count, value = digest or (0, b"")
    return _DIGEST.pack(count, len(value)) + value


def unpack_digest(payload: memoryview) -> Digest | None:
    """The digest at the end of a payload. ProtocolError `malformed`."""
    count, length = unpack(_DIGEST, payload[: _DIGEST.size])
    value = bytes(payload[_DIGEST.size :])
    if len(value) != length or length > DIGEST_MAX:
        raise ProtocolError("malformed", "a digest of the wrong length")
    return (count, value) if length else None


def unpack(layout: Struct, payload: memoryview) -> tuple[int, ...]:
    """The numbers of a payload. ProtocolError `malformed` unless it has just this layout."""
    try:
        return layout.unpack(payload)
    except StructError:
        raise ProtocolError("malformed", f"a payload of {len(payload)} bytes") from None
