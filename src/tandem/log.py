# SPDX-License-Identifier: GPL-2.0-or-later
"""Log lines to stderr or syslog, with a bound on what a hostile network can make us write.

This stands in for `logging`, which costs 1 MiB of resident memory. Nothing here ever blocks
and nothing raises: a line that can't be written at once is dropped and counted.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Hashable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.loop import Loop

    class Sink(Protocol):
        """Where lines go: `write` says whether the line was taken."""

        def write(self, level: str, line: str) -> bool: ...


LEVELS = {"error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog's severities (RFC 5424 section 6.2.1)
LINE_MAX = 1024  # characters; below PIPE_BUF bytes in any encoding, so a line is never torn
_FACILITY = 3 << 3  # daemon

_SECOND = 1_000_000_000


def printable(text: str) -> str:
    """`text` on one line: what a terminal or a log parser would act on is escaped."""
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
        # us. A pipe that polls writable takes PIPE_BUF bytes without blocking (pipe(7)).
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
        """Send one line; False when syslogd is behind or not there."""
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
    """Lets one event per key and period through, and no more than a token bucket in all.

    Pure: times are ns. The table holds `keys` keys; events of further keys are suppressed
    until a period ends, as are those that find the bucket empty.
    """

    def __init__(
        self, period: int = 60 * _SECOND, keys: int = 256, burst: int = 30, refill: int = 2 * _SECOND
    ) -> None:
        self._period = period
        self._keys = keys
        self._burst = burst
        self._refill = refill  # ns per token
        self._full_at = 0  # when the bucket is full again; it holds burst - (full_at - now) / refill
        self._table: dict[Hashable, list[int]] = {}  # key -> [end of period, suppressed], oldest first
        self._others = 0  # suppressed events of keys that are not in the table
        self._others_until: int | None = None

    def allow(self, key: Hashable, now: int) -> bool:
        """Whether the event of `key` may be told now. Call `expire(now)` first."""
        entry = self._table.get(key)
        if entry is not None:
            entry[1] += 1
            return False
        full_at = max(self._full_at, now) + self._refill
        if len(self._table) >= self._keys or full_at > now + self._burst * self._refill:
            self._others += 1
            if self._others_until is None:
                self._others_until = now + self._period
            return False
        self._full_at = full_at
        self._table[key] = [now + self._period, 0]
        return True

    def expire(self, now: int) -> list[tuple[Hashable | None, int]]:
        """The keys whose period has ended, and how many of their events were suppressed.

        None stands for all the keys that were never let through.
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
        """When `expire` next has something to do; None: never as things are."""
        first = next(iter(self._table.values()), None)
        deadlines = [] if first is None else [first[0]]
        if self._others_until is not None:
            deadlines.append(self._others_until)
        return min(deadlines, default=None)


class Logger:
    """Writes the messages of `level` and above to `sink`.

    `dropped` counts lines that the sink did not take; the next line that it takes says so.
    With a loop, the summaries of `limited` come by themselves when their period ends;
    without, together with the next limited message.
    """

    def __init__(
        self,
        level: str,
        sink: Sink,
        limiter: RateLimiter | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.level = level
        self.dropped = 0
        self._unreported = 0
        self._sink = sink
        self._limiter = limiter or RateLimiter()
        self._clock = clock
        self._told: dict[Hashable, tuple[str, str]] = {}  # limited key -> its level and message
        self._loop: Loop | None = None

    def error(self, message: str) -> None:
        """Something does not work and needs a person."""
        self._log("error", message)

    def warning(self, message: str) -> None:
        """Something is wrong and goes on working."""
        self._log("warning", message)

    def info(self, message: str) -> None:
        """A change that an operator wants to find in the log."""
        self._log("info", message)

    def debug(self, message: str) -> None:
        """What only someone who looks for a fault wants to know."""
        self._log("debug", message)

    def attach(self, loop: Loop) -> None:
        """Let `loop` flush the summaries of `limited` when they are due."""
        self._loop = loop
        self._arm()

    def limited(self, key: Hashable, level: str, message: str) -> None:
        """Log the first message of `key` in a period and count the others.

        For whatever the network can cause at will: `key` is, say, (source, reason).
        """
        if LEVELS[level] > LEVELS[self.level]:
            return
        now = self._clock()
        self.flush(now)
        if self._limiter.allow(key, now):
            self._told[key] = (level, message)
            self._log(level, message)
        self._arm()

    def flush(self, now: int) -> None:
        """Say how many messages were suppressed in the periods that have ended."""
        for key, suppressed in self._limiter.expire(now):
            if key is None:
                self._log("warning", f"{suppressed} more messages of other kinds suppressed")
                continue
            level, message = self._told.pop(key)
            if suppressed:
                self._log(level, f"{suppressed} more suppressed: {message}")

    def _arm(self) -> None:
        if self._loop is not None:
            self._loop.call_at(("log", id(self)), self._limiter.next_deadline(), self._on_timer)

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
