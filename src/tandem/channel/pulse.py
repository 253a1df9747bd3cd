# SPDX-License-Identifier: GPL-2.0-or-later
"""Pulse: the heartbeats of a session, and what their absence says of the peer; pure.

Each router sends a heartbeat every interval of its own, and the peer answers with an ACK. A peer that is not
heard for MISSED of its intervals is dead. A peer that is heard and does not answer in time has stalled.
All times are ns.
"""

from __future__ import annotations

from tandem.core.timers import MILLISECOND

MISSED = 3  # heartbeats of the peer, after which it is dead
_WRAP = 0xFFFFFFFF


class Pulse:
    """The heartbeats of one session; `stall_timeout`: for the answer to one of ours."""

    __slots__ = (
        "_at", "_dead_after", "_interval", "_probe", "_stall_timeout",
        "due", "heard", "number", "rtt", "seen",
    )  # fmt: skip

    def __init__(self, interval: int, stall_timeout: int, now: int) -> None:
        self.heard = now  # when something was last heard of the peer
        self.rtt = 0  # of the last heartbeat
        self.number = 0  # of our last heartbeat
        self.due = False  # our last heartbeat is still to be sent
        self.seen = 0  # number of the peer's last heartbeat
        self._interval = interval
        self._stall_timeout = stall_timeout
        self._dead_after = 0
        self._at = now
        self._probe: tuple[int, int] | None = None  # heartbeat that is not answered, and when it was due

    def met(self, heartbeat_ms: int, now: int) -> None:
        """The peer's hello has come: it sends a heartbeat every `heartbeat_ms`."""
        self._dead_after = MISSED * heartbeat_ms * MILLISECOND
        self.heard = now

    def begin(self, now: int) -> None:
        """The session begins, with a heartbeat."""
        self.heard = self._at = now

    @property
    def answered(self) -> bool:
        """Whether the peer has answered our last heartbeat, so that all it said before was heard."""
        return self._probe is None and self.rtt > 0

    def probe_now(self, now: int) -> None:
        """Make the next heartbeat due, and wait for the answer to it."""
        self._at = min(self._at, now)
        self._probe = None

    def deadline(self) -> int:
        """When `judge` and `tick` must be called."""
        due = self.heard + self._dead_after
        if self._at < due:
            due = self._at
        if self._probe is not None and self._probe[1] + self._stall_timeout < due:
            due = self._probe[1] + self._stall_timeout
        return due

    def judge(self, now: int) -> tuple[str, str] | None:
        """Return "dead" or "stalled" with the details; None: the peer is well."""
        if now >= self.heard + self._dead_after:
            return "dead", f"nothing heard for {(now - self.heard) // MILLISECOND} ms"
        if self._probe is not None and now >= self._probe[1] + self._stall_timeout:
            waited = (now - self._probe[1]) // MILLISECOND
            return "stalled", f"a heartbeat was not answered for {waited} ms"
        return None

    def tick(self, now: int) -> None:
        """Make a heartbeat when its time has come."""
        if now >= self._at:
            self._at = max(self._at + self._interval, now)
            self._make(now)

    def beaten(self, number: int, now: int) -> None:
        """The peer has sent a heartbeat; ours goes with the answer, which wakes each router once less."""
        self.seen = number
        if self._at - now < self._interval // 2:
            self._at = now + self._interval
            self._make(now)

    def acked(self, number: int, now: int) -> None:
        """The peer has answered a heartbeat; the answer to a later one will do, and numbers wrap."""
        if self._probe is not None and (number - self._probe[0]) & _WRAP <= _WRAP >> 1:
            self.rtt = now - self._probe[1]
            self._probe = None

    def _make(self, now: int) -> None:
        if not self.due:
            self.number = (self.number + 1) & _WRAP
            self.due = True
        if self._probe is None:
            self._probe = self.number, now
