# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases between two routers: the messages, their bounds, and a channel without room."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest

from tandem.dhcp import lease as leases
from tandem.dhcp.exchange import MESSAGE_MAX, TOPIC, Exchange
from tandem.dhcp.lease import LEFT_MAX, Lease
from tandem.dhcp.table import GRAVES_MAX, LEASES_MAX, SLACK, LeaseTable

NOW = 5_000
MAC = "02:00:00:00:00:01"


class Known:
    """A router that knows leases, and notes what it hears."""

    def __init__(self) -> None:
        self.table: dict[str, Lease] = {}
        self.granted: set[str] = set()
        self.events: list[tuple[Any, ...]] = []

    def add(self, address: str, grants: bool = False, name: str = "*") -> None:
        self.table[address] = Lease(address, MAC, name, "*", NOW + 100)
        self.granted |= {address} if grants else set()

    def leases(self) -> Iterable[Lease]:
        return self.table.values()

    def lease(self, address: str) -> Lease | None:
        return self.table.get(address)

    def grants(self, address: str) -> bool:
        return address in self.granted

    def heard(self, lease: Lease, decided: bool) -> None:
        self.events.append(("heard", lease.address, decided))

    def heard_released(self, address: str) -> None:
        self.events.append(("released", address))

    def heard_all(self) -> None:
        self.events.append(("all",))

    def now(self) -> int:
        return NOW


class Channel:
    """Keeps what is sent while there is room."""

    def __init__(self) -> None:
        self.room = True
        self.topics: dict[str, Any] = {}
        self.sent: list[tuple[str, list[bytes]]] = []

    def subscribe(self, topic: str, subscriber: Any) -> None:
        self.topics[topic] = subscriber

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        assert topic == TOPIC
        if self.room:
            self.sent.append((peer, data.split(b"\n")))
        return self.room


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def limited(self, *line: Any) -> None:
        self.lines.append(line)


class Pair:
    """An exchange with its channel and what it knows."""

    def __init__(self) -> None:
        self.known, self.channel, self.log = Known(), Channel(), Log()
        self.exchange = Exchange(cast(Any, self.log), self.known)

    def join(self) -> Pair:
        self.exchange.join(cast(Any, self.channel))
        return self


@pytest.fixture
def pair() -> Pair:
    return Pair().join()


def line(mark: str, address: str, name: str = "*") -> bytes:
    return f"{mark}100 {MAC} {address} {name} *".encode()


def test_it_is_a_subscriber_of_the_channel(pair: Pair) -> None:
    assert pair.channel.topics == {TOPIC: pair.exchange}


def test_without_a_channel_nothing_is_said() -> None:
    pair = Pair()
    pair.known.add("10.0.0.1")
    pair.exchange.peer_opened("r2")
    pair.exchange.tell(["10.0.0.1"])
    assert pair.exchange.status() == {"told": ["r2"], "sent": 0, "received": 0, "malformed": 0, "resent": 0}


def test_a_new_peer_is_told_everything(pair: Pair) -> None:
    pair.exchange.peer_opened("empty")
    pair.known.add("10.0.0.1", grants=True)
    pair.known.add("10.0.0.2")
    pair.exchange.peer_opened("r2")
    assert pair.channel.sent == [("r2", [b"1", line("=", "10.0.0.1"), line("+", "10.0.0.2")])]
    assert pair.exchange.status()["sent"] == 2


def test_what_changes_is_told_once(pair: Pair) -> None:
    pair.exchange.peer_opened("r2")
    pair.known.add("10.0.0.1")
    pair.exchange.tell(["10.0.0.1", "10.0.0.9", "10.0.0.1"])
    pair.exchange.tell([])
    assert pair.channel.sent == [("r2", [b"1", line("+", "10.0.0.1"), b"-10.0.0.9"])]


def test_a_peer_that_is_gone_is_told_nothing(pair: Pair) -> None:
    pair.exchange.peer_opened("r2")
    pair.channel.room = False
    pair.exchange.tell(["10.0.0.1"])
    pair.exchange.peer_closed("r2")
    pair.channel.room = True
    pair.exchange.tell(["10.0.0.1"])
    pair.exchange.again()
    assert pair.channel.sent == [] and pair.exchange.status()["told"] == []


def test_a_peer_without_room_is_told_everything_again(pair: Pair) -> None:
    pair.exchange.peer_opened("r2")
    pair.exchange.peer_opened("r3")
    pair.channel.room = False
    pair.exchange.tell(["10.0.0.1"])
    assert pair.exchange.status() == {"told": [], "sent": 0, "received": 0, "malformed": 0, "resent": 0}
    pair.channel.room = True
    pair.known.add("10.0.0.2")
    pair.exchange.tell(["10.0.0.2"])
    assert pair.channel.sent == [], "it would be told twice"
    pair.exchange.again()
    pair.exchange.again()
    assert pair.channel.sent == [(peer, [b"1", line("+", "10.0.0.2")]) for peer in ("r2", "r3")]
    assert pair.exchange.status() == {
        "told": ["r2", "r3"],
        "sent": 2,
        "received": 0,
        "malformed": 0,
        "resent": 2,
    }


