# SPDX-License-Identifier: GPL-2.0-or-later
"""The object `tandem` on ubus without a bus: how many calls are open."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.openwrt import libubus as lib
from tandem.openwrt.tandem_object import CALLS_MAX, TandemObject
from tandem.openwrt.ubus import UbusError


class Call:
    """A call by somebody on the bus."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.status: list[int] = []

    def defer(self) -> Call:
        return self

    def reply(self, values: Any) -> None:
        self.replies.append(values)

    def finish(self, status: int = lib.OK) -> None:
        self.status.append(status)


def called(handler: Any, times: int) -> list[Call]:
    """The results of so many calls, each of which the handler may fail."""
    added = TandemObject(None, None, handler)  # type: ignore[arg-type]
    calls = [Call() for _ in range(times)]
    for call in calls:
        with pytest.raises(ZeroDivisionError):
            added._called("reload", call, {})  # type: ignore[arg-type]
    return calls


def test_a_handler_that_raises_leaves_no_call_open() -> None:
    calls = called(lambda request, reply: 1 / 0, 3 * CALLS_MAX)
    assert {tuple(call.status) for call in calls} == {(lib.UNKNOWN_ERROR,)}


def test_nor_one_that_raises_after_its_answer() -> None:
    def handler(request: Any, reply: Any) -> None:
        reply({"ok": True, "result": {}})
        reply({"ok": True, "result": {}})
        raise ZeroDivisionError

    calls = called(handler, 3 * CALLS_MAX)
    assert {(len(call.replies), tuple(call.status)) for call in calls} == {(1, (lib.OK,))}


def test_calls_that_are_really_open_are_bounded() -> None:
    waiting: list[Any] = []
    added = TandemObject(None, None, lambda request, reply: waiting.append(reply))  # type: ignore[arg-type]
    for _ in range(CALLS_MAX):
        added._called("reload", Call(), {})  # type: ignore[arg-type]
    with pytest.raises(UbusError):
        added._called("reload", Call(), {})  # type: ignore[arg-type]
    for reply in waiting:
        reply({"ok": False, "error": "no"})
    added._called("reload", Call(), {})  # type: ignore[arg-type]
    assert len(waiting) == CALLS_MAX + 1
