# SPDX-License-Identifier: GPL-2.0-or-later
"""Log lines to stderr or syslog, with a bound on the lines that a hostile network can cause.

This module replaces `logging`, which costs 1 MiB of resident memory. Nothing here ever blocks
and nothing raises: a line that can't be written at once is dropped and counted.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Hashable

from tandem.core.budget import Budget
from tandem.core.timers import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.loop import Loop

    class Sink(Protocol):
        """A place for lines: `write` returns whether the line was accepted."""

        def write(self, level: str, line: str) -> bool: ...


LEVELS = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog's severities (RFC 5424 section 6.2.1)
LINE_MAX = 1024  # characters; below PIPE_BUF bytes in any encoding, so a line is never torn
_FACILITY = 3 << 3  # daemon

_SUBSYSTEMS_MAX = 32  # subsystems with a budget of their own
_CHANGES_BURST, _CHANGES_REFILL, _CHANGES_MAX = 6, 10 * SECOND, 1024


def printable(text: str) -> str:
    """Return `text` on one line, with the characters escaped that a terminal or a log parser would act on."""
    text = text[:LINE_MAX]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text[:LINE_MAX]


class StderrSink:
    """Plain lines, `LEVEL MESSAGE`, as procd passes them on to syslog."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, level: str, line: str) -> bool:
        """Write one line; False when the reader is behind or gone."""
        # Not O_NONBLOCK: the flag belongs to the open file, which the shell or procd shares with
        # us. A pipe that polls writable accepts PIPE_BUF bytes without blocking (pipe(7)).
        if not any(event & select.POLLOUT for _, event in self._poll.poll(0)):
            return False
        try:
            os.write(self._fd, f"{level} {line}\n".encode(errors="backslashreplace"))
        except OSError:
            return False
        return True


