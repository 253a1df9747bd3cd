# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal notes what has changed since the kernel was written."""

from __future__ import annotations

import pytest

from tandem.replication import journal as journals
from tandem.replication.journal import Journal


def test_nothing_is_noted_while_it_is_off() -> None:
    journal = Journal()
    assert not journal.on
    journal.start(whole=True)
    assert journal.on and journal.whole and not journal.unsure
    journal.change(b"a", True)
    journal.remove(b"b")
    assert journal.waiting == 2
    journal.stop()
    assert not journal.on and not journal.whole and journal.waiting == 0
    journal.start(whole=False)
    assert journal.unsure


def test_what_comes_and_goes_leaves_no_trace_unless_the_kernel_may_have_it() -> None:
    journal = Journal()
    journal.start(whole=True)
    journal.change(b"a", True)
    journal.remove(b"a")
    assert journal.waiting == 0
    journal.change(b"b", True)
    journal.doubt()
    journal.remove(b"b")
    assert journal.take_gone() == {b"b": None} and not journal.gone
    journal.change(b"c", True)  # noted as changed: the kernel may get it now
    journal.change(b"c", True)
    assert journal.take_changed() == ({}, {b"c": None}) and journal.waiting == 0
    journal.unsure = False
    journal.remove(b"d")
    journal.change(b"d", True)  # its end is not written yet
    assert journal.take_changed() == ({}, {b"d": None}) and not journal.gone


def test_a_change_is_noted_once() -> None:
    journal = Journal()
    journal.start(whole=True)
    for first, then in ((True, False), (False, True), (True, True)):
        journal.change(b"%d%d" % (first, then), first)
        journal.change(b"%d%d" % (first, then), then)
    assert journal.waiting == 3
    assert [*map(list, journal.take_changed())] == [[b"10", b"11"], [b"01"]]
    journal.change(b"a", True)
    journal.remove(b"b")
    journal.start(whole=True)  # what was noted is forgotten
    assert journal.waiting == 0


def test_too_many_changes_are_one_walk_and_too_many_ends_are_left_to_their_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journals, "CHANGED_MAX", 4)
    monkeypatch.setattr(journals, "GONE_MAX", 2)
    journal = Journal()
    journal.start(whole=True)
    for number in range(4):
        journal.change(b"%d" % number, number % 2 == 0)
    assert journal.whole and journal.waiting == 4
    journal.change(b"4", True)
    assert not journal.whole and journal.waiting == 1
    for number in range(10, 13):
        journal.remove(b"%d" % number)
    assert len(journal.gone) == 2 and journal.forgotten == 1
