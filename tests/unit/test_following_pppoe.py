# SPDX-License-Identifier: GPL-2.0-or-later
"""Following with PPPoE: a session that is ended before a new dial, or taken over."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.core.lease import Session
from tandem.core.open_session import LIFETIME, READ_WITHIN, UP_WITHIN
from tandem.core.timers import SECOND
from tandem.follow import following as module
from tandem.follow import takeover
from tandem.follow.following import DELETE_AFTER, Following
from tandem.follow.lease import pack
from tests.unit.follow_stage import Stage, followed, plan, set_stage
from tests.unit.test_follow_lease import MAC

PPPOE = {"up": True, "proto": "pppoe", "l3_device": "pppoe-wan", "ipv4-address": [{"address": "203.0.113.9"}]}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return set_stage(monkeypatch)


@pytest.fixture
def found(stage: Stage) -> Following:
    return followed(stage)


def test_a_session_is_told_and_ended_before_the_new_dial(
    stage: Stage, found: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session("wan", MAC, "203.0.113.7", "02:00:00:00:00:ac", 7)
    found.received("r2", pack({"wan": session}, 0))
    found.begin("G")
    assert stage.take() == ["create", "hang_up 203.0.113.7", "up wan"] and not stage.readers
    word = "0800" if sys.byteorder == "little" else "0008"
    monkeypatch.setattr(module, "sessions", lambda: f"0000{word} 02:00:00:00:00:ac wan0\n")
    found.status("wan", PPPOE, fresh=True)
    assert stage.take()[1:] == ["-IS flush.py 203.0.113.7", "renew 203.0.113.9", "tell r2 203.0.113.9"]
    shown = found.networks()[0]
    assert (shown["address"], shown["server"], shown["lease_left_s"]) == (
        "203.0.113.9/32", "02:00:00:00:00:ac", None
    )  # fmt: skip
    found.end("G")
    assert stage.take() == ["remove 203.0.113.9", "hang_up 203.0.113.9"]
    stage.run(DELETE_AFTER)
    assert stage.take() == ["delete"]
    found.stop()


SESSION = Session("wan", MAC, "203.0.113.9", "02:00:00:00:00:ac", 0x0808, open=True)
TABLE = "00000808 02:00:00:00:00:ac wan0\n"


@pytest.fixture
def taking(
    stage: Stage, found: Following, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Following]:
    """With option session 'takeover'; the kernel lists what `stage.table` says."""
    monkeypatch.setattr(takeover, "PPPD", str(tmp_path))
    monkeypatch.setattr(takeover, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(takeover, "kernel_sessions", lambda: stage.table)
    monkeypatch.setattr(module, "sessions", lambda: stage.table)
    found.take_plan(plan("wan", session="takeover"), ())
    yield found
    found.stop()
    assert not os.path.lexists(tmp_path / "options.wan0")


def test_a_session_is_taken_over(stage: Stage, taking: Following, tmp_path: Path) -> None:
    taking.received("r2", pack({"wan": SESSION}, 0))
    taking.begin("G")
    assert stage.take() == ["create", "up wan"]
    assert (tmp_path / "options.wan0").read_text().startswith("rp_pppoe_sess 2056:02:00:00:00:00:ac\n")
    assert taking.networks()[0]["state"] == "taking"
    stage.table = TABLE
    taking.status("wan", PPPOE, fresh=True)
    assert stage.take() == ["renew 203.0.113.9", "tell r2 203.0.113.9"], "no connection ends"
    assert not (tmp_path / "run/wan0.session").exists()
    taking.end("G")
    assert stage.take() == ["remove 203.0.113.9"], "it stays open"
    taking.begin("G")
    assert stage.take() == ["status wan", "create", "up wan"], "pppd has it still"
    taking.end("G")
    stage.table = ""
    stage.run(SECOND)
    taking.begin("G")
    assert taking.networks()[0]["state"] == "taking", "nobody else has taken it"
    taking.end("G")
    taking.received("r2", pack({"wan": None}, 0))
    taking.begin("G")
    assert taking.networks()[0]["state"] == "asking"


@pytest.mark.parametrize("refused", [True, False])
def test_a_session_is_the_one_of_the_peer_whose_word_counts(
    stage: Stage, taking: Following, refused: bool
) -> None:
    """r2, which has it open, is gone for so long that its session has ended; r3 says nothing of it."""
    taking.peer_opened("r2")
    taking.peer_opened("r3")
    taking.received("r2", pack({"wan": SESSION}, 0))
    taking.received("r3", pack({"wan": replace(SESSION, mac="02:00:00:00:00:09") if refused else SESSION}, 0))
    taking.peer_closed("r2")
    stage.run(LIFETIME + SECOND)
    taking.begin("G")
    assert taking.networks()[0]["state"] == ("asking" if refused else "taking")


def test_the_option_comes_by_a_reload(stage: Stage, taking: Following, tmp_path: Path) -> None:
    taking.take_plan(plan("wan"), ())
    taking.received("r2", pack({"wan": SESSION}, 0))
    taking.take_plan(plan("wan", session="takeover"), ())
    taking.begin("G")
    assert taking.networks()[0]["state"] == "taking", "r2 has told it before"
    stage.table = TABLE
    taking.status("wan", PPPOE, fresh=True)
    stage.take()
    taking.take_plan(plan("wan"), ("G",))
    assert stage.take() == ["status wan"], "r2 must hear that the session is no longer left open"


def test_a_session_that_is_not_taken_over_is_ended(stage: Stage, taking: Following) -> None:
    taking.received("r2", pack({"wan": SESSION}, 0))
    taking.begin("G")
    stage.take()
    stage.run(READ_WITHIN)
    assert stage.take() == ["hang_up 203.0.113.9"] and taking.networks()[0]["state"] == "asking"
    taking.end("G")
    taking.begin("G")
    assert taking.networks()[0]["state"] == "asking", "it is not tried a second time"


@pytest.mark.parametrize("why", ["not open", "stale", "not asked for", "no link", "no peer"])
def test_a_session_that_must_not_be_taken_over(
    stage: Stage, taking: Following, tmp_path: Path, why: str
) -> None:
    told = replace(SESSION, open=why != "not open")
    if why != "no peer":  # after a boot
        taking.received("r2", pack({"wan": told}, 0))
    if why == "stale":
        taking.peer_closed("r2")
        stage.run(LIFETIME)
    if why == "not asked for":
        taking.take_plan(plan("wan"), ())
    if why == "no link":
        (tmp_path / "options.wan0").unlink()
        (tmp_path / "options.wan0").write_text("")
    taking.begin("G")
    assert stage.take()[:2] == ["create", "up wan" if why == "no peer" else "hang_up 203.0.113.9"]
    (tmp_path / "options.wan0").unlink(missing_ok=True)


def test_a_router_without_a_peer_ends_its_session(stage: Stage, taking: Following) -> None:
    stage.table = TABLE
    taking.begin("G")
    taking.status("wan", PPPOE, fresh=True)
    taking.peer_closed("r2")
    stage.run(LIFETIME)
    stage.take()
    taking.end("G")
    assert stage.take() == ["remove 203.0.113.9", "hang_up 203.0.113.9"]


def test_a_pppd_that_goes_on_in_vain_is_stopped(stage: Stage, taking: Following, tmp_path: Path) -> None:
    taking.received("r2", pack({"wan": SESSION}, 0))
    taking.begin("G")
    (tmp_path / "options.wan0").read_text()
    (heard,) = stage.readers.values()
    heard()
    stage.table = TABLE
    stage.take()
    stage.run(UP_WITHIN)
    assert stage.take() == ["hang_up 203.0.113.9", "drop_sessions"]


def test_a_file_of_the_user_is_told_of(
    stage: Stage, found: Following, taking: Following, tmp_path: Path
) -> None:
    (tmp_path / "options.wan0").unlink()
    (tmp_path / "options.wan0").write_text("debug\n")
    taking.take_plan(plan("wan", session="takeover"), ())
    stage.table = TABLE
    taking.begin("G")
    taking.status("wan", PPPOE, fresh=True)
    taking.refresh()
    assert "is another file" in str(found.networks()[0]["problem"]) and len(found.trouble) == 1
    taking.take_plan(plan("wan"), ())
    assert found.networks()[0]["problem"] is None
    (tmp_path / "options.wan0").unlink()
