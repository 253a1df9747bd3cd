# SPDX-License-Identifier: GPL-2.0-or-later
"""Bugs: exceptions that nobody expected. Each place is logged once, with its traceback, and counted.

A bug in one handler ends neither the loop nor the role. When one place fails LIMIT times within WITHIN, the
router hands over in good order and the daemon ends, so that procd starts another process.
The traceback is made here, because the module `traceback` costs half a MiB.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

LIMIT = 3
WITHIN = 60_000_000_000  # ns
PLACES_MAX = 32  # all further places count as one
_PACKAGE = "/tandem/"


class Bugs:
    """Counts exceptions; `log` gets lines, `now()` is in ns, `give_up()` is called once."""

    def __init__(
        self, log: Callable[[str], None], now: Callable[[], int], give_up: Callable[[], None]
    ) -> None:
        self.total = 0
        self._log = log
        self._now = now
        self._give_up: Callable[[], None] | None = give_up
        self._counts: dict[str, int] = {}
        self._what: dict[str, str] = {}
        self._times: dict[str, list[int]] = {}  # the last LIMIT ones, oldest first

    def caught(self, error: Exception) -> None:
        """Count and log an exception that would otherwise end the daemon."""
        frames = list(_frames(error.__traceback__))
        place = _place(frames)
        if place not in self._counts and len(self._counts) >= PLACES_MAX:
            place = "other places"
        self.total += 1
        count = self._counts[place] = self._counts.get(place, 0) + 1
        self._what[place] = f"{type(error).__name__}: {error}"
        if count == 1:
            self._log(f"a bug, please report it: {type(error).__name__}: {error}")
            for file, line, function in frames:
                self._log(f'  File "{file}", line {line}, in {function}')
        now = self._now()
        times = self._times[place] = [*self._times.get(place, ())[1 - LIMIT :], now]
        if len(times) == LIMIT and now - times[0] <= WITHIN and self._give_up is not None:
            give_up, self._give_up = self._give_up, None
            self._log(f"{LIMIT} exceptions within a minute at {place}: handing over, and ending")
            give_up()

    def guard(self) -> Guard:
        """Return a context manager that passes every exception to `caught`."""
        return Guard(self.caught)

    @property
    def report(self) -> list[str]:
        """One sentence for each place."""
        return [
            f"{self._what[place]} at {place}{f', {count} times' if count > 1 else ''}"
            for place, count in self._counts.items()
        ]


class Guard:
    """A context manager: `caught` gets the exceptions of its block."""

    def __init__(self, caught: Callable[[Exception], None]) -> None:
        self._caught = caught

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._caught(error)
        return True


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, int, str]]:
    """File, line and function of each frame, outermost first."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, traceback.tb_lineno, code.co_name
        traceback = traceback.tb_next


def _place(frames: list[tuple[str, int, str]]) -> str:
    """Return the innermost frame of our own code."""
    for file, line, function in reversed(frames):
        if _PACKAGE in file:
            return f"{file.rpartition(_PACKAGE)[2]}:{line} ({function})"
    return "other places"