@pytest.mark.parametrize(("spare", "messages"), [(0, 1), (1, 2)])
def test_messages_are_as_long_as_they_may_be(pair: Pair, spare: int, messages: int) -> None:
    """Up to MESSAGE_MAX bytes of lines, less the end of the last one."""
    addresses = [f"10.0.{100 + number // 100}.{100 + number % 100}" for number in range(500)]
    length = len(line("+", addresses[0], "x")) + 1
    count, rest = divmod(MESSAGE_MAX + 1, length)
    pair.known.add(addresses[0], name="x" * (1 + rest + spare))
    for address in addresses[1:count]:
        pair.known.add(address, name="x")
    pair.exchange.peer_opened("r2")
    sent = [message for _, message in pair.channel.sent]
    assert [message[0] for message in sent] == [b"1"] * messages
    assert sum(len(message) - 1 for message in sent) == count == pair.exchange.status()["sent"]
    assert len(b"\n".join(sent[0][1:])) == (MESSAGE_MAX if messages == 1 else MESSAGE_MAX + 1 - length)
    pair.channel.sent.clear()
    pair.known.table.clear()
    for number, address in enumerate(addresses[: 2 * count + 1]):
        pair.known.add(address, name="x" * (1 if number % count else 1 + rest))
    pair.exchange.tell(addresses[: 2 * count + 1])
    assert [len(message) - 1 for _, message in pair.channel.sent] == [count, count, 1], "each begins anew"


def test_what_a_peer_says(pair: Pair) -> None:
    pair.exchange.received(
        "r2", b"\n".join([b"1", line("=", "10.0.0.1"), line("+", "10.0.0.2"), b"-10.0.0.3"])
    )
    assert pair.known.events == [
        ("heard", "10.0.0.1", True), ("heard", "10.0.0.2", False), ("released", "10.0.0.3"), ("all",),
    ]  # fmt: skip
    assert pair.exchange.status()["received"] == 3 and pair.log.lines == []


@pytest.mark.parametrize("wrong", [b"*10.0.0.1", b"-nonsense", b"=1 2 3", b"", b"-", b"\xff", b"110.0.0.1"])
def test_what_is_no_lease_is_counted_and_the_rest_counts(pair: Pair, wrong: bytes) -> None:
    pair.exchange.received("r2", b"\n".join([b"1", wrong, line("=", "10.0.0.1")]))
    assert pair.known.events == [("heard", "10.0.0.1", True), ("all",)]
    status = pair.exchange.status()
    assert (status["malformed"], status["received"]) == (1, 1)
    assert pair.log.lines == [(("dhcp", "r2"), "warning", "dhcp: r2 sent something that is no lease")]


@pytest.mark.parametrize("data", [b"", b"2\n-10.0.0.1", b"11\n-10.0.0.1"])
def test_another_version_is_not_read(pair: Pair, data: bytes) -> None:
    pair.exchange.received("r2", data)
    assert pair.known.events == [] and pair.exchange.status()["malformed"] == 1


# Bounds of a lease, of the file and of the table


def test_the_bounds_are_dnsmasqs() -> None:
    assert (leases.NAME_MAX, leases.IDENTITY_MAX, leases.HARDWARE_MAX, leases.LINE_MAX) == (
        255,
        764,
        16,
        1200,
    )
    assert (LEASES_MAX, GRAVES_MAX, SLACK, MESSAGE_MAX) == (4096, 1024, 3, 8192)


@pytest.mark.parametrize(
    ("client", "name", "identity", "fits"),
    [
        (MAC, "x", "*", True), (MAC, "x" * 255, "*", True), (MAC, "x" * 256, "*", False), (MAC, "", "*", False),
        (MAC, "a b", "*", False),
        (MAC, "*", "00:" * 254 + "00", True), (MAC, "*", "00:" * 255 + "00", False), (MAC, "*", "0:1", False),
        ("00:" * 15 + "00", "*", "*", True), ("00:" * 16 + "00", "*", "*", False),
        ("06-" + MAC, "*", "*", True), ("0-" + MAC, "*", "*", False), ("0g-" + MAC, "*", "*", False),
        ("006-" + MAC, "*", "*", False), ("-" + MAC, "*", "*", False), ("06-", "*", "*", False),
    ],
)  # fmt: skip
def test_what_a_lease_of_ipv4_may_have(client: str, name: str, identity: str, fits: bool) -> None:
    found = leases.from_wire(f"5 {client} 10.0.0.1 {name} {identity}", NOW)
    assert found == (Lease("10.0.0.1", client, name, identity, NOW + 5) if fits else None)


@pytest.mark.parametrize(
    ("client", "fits"), [("1", True), ("T4294967295", True), ("42949672950", False), ("x", False)]
)
def test_what_a_lease_of_ipv6_may_have(client: str, fits: bool) -> None:
    assert (leases.from_wire(f"5 {client} fd00::1 * 00:01", NOW) is not None) == fits


