# SPDX-License-Identifier: GPL-2.0-or-later
"""The ctypes binding against a real libubus and ubusd."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.openwrt import libubus as lib
from tandem.openwrt.blobmsg import MESSAGE_MAX, encode
from tandem.openwrt.ubus import Call, Method, Object, Ubus, UbusError
from tests.lab import wait_until
from tests.openwrt_pieces import USR, needs_ubus

from .ubusd import LIBUBUS, RawClient, Ubusd

pytestmark = needs_ubus

EVERYTHING = {
    "text": "a\u00fc\U0001f600", "empty": "", "int": -5, "large": 1 << 40, "low": -(1 << 63),
    "high": (1 << 63) - 1, "true": True, "false": False, "double": 1e-9, "null": None,
    "list": [1, "two", [3.5, []], {"four": 4}], "table": {"a": {"b": {}}},
}  # fmt: skip
TYPES = {"text": str, "int": int, "bool": bool, "double": float, "table": dict, "list": list}


def exchange(caller: Ubus, server: Ubus, object_id: int, method: str, arguments: dict[str, Any]) -> Any:
    """A call between two connections of this process: (status, replies)."""
    found: list[Any] = []
    caller.call_async(object_id, method, arguments, lambda status, replies: found.extend((status, replies)))
    deadline = time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        server.loop(0.001)
        caller.loop(0.001)
    return tuple(found)


@pytest.fixture
def bus(ubusd: Ubusd) -> Ubus:
    return ubusd.connect()


@pytest.fixture
def caller(ubusd: Ubusd) -> Ubus:
    return ubusd.connect()


@pytest.fixture
def echo(bus: Ubus) -> Object:
    return bus.add("echo", {"echo": Method(lambda _call, arguments: arguments, {"data": dict})})


# Calls


def test_values_survive_the_way_there_and_back(bus: Ubus, caller: Ubus, echo: Object) -> None:
    assert exchange(caller, bus, echo.id, "echo", {"data": EVERYTHING}) == (lib.OK, [{"data": EVERYTHING}])


def test_the_command_line_understands_us(ubusd: Ubusd, bus: Ubus, echo: Object) -> None:
    asked = ubusd.cli_start("call", "echo", "echo", json.dumps({"data": {"a": [1, True, None, "x"]}}))
    wait_until(lambda: (bus.loop(0.01), asked.poll() is not None)[1], 10)
    assert json.loads(asked.stdout.read()) == {"data": {"a": [1, True, None, "x"]}}  # type: ignore[union-attr]


def test_objects_and_their_signatures(bus: Ubus, caller: Ubus) -> None:
    bus.add("test.one", {"go": Method(lambda _call, _arguments: None, dict(TYPES))})
    bus.add("test.two", {})
    assert caller.objects("test.*") == {
        "test.one": {"go": {"text": 3, "int": 5, "bool": 7, "double": 8, "table": 2, "list": 1}},
        "test.two": {},
    }
    assert set(caller.objects()) == {"test.one", "test.two"}
    assert caller.objects("nothing") == {}


def test_a_synchronous_call_and_its_errors(ubusd: Ubusd, caller: Ubus) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, ubusd.socket, LIBUBUS])
    try:
        wait_until(lambda: "remote" in caller.objects(), 20)
        assert caller.call("remote", "twice", {"n": 21}) == [{"n": 42}, {"n": 43}]
        assert caller.call("remote", "nothing") == []
        for path, method, arguments, status in (
            ("nobody", "twice", {}, lib.NOT_FOUND),
            ("remote", "unknown", {}, lib.METHOD_NOT_FOUND),
            ("remote", "twice", {"n": "x"}, lib.INVALID_ARGUMENT),
            ("remote", "broken", {}, lib.UNKNOWN_ERROR),
            ("remote", "refuse", {}, lib.PERMISSION_DENIED),
            ("remote", "silent", {}, lib.TIMEOUT),
        ):
            with pytest.raises(UbusError) as failed:
                caller.call(path, method, arguments, timeout=1)
            assert failed.value.status == status, method
        assert caller.call("remote", "twice", {"n": 1}) == [{"n": 2}, {"n": 3}]  # and goes on
    finally:
        server.kill()
        server.wait()


SERVER = """
import sys
from tandem.openwrt.ubus import *
from tandem.openwrt import libubus as lib
bus = Ubus(sys.argv[1], library=sys.argv[2])
bus.connect()
kept = []
def twice(call, arguments):
    call.reply({"n": 2 * arguments["n"]})
    return {"n": 2 * arguments["n"] + 1}
