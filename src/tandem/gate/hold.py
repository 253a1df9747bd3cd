# SPDX-License-Identifier: GPL-2.0-or-later
"""The pure half of the gate: which flow a packet belongs to, how long it is held, what was counted.

Times are ns. The gate's process and the daemon each have their part:

    gate     Hold     packets without a verdict, oldest first; each leaves by `release` or by `expire`
    daemon   Waiting  which of them wait for which position of the stream
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from tandem.core.timers import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Accept = Callable[[], None]

MICROSECOND = 1_000
LATENCIES = 1024  # percentiles are made of the last so many
HELD_MAX = 512  # packets at once; under a flood more would only wait for their timeout
MINUTE = 60 * SECOND

# Ways to leave: a peer has the flow; the timeout is over; no peer had to know; the flow is not replicated;
# too many packets wait, or the peer does not answer.
ACKED, TIMED_OUT, BYPASSED, UNKNOWN, OVERLOAD = range(5)

# whether the gate is on, held, the five ways, lost, limited, waiting now, median, 99th percentile and maximum
# of the latency in µs
FIGURES = Struct("!13Q")

_IPPROTO_ICMP, _IPPROTO_TCP, _IPPROTO_UDP, _IPPROTO_ICMPV6 = 1, 6, 17, 58
_IPV6_HEADERS = {0, 43, 60}  # hop-by-hop, routing, destination options: 8 bytes times (1 + their length)


def reply_tuple(packet: bytes) -> bytes | None:
    """The tuple of a TCP, UDP or ICMP packet, in the form of a key in zone 0; None for another or malformed.

    A packet does not say its zone: flows in others are not found, and pass without being held.

    `packet` begins with the IP header and may be cut off behind the ports, or the ICMP id.
    """
    if len(packet) < 24:
        return None
    if packet[0] >> 4 == 4:
        at, protocol = 4 * (packet[0] & 15), packet[9]
        fragment = packet[6] & 0x1F or packet[7]
        if at < 20 or fragment:
            return None
        return _tuple(packet, at, b"\0\0\4", protocol, packet[12:20], _IPPROTO_ICMP)
    if packet[0] >> 4 != 6 or len(packet) < 44:
        return None
    header, at = packet[6], 40
    while header in _IPV6_HEADERS and at + 2 <= len(packet):
        header, at = packet[at], at + 8 * (1 + packet[at + 1])
    return _tuple(packet, at, b"\0\0\6", header, packet[8:40], _IPPROTO_ICMPV6)


def _tuple(packet: bytes, at: int, family: bytes, protocol: int, addresses: bytes, icmp: int) -> bytes | None:
    if protocol in (_IPPROTO_TCP, _IPPROTO_UDP):
        last = packet[at : at + 4]
    elif protocol == icmp:
        last = packet[at : at + 2] + packet[at + 4 : at + 6]  # type, code, id
    else:
        return None
    return family + bytes((protocol,)) + addresses + last if len(last) == 4 else None


class Hold:
    """Packets that wait for their verdict, each for `timeout` at most. A packet is what accepts it.

    The kernel numbers the packets of the queue. A missing number belongs to a packet that the kernel accepted
    because too many were unread: it counts as lost.
    """

    def __init__(self, timeout: int) -> None:
        self.held = 0
        self.lost = 0
        self.left = [0, 0, 0, 0, 0]  # by the way it left
        self._last = 0  # number
        self._timeout = timeout
        self._packets: dict[int, tuple[int, Accept]] = {}  # by id: since when; the oldest first
        self._latencies: deque[int] = deque(maxlen=LATENCIES)
        self._longest = 0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, number: int, accept: Accept, since: int, now: int) -> int | None:
        """Hold a packet that came at `since`; return the way by which it must leave at once, or None."""
        self.held += 1
        self.lost += (number - self._last - 1) & 0xFFFFFFFF
        self._last = number
        full = len(self._packets) >= HELD_MAX
        self._packets[number] = since, accept
        if since + self._timeout <= now:
            return TIMED_OUT
        return OVERLOAD if full else None

    def release(self, numbers: Iterable[int], way: int, now: int) -> list[Accept]:
        """Release the packets with these numbers that are still held, and return what accepts them."""
        return [
            self._leave(*self._packets.pop(number), way, now) for number in numbers if number in self._packets
        ]

    def release_all(self, way: int, now: int) -> list[Accept]:
        """Release all packets."""
        return self.release(list(self._packets), way, now)

    def expire(self, now: int) -> list[Accept]:
        """Release the packets that were held for `timeout`."""
        due = []
        for number, (since, _) in self._packets.items():
            if since + self._timeout > now:
                break
            due.append(number)
        return self.release(due, TIMED_OUT, now)

    def deadline(self) -> int | None:
        """Return when the oldest packet expires; None: no packet is held."""
        for since, _ in self._packets.values():
            return since + self._timeout
        return None

    def figures(self, on: bool, limited: int) -> bytes:
        """Everything counted, as `read_figures` reads it.

        `on`: whether the rules are installed; `limited`: packets that they accepted because of the rate
        limit.
        """
        known = sorted(self._latencies)
        middle = known[len(known) // 2] if known else 0
        high = known[len(known) * 99 // 100] if known else 0
        times = (value // MICROSECOND for value in (middle, high, self._longest))
        counted = (self.held, *self.left, self.lost, limited)
        return FIGURES.pack(on, *counted, len(self._packets), *times)

    def _leave(self, since: int, accept: Accept, way: int, now: int) -> Accept:
        self.left[way] += 1
        if way in (ACKED, TIMED_OUT):
            self._latencies.append(now - since)
            self._longest = max(self._longest, now - since)
        return accept


def read_figures(packed: bytes) -> dict[str, int | dict[str, int]]:
    """The counters of `Hold`, for status."""
    on, held, acked, timed_out, bypassed, unknown, overload, lost, limited, waiting, *times = FIGURES.unpack(
        packed
    )
    return {
        "on": on,
        "held": held,
        "acked": acked,
        "timed_out": timed_out,
        "bypassed": bypassed,
        "unknown": unknown,
        "overload": overload,
        "lost": lost,
        "limited": limited,
        "waiting": waiting,
        "latency_us": dict(zip(("p50", "p99", "max"), times, strict=True)),
    }


def unkept(figures: dict[str, Any]) -> int:
    """Return how many connections were answered before a peer knew them, though one was in step."""
    return sum(int(figures[name]) for name in ("timed_out", "overload", "lost", "limited"))


class Unkept:
    """Counts the connections for which the guarantee was not kept lately."""

    def __init__(self) -> None:
        self._total = 0
        self._found: deque[tuple[int, int]] = deque(maxlen=64)  # when, and how many; one a second

    def judge(self, total: int, now: int) -> int:
        """Take a new total; return how many were added since the last one."""
        more, self._total = total - self._total, total
        if more > 0:
            self._found.append((now, more))
        return max(0, more)

    def lately(self, now: int) -> int:
        """Return how many there were within the last minute."""
        return sum(number for when, number in self._found if now - when < MINUTE)


class Waiting:
    """The packets that wait, each until a peer has acknowledged a position.

    A peer that is in step but does not answer would cost every connection the timeout. Once a packet has
    waited for so long, `stalled` is true until an acknowledgement reaches its position.
    """

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._batches: deque[tuple[int, int, bytes]] = deque()  # position, since, ids as the gate packs them

    def add(self, position: int, ids: bytes, now: int) -> None:
        """Let packets wait for a position, which is not lower than any before."""
        if self.stalled(now):  # they do not wait, but what ends the stall is still to come
            ids = b""
            if len(self._batches) > 1 and not self._batches[-1][2]:
                self._batches.pop()
        self._batches.append((position, now, ids))

    def stalled(self, now: int) -> bool:
        """Whether the oldest packets have waited for longer than the timeout."""
        return bool(self._batches) and self._batches[0][1] + self._timeout < now

    def acked(self, position: int) -> bytes:
        """Return the ids of the packets whose position is reached."""
        done = []
        while self._batches and self._batches[0][0] <= position:
            done.append(self._batches.popleft()[2])
        return b"".join(done)

    def clear(self) -> bytes:
        """Return the ids of all packets: no peer is left to wait for."""
        done = b"".join(batch[2] for batch in self._batches)
        self._batches.clear()
        return done
