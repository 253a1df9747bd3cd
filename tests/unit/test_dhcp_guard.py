# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard of DHCP with a fake kernel: which batches it sends when, and how it reports a failure."""

from __future__ import annotations

import errno

import pytest

from tandem.effects import guard as guard_module
from tandem.effects import nftables
from tandem.effects.guard import Guard, clear_guard
from tandem.plan.result import GuardPlan

PLAN = GuardPlan(b"hold;", b"empty;", b"tail;", b"clear;", {"I1": b"+I1;", "I2": b"+I2;"})


class Kernel:
    """Stands for `Commands`: takes batches that are texts."""

    def __init__(self, protocol: int = 0) -> None:
        self.sent: list[str] = []
        self.table = False

    def transact(self, batch: bytes) -> list[tuple[int, int, str]]:
        text = batch.decode()
        self.sent.append(text)
        if text == "hold;":
            self.table = True
        elif text == "clear;":
            self.table = False
        elif not self.table:
            return [(2, errno.ENOENT, ""), (3, errno.ENOENT, "")]
        return []

    def close(self) -> None: ...

    def take(self) -> list[str]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(nftables, "Commands", lambda protocol, size: made)
    monkeypatch.setattr(nftables, "numbered", lambda batch: batch)
    monkeypatch.setattr(guard_module, "shape_of", lambda batch: True)
    monkeypatch.setattr(guard_module, "shape_found", lambda name: made.table)
    return made


def test_only_the_active_answer(kernel: Kernel) -> None:
    guard = Guard()
    guard.hold(PLAN)
    assert kernel.take() == ["hold;", "empty;tail;"]
    guard.set_active(["W", "I1"])
    assert kernel.take() == ["empty;+I1;tail;"]
    assert guard.answering == {"I1"}
    guard.set_active(["W", "I1"])
    assert kernel.take() == []
    guard.set_active(["I2", "I1"])
    assert kernel.take() == ["empty;+I1;+I2;tail;"]
    guard.refresh()
    assert kernel.take() == ["empty;+I1;+I2;tail;"]
    guard.set_active([])
    assert kernel.take() == ["empty;tail;"]
    assert guard.answering == frozenset()


def test_who_must_wait_is_silent_though_active(kernel: Kernel) -> None:
    guard = Guard()
    guard.hold(PLAN)
    kernel.take()
    guard.delay({"I1", "I2"})
    assert kernel.take() == []
    guard.set_active(["I1"])
    assert kernel.take() == ["empty;tail;"]
    guard.delay({"I2"})
    assert kernel.take() == ["empty;+I1;tail;"]
    guard.delay({"I1"})
    assert kernel.take() == ["empty;tail;"]


def test_a_table_that_is_gone_is_made_again(kernel: Kernel) -> None:
    guard = Guard()
    guard.hold(PLAN)
    guard.set_active(["I1"])
    kernel.take()
    kernel.table = False
    guard.refresh()
    assert kernel.take() == ["empty;+I1;tail;", "hold;", "empty;+I1;tail;"]
    assert guard.failures == () and guard.answering == {"I1"}


def test_a_table_that_somebody_removed_is_made_again_at_once(kernel: Kernel) -> None:
    guard = Guard()
    assert not guard.restore()  # nobody wants one
    guard.hold(PLAN)
    guard.set_active(["I1"])
    kernel.take()
    assert not guard.restore() and kernel.take() == []
    kernel.table = False
    assert guard.restore()
    assert kernel.take() == ["hold;", "empty;+I1;tail;"]
    assert guard.answering == {"I1"}


def test_a_plan_without_dhcp_takes_the_table_away(kernel: Kernel) -> None:
    guard = Guard()
    guard.hold(PLAN)
    guard.set_active(["I1"])
    kernel.take()
    guard.hold(GuardPlan(b"", b"empty;", b"tail;", b"clear;", {}))
    guard.refresh()
    guard.set_active([])
    assert kernel.take() == ["clear;"]
    clear_guard(PLAN)
    assert kernel.take() == ["clear;"]


def test_a_kernel_without_nftables_is_told_and_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(protocol: int, size: int) -> Kernel:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(nftables, "Commands", refuse)
    guard = Guard()
    guard.hold(PLAN)
    guard.set_active(["I1"])
    guard.refresh()
    assert "Protocol not supported" in str(guard.failures[0])
    assert guard.answering == frozenset()
    guard.close()
    clear_guard(PLAN)
