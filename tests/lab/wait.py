# SPDX-License-Identifier: GPL-2.0-or-later
"""Polling with a deadline, so that no test sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotReached(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(
    condition: Callable[[], T | None],
    timeout: float = 10.0,
    what: str = "",
    *,
    every: float = 0.01,
    explain: Callable[[], str] | None = None,
) -> T:
    """Poll until the condition is true, and return its value.

    Units: seconds. An AssertionError inside the condition counts as "not yet", so that a
    condition can be written with asserts. Raises NotReached, which ends with what `explain` says.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline  # read first: the last look comes after the deadline
        reason = ""
        try:
            value = condition()
        except AssertionError as error:
            value, reason = None, str(error)
        if value:
            return value
        if late:
            message = f"not reached within {timeout:g} s: {what or getattr(condition, '__name__', condition)}"
            details = [text for text in (reason, explain() if explain else "") if text]
            raise NotReached("\n".join([message, *details]))
        time.sleep(every)


def stays(condition: Callable[[], object], seconds: float, what: str = "", *, every: float = 0.01) -> None:
    """Poll for the whole time and raise NotReached at the first moment when the condition is false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            remaining = deadline - time.monotonic()
            raise NotReached(f"did not stay for {seconds:g} s (ended {remaining:.2f} s early): {what}")
        time.sleep(every)
