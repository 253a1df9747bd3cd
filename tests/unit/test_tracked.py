# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of tracked objects, and what a group hears of it."""

from __future__ import annotations

from tandem.core.events import TrackerChanged
from tandem.core.settings import Track
from tandem.core.tracked import Tracked
from tandem.core.tracking import Tracking

UP = {"eth0": True, "eth1": False}
RESULTS: dict[str, bool | None] = {"good": True, "bad": False, "new": None}


def tracked() -> Tracked:
    return Tracked(UP.__getitem__, RESULTS.__getitem__)


def told(found: Tracked, tracking: Tracking) -> list[TrackerChanged]:
    """Give a group the news, once."""
    news = found.news(tracking)
    for event in news:
        tracking.update(event.kind, event.name, event.up, event.why)
    assert found.news(tracking) == [], "nothing is said twice"
    return news


def test_interfaces_and_scripts_are_asked_for() -> None:
    names = [("interface", "eth0"), ("interface", "eth1"), *(("script", name) for name in RESULTS)]
    tracking = Tracking(Track(kind, name) for kind, name in names)
    assert told(tracked(), tracking) == [
        TrackerChanged("interface", "eth0", True),
        TrackerChanged("interface", "eth1", False),
        TrackerChanged("script", "good", True),
        TrackerChanged("script", "bad", False),
    ], "a script that has not ended yet is not known"
    assert tracking.pending == ("script new",)


def test_a_script_of_the_name_of_an_interface_is_another_object() -> None:
    found = Tracked({"x": True}.__getitem__, {"x": False}.__getitem__)
    tracking = Tracking([Track("interface", "x"), Track("script", "x")])
    assert [(event.kind, event.up) for event in found.news(tracking)] == [
        ("interface", True),
        ("script", False),
    ]


def test_others_are_noted_for_groups_that_track_them_later() -> None:
    found = tracked()
    assert found.note("check", "web", False, "refused") == TrackerChanged("check", "web", False, "refused")
    found.note("service", "nginx", True)
    tracking = Tracking([Track("check", "web"), Track("check", "dns"), Track("service", "nginx")])
    assert told(found, tracking) == [
        TrackerChanged("check", "web", False, "refused"),
        TrackerChanged("service", "nginx", True),
    ]
    assert tracking.faults == ("check web refused",)
    found.note("check", "web", True)
    assert told(found, tracking) == [TrackerChanged("check", "web", True)]


def test_a_note_of_an_interface_or_a_script_is_not_kept() -> None:
    """The next look asks again: the note may be older than what is known there."""
    found = tracked()
    assert found.note("script", "good", False) == TrackerChanged("script", "good", False)
    assert found.news(Tracking([Track("script", "good")])) == [TrackerChanged("script", "good", True)]
