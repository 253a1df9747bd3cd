# SPDX-License-Identifier: GPL-2.0-or-later
"""Tunnels that follow the role: where the peers are is told, and the next router shakes hands at once."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.effects.process import Exit
from tandem.follow.endpoints import PEERS_MAX, endpoints, intervals, pack, shake_hands, unpack
from tandem.follow.tunnels import LOOK_EVERY, TOPIC, WG, Tunnels

A, B, C = ("A" * 43 + "=", "B" * 43 + "=", "C" * 43 + "=")
SHOWN = f"{A}\t198.51.100.7:51820\n{B}\t(none)\n{C}\t[2001:db8::7%wan0]:51820\n".encode()
INTERVALS = f"{A}\toff\n{B}\t25\n".encode()
KNOWN = {A: "198.51.100.7:51820", C: "[2001:db8::7%wan0]:51820"}


def test_what_wg_prints() -> None:
    assert endpoints(SHOWN) == KNOWN
    assert intervals(INTERVALS) == {A: "off", B: "25"}
    assert endpoints(b"Unable to access interface: No such device\n\xff\t\n") == {}
    assert len(endpoints(b"".join(b"%043d=\t192.0.2.1:1\n" % number for number in range(500)))) == PEERS_MAX


def test_a_handshake_with_each_peer_that_is_here() -> None:
    """C is no peer of this router's tunnel: `wg set` would add it."""
    assert shake_hands("wg0", KNOWN, intervals(INTERVALS)) == [
        "set", "wg0",
        "peer", A, "endpoint", "198.51.100.7:51820", "persistent-keepalive", "off",
        "peer", A, "persistent-keepalive", "1", "peer", A, "persistent-keepalive", "off",
        "peer", B, "persistent-keepalive", "off",
        "peer", B, "persistent-keepalive", "1", "peer", B, "persistent-keepalive", "25",
    ]  # fmt: skip
    assert shake_hands("wg0", KNOWN, {}) == []


@pytest.mark.parametrize(
    "peers",
    [{"x": "192.0.2.1:1"}, {A: "-h"}, {A: "192.0.2.1:1 peer"}, {A: None}, {A: "example.org:51820"}, {A: 7}],
)
def test_a_malformed_endpoint_is_left_out(peers: Any) -> None:
    assert unpack(pack({"wg0": peers | {B: "192.0.2.1:1"}})) == {"wg0": {B: "192.0.2.1:1"}}


@pytest.mark.parametrize(
    ("endpoint", "fits"),
    [
        ("192.0.2.1:1", True), ("192.0.2.1:65535", True), ("192.0.2.1:123456", False), ("192.0.2.1:", False),
        ("192.0.2.1", False), ("192.0.2.1.5:1", False), ("[2001:db8::1]:1", True), ("[::1]:1", True),
        ("2001:db8::1:1", False),
        ("[2001:db8::12:1", False), ("2001:db8::12]:1", False), ("[192.0.2.1]:1", False), ("[]:1", False),
        ("[fe80::1%wan0]:1", True), (f"[fe80::1%{'x' * 15}]:1", True), (f"[fe80::1%{'x' * 16}]:1", False),
        ("[fe80::1%a b]:1", False), ("[fe80::1%a\n]:1", False), ("192.0.2.1:\u0661", False),
    ],
)  # fmt: skip
def test_an_endpoint_is_an_address_and_a_port(endpoint: str, fits: bool) -> None:
    assert unpack(pack({"wg0": {A: endpoint}})) == {"wg0": {A: endpoint} if fits else {}}


@pytest.mark.parametrize(
    ("key", "fits"),
    [("+/" * 21 + "0=", True), ("A" * 42 + "=", False), ("A" * 44 + "=", False), ("A" * 44, False),
     ("A" * 42 + "-=", False), ("-" + "A" * 42 + "=", False), ("\u00e9" * 43 + "=", False)],
)  # fmt: skip
def test_a_key_is_32_bytes_in_base64(key: str, fits: bool) -> None:
    assert unpack(pack({"wg0": {key: "192.0.2.1:1"}})) == {"wg0": {key: "192.0.2.1:1"} if fits else {}}