def test_lines_with_times() -> None:
    never = Lease("10.0.0.1", MAC, "*", "*", None)
    soon = Lease("10.0.0.1", MAC, "*", "*", NOW + 5)
    assert leases.file_line(never, 100).startswith("0 ") and leases.file_line(soon, 100).startswith(
        f"{NOW + 105} "
    )
    assert leases.file_line(soon, -NOW - 5).startswith("1 "), "0 would be for ever"
    assert leases.to_wire(never, NOW).startswith("- ") and leases.to_wire(soon, NOW + 9).startswith("0 ")
    assert never.shifted(9) == never and soon.shifted(9).expires == NOW + 14 and soon.shifted(0) is soon
    assert never.left(NOW) == LEFT_MAX and soon.left(NOW + 5) == 0


def lease(address: str, left: int | None, mac: str = MAC, **other: str) -> Lease:
    return Lease(
        address, mac, other.get("name", "*"), other.get("identity", "*"), None if left is None else NOW + left
    )


def test_a_grave_is_opened_by_the_master_alone() -> None:
    table = LeaseTable()
    table.take(lease("10.0.0.1", 100), NOW)
    assert table.remove("10.0.0.1", NOW) == ["10.0.0.1"] and table.remove("10.0.0.1", NOW) == []
    assert table.offer(lease("10.0.0.1", 103), NOW) == [] and table.offer(lease("10.0.0.1", 104), NOW) == [
        "10.0.0.1"
    ]
    table.remove("10.0.0.1", NOW)
    assert table.take(lease("10.0.0.1", 50), NOW) == ["10.0.0.1"]
    table.expire(NOW + 50)
    assert table.offer(lease("10.0.0.1", 60), NOW) == ["10.0.0.1"], "the grave is gone"


def test_a_grave_ends_with_its_lease() -> None:
    table = LeaseTable()
    table.take(lease("10.0.0.1", 100), NOW)
    table.take(lease("10.0.0.2", None, "02:00:00:00:00:02"), NOW)
    for address in ("10.0.0.1", "10.0.0.2"):
        table.remove(address, NOW)
    assert table.expire(NOW + 99) == [] and table.offer(lease("10.0.0.1", 101), NOW) == []
    table.expire(NOW + 100)
    assert table.offer(lease("10.0.0.1", 101), NOW) == ["10.0.0.1"]
    assert table.offer(lease("10.0.0.2", None, "02:00:00:00:00:02"), NOW) == [], (
        "what was for ever stays released"
    )


@pytest.mark.parametrize(("left", "ended"), [(1, []), (0, ["10.0.0.1"]), (-1, ["10.0.0.1"])])
def test_when_a_lease_ends(left: int, ended: list[str]) -> None:
    table = LeaseTable()
    table.take(lease("10.0.0.1", left), NOW)
    assert table.expire(NOW) == ended
    assert table.offer(lease("10.0.0.9", left, "02:00:00:00:00:09"), NOW) == ([] if ended else ["10.0.0.9"])


@pytest.mark.parametrize(
    ("mine", "theirs", "wins"), [(100, 103, False), (100, 104, True), (104, 100, False), (None, 104, False)]
)
def test_the_lease_that_ends_last_wins(mine: int | None, theirs: int, wins: bool) -> None:
    """Within the slack both routers keep the greater text."""
    table = LeaseTable()
    table.take(lease("10.0.0.1", mine, name="z"), NOW)
    assert bool(table.offer(lease("10.0.0.1", theirs, name="a"), NOW)) == wins
    other = LeaseTable()
    other.take(lease("10.0.0.1", theirs, name="a"), NOW)
    assert bool(other.offer(lease("10.0.0.1", mine, name="z"), NOW)) != wins


@pytest.mark.parametrize("left", [97, 100, 103])
def test_a_lease_that_moves_by_little_has_not_changed(left: int) -> None:
    table = LeaseTable()
    table.take(lease("10.0.0.1", 100), NOW)
    assert table.take(lease("10.0.0.1", left), NOW) == []
    assert table.take(lease("10.0.0.1", left + 7), NOW) == ["10.0.0.1"]


def test_a_table_that_is_full() -> None:
    table = LeaseTable()
    for number in range(LEASES_MAX):
        assert not table.full
        table.take(
            lease(
                f"10.0.{number >> 8}.{number & 255}", 100, f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            ),
            NOW,
        )
    assert (
        table.full
        and table.take(lease("10.1.0.0", 100, "02:00:00:00:ff:ff"), NOW) == []
        and table.refused == 1
    )
    assert table.take(lease("10.0.0.0", 200, "02:00:00:00:00:00"), NOW) == ["10.0.0.0"]


def test_one_holder_has_one_address() -> None:
    table = LeaseTable()
    table.take(lease("10.0.0.1", 100), NOW)
    assert table.take(lease("10.0.0.2", 100), NOW) == ["10.0.0.2", "10.0.0.1"] and len(table) == 1
    table.take(lease("10.0.0.3", 100, identity="01:02"), NOW)
    assert sorted(table.leases) == ["10.0.0.2", "10.0.0.3"], "a client id is another holder"
    for address in ("fd00::1", "fd00::2"):
        table.take(Lease(address, "7", "*", "00:01", NOW + 100), NOW)
    assert len(table) == 4, "of IPv6 one holder may have several"
