# SPDX-License-Identifier: GPL-2.0-or-later
"""Reception: reads the adverts of one interface and one family, within budgets.

Reading an advert costs 70 to 85 us at real-time priority, and any host on the LAN can send adverts. There are
therefore two sockets, and a filter in the kernel decides which one gets a packet:

    known    hop limit, version and virtual router id are right, and the source is a router that we know
    others   all other packets: junk, routers that we do not know, virtual routers that are not ours

Packets in `known` are read at once. Anybody can send in the name of a router that we know, though: when the
budget of `known` is used up, packets that were accepted before are still accepted. This costs little, and no
junk hides the active router's adverts. `others` has a small buffer and a small budget: in ordinary times its
packets are read at once as well. In a flood a sample of them is read, and the rest is only counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.core.budget import Budget
from tandem.core.packet import HOP_LIMIT
from tandem.core.timers import SECOND
from tandem.effects import bpf
from tandem.effects.vrrp_socket import VrrpSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

    Packets = Callable[[VrrpSocket, int, bool, bool], int]
    """Reads up to so many packets of a socket and returns how many there were. The third argument says that
    the socket is flooded, the last one that only packets count which were accepted before."""

OTHERS_BUFFER = 32 * 1024  # bytes; the kernel doubles it, which is enough for about 80 adverts
PACKETS_A_TURN = 64
_PAUSE = 100_000_000  # ns without reading, at least, when a budget is used up
_GLANCE = 10_000_000  # ns between two looks for what was accepted before, meanwhile
_OTHERS_RATE = 100  # packets a second
_KNOWN_RATE = 200  # besides those that are expected
_MARGIN = 12  # times the expected rate: an active router may be up to ten times as fast as we are
_ANYBODY_RATE = 5000  # while no router is known: the active one must be heard


@dataclass(frozen=True, slots=True)
class Wanted:
    """The adverts that the virtual routers of one interface and family want to hear."""

    virtual_routers: frozenset[tuple[int, int]]  # version and virtual router id
    min_hop_limit: int  # of unicast adverts
    sources: frozenset[bytes] | None  # packed addresses of known routers; None: nobody is known yet
    rate: int  # adverts a second that are expected


class Reception:
    """The two sockets of an interface, in the loop until `close`."""

    def __init__(self, loop: Loop, known: VrrpSocket, others: VrrpSocket, packets: Packets) -> None:
        self.known = known
        self._others: VrrpSocket | None = others
        self._loop = loop
        self._packets = packets
        self._wanted: Wanted | None = None
        self._flooded = -SECOND  # when a budget was used up last
        self._budgets = {known: _budget(_ANYBODY_RATE), others: _budget(_OTHERS_RATE)}
        for sock in (known, others):
            self._resume(sock)

    def want(self, wanted: Wanted) -> None:
        """Divide the packets in this way. OSError: the kernel refuses the filter, `known` gets them all."""
        if wanted == self._wanted or self._others is None:
            return
        self._wanted = wanted
        try:
            # A packet that comes between these two is read twice or not at all: either does no harm.
            self._others.filter(program(self.known.family, wanted, known=False))
            self.known.filter(program(self.known.family, wanted, known=True))
        except OSError:
            self._end(self._others)
            self._others = None
            raise
        rate = _ANYBODY_RATE if wanted.sources is None else _KNOWN_RATE + _MARGIN * wanted.rate
        self._budgets[self.known] = _budget(rate)

    def close(self) -> None:
        """Close both sockets."""
        self._end(self.known)
        if self._others is not None:
            self._end(self._others)

    def _end(self, sock: VrrpSocket) -> None:
        self._loop.call_at(("adverts", sock.fileno()), None)
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def _resume(self, sock: VrrpSocket) -> None:
        self._loop.add_reader(sock.fileno(), lambda: self._read(sock))

    def _read(self, sock: VrrpSocket) -> None:
        budget, now = self._budgets[sock], self._loop.now()
        most = min(PACKETS_A_TURN, budget.left(now))
        if most > 0:
            budget.spend(self._packets(sock, most, now - self._flooded < SECOND, False), now)
        if sock.fileno() >= 0 and not budget.left(now):
            self._flooded = now
            self._loop.remove_reader(sock.fileno())
            self._pause(sock, max(budget.ready_at, now + _PAUSE))

    def _pause(self, sock: VrrpSocket, until: int) -> None:
        """Read nothing new of a socket until then."""

        def go_on(now: int) -> None:
            if now >= until:
                self._resume(sock)
                return
            self._packets(sock, PACKETS_A_TURN, True, True)
            if sock.fileno() >= 0:
                self._pause(sock, until)

        again = min(until, self._loop.now() + _GLANCE) if sock is self.known else until
        self._loop.call_at(("adverts", sock.fileno()), again, go_on)


def _budget(rate: int) -> Budget:
    """Return a budget of this many packets a second, and as many at once."""
    return Budget(rate, SECOND // rate)


def program(family: int, wanted: Wanted, known: bool) -> bytes:
    """Return the filter of `known`, or of `others`, which gets all packets that `known` does not."""
    return bpf.assemble(_program4(wanted, known) if family == 4 else _program6(wanted, known))


def _program4(wanted: Wanted, known: bool) -> bpf.Program:
    """The filter of a raw IPv4 socket sees the packet from its IP header on (raw_rcv in net/ipv4/raw.c)."""
    return [
        ("", (bpf.LDX_IP_HEADER, 0, "", "")),
        ("", (bpf.LD_LEN, 0, "", "")),
        ("", (bpf.SUB_X, 0, "", "")),
        ("", (bpf.JGE, 2, "", "other")),
        ("", (bpf.LD_B_ABS, bpf.NETWORK + 16, "", "")),
        ("", (bpf.AND, 0xF0, "", "")),
        ("", (bpf.JEQ, 0xE0, "", "unicast")),
        *_hop_limit(8, wanted),
        *_virtual_router(bpf.LD_B_IND, wanted),
        *_source(12, 4, wanted),
        *_verdict(known),
    ]


def _program6(wanted: Wanted, known: bool) -> bpf.Program:
    """A raw IPv6 socket's filter sees the packet from the VRRP header on (ip6_protocol_deliver_rcu)."""
    return [
        ("", (bpf.LD_LEN, 0, "", "")),
        ("", (bpf.JGE, 2, "", "other")),
        ("", (bpf.LD_B_ABS, bpf.NETWORK + 24, "", "")),
        ("", (bpf.JEQ, 0xFF, "", "unicast")),
        *_hop_limit(7, wanted),
        *_virtual_router(bpf.LD_B_ABS, wanted),
        *_source(8, 16, wanted),
        *_verdict(known),
    ]


