# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in a child process, and the helpers that the kernel may have to load a module for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tandem.conntrack.encode import Builder
from tandem.conntrack.record import T_HELPER, TAIL, pack_tail
from tandem.conntrack.writer import Restorer
from tandem.effects import aside
from tandem.effects.aside import Aside
from tests.lab.wait import wait_until
from tests.unit.test_conntrack_cli import FLOWS

CRASH: Any = None


@pytest.fixture
def child() -> Iterator[Aside]:
    made = Aside()
    yield made
    made.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nobody is left


def answer(child: Aside) -> bytes:
    found: list[bytes | None] = []
    wait_until(lambda: found.append(child.answer()) or found[-1] is not None, 10, "an answer", every=0.001)
    assert found[-1] is not None
    return found[-1]


def test_what_the_work_returns(child: Aside) -> None:
    here = os.getpid()
    for number in range(3):
        child.begin(lambda number=number: b"%d %d" % (number, os.getpid() == here))  # type: ignore[misc]
        assert child.busy
        assert answer(child) == b"%d 0" % number
        assert not child.busy


def test_work_that_fails(child: Aside) -> None:
    child.begin(lambda: CRASH.nothing())
    assert answer(child) == b""


def test_work_that_takes_too_long(child: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "PATIENCE", 0)
    child.begin(lambda: time.sleep(1000) or b"")
    assert answer(child) == b""
    child.begin(lambda: time.sleep(1000) or b"")  # and one that is given up at the end


@pytest.mark.skipif(os.geteuid() != 0, reason="conntrack is for root")
def test_the_loop_does_not_wait_for_the_module_of_a_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = Restorer()
    sent: list[bytes] = []  # by this process

    def transact(data: bytes) -> list[Any]:
        sent.append(bytes(data))
        if b"slow" in data:
            time.sleep(1000)  # as the kernel does while modprobe runs
        return []

    monkeypatch.setattr(restorer._commands, "transact", transact)
    key, body = FLOWS[0][:2]
    helped = bytes((body[0] | TAIL,)) + body[1:] + pack_tail({T_HELPER: b"slow"})
    other = key[:-1] + bytes((key[-1] ^ 1,))
    restorer.restore(Builder().chunks([(key, helped), (other, body)]))
    for _ in range(5):
        assert not restorer.step()
    assert restorer.waiting
    assert not any(b"slow" in data for data in sent)
    restorer.close()