def refuse(call, arguments):
    raise UbusError(lib.PERMISSION_DENIED)
bus.add("remote", {
    "twice": Method(twice, {"n": int}),
    "nothing": Method(lambda call, arguments: None),
    "broken": Method(lambda call, arguments: 1 / 0),
    "refuse": Method(refuse),
    "silent": Method(lambda call, arguments: kept.append(call.defer())),
})
while bus.connected:
    try:
        bus.loop()
    except ZeroDivisionError:
        pass
"""


def test_a_deferred_call_is_answered_later(bus: Ubus, caller: Ubus) -> None:
    waiting: list[Call] = []
    added = bus.add("slow", {"go": Method(lambda call, _arguments: waiting.append(call.defer()))})
    answers: list[Any] = []
    for number in range(3):
        caller.call_async(added.id, "go", {}, lambda *answer, n=number: answers.append((n, *answer)))
    wait_until(lambda: (bus.loop(0.01), len(waiting) == 3)[1], 10)
    for number, call in reversed(list(enumerate(waiting))):
        call.reply({"number": number})
        call.finish(lib.OK if number else lib.NO_DATA)
        call.finish()  # a second time does nothing
    wait_until(lambda: (caller.loop(0.01), len(answers) == 3)[1], 10)
    assert sorted(answers) == [
        (0, lib.NO_DATA, [{"number": 0}]), (1, lib.OK, [{"number": 1}]), (2, lib.OK, [{"number": 2}]),
    ]  # fmt: skip


def test_a_call_that_was_not_deferred_can_not_be_answered_later(bus: Ubus, caller: Ubus) -> None:
    kept: list[Call] = []
    added = bus.add("fast", {"go": Method(lambda call, _arguments: kept.append(call))})
    assert exchange(caller, bus, added.id, "go", {}) == (lib.OK, [])
    kept[0].reply({"late": True})  # the structure in C is gone: nothing happens
    kept[0].finish(lib.UNKNOWN_ERROR)
    assert exchange(caller, bus, added.id, "go", {}) == (lib.OK, [])


def test_a_cancelled_call_does_not_come_back(bus: Ubus, caller: Ubus, echo: Object) -> None:
    answers: list[Any] = []
    pending = caller.call_async(echo.id, "echo", {}, lambda *answer: answers.append(answer))
    caller.cancel(pending)
    assert exchange(caller, bus, echo.id, "echo", {}) == (lib.OK, [{}])
    assert answers == []


# Policies


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", (5, True, None, 1.5, {}, [])),
        ("int", ("5", True, None, 1.5, {}, [])),
        ("bool", ("true", 1, None, {}, [])),
        ("double", ("1", True, None, {}, [])),
        ("table", ("x", 1, None, [], True)),
        ("list", ("x", 1, None, {}, True)),
        ("unknown", ("x", {})),
    ],
)
def test_a_call_with_other_arguments_is_refused(
    bus: Ubus, caller: Ubus, name: str, values: tuple[Any, ...]
) -> None:
    called: list[Any] = []
    added = bus.add("strict", {"go": Method(lambda _call, arguments: called.append(arguments), dict(TYPES))})
    for value in values:
        assert exchange(caller, bus, added.id, "go", {name: value}) == (lib.INVALID_ARGUMENT, [])
    assert called == []


def test_what_the_policy_allows_arrives(bus: Ubus, caller: Ubus) -> None:
    called: list[Any] = []
    added = bus.add("strict", {"go": Method(lambda _call, arguments: called.append(arguments), dict(TYPES))})
    given = {"text": "x", "int": 1 << 40, "bool": True, "double": 2, "table": {}, "list": [None]}
    assert exchange(caller, bus, added.id, "go", {**given, "ubus_rpc_session": "0" * 32}) == (lib.OK, [])
    assert called == [given]


def test_garbage_instead_of_arguments(ubusd: Ubusd, bus: Ubus, caller: Ubus) -> None:
    """Blobs that no library makes, through ubusd, which passes on what it does not understand."""
    called: list[Any] = []
    added = bus.add("strict", {"go": Method(lambda _call, arguments: called.append(arguments), dict(TYPES))})
    rng = random.Random(4)
    good = encode({"text": "hello", "table": {"a": [1, 2, {"b": "c"}]}, "int": 7})[4:]
    with RawClient(ubusd.socket) as raw:
        for number in range(400):
            body = bytearray(good if number % 2 else rng.randbytes(rng.randrange(64)))
            for _ in range(rng.randrange(1, 4) if body else 0):
                body[rng.randrange(len(body))] = rng.randrange(256)
            raw.invoke(added.id, "go", bytes(body))
            bus.loop(0.002)
    assert exchange(caller, bus, added.id, "go", {"text": "still there"}) == (lib.OK, [])
    assert called[-1] == {"text": "still there"}
    assert all(
        isinstance(value, TYPES[name]) or name == "double" for one in called for name, value in one.items()
    )


# Large and many


def test_messages_up_to_one_mebibyte(bus: Ubus, caller: Ubus, echo: Object) -> None:
    largest = MESSAGE_MAX - 200
    text = "x" * largest
    assert exchange(caller, bus, echo.id, "echo", {"data": {"text": text}}) == (
        lib.OK, [{"data": {"text": text}}],
    )  # fmt: skip
    with pytest.raises(UbusError) as failed:
        caller.call_async(echo.id, "echo", {"data": {"text": "x" * MESSAGE_MAX}}, lambda *_: None)
    assert failed.value.status == lib.INVALID_ARGUMENT
    with pytest.raises(UbusError):  # libubus would read what is not its own
        bus.notify(echo, "kind", {"text": "x" * MESSAGE_MAX})
    with pytest.raises(UbusError):
        bus.send_event("event", {"text": "x" * MESSAGE_MAX})
    assert exchange(caller, bus, echo.id, "echo", {}) == (lib.OK, [{}])  # both are still connected


def test_a_reply_that_is_too_long_is_an_error_of_that_call(bus: Ubus, caller: Ubus) -> None:
    added = bus.add("long", {"go": Method(lambda _call, _arguments: {"text": "x" * MESSAGE_MAX})})
    assert exchange(caller, bus, added.id, "go", {}) == (lib.INVALID_ARGUMENT, [])
    assert bus.connected


def test_a_method_may_limit_its_arguments(bus: Ubus, caller: Ubus) -> None:
    added = bus.add("short", {"go": Method(lambda _call, arguments: arguments, {"text": str}, 100)})
    assert exchange(caller, bus, added.id, "go", {"text": "x" * 50}) == (lib.OK, [{"text": "x" * 50}])
    assert exchange(caller, bus, added.id, "go", {"text": "x" * 100}) == (lib.INVALID_ARGUMENT, [])


def memory() -> int:
    """Resident memory that is not shared, in KiB."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def test_ten_thousand_calls_leave_nothing_behind(bus: Ubus, caller: Ubus, echo: Object) -> None:
    done: list[int] = []
    heard: list[str] = []
    caller.subscribe("echo", lambda kind, _data: heard.append(kind))
    caller.listen("leak.*", lambda event, _data: heard.append(event))

    def rounds(number: int) -> None:
        for turn in range(number):
            caller.call_async(
                echo.id, "echo", {"data": {"n": [1, "x"]}}, lambda status, _r: done.append(status)
            )
            if turn % 10 == 0:
                bus.notify(echo, "kind", {"n": 1})
                bus.send_event("leak.x", {"n": 1})
            while not done or (turn % 10 == 0 and len(heard) < 2):
                bus.loop(0)
                caller.loop(0)
            assert done == [lib.OK]
            done.clear()
            heard.clear()

    rounds(500)
    objects, before, descriptors = len(gc.get_objects()), memory(), len(os.listdir("/proc/self/fd"))
    rounds(10_000)
    caller.loop(0.05)
    bus.loop(0.05)
    assert len(gc.get_objects()) - objects < 200
    assert memory() - before < 512
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_thousand_connections_leave_nothing_behind(ubusd: Ubusd) -> None:
    bus = Ubus(ubusd.socket, library=LIBUBUS)

    def rounds(number: int) -> None:
        for _ in range(number):
            bus.connect()
            bus.add("come", {"go": Method(lambda _call, _arguments: None, {"x": str})})
            bus.listen("x", lambda _event, _data: None)
            bus.disconnect()

    rounds(50)
    objects, before, descriptors = len(gc.get_objects()), memory(), len(os.listdir("/proc/self/fd"))
    rounds(1000)
    assert len(gc.get_objects()) - objects < 200
    assert memory() - before < 512
    assert len(os.listdir("/proc/self/fd")) == descriptors