class SyslogSink:
    """Datagrams to the local syslog daemon in the format of syslog(3), without a time stamp."""

    def __init__(self, ident: str = "tandemd", path: str = "/dev/log") -> None:
        self._tag = f"{ident}[{os.getpid()}]"
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, level: str, line: str) -> bool:
        """Send one line; False when syslogd is behind or gone."""
        data = f"<{_FACILITY | LEVELS[level]}>{self._tag}: {line}".encode(errors="backslashreplace")
        for _ in range(2):  # syslogd may have been restarted: its socket is then another one
            sock = self._socket or self._connect()
            if sock is None:
                return False
            try:
                sock.send(data)
            except BlockingIOError:
                return False
            except OSError:
                self.close()
            else:
                return True
        return False

    def close(self) -> None:
        """Close the socket; the next line opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            return None
        self._socket = sock
        return sock


class RateLimiter:
    """Allows one event per key and period, and no more events in all than a token bucket has.

    Pure: times are ns. The table holds `keys` keys. Events of further keys are suppressed until a
    period ends, and so are events when the bucket is empty.
    """

    def __init__(
        self, period: int = 60 * SECOND, keys: int = 256, burst: int = 30, refill: int = 2 * SECOND
    ) -> None:
        self._period = period
        self._keys = keys
        self._budget = Budget(burst, refill)
        self._table: dict[Hashable, list[int]] = {}  # key -> [end of period, suppressed], oldest first
        self._others = 0  # suppressed events of keys that are not in the table
        self._others_until: int | None = None

    def allow(self, key: Hashable, now: int) -> bool:
        """Return whether the event of `key` may be logged now. Call `expire(now)` first."""
        entry = self._table.get(key)
        if entry is not None:
            entry[1] += 1
            return False
        if len(self._table) >= self._keys or not self._budget.take(now):
            self._others += 1
            if self._others_until is None:
                self._others_until = now + self._period
            return False
        self._table[key] = [now + self._period, 0]
        return True

    def expire(self, now: int) -> list[tuple[Hashable | None, int]]:
        """Return the keys whose period has ended, each with the number of its suppressed events.

        None stands for all keys of which no event was allowed.
        """
        ended: list[tuple[Hashable | None, int]] = []
        # Every period is equally long, so that the oldest entry ends first.
        for key, (until, suppressed) in list(self._table.items()) if self._due(now) else ():
            if until > now:
                break
            del self._table[key]
            ended.append((key, suppressed))
        if self._others_until is not None and self._others_until <= now:
            ended.append((None, self._others))
            self._others, self._others_until = 0, None
        return ended

    def _due(self, now: int) -> bool:
        deadline = self.next_deadline()
        return deadline is not None and deadline <= now

    def next_deadline(self) -> int | None:
        """Return when `expire` next has something to do; None: never as things are."""
        first = next(iter(self._table.values()), None)
        deadlines = [] if first is None else [first[0]]
        if self._others_until is not None:
            deadlines.append(self._others_until)
        return min(deadlines, default=None)


class Logger:
    """Writes the messages of `level` and above to `sink`.

    `dropped` counts lines that the sink did not accept; the next accepted line reports their number.
    With a loop, the summaries of `limited` and `change` are written when they are due; without a loop,
    together with the next limited message.
    """

    def __init__(
        self,
        level: str,
        sink: Sink,
        limits: Callable[[], RateLimiter] = RateLimiter,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin; `limits` makes the budget of a subsystem."""
        self.level = level
        self.dropped = 0
        self._unreported = 0
        self._sink = sink
        self._limits = limits
        self._clock = clock
        self._limiters: dict[tuple[str, bool], RateLimiter] = {}
        self._told: dict[
            tuple[tuple[str, bool], Hashable], tuple[str, str]
        ] = {}  # the level and message of a key
        self._changes: dict[Hashable, _Change] = {}
        self._loop: Loop | None = None

    def error(self, message: str) -> None:
        """Log that something does not work and needs a person."""
        self._log("error", message)

    def warning(self, message: str) -> None:
        """Log that something is wrong but still works."""
        self._log("warning", message)

    def info(self, message: str) -> None:
        """Log a change that an operator wants to find."""
        self._log("info", message)

    def debug(self, message: str) -> None:
        """Log a detail that helps only to find a fault."""
        self._log("debug", message)

    def attach(self, loop: Loop) -> None:
        """Let `loop` flush the summaries of `limited` and `change` when they are due."""
        self._loop = loop
        self._arm()

    def limited(self, key: Hashable, level: str, message: str) -> None:
        """Log the first message of `key` in a period and count the others.

        This is for messages that the network can cause at will. A `key` is, for example, ("adverts", source,
        reason); its first word names the subsystem. Every subsystem has a budget of its own, and its errors
        have another one, so that a flood of one kind hides no message of another kind.
        """
        if LEVELS[level] > LEVELS[self.level]:
            return
        now = self._clock()
        self.flush(now)
        budget = _subsystem(key), level == "error"
        if budget not in self._limiters and len(self._limiters) >= _SUBSYSTEMS_MAX:
            budget = "others", level == "error"
        limiter = self._limiters.get(budget)
        if limiter is None:
            limiter = self._limiters[budget] = self._limits()
        if limiter.allow(key, now):
            self._told[budget, key] = (level, message)
            self._log(level, message)
        self._arm()

    def change(self, key: Hashable, level: str, message: str) -> None:
        """Log a change of state; of many changes in a short time, log some and the last one.

        `key` names the object that has the state. After `_CHANGES_BURST` lines, one line is logged in
        `_CHANGES_REFILL` ns.
        """
        if LEVELS[level] > LEVELS[self.level]:
            return
        now = self._clock()
        self.flush(now)
        found = self._changes.get(key)
        if found is None:
            if len(self._changes) >= _CHANGES_MAX:
                self._changes = {name: one for name, one in self._changes.items() if one.left_out}
            found = self._changes[key] = _Change()
        if not found.left_out and found.budget.take(now):
            self._log(level, message)
            return
        found.left_out += 1
        found.last = level, message
        self._arm()

    def flush(self, now: int) -> None:
        """Say how many messages were suppressed in the periods that have ended."""
        for budget, limiter in self._limiters.items():
            for key, suppressed in limiter.expire(now):
                if key is None:
                    of = f" ({budget[0]})" if budget[0] else ""
                    self._log("warning", f"{suppressed} more messages of other kinds suppressed{of}")
                    continue
                level, message = self._told.pop((budget, key))
                if suppressed:
                    self._log(level, f"{suppressed} more suppressed: {message}")
        for change in self._changes.values():
            if change.left_out and change.budget.take(now):
                level, message = change.last
                before, change.left_out = change.left_out - 1, 0
                self._log(
                    level, f"{message}; {before} changes before it are not logged" if before else message
                )

    def _arm(self) -> None:
        if self._loop is not None:
            deadlines = [limiter.next_deadline() for limiter in self._limiters.values()]
            deadlines += [change.budget.ready_at for change in self._changes.values() if change.left_out]
            first = min((deadline for deadline in deadlines if deadline is not None), default=None)
            self._loop.call_at(("log", id(self)), first, self._on_timer)

    def _on_timer(self, now: int) -> None:
        self.flush(now)
        self._arm()

    def _log(self, level: str, message: str) -> None:
        if LEVELS[level] > LEVELS[self.level]:
            return
        if self._unreported and self._sink.write("warning", f"{self._unreported} log lines were dropped"):
            self._unreported = 0
        if not self._sink.write(level, printable(message)):
            self.dropped += 1
            self._unreported += 1


class _Change:
    """The log budget of one object whose states are logged, and the lines that were left out."""

    __slots__ = ("budget", "last", "left_out")

    def __init__(self) -> None:
        self.budget = Budget(_CHANGES_BURST, _CHANGES_REFILL)
        self.left_out = 0
        self.last = "", ""


def _subsystem(key: Hashable) -> str:
    """Return the first word of a key; "" when the key does not begin with a text."""
    first = key[0] if isinstance(key, tuple) and key else key
    return first.partition(" ")[0] if isinstance(first, str) else ""
