# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases as lines, and the table that routers share: which lease wins, which stays, which is refused."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tandem.dhcp import table as tables
from tandem.dhcp.lease import LEFT_MAX, Lease, file_line, from_wire, read_file, to_wire
from tandem.dhcp.table import LeaseTable

NOW = 5_000
OFFSET = 1_700_000_000
FILE = """\
1700009000 02:00:00:00:00:01 192.168.1.101 laptop 01:02:00:00:00:00:01
0 06-02:00:00:00:00:02 192.168.1.102 * *
duid 00:01:00:01:2e:aa:bb:cc:02:00:00:00:00:01
1700008000 T16777344 fd00:1::1a0 phone 00:01:00:01:2e:aa:bb:cc:02:00:00:00:00:03
"""


def lease(number: int = 1, left: int | None = 100, who: int | None = None, **other: str) -> Lease:
    mac = f"02:00:00:00:00:{number if who is None else who:02x}"
    made = Lease(f"192.168.1.{number}", mac, "*", "*", None if left is None else NOW + left)
    return replace(made, **other)


# lines


def test_dnsmasqs_file_is_read_and_written_as_it_is() -> None:
    leases, others = read_file(FILE, OFFSET)
    assert list(leases) == ["192.168.1.101", "192.168.1.102", "fd00:1::1a0"]
    assert leases["192.168.1.101"].expires == 9000
    assert leases["192.168.1.102"].expires is None
    assert others == ["duid 00:01:00:01:2e:aa:bb:cc:02:00:00:00:00:01"]
    lines = [line for line in FILE.splitlines() if not line.startswith("duid")]
    assert [file_line(one, OFFSET) for one in leases.values()] == lines


def test_what_is_no_lease_stays_in_the_file() -> None:
    leases, others = read_file("1 2 3\n\nsome words that dnsmasq 3.0 writes\n", OFFSET)
    assert leases == {} and others == ["1 2 3", "some words that dnsmasq 3.0 writes"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "100 02:00:00:00:00:01 192.168.1.1 name",
        "100 02:00:00:00:00:01 192.168.1.1 name * more",
        "-1 02:00:00:00:00:01 192.168.1.1 name *",
        "1e3 02:00:00:00:00:01 192.168.1.1 name *",
        "99999999999 02:00:00:00:00:01 192.168.1.1 name *",
        "\u0661 02:00:00:00:00:01 192.168.1.1 name *",
        "100 02:00:00:00:00:0 192.168.1.1 name *",
        "100 02:00:00:00:00:01\n 192.168.1.1 name *",
        "100 " + ":".join(["02"] * 17) + " 192.168.1.1 name *",
        "100 zz:00:00:00:00:01 192.168.1.1 name *",
        "100 02:00:00:00:00:01 192.168.1 name *",
        "100 02:00:00:00:00:01 192.168.1.1\0 name *",
        "100 02:00:00:00:00:01 192.168.1.256 name *",
        "100 02:00:00:00:00:01 fe80::1%eth0 name *",
        "100 02:00:00:00:00:01 fd00::1 name *",
        "100 1 192.168.1.1 name *",
        "100 02:00:00:00:00:01 192.168.1.1 na\tme *",
        "100 02:00:00:00:00:01 192.168.1.1 $(reboot) *",
        "100 02:00:00:00:00:01 192.168.1.1 " + "n" * 256 + " *",
        "100 02:00:00:00:00:01 192.168.1.1 name nothex",
        "100 02:00:00:00:00:01 192.168.1.1 name " + ":".join(["02"] * 256),
    ],
)
def test_what_no_peer_can_send(line: str) -> None:
    assert from_wire(line, NOW) is None


words = st.text(st.characters(exclude_characters=" "), max_size=20)
anything = st.one_of(st.text(max_size=120), st.lists(words, min_size=5, max_size=5).map(" ".join))


@given(anything)
def test_whatever_a_peer_sends_does_no_harm_to_the_file(text: str) -> None:
    got = from_wire(text, NOW)
    if got is not None:
        line = file_line(got, OFFSET)
        assert "\n" not in line and len(line.split(" ")) == 5
        leases, others = read_file(line + "\n", OFFSET)
        assert others == [] and leases[got.address].same(got)


@given(st.none() | st.integers(0, 10**6), st.sampled_from(["*", "laptop", "a-b_c.d"]))
def test_a_lease_comes_back_from_the_wire(left: int | None, name: str) -> None:
    sent = lease(7, left, name=name, identity="01:02")
    assert from_wire(to_wire(sent, NOW), NOW) == sent


