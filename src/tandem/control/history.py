# SPDX-License-Identifier: GPL-2.0-or-later
"""The last transitions, for `tandem status`, `tandem history` and ubus."""

from __future__ import annotations

import json
import time
from collections import deque

from tandem.core.actions import GroupTransition, Transition
from tandem.core.timers import SECOND
from tandem.effects.endpoint import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.status_schema import Entry

LENGTH = 100
VERSION = 1
SIZE_MAX = 1 << 20  # bytes of the file


class History:
    """The last `LENGTH` transitions of instances and groups, also those before a restart of the daemon.

    Times are `time.monotonic_ns()`; None: the transition is of an earlier boot, and its time of day was
    saved.
    """

    def __init__(self) -> None:
        self._entries: deque[tuple[int | None, Entry]] = deque(maxlen=LENGTH)

    def note(self, transition: Transition | GroupTransition, now: int) -> None:
        """Remember a transition that happens `now`."""
        self._entries.append((now, entry(transition, 0)))

    def entries(self, now: int) -> list[Entry]:
        """Return all remembered transitions, the last one at the end."""
        return [_reckoned(found, when, now) for when, found in self._entries]

    def text(self, boot: str, now: int) -> bytes:
        """Return the content of the file for a later daemon; `boot` is the kernel's id of this boot."""
        kept = [(when, _reckoned(found, when, now)) for when, found in self._entries]
        return json.dumps([VERSION, boot, kept]).encode() + b"\n"

    def take(self, data: bytes, boot: str) -> None:
        """Begin with the transitions of an earlier daemon. ValueError: this version can't read the file."""
        try:
            version, former, kept = json.loads(data)
            if version != VERSION:
                raise ValueError(f"version {version!r}")
            found = [
                (int(when) if former == boot and when is not None else None, _checked(one))
                for when, one in kept
            ]
        except (TypeError, KeyError, AttributeError, RecursionError):
            raise ValueError("it has another form") from None
        self._entries.extend(found)


def _checked(found: dict[str, object]) -> Entry:
    return {
        "time": float(str(found["time"])),
        "state": str(found["state"]),
        "kind": str(found["kind"]),
        "name": str(found["name"]),
        "priority": int(str(found["priority"])),
        "why": str(found["why"]),
    }


def _reckoned(found: Entry, when: int | None, now: int) -> Entry:
    """Return an entry whose time fits the present clock, which may have been set since."""
    if when is None:
        return found
    return {**found, "time": round(time.time() - (now - when) / SECOND, 3)}


def reason(transition: Transition) -> str:
    """Return why the state has changed, and which router was the cause."""
    cause = transition.cause
    if cause is None:
        return transition.why
    said = f"priority {cause.priority}, interval {cause.interval_cs / 100:g} s"
    return f"{transition.why}: {text(cause.source)}, {said}"


def entry(transition: Transition | GroupTransition, age: int) -> Entry:
    """Return the entry of a transition that happened `age` ns ago.

    `time` is in seconds since the epoch, reckoned from the present clock: at boot, when most
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