# Events and notifications


def test_events_and_patterns(ubusd: Ubusd, bus: Ubus, caller: Ubus) -> None:
    heard: list[Any] = []
    bus.listen("one.*", lambda event, data: heard.append((event, data)))
    bus.listen("two", lambda event, data: heard.append((event, data)))
    caller.send_event("one.a", {"n": 1})
    caller.send_event("two.b", {"n": 2})
    caller.send_event("two")
    ubusd.cli("send", "one.cli", '{"x": {}}')
    wait_until(lambda: (bus.loop(0.01), len(heard) == 3)[1], 10)
    assert heard == [("one.a", {"n": 1}), ("two", {}), ("one.cli", {"x": {}})]


def test_notifications_from_the_subscription_to_the_end_of_the_object(bus: Ubus, caller: Ubus) -> None:
    heard: list[Any] = []
    added = bus.add("source", {})
    assert not added.has_subscribers
    found = caller.subscribe(
        "source", lambda kind, data: heard.append((kind, data)), lambda: heard.append("gone")
    )
    assert found == added.id
    wait_until(lambda: (bus.loop(0.01), added.has_subscribers)[1], 10)
    bus.notify(added, "first", {"n": 1, "m": [True]})
    bus.notify(added, "second")
    wait_until(lambda: (caller.loop(0.01), len(heard) == 2)[1], 10)
    bus.remove(added)
    wait_until(lambda: (caller.loop(0.01), len(heard) == 3)[1], 10)
    assert heard == [("first", {"n": 1, "m": [True]}), ("second", {}), "gone"]
    with pytest.raises(UbusError) as failed:
        caller.subscribe("source", lambda _kind, _data: None)
    assert failed.value.status == lib.NOT_FOUND