def test_the_time_is_that_of_the_receiver() -> None:
    got = from_wire(to_wire(lease(1, 60), NOW), NOW + 100_000)
    assert got is not None and got.left(NOW + 100_000) == 60


# the table


def test_the_master_is_right() -> None:
    table = LeaseTable()
    assert table.take(lease(1, 100), NOW) == ["192.168.1.1"]
    assert table.take(lease(1, 101), NOW) == []  # rounding
    assert table.take(lease(1, 50), NOW) == ["192.168.1.1"]  # a shorter lease is news as well
    assert table.leases["192.168.1.1"].left(NOW) == 50


def test_what_ends_last_wins_between_equals() -> None:
    table = LeaseTable()
    table.take(lease(1, 100), NOW)
    assert table.offer(lease(1, 50, who=2), NOW) == []
    assert table.offer(lease(1, 200, who=2), NOW) == ["192.168.1.1"]
    assert table.offer(lease(1, None, who=3), NOW) == ["192.168.1.1"]
    assert table.offer(lease(1, LEFT_MAX - 1, who=2), NOW) == []
    assert table.offer(lease(9, 0), NOW) == []


def test_one_holder_has_one_address() -> None:
    table = LeaseTable()
    table.take(lease(1, 100), NOW)
    assert table.offer(lease(2, 50, who=1), NOW) == []
    assert sorted(table.take(lease(2, 50, who=1), NOW)) == ["192.168.1.1", "192.168.1.2"]
    assert list(table.leases) == ["192.168.1.2"]
    # A client id stands for the holder, whatever the hardware address.
    table.take(lease(3, 100, identity="01:aa"), NOW)
    table.take(lease(4, 100, identity="01:aa"), NOW)
    assert list(table.leases) == ["192.168.1.2", "192.168.1.4"]
    # An identity association of IPv6 may have several.
    for address in ("fd00::1", "fd00::2"):
        table.take(Lease(address, "1", "*", "00:01", NOW + 9), NOW)
    assert len(table) == 4


def test_the_released_stays_away() -> None:
    table = LeaseTable()
    table.take(lease(1, 100), NOW)
    assert table.remove("192.168.1.1", NOW) == ["192.168.1.1"]
    assert table.offer(lease(1, 100), NOW) == []  # a peer that has missed it
    assert table.offer(lease(1, 200), NOW) == ["192.168.1.1"]  # a new one
    table.remove("192.168.1.1", NOW)
    assert table.take(lease(1, 50), NOW) == ["192.168.1.1"]
    assert table.remove("192.168.1.77", NOW) == []


def test_graves_and_leases_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GRAVES_MAX", 5)
    monkeypatch.setattr(tables, "LEASES_MAX", 20)
    table = LeaseTable()
    for number in range(1, 30):
        table.take(lease(number), NOW)
    assert len(table) == 20 and table.full and table.refused == 9
    assert table.take(lease(1, 500), NOW)  # who is in can still be prolonged
    for number in range(1, 15):
        table.remove(f"192.168.1.{number}", NOW)
    assert len(table._graves) == 5


def test_leases_end() -> None:
    table = LeaseTable()
    for number, left in enumerate((10, 20, None), 1):
        table.take(lease(number, left), NOW)
    assert table.expire(NOW + 10) == ["192.168.1.1"]
    assert table.expire(NOW + 10**6) == ["192.168.1.2"]
    assert list(table.leases) == ["192.168.1.3"]
    assert table.take(lease(4, 5, who=1), NOW) == ["192.168.1.4"]


leases_ = st.builds(
    lease,
    st.integers(1, 6),
    st.none() | st.integers(-5, 1000),
    who=st.integers(1, 6),
    name=st.sampled_from(["*", "a", "b"]),
)


@given(st.lists(leases_), st.lists(leases_), st.randoms())
def test_two_that_tell_each_other_everything_agree(
    left: list[Lease], right: list[Lease], random: object
) -> None:
    """After a partition: whatever each has granted, both end with the same, and no holder has two."""
    one, other = LeaseTable(), LeaseTable()
    for table, own in ((one, left), (other, right)):
        for item in own:
            if item.left(NOW) > 0:
                table.take(item, NOW)
    for _ in range(8):
        for source, target in ((one, other), (other, one)):
            for item in list(source.leases.values()):
                target.offer(item, NOW)
    for table in (one, other):
        holders = [item.holder for item in table.leases.values()]
        assert len(holders) == len(set(holders))
        assert table._holders == {item.holder: address for address, item in table.leases.items()}
    for address in one.leases.keys() & other.leases.keys():
        mine, theirs = one.leases[address], other.leases[address]
        assert abs(min(mine.left(NOW), LEFT_MAX) - min(theirs.left(NOW), LEFT_MAX)) <= 3
