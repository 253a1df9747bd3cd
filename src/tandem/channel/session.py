# SPDX-License-Identifier: GPL-2.0-or-later
"""The peer protocol as a machine without sockets: bytes and the time in, bytes and events out.

    initiator                           responder
    ---------                           ---------
    hello                  ->
                           <-           hello
    AUTH                   ->                        proves that it knows the secret
                           <-           AUTH
    OPEN                   ->                        when this connection is to be the session
    both: STREAM, RECORDS, BULK_BEGIN, BULK_END, DIGEST, RESYNC, ACK, HEARTBEAT, TOPIC, GOODBYE

The responder says nothing before it has seen a hello that it can work with, and proves nothing to
an initiator that has not proved itself; an end that fails learns nothing but that the connection is
closed. The one exception is a hello of another version, which is answered by a hello, so that
both routers can say in their logs what is wrong.

After `receive_data`, `handle_timer`, `push` or any other call, the caller sends `data_to_send`
until it is empty as soon as `output_at` has come, but once in a turn, and calls `handle_timer` at
`next_deadline`. Nothing is encoded before the socket takes it, so that a slow peer costs no more
than the queue of `stream.Outgoing`. All times are ns.
"""

from __future__ import annotations

from struct import Struct

from tandem.channel.events import (
    Acked,
    Authenticated,
    Closed,
    Event,
    HeldInStep,
    HeldOutOfStep,
    Message,
    Opened,
    PeerHandedOver,
    PeerInStep,
    PeerOutOfStep,
    PeerStream,
)
from tandem.channel.frames import (
    ACK,
    ACK_NOW,
    AUTH,
    BULK,
    BULK_BEGIN,
    BULK_END,
    DIGEST,
    GOODBYE,
    HANDED_OVER,
    HEAD,
    HEARTBEAT,
    HELLO_MAX,
    LATER,
    MAC_SIZE,
    NO_CONNECTIONS,
    NONCE_SIZE,
    OPEN,
    RECORDS,
    RESYNC,
    STREAM,
    TOPIC,
    TOPICS,
    Hello,
    ProtocolError,
    Seal,
    decode_hello,
    unpack,
)
from tandem.channel.handshake import (
    ACCEPTS,
    ANSWERED,
    CALLED,
    ENDS,
    FAILS,
    LARGEST,
    OPENED_BY_PEER,
    OPENS,
    PROVED,
    PROVED_TOO,
    SAY_GOODBYE,
    SEND_AUTH,
    SEND_HELLO,
    SEND_OPEN,
    TABLE,
    TELL_AUTHENTICATED,
    TELL_OPENED,
    State,
    own_hello,
    seals,
)
from tandem.channel.incoming import Incoming, NoTable
from tandem.channel.lag import Lag
from tandem.channel.pulse import Pulse
from tandem.channel.stream import Outgoing
from tandem.channel.topics import Outbox, unpack_message
from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Sequence

    from tandem.channel.incoming import Store
    from tandem.channel.settings import Settings
    from tandem.channel.stream import Source
    from tandem.conntrack.record import Record

HANDSHAKE_TIMEOUT = 5_000 * MILLISECOND
BATCH_DELAY = MILLISECOND // 5  # between two batches of deltas; they come in batches as it is
BATCH_BYTES = 64 * 1024  # of queue, at which they do not wait
TURN_BYTES = 32 * 1024  # to read or write in a turn of the loop: up to 1000 records, 1.5 ms with their table
ACK_DELAY = SECOND  # the answer to a heartbeat comes by then; who waits asks for it at once (ACK_NOW)

# Why an end says goodbye, and why it asks for a bulk; an unknown number comes from a later version.
GOODBYES = ("stopped", "duplicate", "malformed", "unexpected", "stalled", "reconfigured")
RESYNCS = ("basis", "digest", "asked")

HELLO, PROOF, READY, OPENED, CLOSED = State
_IN_SESSION = ACCEPTS[OPENED]
_UNPROVED_MAX = HELLO_MAX + HEAD.size + MAC_SIZE  # bytes from a peer that has proved nothing

