# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's end of the prober (prober.py): starts the process, hears of the checks, starts it again.

A failure of the prober changes no state of a check. A check whose state is not known counts as up then,
because an election must not wait for it.
"""

from __future__ import annotations

import marshal
import sys

from tandem.config.schema import plain
from tandem.core.timers import SECOND
from tandem.effects.companion import Companion
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from tandem.config.schema import Check
    from tandem.log import Logger
    from tandem.loop import Loop

    Key = tuple[str, ...]

MESSAGES_A_TURN = 8
CHECKS_A_MESSAGE = 8  # of a few KiB each
RESTART, RESTART_MAX = SECOND, 64 * SECOND
START_LIMIT = 30 * SECOND  # a slow router loads modules
SILENCE = 5 * SECOND  # the prober speaks every second
UNCHECKED = "nothing checks it"
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import tandem.lean.resident; \
from tandem.health.prober import main; sys.exit(main(sys.argv[1:]))"


class Known:
    """One check: its state, and what the prober said of it last."""

    __slots__ = ("check", "figures", "since", "text", "up")

    def __init__(self, check: Check, up: bool | None) -> None:
        self.check = check
        self.up = up
        self.text = ""
        self.since: int | None = None  # of `up`, ns
        self.figures = (0, 0, 0, 0, 0)  # successes, failures, timeouts, skipped, ns of the last try


class ProberLink:
    """One prober, as long as something is wanted; `changed(key, up, text)` gets the states."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        changed: Callable[[Key, bool, str], None],
        argv: Callable[[int], list[str]] | None = None,
    ) -> None:
        """`argv(fd)`: another command, for tests."""
        self.known: dict[Key, Known] = {}
        self.trouble = ""  # why nothing is checked
        self._loop = loop
        self._log = log
        self._changed = changed
        command = argv or (lambda fd: [sys.executable, "-I", "-c", _START, PACKAGE_DIR, str(fd)])
        self.process = Companion(loop, command, self._received, self._ended, MESSAGES_A_TURN, first=True)
        self._queue: list[bytes] = []  # of messages that the socket had no room for
        self._until = 0  # when its silence is over
        self._pause = RESTART

    def want(self, checks: Mapping[Key, tuple[Check, bool | None]]) -> None:
        """Make these checks from now on, and no others; with each stands the state that it begins with."""
        gone = [key for key in self.known if key not in checks]
        news = [key for key, (check, _) in checks.items() if self._is_new(key, check)]
        for key in gone:
            del self.known[key]
        for key in news:
            check, up = checks[key]
            known = self.known.get(key)
            self.known[key] = Known(check, up if known is None else known.up)
        if not checks:
            self.close()
        elif self.process.runs:
            if gone:
                self._send(("end", tuple(gone)))
            self._begin(news)
        elif not self.trouble:
            self._start(self._loop.now())

    def _is_new(self, key: Key, check: Check) -> bool:
        known = self.known.get(key)
        return known is None or known.check != check

    def close(self) -> None:
        """End the process."""
        self.trouble, self._pause = "", RESTART
        self._loop.call_at("prober", None)
        self._close()

    # The process

    def _start(self, now: int) -> None:
        try:
            self.process.start()
        except OSError as error:
            self._lost(f"the prober cannot be started: {error.strerror}")
            return
        self._until = now + START_LIMIT
        self._loop.call_at("prober", now + SILENCE, self._watch, SECOND)
        self._begin(list(self.known))

    def _begin(self, keys: list[Key]) -> None:
        for start in range(0, len(keys), CHECKS_A_MESSAGE):
            part = [(key, self.known[key]) for key in keys[start : start + CHECKS_A_MESSAGE]]
            self._send(("want", tuple((key, plain(known.check), known.up) for key, known in part)))

    def _send(self, message: tuple[Any, ...]) -> None:
        self._queue.append(marshal.dumps(message))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._queue:
                self.process.send(self._queue[0])
                del self._queue[0]
            self.process.when_writable(None)
        except BlockingIOError:
            self.process.when_writable(self._flush)
        except OSError:
            self.process.when_writable(None)  # it is gone, which is read soon

    def _received(self, message: bytes) -> None:
        self._until = self._loop.now() + SILENCE
        self._pause, self.trouble = RESTART, ""
        for key, up, text, *figures in marshal.loads(message):
            self._heard(key, up, text, (*figures,))

    def _ended(self) -> None:
        self._lost("the prober has ended")

    def _heard(self, key: Key, up: bool | None, text: str, figures: tuple[int, int, int, int, int]) -> None:
        known = self.known.get(key)
        if known is None:
            return  # it was about to end
        if text != known.text:
            level = "info" if up and figures[1] == known.figures[1] else "warning"
            where = known.check.name if not key[0] else f"{known.check.name} of {key[0]}"
            self._log.limited(("check", key, text), level, f"check {where}: {text}")
        known.text, known.figures = text, figures
        if up is not None and up != known.up:
            self._set(key, known, up)

    def _set(self, key: Key, known: Known, up: bool) -> None:
        known.up, known.since = up, self._loop.now()
        self._changed(key, up, known.text)

    def _watch(self, now: int) -> None:
        """End a prober that hangs."""
        if now < self._until:
            self._loop.call_at("prober", now + SILENCE, self._watch, SECOND)
            return
        self.process.kill()
        self._lost("the prober hangs, and is killed")

    def _lost(self, why: str) -> None:
        """Start another process soon."""
        self.trouble = why
        self._log.limited(("prober", why), "error", f"checks: {why}: another one is started")
        self._close()
        self._loop.call_at("prober", self._loop.now() + self._pause, self._start)
        self._pause = min(2 * self._pause, RESTART_MAX)
        for key, known in list(self.known.items()):
            if known.up is None:
                known.text = UNCHECKED
                self._set(key, known, True)

    def _close(self) -> None:
        self._queue.clear()
        self.process.close()
