# SPDX-License-Identifier: GPL-2.0-or-later
"""The last transitions, for `tandem status`, ubus and whoever asks later what happened."""

from __future__ import annotations

import time
from collections import deque

from tandem.core.actions import GroupTransition, Transition
from tandem.core.timers import SECOND
from tandem.effects.endpoint import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.control.status_schema import Entry

LENGTH = 100


class History:
    """Remembers `LENGTH` transitions of instances and groups; times are `time.monotonic_ns()`."""

    def __init__(self) -> None:
        self._entries: deque[tuple[int, Transition | GroupTransition]] = deque(maxlen=LENGTH)

    def note(self, transition: Transition | GroupTransition, now: int) -> None:
        """Remember a transition of `now`."""
        self._entries.append((now, transition))

    def entries(self, now: int) -> list[Entry]:
        """All that is remembered, the last one at the end."""
        return [entry(transition, now - when) for when, transition in self._entries]


def reason(transition: Transition) -> str:
    """Return why the state has changed, and which router was the cause."""
    cause = transition.cause
    if cause is None:
        return transition.why
    said = f"priority {cause.priority}, interval {cause.interval_cs / 100:g} s"
    return f"{transition.why}: {text(cause.source)}, {said}"


def entry(transition: Transition | GroupTransition, age: int) -> Entry:
    """A transition of `age` ns ago.

    `time` is in seconds since the epoch, reckoned from the clock of now: at boot, when most
    transitions happen, a router without a battery does not know the time yet.
    """
    when = round(time.time() - age / SECOND, 3)
    if isinstance(transition, GroupTransition):
        name, kind, priority, why = transition.group, "group", 0, ""
    else:
        name, kind, priority, why = (
            transition.instance,
            "instance",
            transition.priority,
            reason(transition),
        )
    return {
        "time": when,
        "state": transition.state,
        "kind": kind,
        "name": name,
        "priority": priority,
        "why": why,
    }