def test_only_what_is_wanted_of_a_notification(bus: Ubus, caller: Ubus) -> None:
    heard: list[Any] = []
    added = bus.add("source", {})
    caller.subscribe("source", lambda _kind, data: heard.append(data), only=("b",))
    bus.loop(0.05)
    bus.notify(added, "kind", {"a": {"deep": [1]}, "b": 2})
    wait_until(lambda: (caller.loop(0.01), heard)[1], 10)
    assert heard == [{"b": 2}]


def test_the_layout_of_subscribers_is_found_out() -> None:
    new = "new_obj_cb" in Path(USR / "include/libubus.h").read_text()
    assert lib.subscriber_has_list(lib.load(LIBUBUS)) is new


# Failures


def test_what_a_callback_raises_comes_out_of_handle(bus: Ubus, caller: Ubus) -> None:
    added = bus.add("bad", {"go": Method(lambda _call, _arguments: 1 / 0)})  # type: ignore[arg-type, return-value]
    answers: list[Any] = []
    caller.call_async(added.id, "go", {}, lambda *answer: answers.append(answer))
    with pytest.raises(ZeroDivisionError):
        bus.loop(5)
    wait_until(lambda: (caller.loop(0.01), answers)[1], 10)
    assert answers == [(lib.UNKNOWN_ERROR, [])]