@pytest.mark.parametrize("data", [b"", b"[1]", b"[1, 5]", b'[1, {"wg0": 5}]', b"\xff", b"[" * 9000])
def test_a_message_that_is_none(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(data)


def test_a_later_version_says_nothing() -> None:
    assert unpack(b'[2, {"wg0": {}}]') == {}


class Router:
    """The loop, wg and the channel of one router."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.ended: list[Any] = []
        self.timers: dict[Any, Any] = {}
        self.told: list[Any] = []
        self.logged: list[str] = []
        anything: Any = self
        self.tunnels = Tunnels(anything, anything, lambda: anything)
        self.tunnels.join(anything)
        self.tunnels.take(frozenset({"wg0"}))

    def now(self) -> int:
        return 0

    def call_at(self, key: Any, when: int | None, callback: Any = None) -> None:
        self.timers.pop(key, None)
        if when is not None:
            assert when == LOOK_EVERY
            self.timers[key] = callback

    def start(self, argv: list[str], _timeout: int, on_exit: Any, output: bool) -> None:
        assert argv[0] == WG and output
        self.ran.append(argv[1:])
        self.ended.append(on_exit)

    def answer(self, printed: bytes, status: int = 0) -> None:
        self.ended.pop(0)(Exit(status, 0, output=printed))

    def subscribe(self, _topic: str, _subscriber: Any) -> None:
        pass

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        assert topic == TOPIC
        self.told.append((peer, unpack(data)))
        return True

    def limited(self, _key: object, _level: str, text: str) -> None:
        self.logged.append(text)

    def __getattr__(self, _name: str) -> Any:  # the rest of the log
        return lambda *_words: None


def test_the_active_router_tells_where_its_peers_are() -> None:
    router = Router()
    router.tunnels.peer_opened("r2")
    router.tunnels.up("wg0", "wg0")
    router.answer(b"")
    assert router.ran == [["show", "wg0", "persistent-keepalive"]] and router.told == []
    for _ in range(2):  # nothing has changed the second time
        router.timers["tunnel", "wg0"](0)
        router.answer(SHOWN)
    assert router.told == [("r2", {"wg0": KNOWN})]
    router.tunnels.peer_opened("r3")
    assert router.told[1:] == [("r3", {"wg0": KNOWN})]
    router.tunnels.received("r2", pack({"wg0": {}}))  # what a backup says of a tunnel that is up here
    router.tunnels.peer_opened("r4")
    assert router.told[2:] == [("r4", {"wg0": KNOWN})]
    router.tunnels.down("wg0")
    assert not router.timers


def test_the_next_one_shakes_hands_at_once() -> None:
    router = Router()
    router.tunnels.received("r1", pack({"wg0": KNOWN, "other": KNOWN}))
    router.tunnels.received("r1", b"nonsense")
    assert router.logged == ["tunnels: r1 sent something malformed"]
    assert router.ran == []
    router.tunnels.up("wg0", "wg0")
    router.tunnels.up("wg0", "wg0")
    router.answer(INTERVALS)
    assert router.ran[1:] == [shake_hands("wg0", KNOWN, intervals(INTERVALS))]
    router.answer(b"", status=1)  # wg has failed: it is logged


def test_a_role_that_is_lost_before_wg_has_answered() -> None:
    router = Router()
    router.tunnels.up("wg0", "wg0")
    router.tunnels.down("wg0")
    router.answer(INTERVALS)
    assert len(router.ran) == 1
    router.tunnels.up("wg0", "wg0")
    router.tunnels.take(frozenset())
    assert not router.timers


def test_a_peer_that_comes_before_wg_has_answered_is_told_afterwards() -> None:
    router = Router()
    router.tunnels.up("wg0", "wg0")
    router.tunnels.peer_opened("r2")
    assert router.told == []
    router.answer(b"")
    router.timers["tunnel", "wg0"](0)
    router.answer(SHOWN)
    assert router.told == [("r2", {"wg0": KNOWN})]
