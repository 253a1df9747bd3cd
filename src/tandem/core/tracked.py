# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracked objects: what is known of each of them, and which of it a group has not been told yet."""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.events import TrackerChanged
from tandem.core.settings import Track
from tandem.core.tracking import Tracking


class Tracked:
    """The states of interfaces and scripts, which are asked for, and of all others, which are noted.

    `interface(name)` and `script(name)` say whether the object is up; None: not known yet.
    """

    def __init__(self, interface: Callable[[str], bool], script: Callable[[str], bool | None]) -> None:
        self._ask: dict[str, Callable[[str], bool | None]] = {"interface": interface, "script": script}
        self._noted: dict[tuple[str, str], TrackerChanged] = {}

    def note(self, kind: str, name: str, up: bool, why: str = "") -> TrackerChanged:
        """Take a new state, for groups that will track the object later as well; return the event."""
        event = TrackerChanged(kind, name, up, why)
        if kind not in self._ask:
            self._noted[kind, name] = event
        return event

    def news(self, tracking: Tracking) -> list[TrackerChanged]:
        """Return the states that a group does not know yet."""
        states = [(self._state(track), tracking.up(track)) for track in tracking.tracks]
        return [state for state, known in states if state is not None and state.up != known]

    def _state(self, track: Track) -> TrackerChanged | None:
        ask = self._ask.get(track.kind)
        if ask is None:
            return self._noted.get((track.kind, track.name))
        up = ask(track.name)
        return None if up is None else TrackerChanged(track.kind, track.name, up)