def test_a_name_that_is_taken(bus: Ubus, caller: Ubus, echo: Object) -> None:
    with pytest.raises(UbusError):
        caller.add("echo", {})
    assert caller.connected


def test_ubusd_is_not_there(tmp_path: Path) -> None:
    bus = Ubus(str(tmp_path / "nothing"), library=LIBUBUS)
    with pytest.raises(UbusError) as failed:
        bus.connect()
    assert failed.value.status == lib.CONNECTION_FAILED and not bus.connected and bus.fileno() == -1
    for action in (lambda: bus.call("a", "b"), lambda: bus.send_event("x"), lambda: bus.lookup("a")):
        with pytest.raises(UbusError):
            action()
    bus.handle()
    bus.disconnect()


def test_killed_and_restarted(ubusd: Ubusd, bus: Ubus, caller: Ubus, echo: Object) -> None:
    ended: list[str] = []
    caller.on_end = lambda: ended.append("end")
    caller.call_async(echo.id, "echo", {}, lambda status, _replies: ended.append(str(status)))
    ubusd.kill()
    caller.loop(5)
    bus.loop(5)
    assert not caller.connected and not bus.connected
    assert ended == ["end", str(lib.CONNECTION_FAILED)]
    ubusd.start()
    for one in (bus, caller):
        one.connect()
    added = bus.add("echo", {"echo": Method(lambda _call, arguments: arguments, {"data": dict})})
    assert exchange(caller, bus, added.id, "echo", {"data": {}}) == (lib.OK, [{"data": {}}])


def test_a_call_while_ubusd_dies(ubusd: Ubusd, bus: Ubus, caller: Ubus, echo: Object) -> None:
    ubusd.kill()
    with pytest.raises(UbusError):
        caller.call("echo", "echo", {}, timeout=5)
    assert not caller.connected
    with pytest.raises(UbusError) as failed:
        bus.send_event("x")
    assert failed.value.status == lib.CONNECTION_FAILED
    bus.loop(1)
    assert not bus.connected


@pytest.mark.parametrize("action", ["lookup", "add", "listen", "call", "subscribe", "objects", "notify"])
def test_a_hanging_ubusd_costs_no_more_than_the_timeout(ubusd: Ubusd, action: str) -> None:
    bus = ubusd.connect(timeout=0.2)
    added = bus.add("mine", {})
    actions = {
        "lookup": lambda: bus.lookup("mine"),
        "add": lambda: bus.add("other", {}),
        "listen": lambda: bus.listen("x", lambda _event, _data: None),
        "call": lambda: bus.call("mine", "go"),
        "subscribe": lambda: bus.subscribe("mine", lambda _kind, _data: None),
        "objects": lambda: bus.objects(),
        "notify": lambda: bus.notify(added, "kind", {}, timeout=0.2),
    }
    ubusd.freeze()
    started = time.monotonic()
    with pytest.raises(UbusError) as failed:
        actions[action]()
    assert failed.value.status == lib.TIMEOUT
    assert time.monotonic() - started < 10  # for ever, else
    ubusd.thaw()
    if action != "notify":  # libubus itself gave up: the connection is as it was
        assert not bus.connected
    bus.connect()
    assert bus.objects() is not None


def test_a_hanging_ubusd_does_not_block_what_does_not_wait(ubusd: Ubusd) -> None:
    bus = ubusd.connect()
    added = bus.add("mine", {})
    ubusd.freeze()
    refused = 0
    for _ in range(40_000):  # more than any socket buffer holds
        try:
            bus.send_event("x", {"text": "y" * 1000})
            bus.notify(added, "x", {"text": "y" * 1000})
        except UbusError as error:
            assert error.status == lib.TIMEOUT
            refused += 1
            if refused > 10:
                break
    assert refused > 10
    ubusd.thaw()
    wait_until(lambda: _writes(bus), 10, "it goes on when ubusd does")


