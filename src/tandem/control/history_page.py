# SPDX-License-Identifier: GPL-2.0-or-later
"""The history as text for people: the entries of one change of a group become one paragraph. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tandem.control.page import Page, duration

Entry = Mapping[str, Any]

TOGETHER_S = 2.0  # members of a group change within this time
SEEN = {
    "advert": "adverts",
    "heartbeat": "heartbeats",
    "fault": "this router itself",
    "command": "a command",
    "start": "the start of the daemon",
    "quorum": "the quorum",
}


@dataclass(slots=True)
class Change:
    """A group that has changed its state, with the entries of its members; or a service, its own member."""

    group: str
    state: str
    time: float  # seconds since the epoch
    members: list[Entry] = field(default_factory=list)

    @property
    def when(self) -> str:
        """The time of day."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.time))

    @property
    def why(self) -> str:
        """The cause; the members have the same one."""
        return str(self.members[0]["why"]) if self.members else ""


def changes(history: Sequence[Entry]) -> list[Change]:
    """Join the entries of the members of a group, and of the group itself; the latest change is the last."""
    found: list[Change] = []
    for entry in history:
        group = entry.get("group") or entry["name"]  # an earlier release has no "group"
        last = next((one for one in reversed(found) if one.group == group), None)
        if last is None or last.state != entry["state"] or entry["time"] - last.time > TOGETHER_S:
            last = Change(group, entry["state"], entry["time"])
            found.append(last)
        if entry["kind"] != "group":
            last.members.append(entry)
    return found


def render_history(history: Sequence[Entry], width: int = 80, colour: bool = False) -> str:
    """Return all changes, the latest first."""
    page = Page(width, colour)
    found = changes(history)
    page.name_width = max((len(f"{one.when}  {one.group}") for one in found), default=0)
    for change in reversed(found):
        page.heading(0, f"{change.when}  {change.group}", change.state, "")
        if change.members:
            first = change.members[0]
            page.row("cause", [change.why])
            page.row("seen by", _seen(first))
            page.row("took", _took(change.members))
    return "\n".join(page.lines) + "\n" if page.lines else "nothing has happened yet\n"


def _seen(entry: Entry) -> Iterator[str]:
    if who := SEEN.get(entry.get("seen", ""), entry.get("seen", "")):
        silent = entry.get("detection_ms")
        yield who + ("" if silent is None else f" that have not come for {_time(silent)}")


def _took(members: Sequence[Entry]) -> Iterator[str]:
    """Say how long each step of a takeover took, from the decision; of several members the slowest counts."""
    restored = members[0].get("connections")
    if restored is not None:
        what = "1 connection was" if restored == 1 else f"{restored} connections were"
        yield f"{_time(members[0]['restore_ms'])} until {what} restored"
    for key, what in (("address_ms", "the addresses were there"), ("announce_ms", "hosts were told")):
        times = [member[key] for member in members if member.get(key) is not None]
        if times:
            yield f"{_time(max(times))} until {what}"


def _time(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 100 else duration(ms / 1000)