_NUMBER = Struct("!I")
_CODE = Struct("!B")
_ACK = Struct("!QII")  # position, generation that is held in step, number of the last heartbeat


class Session:
    """One connection between two routers, from its first byte to its last.

    `nonce` is NONCE_SIZE random bytes, never used before. `tables`: our own table, and the one that holds the
    peer's; the session reads the first and applies to the second by itself. None: no connections are
    replicated. The peer is told so; if it streams all the same, it is never told that we hold its table.
    """

    def __init__(
        self,
        initiator: bool,
        settings: Settings,
        nonce: bytes,
        tables: tuple[Source, Store] | None,
        now: int,
    ) -> None:
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
        self.state = HELLO
        self.initiator = initiator
        self.peer: Hello | None = None  # believe it once the state is READY
        self.closed: Closed | None = None
        source, store = tables or (NoTable(), NoTable())
        self.outgoing = Outgoing(source, settings.queue_limit, settings.digest_interval)
        self.incoming = Incoming(store, keeps=tables is not None)
        self.replicates = tables is not None  # and so does the peer
        self.outbox = Outbox()  # of messages about other topics
        self.resyncs: dict[str, int] = {}  # that the peer asked us for, and by overflow
        self.bytes_in = self.bytes_out = 0
        self.pulse = Pulse(settings.heartbeat, settings.stall_timeout, now)
        self.lag = Lag(now)
        self._settings = settings
        self._hello = own_hello(settings, nonce, self.replicates)
        self._raw = self._hello if initiator else b""  # to send before all else
        self._control: list[tuple[int, int, bytes]] = []  # frames; each kind at most once
        self._seal: Seal | None = None
        self._check: Seal | None = None
        self._buffer = bytearray()
        self._need = 1  # bytes that the next frame takes, as far as is known
        self._started = now
        self._later = False  # the peer has said so of its records
        self._ack_at: int | None = None
        self.deltas_at: int | None = None  # when deltas have waited long enough
        self._sent_at = now  # when deltas were last sent

    # Requests of the caller

    @property
    def may_wait(self) -> bool:
        """Whether what comes next may be read later: nobody waits for the acknowledgement."""
        incoming = self.incoming
        return self._later and incoming.on and incoming.in_step and not incoming.in_bulk

    @property
    def read_size(self) -> int:
        """How many bytes to read at most before the next `receive_data`."""
        return TURN_BYTES if self.state is OPENED else _UNPROVED_MAX - len(self._buffer)

    def knows(self, secrets: dict[int, bytes]) -> bool:
        """Whether these include every secret that this connection uses, or may still use."""
        if self._settings.insecure:
            return True
        used = set(self._settings.secrets)
        if self.peer is not None:
            used = {self._settings.key_id, self.peer.key_id}
        return all(secrets.get(number) == self._settings.secrets[number] for number in used)

    def open(self, now: int) -> list[Event]:
        """The initiator makes this connection the session; after `Authenticated`."""
        return self._go(OPENS, now) if self.state is READY and self.initiator else []

    def stream_on(self, position: int, now: int, adopt: bool = False) -> None:
        """Stream our table from here on.

        `position` counts all records pushed so far. With `adopt` our table begins as what we hold of
        the peer's at this moment, and the peer gets a bulk only where it disagrees.
        """
        if self.state is OPENED and self.replicates and not self.outgoing.wanted:
            basis = self.incoming.position if adopt and self.incoming.in_step else None
            self.outgoing.start(position, basis, now)

    def stream_off(self) -> None:
        """Stream no more; what was pushed still goes out. Our table must stay as it is for an adoption."""
        self.outgoing.stop()

    def push(
        self, records: Sequence[Record], position: int, now: int, urgent: bool = False, later: bool = False
    ) -> list[Event]:
        """Send changes of our table, made before this call; `position` is that of the last record.

        `urgent`: somebody waits for the acknowledgement; `later`: nobody does, nor will for what follows.
        While we do not stream, nothing happens.
        """
        outgoing = self.outgoing
        if not outgoing.wanted or not records:
            return []
        outgoing.later = later
        was = outgoing.in_step
        if not outgoing.push(records, position, urgent):
            self._count("overflow")
            self.lag.lost()
            return [PeerOutOfStep("overflow")] if was else []
        if self.deltas_at is None:
            self.deltas_at = max(now, self._sent_at + BATCH_DELAY)
        if urgent or outgoing.queued >= BATCH_BYTES:
            self.deltas_at = now
        if was:
            self.lag.pushed(position, now)
        return []

    def hand_over(self) -> None:
        """A group was given up, and our stream goes on: tell the peer when it has the last of it."""
        self.outgoing.hand_over()

    def request_bulk(self) -> list[Event]:
        """Ask the peer for its whole table."""
        return self._request("asked") if self.state is OPENED and self.incoming.on else []

    def send(self, topic: str, data: bytes) -> bool:
        """Send a message; False when it will not go: no session, a peer that takes none, a full outbox."""
        takes = self.peer is not None and self.peer.capabilities & TOPICS
        return self.state is OPENED and bool(takes) and self.outbox.add(topic, data)

    def repeat(self, reason: str) -> list[Event]:
        """Send the peer our whole table once more: it has changed in ways that were not pushed."""
        outgoing = self.outgoing
        was = outgoing.in_step
        outgoing.repeat()
        self._count(reason)
        return [PeerOutOfStep(reason)] if was else []

    def close(self, reason: str = "stopped") -> list[Event]:
        """End it; a peer that has proved itself is told one of GOODBYES. Then send `data_to_send`."""
        return self._close(reason, "", tell=True)

    # The network

    def receive_data(self, data: bytes, now: int) -> list[Event]:
        """Take what arrived. After `Closed`, nothing is taken any more.

        What follows on `Opened` waits for the next call, which may be one with b"".
        """
        if self.state is CLOSED:
            return []
        self.bytes_in += len(data)
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        events: list[Event] = []
        view = memoryview(data)
        start = 0
        try:
            while self.state is not CLOSED and (size := self._take(data, view, start, now, events)):
                start += size
                if events and isinstance(events[-1], Opened):
                    self._need = 0  # the caller may not want it
                    break
                if start == len(data):
                    return events
        except ProtocolError as error:
            # Whoever can make MACs is our peer and is told; nobody else is.
            tell = error.reason in GOODBYES
            events += self._close(error.reason, str(error), tell)
        if self.state is not CLOSED:
            self._buffer += view[start:]
        return events

    def receive_eof(self) -> list[Event]:
        """The peer closed the connection."""
        reason = "eof" if self.state is OPENED else "refused"
        return self._close(reason, f"the peer closed the connection (state {self.state})", tell=False)

    def data_to_send(self, now: int, limit: int = TURN_BYTES) -> bytes:
        """Up to about `limit` bytes for the socket; b"" when there is nothing to send now."""
        data, self._raw = self._raw, b""
        if (seal := self._seal) is not None:
            frames, self._control = self._control, []
            if self.state is OPENED:
                frames += self._frames(limit, now)
            if len(frames) == 1 and not data:  # as mostly
                data = seal.make(*frames[0])
            else:
                data = b"".join([data, *(seal.make(*frame) for frame in frames)])
        self.bytes_out += len(data)
        return data

    # The time

    @property
    def output_at(self) -> int | None:
        """When `data_to_send` should be called at the latest; 0: at once, None: there is nothing."""
        if self._raw or (self._control and self._seal is not None):
            return 0
        if self.state is not OPENED:
            return None
        if self.pulse.due or self.outbox.waiting:
            return 0
        outgoing, acknowledge, deltas = self.outgoing, self._ack_at, self.deltas_at
        due = outgoing.deadline() if outgoing.on or outgoing.wanted else None
        # Not `earliest`: this runs for every segment.
        if acknowledge is not None and (due is None or acknowledge < due):
            due = acknowledge
        return deltas if deltas is not None and (due is None or deltas < due) else due

    def next_deadline(self) -> int | None:
        """When `handle_timer` must be called; None: never."""
        if self.state is CLOSED:
            return None
        if self.state is not OPENED:
            return self._started + HANDSHAKE_TIMEOUT
        return self.pulse.deadline()

    def handle_timer(self, now: int) -> list[Event]:
        """Do what is due."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        if self.state is not OPENED:
            return self._close("handshake_timeout", "the handshake took too long", tell=False)
        if (verdict := self.pulse.judge(now)) is not None:
            return self._close(*verdict, tell=verdict[0] == "stalled")
        self.pulse.tick(now)
        return []

    # Sending

    def _frames(self, limit: int, now: int) -> list[tuple[int, int, bytes]]:
        frames: list[tuple[int, int, bytes]] = []
        pulse = self.pulse
        if pulse.due:
            pulse.due = False
            frames.append((HEARTBEAT, 0, _NUMBER.pack(pulse.number)))
        if self._ack_at is not None:
            self._ack_at = None
            incoming = self.incoming
            held = incoming.generation if incoming.in_step else 0
            frames.append((ACK, 0, _ACK.pack(incoming.position, held, pulse.seen)))
        if self.outbox.waiting:  # one a turn: connections come first
            frames.append((TOPIC, 0, self.outbox.take()))
        if self.deltas_at is not None:
            self._sent_at = now
        frames += self.outgoing.frames(limit, now)
        if not self.outgoing.waiting:
            self.deltas_at = None
            if self.lag.measures and frames and frames[-1][0] == RECORDS and not frames[-1][1] & BULK:
                kind, flags, payload = frames[-1]
                frames[-1] = kind, flags | ACK_NOW, payload  # measured without the peer's delay
        return frames

    # Receiving

    def _take(self, data: bytes, view: memoryview, start: int, now: int, events: list[Event]) -> int:
        """Take one hello or frame at `start`; how many bytes it had, 0 when it is not complete."""
        if self.state is HELLO:
            return self._take_hello(data, now)
        left = len(data) - start
        if left < HEAD.size:
            self._need = HEAD.size
            return 0
        length, kind, flags = HEAD.unpack_from(data, start)
        opened = self.state is OPENED
        if not opened and length > LARGEST[self.state]:
            raise ProtocolError("frame_size", f"a frame of {length} bytes in state {self.state}")
        size: int = HEAD.size + length + MAC_SIZE
        if left < size:
            self._need = size
            return 0
        assert self._check is not None
        if not self._check.check(view[start : start + size]):
            if self.state is PROOF:
                raise ProtocolError("authentication", "the peer does not know the secret")
            raise ProtocolError("mac", "a frame was changed, lost or repeated on the way")
        self.pulse.heard = now
        if kind not in (_IN_SESSION if opened else ACCEPTS[self.state]):
            raise ProtocolError("unexpected", f"a frame of type {kind} in state {self.state}")
        self._handle(kind, flags, view[start + HEAD.size : start + HEAD.size + length], now, events)
        return size

    def _take_hello(self, data: bytes, now: int) -> int:
        if len(data) > _UNPROVED_MAX:
            raise ProtocolError("hello", "too much data before the proof")
        try:
            found = decode_hello(data)
        except ProtocolError as error:
            if error.reason == "version" and not self.initiator:
                self._raw = self._hello
            raise
        if found is None:
            self._need = 1
            return 0
        peer, size = found
        self._seal, self._check = seals(self._hello, data[:size], peer, self._settings, self.initiator)
        self.peer = peer
        self.replicates &= not peer.capabilities & NO_CONNECTIONS
        self.pulse.met(peer.heartbeat_ms, now)
        self._go(ANSWERED if self.initiator else CALLED, now)
        return size

    def _handle(self, kind: int, flags: int, payload: memoryview, now: int, events: list[Event]) -> None:
        incoming = self.incoming
        if kind == RECORDS:
            incoming.apply(flags, payload, now)
            self._later = bool(flags & LATER)
            self._ack_by(now if flags & ACK_NOW else now + ACK_DELAY)
        elif kind == ACK:
            self._acknowledged(payload, now, events)
        elif kind == HEARTBEAT:
            self._ack_by(now)
            self.pulse.beaten(unpack(_NUMBER, payload)[0], now)
        elif kind == STREAM:
            reason = incoming.stream(payload, self.outgoing.ended_at())
            events.append(PeerStream(incoming.on, incoming.in_step and not incoming.on))
            self._held(reason, now, events, adopted=True)
        elif kind == BULK_BEGIN:
            incoming.begin_bulk(payload)
        elif kind == BULK_END:
            self._held(incoming.end_bulk(payload, now), now, events)
        elif kind == DIGEST:
            if (reason := incoming.compare(payload, now)) is not None:
                self._held(reason, now, events)
            if flags & HANDED_OVER:
                events.append(PeerHandedOver())
        elif kind == RESYNC:
            self._asked(payload, events)
        elif kind == TOPIC:
            events.append(Message(*unpack_message(payload)))
        elif kind == GOODBYE:
            word = _word(GOODBYES, payload)
            events += self._close(f"peer_{word}", f"the peer said goodbye: {word}", tell=False)
        elif kind == AUTH:
            events += self._go(PROVED_TOO if self.initiator else PROVED, now)
        elif kind == OPEN:
            if self.initiator:
                raise ProtocolError("unexpected", "only the initiator opens")
            events += self._go(OPENED_BY_PEER, now)

    def _held(self, reason: str | None, now: int, events: list[Event], adopted: bool = False) -> None:
        self._ack_by(now)
        if reason is not None:
            events += self._request(reason)
        elif self.incoming.on and self.incoming.in_step:
            events.append(HeldInStep(adopted))

    def _request(self, reason: str) -> list[Event]:
        self.incoming.in_step = False
        frame = (RESYNC, 0, _CODE.pack(RESYNCS.index(reason)))
        if not any(kind == RESYNC for kind, _, _ in self._control):
            self._control.append(frame)
        return [HeldOutOfStep(reason)]

    def _asked(self, payload: memoryview, events: list[Event]) -> None:
        reason = _word(RESYNCS, payload)
        was = self.outgoing.in_step
        self.outgoing.resync()
        self._count(reason)
        if was:
            events.append(PeerOutOfStep(reason))

    def _ack_by(self, when: int) -> None:
        self._ack_at = when if self._ack_at is None else min(self._ack_at, when)

    def _acknowledged(self, payload: memoryview, now: int, events: list[Event]) -> None:
        position, held, heartbeat = unpack(_ACK, payload)
        outgoing = self.outgoing
        was, acked = outgoing.in_step, outgoing.acked
        outgoing.acknowledged(position, held)
        self.pulse.acked(heartbeat, now)
        if outgoing.in_step and not was:
            events.append(PeerInStep())
        if outgoing.acked > acked:
            events.append(Acked(outgoing.acked))
        if self.lag.measures:
            self.lag.acked(outgoing.acked, now)

    # The life

    def _go(self, event: str, now: int, goodbye: str = "") -> list[Event]:
        """Go on to the next state, see handshake.py."""
        self.state, actions = TABLE[self.state, event]
        events: list[Event] = []
        for action in actions:
            if action == SEND_HELLO:
                self._raw = self._hello
            elif action == SEND_AUTH:
                self._control.append((AUTH, 0, b""))
            elif action == SEND_OPEN:
                self._control.append((OPEN, 0, b""))
            elif action == SAY_GOODBYE:
                self._control.append((GOODBYE, 0, _CODE.pack(GOODBYES.index(goodbye))))
            elif action == TELL_AUTHENTICATED:
                assert self.peer is not None  # its hello came first
                events.append(Authenticated(self.peer))
            elif action == TELL_OPENED:
                self.pulse.begin(now)
                events.append(Opened())
        return events

    def _close(self, reason: str, detail: str, tell: bool) -> list[Event]:
        if self.state is CLOSED:
            return []
        self.incoming.abort()
        self.closed = Closed(reason, detail)
        self._control = [frame for frame in self._control if frame[0] == AUTH]  # a goodbye comes after it
        self._buffer.clear()
        self._ack_at = self.deltas_at = None
        self._go(ENDS if tell and reason in GOODBYES else FAILS, self.pulse.heard, reason)
        return [self.closed]

    def _count(self, reason: str) -> None:
        self.resyncs[reason] = self.resyncs.get(reason, 0) + 1


def _word(words: tuple[str, ...], payload: memoryview) -> str:
    (code,) = unpack(_CODE, payload)
    return words[code] if code < len(words) else "other"
