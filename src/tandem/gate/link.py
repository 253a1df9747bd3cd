# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's end of the gate (process.py): starts the process, answers it, starts it again.

A failure here loses the guarantee, never a connection: when the process is gone, the nftables rules accept
packets.
"""

from __future__ import annotations

import struct
import sys
from array import array

from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.companion import Companion
from tandem.gate.hold import FIGURES as _LAYOUT
from tandem.gate.hold import Unkept, Waiting, read_figures, unkept
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tandem.log import Logger
    from tandem.loop import Loop

QUEUE = 3780  # of NFQUEUE; one namespace has 65536
MESSAGES_A_TURN = 4  # of 64 flows each: some 10 ms of the loop
IDS_A_MESSAGE = 4096
RESTART, RESTART_MAX = SECOND, 64 * SECOND
SILENCE = 3 * SECOND  # the gate speaks every second while it is on
_BUFFER = 256 << 10  # bytes of the socket: messages that wait in it get old
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import tandem.lean.resident; \
from tandem.gate.process import main; sys.exit(main(sys.argv[1:]))"
_LENGTH = struct.Struct("=I")
_TIMER, _WATCH = "conntrack gate", "conntrack gate watch"


class GateLink:
    """One gate process, from `start` to `stop`; it holds packets while it is `switch`ed on.

    `commit(messages)` gets ctnetlink messages about flows whose first reply is held. It makes the flows
    known to the peers and returns the position whose acknowledgement releases them; None: nobody has to know.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        timeout: int,
        channel_port: int,
        commit: Callable[[list[bytes]], int | None],
        argv: Callable[[int], list[str]] | None = None,
    ) -> None:
        """`timeout`: ns that a packet is held at most. `argv(fd)`: another command, for tests."""
        self._loop = loop
        self._log = log
        self._commit = commit
        self._waiting = Waiting(timeout)
        milliseconds = str(max(1, timeout // MILLISECOND))
        numbers = [str(QUEUE), str(channel_port), milliseconds]
        command = argv or (lambda fd: [sys.executable, "-I", "-c", _START, PACKAGE_DIR, str(fd), *numbers])
        self._process = Companion(loop, command, self._received, self._ended, MESSAGES_A_TURN, _BUFFER)
        self._on = False
        self._heard_at = 0
        self._ready = False
        self._pause = RESTART
        self._figures: dict[str, Any] = read_figures(bytes(_LAYOUT.size))
        self._before = self._figures  # counts of processes that ended
        self._unkept = Unkept()
        self.error = ""  # why the gate cannot work

    # Life

    def start(self) -> None:
        """Start the process; when that fails, try again later."""
        try:
            self._process.start()
        except OSError as error:
            self._log.error(f"conntrack_sync: gate: {error.strerror}")
            self._loop.call_at(_TIMER, self._loop.now() + RESTART_MAX, lambda _now: self.start())

    def stop(self) -> None:
        """Let the process end: it releases what it holds and removes its rules, which takes some ms."""
        self._loop.call_at(_TIMER, None)
        self._process.close()
        self._forget()

    def switch(self, on: bool) -> None:
        """Hold packets from now on, or no more; what is held leaves."""
        if on == self._on:
            return
        self._on = on
        if not on:
            self._waiting.clear()
        if self._ready:
            self._send_switch()

    def _send_switch(self) -> None:
        self._send(b"+" if self._on else b"-")
        self._heard_at = self._loop.now()
        self._watch(self._heard_at)

    def _watch(self, now: int) -> None:
        """End a process that hangs: what it holds is lost, but what comes passes again."""
        if not self._on or not self._ready:
            self._loop.call_at(_WATCH, None)
        elif now < self._heard_at + SILENCE:
            self._loop.call_at(_WATCH, self._heard_at + SILENCE, self._watch)
        else:
            self._log.error(
                "conntrack_sync: gate: the process hangs: it is killed, and another one is started"
            )
            self._process.kill()

    def check(self) -> None:
        """Let the process check its rules, because another program has changed the firewall."""
        if self._ready and self._on:
            self._send(b"C")

    def acked(self, position: int | None) -> None:
        """A peer has everything up to this position; None: none is in step."""
        if position is None:
            self._release(b"P", self._waiting.clear())
        else:
            self._release(b"A", self._waiting.acked(position))

    # The process

    def _received(self, message: bytes) -> None:
        self._heard_at = self._loop.now()
        self._heard(message[:1], message[1:])

    def _heard(self, what: bytes, rest: bytes) -> None:
        if what == b"F":
            self._flows(rest)
        elif what == b"S" and len(rest) == _LAYOUT.size:
            self._figures = read_figures(rest)
            self._judge()
        elif what == b"R":
            self._ready = True
            self._pause = RESTART
            self._log.info("conntrack_sync: gate: ready")
            if self._on:
                self._send_switch()
        elif what == b"W":
            self._log.limited(("gate", rest), "warning", f"conntrack_sync: {rest.decode(errors='replace')}")
        elif what == b"U":
            self.error = rest.decode(errors="replace")
            self._log.error(f"conntrack_sync: no guarantee: {self.error}")

    def _judge(self) -> None:
        """Log when connections were answered before a peer knew them."""
        total = unkept(_sum(self._before, self._figures))
        if more := self._unkept.judge(total, self._heard_at):
            text = f"conntrack_sync: gate: the guarantee was not kept for {more} connections"
            self._log.limited("gate unkept", "warning", text)

    def _flows(self, packed: bytes) -> None:
        ids, messages, at = array("I"), [], 0
        while at + 8 <= len(packed):
            ids.frombytes(packed[at : at + 4])
            length = _LENGTH.unpack_from(packed, at + 4)[0]
            messages.append(packed[at + 4 : at + 4 + length])
            at += 4 + max(length, 4)
        now = self._loop.now()
        stalled = self._waiting.stalled(now)
        position = self._commit(messages) if self._on else None
        if position is None:
            self._release(b"P", ids.tobytes())
            return
        self._waiting.add(position, ids.tobytes(), now)
        if stalled:
            self._release(b"L", ids.tobytes())

    def _release(self, how: bytes, ids: bytes) -> None:
        for start in range(0, len(ids), 4 * IDS_A_MESSAGE):
            self._send(how + ids[start : start + 4 * IDS_A_MESSAGE])

    def _send(self, message: bytes) -> None:
        try:
            self._process.send(message)
        except OSError:
            pass  # it hangs, then its queue fails open; or it is gone, which is read soon

    def _ended(self) -> None:
        self._forget()
        if not self.error:
            ended = "the process has ended: no answer waits for a peer until the next one is ready"
            self._log.limited("gate", "error", f"conntrack_sync: gate: {ended}")
            self._loop.call_at(_TIMER, self._loop.now() + self._pause, lambda _now: self.start())
            self._pause = min(2 * self._pause, RESTART_MAX)

    def _forget(self) -> None:
        self._ready = False
        self._loop.call_at(_WATCH, None)
        self._waiting.clear()
        self._before = _sum(self._before, self._figures)
        self._figures = read_figures(bytes(_LAYOUT.size))

    # For people

    def trouble(self) -> list[str]:
        """Return why connections may be answered before a peer knows them, and how many were lately."""
        found = [self.error] if self.error else []
        if self._on and not self.error and not self._figures["on"]:
            found.append("the gate is not ready")
        if lately := self._unkept.lately(self._loop.now()):
            found.append(f"not kept for {lately} connections within a minute")
        return found

    def status(self) -> dict[str, Any]:
        """Counts of packets, their latency in µs, and how the gate is, by its own report.

        `unkept` connections were answered before a peer knew them, `unkept_lately` of them within a minute.
        """
        if self.error:
            state = "unable"
        elif not self._ready:
            state = "not running"
        else:
            state = "on" if self._figures["on"] else "off"
        figures = _sum(self._before, self._figures)
        return {
            "state": state,
            "error": self.error,
            "starts": self._process.starts,
            "unkept": unkept(figures),
            "unkept_lately": self._unkept.lately(self._loop.now()),
            "trouble": self.trouble(),
            **figures,
        }


def _sum(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    others = ("on", "waiting", "latency_us")
    counts = {name: before[name] + now[name] for name in now if name not in others}
    latency = now["latency_us"] if now["held"] else before["latency_us"]
    longest = max(before["latency_us"]["max"], now["latency_us"]["max"])
    return {**counts, "waiting": now["waiting"], "latency_us": {**latency, "max": longest}}