def _writes(bus: Ubus) -> bool:
    try:
        bus.send_event("x")
    except UbusError:
        return False
    return True


def test_a_hanging_ubusd_does_not_block_connecting(ubusd: Ubusd) -> None:
    ubusd.freeze()
    bus = Ubus(ubusd.socket, library=LIBUBUS, timeout=0.2)
    with pytest.raises(UbusError) as failed:
        bus.connect()
    assert failed.value.status == lib.TIMEOUT
    ubusd.thaw()


def test_an_ubusd_that_stops_between_greeting_and_hello(ubusd: Ubusd, tmp_path: Path) -> None:
    """The connection that shows that it is alive is greeted, that of libubus is not."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(ubusd.socket)
        hello = asked.recv(4096)
    path = str(tmp_path / "stops.sock")
    accepted: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)

        def greet() -> None:
            for number in range(2):
                accepted.append(listener.accept()[0])
                if not number:
                    accepted[-1].sendall(hello)

        thread = threading.Thread(target=greet)
        thread.start()
        bus = Ubus(path, library=LIBUBUS, timeout=0.2)
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(UbusError) as failed:
            bus.connect()
        assert failed.value.status == lib.TIMEOUT and not bus.connected
        thread.join(10)
        for sock in accepted:
            sock.close()
        assert len(os.listdir("/proc/self/fd")) <= descriptors
    bus = ubusd.connect()
    assert bus.objects() == {}


def test_disconnecting_within_a_callback(bus: Ubus, caller: Ubus) -> None:
    added = bus.add("bye", {"go": Method(lambda _call, _arguments: bus.disconnect())})
    caller.call_async(added.id, "go", {}, lambda _status, _replies: None)
    bus.loop(5)
    assert not bus.connected and bus.fileno() == -1
    wait_until(lambda: caller.objects() == {}, 10)


@pytest.fixture
def default_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGCHLD)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_keep_their_default_handlers(ubusd: Ubusd, default_signals: None) -> None:
    """uloop takes them otherwise, behind Python's back: SIGTERM then does nothing any more."""
    ubusd.connect()
    caught = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("SigCgt:")
    )
    for number in (signal.SIGTERM, signal.SIGCHLD):
        assert not caught >> number - 1 & 1, number


def test_no_libubus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="not a libubus"):
        Ubus(library="libc.so.6")
    (tmp_path / "libubus.so.20990101").write_bytes(b"not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(OSError, match=r"invalid ELF header|file too short"):
        Ubus()


def test_what_was_sent_before_disconnecting_arrives(ubusd: Ubusd, bus: Ubus) -> None:
    heard: list[int] = []
    bus.listen("last", lambda _event, data: heard.append(data["n"]))
    for number in range(50):
        leaving = ubusd.connect()
        leaving.send_event("last", {"n": number})
        leaving.disconnect()
    wait_until(lambda: (bus.loop(0.01), len(heard) == 50)[1], 10)
    assert heard == list(range(50))


def test_waiting_within_a_callback(bus: Ubus, caller: Ubus) -> None:
    added = bus.add("nested", {"go": Method(lambda _call, _arguments: {"id": str(bus.lookup("nested"))})})
    assert exchange(caller, bus, added.id, "go", {}) == (lib.OK, [{"id": str(added.id)}])


def test_no_thread_is_left(ubusd: Ubusd) -> None:
    before = len(os.listdir("/proc/self/task"))
    bus = ubusd.connect()
    for _ in range(20):
        bus.objects()
    bus.disconnect()
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before, 10, "no more threads than before")
    bus.connect()
    ubusd.kill()
    with pytest.raises(UbusError):
        bus.lookup("x")
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before, 10, "no more threads than before")
