# SPDX-License-Identifier: GPL-2.0-or-later
"""The object `tandem` on ubus without a bus: answers, news, and how many calls are open."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.openwrt import libubus as lib
from tandem.openwrt.tandem_object import CALLS_MAX, TandemObject
from tandem.openwrt.ubus import UbusError


class Call:
    """A call by somebody on the bus."""

    def __init__(self, user: str = "") -> None:
        self.user = user
        self.replies: list[Any] = []
        self.status: list[int] = []

    def defer(self) -> Call:
        return self

    def reply(self, values: Any) -> None:
        self.replies.append(values)

    def finish(self, status: int = lib.OK) -> None:
        self.status.append(status)


class Bus:
    """A bus, its connection, and a loop whose turn a test ends."""

    def __init__(self) -> None:
        self.bus = self
        self.has_subscribers = False
        self.methods: dict[str, Any] = {}
        self.sent: list[tuple[str, str, Any]] = []
        self.turn: list[Any] = []

    def attempt(self, action: Any) -> bool:
        action()
        return True

    def add(self, name: str, methods: dict[str, Any]) -> Bus:
        assert name == "tandem"
        self.methods = methods
        return self

    def notify(self, added: Bus, kind: str, values: Any) -> None:
        assert added is self
        self.sent.append(("subscribers", kind, values))

    def send_event(self, event: str, values: Any) -> None:
        self.sent.append(("listeners", event, values))

    def now(self) -> int:
        return 5

    def call_at(self, _key: str, when: int, call: Any) -> None:
        assert when == 5
        self.turn = [call]


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
    assert len(waiting) == 8
    refused = Call()
    with pytest.raises(UbusError) as error:
        added._called("reload", refused, {})  # type: ignore[arg-type]
    assert error.value.status == lib.NOT_SUPPORTED
    assert refused.replies == [{"error": "tandemd already works on 8 calls, try again"}]
    for reply in waiting:
        reply({"ok": False, "error": "no"})
    added._called("reload", Call(), {})  # type: ignore[arg-type]
    assert len(waiting) == CALLS_MAX + 1


def test_an_answer_is_the_result_or_the_error_of_the_command() -> None:
    answers = {
        "status": {"ok": True, "result": {"role": "MASTER"}},
        "reload": {"ok": True, "result": "nothing has changed"},
        "failover": {"ok": False, "error": "no such group", "why": "x"},
    }
    bus = Bus()
    added = TandemObject(bus, bus, lambda request, reply: reply(answers[request["command"]]))  # type: ignore[arg-type]
    for step in added.steps():
        step()
    calls = {command: Call() for command in answers}
    for command, call in calls.items():
        assert bus.methods[command].handler(call, {}) is None
    assert {command: (call.replies, call.status) for command, call in calls.items()} == {
        "status": ([{"role": "MASTER"}], [lib.OK]),
        "reload": ([{"result": "nothing has changed"}], [lib.OK]),
        "failover": ([{"error": "no such group", "why": "x"}], [lib.NOT_SUPPORTED]),
    }


def test_a_command_is_told_who_gave_it_and_its_arguments() -> None:
    requests: list[Any] = []
    added = TandemObject(None, None, lambda request, reply: requests.append(request))  # type: ignore[arg-type]
    added._called("failover", Call("root"), {"group": "G"})  # type: ignore[arg-type]
    added._called("failover", Call(), {})  # type: ignore[arg-type]
    added._called("status", Call("root"), {})  # type: ignore[arg-type]
    assert requests == [
        {"command": "failover", "group": "G", "by": "root on ubus"},
        {"command": "failover", "by": "a user on ubus"},
        {"command": "status"},
    ]
    with pytest.raises(UbusError) as refused:
        added._called("status", Call(), {"nonsense": "1"})  # type: ignore[arg-type]
    assert refused.value.status == lib.INVALID_ARGUMENT and len(requests) == 3


def test_an_answer_that_ubus_refuses_has_its_status() -> None:
    class Full(Call):
        def reply(self, values: Any) -> None:
            raise UbusError(lib.TIMEOUT)

    call = Full()
    added = TandemObject(None, None, lambda request, reply: reply({"ok": True, "result": {}}))  # type: ignore[arg-type]
    added._called("status", call, {})  # type: ignore[arg-type]
    assert call.status == [lib.TIMEOUT]


def test_transitions_are_sent_in_a_turn_of_their_own() -> None:
    bus = Bus()
    added = TandemObject(bus, bus, lambda request, reply: None)  # type: ignore[arg-type]
    added.tell({"name": "before"})
    assert bus.turn == [], "nobody can hear it"
    for step in added.steps():
        step()
    added.tell({"name": "a"})
    bus.has_subscribers = True
    added.tell({"name": "b"})
    assert bus.sent == []
    bus.turn[0](5)
    assert bus.sent == [
        ("subscribers", "transition", {"name": "a"}), ("listeners", "tandem.transition", {"name": "a"}),
        ("subscribers", "transition", {"name": "b"}), ("listeners", "tandem.transition", {"name": "b"}),
    ]  # fmt: skip
    bus.has_subscribers = False
    added.tell({"name": "c"})
    added.flush()
    assert bus.sent[4:] == [("listeners", "tandem.transition", {"name": "c"})]
    added.tell({"name": "d"})
    added.lost()
    added.flush()
    assert len(bus.sent) == 5, "the connection is gone"
    for step in added.steps():
        step()
    added.flush()
    assert len(bus.sent) == 5, "the next one brings no old news"


def test_of_very_many_transitions_the_last_1024_are_sent() -> None:
    bus = Bus()
    added = TandemObject(bus, bus, lambda request, reply: None)  # type: ignore[arg-type]
    for step in added.steps():
        step()
    for number in range(2000):
        added.tell({"name": number})
    added.flush()
    assert [values["name"] for _, _, values in bus.sent] == list(range(2000 - 1024, 2000))
