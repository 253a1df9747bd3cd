# SPDX-License-Identifier: GPL-2.0-or-later
"""Every range and every name that an option takes, at its edges and one beyond."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tandem.config import sync_values, values
from tandem.config.guessable import guessable
from tandem.config.option import Option
from tandem.config.options import SECTIONS
from tandem.config.syntax import words
from tandem.config.syntax.address import first_of_network
from tandem.config.values import Kind
from tandem.core.settings import Address

ROWS = {
    (row.kind.type, row.kind.low, row.kind.high, row.kind.step): row.kind
    for table in SECTIONS.values()
    for row in table.values()
    if isinstance(row, Option) and row.kind.high
}


def beyond(kind: Kind) -> list[str]:
    """Texts just outside the range; below 0 there is none."""
    if kind.type == "size":
        low, high = (str(kind.convert(text)) for text in (kind.low, kind.high))
    else:
        low, high = kind.low, kind.high
    step = Decimal(kind.step or "1")
    below, above = Decimal(low) - step, Decimal(high) + step
    return [format(above, "f"), *([format(below, "f")] if below >= 0 or kind.type == "integer" else [])]


@pytest.mark.parametrize("kind", ROWS.values(), ids=lambda kind: kind.allowed)
def test_a_range_ends_where_it_says(kind: Kind) -> None:
    assert kind.low in kind.allowed or kind.allowed.startswith("0 (off)")
    assert kind.high in kind.allowed
    for text in (kind.low, kind.high):
        value = kind.read(text)
        one = value[0] if isinstance(value, tuple) else value  # several values in one text
        assert kind.read(kind.write(one)) == value
    for text in beyond(kind):
        with pytest.raises(ValueError, match=r"^must be "):
            kind.read(text)


def test_a_lifetime_of_one_second_is_too_short_for_a_refresh() -> None:
    row = SECTIONS["globals"]["address_lifetime"]
    assert isinstance(row, Option) and row.kind.read("2") == 2
    for text in ("1", "-1", "99999", "²"):
        with pytest.raises(ValueError, match="from 2 to 3600"):
            row.kind.read(text)


@pytest.mark.parametrize(
    ("text", "number"), [("0x10", 16), ("0XfF", 255), ("-0x1", -1), ("007", 7), ("-10", -10), ("255", 255)]
)
def test_whole_numbers(text: str, number: int) -> None:
    assert values.integer(text, -10, 255) == number


@pytest.mark.parametrize("text", ["", "-", "1.0", "0x", "+1", "1 ", "٣", "256", "-11", "12345678901"])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number from -10 to 255"):
        values.integer(text, -10, 255)


@pytest.mark.parametrize(
    ("text", "places", "number"),
    [("1", 3, 1000), ("1.", 2, 100), ("0.25", 2, 25), ("2.500", 1, 25), ("007", 0, 7)],
)
def test_decimals(text: str, places: int, number: int) -> None:
    assert values.fixed_point(text, places) == number
    assert values.fixed_point(values.decimal(number, places), places) == number


@pytest.mark.parametrize("text", ["", ".5", "1.001", "-1", "1e3", "12345678", "1.0000000000"])
def test_no_decimals(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        values.fixed_point(text, 2)


@pytest.mark.parametrize(
    ("text", "number"), [("65536", 65536), ("64K", 65536), ("3m", 3 << 20), ("1G", 1 << 30)]
)
def test_sizes(text: str, number: int) -> None:
    assert sync_values.size("64K", "1G").read(text) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1, "1"), (1023, "1023"), (1024, "1K"), (1 << 20, "1M"), (3 << 30, "3G"), (1025, "1025")],
)
def test_sizes_as_text(number: int, text: str) -> None:
    assert sync_values.size_text(number) == text


def test_names_are_those_of_the_system() -> None:
    """/etc/protocols names the numbers of IANA."""
    lines = (line.split("#")[0].split() for line in Path("/etc/protocols").read_text().splitlines())
    numbers = {fields[0]: int(fields[1]) for fields in lines if len(fields) > 1}
    numbers |= {"ipip": 4, "icmpv6": numbers["ipv6-icmp"]}  # 4 is "ipencap" there
    assert {name: numbers[name] for name in sync_values.PROTOCOLS} == sync_values.PROTOCOLS
    assert words.SCOPES == {"global": 0, "site": 200, "link": 253, "host": 254}
    assert words.TABLES == {"default": 253, "main": 254, "local": 255}


@pytest.mark.parametrize(
    ("reader", "edges", "outside"),
    [
        (words.scope, ("0", "254"), ("255", "-1", "nowhere")),
        (words.table, ("1", "0xffffffff"), ("0", "4294967296")),
        (words.protocol, ("0", "255"), ("256", "-1")),
        (words.metric, ("0", "0xffffffff"), ("-1", "4294967296")),
        (words.mtu, ("68", "65535"), ("67", "65536")),
        (words.tos, ("0", "252"), ("1", "2", "255", "256", "-4")),
    ],
)  # fmt: skip
def test_numbers_of_routes_and_rules(
    reader: words.Reader, edges: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    for text in edges:
        assert reader(text) == values.integer(text, 0, 0xFFFFFFFF)
    for text in outside:
        with pytest.raises(ValueError):
            reader(text)


@pytest.mark.parametrize(
    ("kind", "longest"),
    [(values.NAME, 64), (values.TEXT, 255), (values.DEVICE, 15)],
)
def test_texts_are_bounded(kind: Kind, longest: int) -> None:
    assert kind.read("x" * longest) == "x" * longest
    with pytest.raises(ValueError, match="must be"):
        kind.read("x" * (longest + 1))


def test_paths_are_bounded() -> None:
    assert values.PATH.read("/" + "x" * 254)
    for text in ("/" + "x" * 255, "x", "/\t"):
        with pytest.raises(ValueError, match="absolute path"):
            values.PATH.read(text)


@pytest.mark.parametrize(
    "secret",
    ["p4ssw0rd-p4ssw0rd-1999", "qwertyuiopasdfghjkl", "aaaaaaaaaaaaaaaaaaaaaaaa", "1234567890123456"],
)
def test_secrets_that_people_make_up_can_be_guessed(secret: str) -> None:
    assert guessable(secret.encode())


@pytest.mark.parametrize("secret", ["4Vb8u1Qe7zT2mXw9", "k3jh5g6f7d8s9a0q1w2e"])
def test_random_secrets_cannot_be_guessed(secret: str) -> None:
    assert not guessable(secret.encode())


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("192.168.1.4", True), ("1.0.0.1", True), ("fe80::1", True), ("2001:db8::1", True),
        ("255.255.255.255", False), ("0.0.0.0", False), ("0.1.2.3", False), ("127.0.0.1", False),
        ("224.0.0.18", False), ("::", False), ("::1", False), ("ff02::12", False),
    ],
)  # fmt: skip
def test_addresses_that_a_router_can_own(text: str, right: bool) -> None:
    address = values.host(text)
    if right:
        assert values.unicast(address) is address
    else:
        with pytest.raises(ValueError, match="not a unicast address"):
            values.unicast(address)


@pytest.mark.parametrize(
    ("address", "length", "warning"),
    [
        ("192.168.1.0", 24, "192.168.1.0 is the address of the network 192.168.1.0/24 itself"),
        ("192.168.1.3", 30, "192.168.1.3 is the broadcast address of 192.168.1.0/30"),
        ("192.168.1.2", 30, None), ("192.168.1.0", 31, None), ("192.168.1.1", 31, None),
        ("192.168.1.0", 32, None), ("2001:db8::", 64, None), ("2001:db8::", 30, None),
    ],
)  # fmt: skip
def test_the_first_and_last_address_of_an_ipv4_network(
    address: str, length: int, warning: str | None
) -> None:
    assert first_of_network(Address(address, length, 6 if ":" in address else 4)) == warning
