# SPDX-License-Identifier: GPL-2.0-or-later
"""The last transitions, for `tandem status`, `tandem history` and ubus."""

from __future__ import annotations

import json
import time
from collections import deque

from tandem.core.actions import GroupTransition, Transition
from tandem.core.timers import MILLISECOND, SECOND
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

    def __len__(self) -> int:
        return len(self._entries)

    def note(self, found: Entry, now: int) -> None:
        """Remember a transition that happens `now`."""
        self._entries.append((now, found))

    def entries(self, now: int) -> list[Entry]:
        """Return all remembered transitions, the last one at the end."""
        return [_reckoned(found, when, now) for when, found in self._entries]

    def text(self, boot: str, now: int) -> bytes:
        """Return the content of the file for a later daemon; `boot` is the kernel's id of this boot."""
        # One entry after the other: all at once would take 300 KiB of memory, at each transition.
        kept = [json.dumps([when, _reckoned(found, when, now)]) for when, found in self._entries]
        return f"[{VERSION}, {json.dumps(boot)}, [{', '.join(kept)}]]\n".encode()

    def take(self, data: bytes, boot: str) -> None:
        """Begin with the transitions of an earlier daemon. ValueError: this version can't read the file."""
        try:
            version, former, kept = json.loads(data)
            if version != VERSION:
                raise ValueError(f"version {version!r}")
            found = [  # no entry is taken when one of them can't be read
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
        "group": str(found.get("group", found["name"])),  # an earlier release had none of these
        "seen": str(found.get("seen", "")),
        "detection_ms": _number(found.get("detection_ms")),
        "restore_ms": _number(found.get("restore_ms")),
        "address_ms": _number(found.get("address_ms")),
        "announce_ms": _number(found.get("announce_ms")),
        "connections": None if found.get("connections") is None else int(str(found["connections"])),
    }


def _number(found: object) -> float | None:
    return None if found is None else float(str(found))


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


def entry(transition: Transition | GroupTransition, group: str, installed: int, announced: int) -> Entry:
    """Return the entry of a transition that happens now.

    `installed` and `announced`: when the kernel had the addresses, and when hosts were told, ns; of an older
    promotion if this one had no addresses. `time` is in seconds since the epoch, reckoned later from the
    present clock: at boot, when most transitions happen, a router without a battery does not know the time.
    """
    found = _entry(transition.state, "group", group, group)
    if isinstance(transition, GroupTransition):
        return found
    found |= {
        "kind": "instance",
        "name": transition.instance,
        "priority": transition.priority,
        "why": reason(transition),
        "seen": transition.seen,
    }
    if (course := transition.course) is not None:
        decided = course.decided
        if course.heard is not None:
            found["detection_ms"] = _ms(decided - course.heard)
        if course.restored is not None:
            found["restore_ms"], found["connections"] = _ms(course.restored - decided), course.connections
        found["address_ms"] = _ms(installed - decided) if installed >= decided else None
        found["announce_ms"] = _ms(announced - decided) if announced >= decided else None
    return found


def service_entry(name: str, state: str, why: str) -> Entry:
    """Return the entry of a service whose state changes now."""
    return _entry(state, "service", name, f"service {name}") | {"why": why}


def _entry(state: str, kind: str, name: str, group: str) -> Entry:
    return {
        "time": round(time.time(), 3),
        "state": state,
        "kind": kind,
        "name": name,
        "group": group,
        "priority": 0,
        "why": "",
        "seen": "",
        "detection_ms": None,
        "restore_ms": None,
        "address_ms": None,
        "announce_ms": None,
        "connections": None,
    }


def _ms(duration: int) -> float:
    return round(duration / MILLISECOND, 2)