# A conditional jump reaches over 255 instructions, so that lists end in a JA, which reaches over all.


def _hop_limit(offset: int, wanted: Wanted) -> bpf.Program:
    return [
        ("", (bpf.LD_B_ABS, bpf.NETWORK + offset, "", "")),
        ("", (bpf.JEQ, HOP_LIMIT, "ours", "other")),
        ("unicast", (bpf.LD_B_ABS, bpf.NETWORK + offset, "", "")),
        ("", (bpf.JGE, wanted.min_hop_limit, "ours", "")),
        ("other", (bpf.JA, 0, "no", "")),
    ]


def _virtual_router(load: int, wanted: Wanted) -> bpf.Program:
    """Version and type are the first byte, the virtual router id is the second one."""
    lines: bpf.Program = [("ours", (load, 0, "", ""))]
    versions = sorted({version for version, _ in wanted.virtual_routers})
    for version in versions:
        following = f"not version {version}"
        lines += [
            ("", (bpf.JEQ, version << 4 | 1, f"version {version}", "")),
            ("", (bpf.JA, 0, following, "")),
            (f"version {version}", (load, 1, "", "")),
        ]
        for vrid in sorted(vrid for of, vrid in wanted.virtual_routers if of == version):
            lines += [
                ("", (bpf.JEQ, vrid, "", f"{version} not {vrid}")),
                ("", (bpf.JA, 0, "source", "")),
                (f"{version} not {vrid}", None),
            ]
        lines += [("", (bpf.JA, 0, "no", "")), (following, None)]
    return [*lines, ("", (bpf.JA, 0, "no", ""))]


def _source(offset: int, size: int, wanted: Wanted) -> bpf.Program:
    lines: bpf.Program = [("source", None)]
    for source in sorted(wanted.sources or ()):
        following = f"not {source.hex()}"
        for at in range(0, size, 4):
            word = int.from_bytes(source[at : at + 4], "big")
            lines += [
                ("", (bpf.LD_W_ABS, bpf.NETWORK + offset + at, "", "")),
                ("", (bpf.JEQ, word, "", following)),
            ]
        lines += [("", (bpf.JA, 0, "yes", "")), (following, None)]
    return [*lines, ("", (bpf.JA, 0, "yes" if wanted.sources is None else "no", ""))]


def _verdict(known: bool) -> bpf.Program:
    return [
        ("yes", (bpf.RET, bpf.ALL if known else 0, "", "")),
        ("no", (bpf.RET, 0 if known else bpf.ALL, "", "")),
    ]
