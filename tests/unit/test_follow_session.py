# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions of PPPoE in the kernel's table, in the messages of routers, and the frame that ends one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.lease import Session
from tandem.follow.lease import pack, unpack
from tandem.follow.session import from_netifd, listed, padt
from tandem.follow.shown import text

MAC, CONCENTRATOR = "02:1a:2b:3c:4d:5e", "00:90:1a:aa:bb:cc"
SESSION = Session("wan", MAC, "203.0.113.7", CONCENTRATOR, 0x1234)
# As Linux 6.1 prints it: "%08X %pM %8s", the id as its two bytes lie in memory.
HEAD = "Id       Address              Device\n"
LITTLE = f"{HEAD}00000100 00:90:1a:00:00:01     eth9\n00003412 {CONCENTRATOR}     wan0\n"
STATUS: dict[str, Any] = {
    "up": True,
    "l3_device": "pppoe-wan",
    "proto": "pppoe",
    "ipv4-address": [{"address": "203.0.113.7", "mask": 32, "ptpaddress": "203.0.113.1"}],
}


def test_the_session_of_a_network() -> None:
    assert from_netifd("wan", MAC, STATUS, "wan0", LITTLE, big=False) == SESSION
    assert from_netifd("wan", MAC, STATUS, "wan0", LITTLE.replace("3412", "1234"), big=True) == SESSION


@pytest.mark.parametrize(
    ("status", "table"),
    [(STATUS, ""), (STATUS, HEAD), (STATUS, LITTLE.replace("wan0", "wan1")), ({}, LITTLE)],
)
def test_no_session(status: dict[str, Any], table: str) -> None:
    assert from_netifd("wan", MAC, status, "wan0", table) is None


def test_whether_the_kernel_has_it() -> None:
    assert listed(SESSION, "wan0", LITTLE, big=False)
    assert not listed(SESSION, "eth9", LITTLE, big=False) and not listed(SESSION, "wan0", HEAD)
    assert not listed(SESSION, "wan0", "x y wan0\n")


def test_a_message() -> None:
    for told in (SESSION, replace(SESSION, open=True)):
        assert unpack(pack({"wan": told}, 0), 99) == {"wan": told}
    version, found = json.loads(pack({"wan": replace(SESSION, open=True)}, 0))
    del found["wan"]["open"]  # of a former release
    assert unpack(json.dumps([version, found]).encode(), 0) == {"wan": SESSION}


@pytest.mark.parametrize(
    "wrong",
    [{"session": 0}, {"session": 0xFFFF}, {"session": "x"}, {"session": None}, {"concentrator": ""},
     {"concentrator": "ff:ff:ff:ff:ff:ff"}, {"concentrator": [1]}, {"address": "2001:db8::1"}, {"mac": None}],
)  # fmt: skip
def test_a_message_without_a_session(wrong: dict[str, Any]) -> None:
    version, found = json.loads(pack({"wan": SESSION}, 0))
    found["wan"] |= wrong
    data = json.dumps([version, found]).encode()
    if "mac" in wrong:  # compared with the router's own
        assert unpack(data, 0)["wan"] != SESSION
    else:
        with pytest.raises(ValueError):
            unpack(data, 0)


@given(st.text(max_size=200), st.booleans())
def test_any_table(table: str, big: bool) -> None:
    from_netifd("wan", MAC, STATUS, "wan0", HEAD + table, big)


def test_the_frame_that_ends_it() -> None:
    """RFC 2516 section 5.5; from MAC to the concentrator, PADT, session 1234, no tags."""
    assert padt(SESSION).hex(" ") == "00 90 1a aa bb cc 02 1a 2b 3c 4d 5e 88 63 11 a7 12 34 00 00"


def test_the_log() -> None:
    assert text(SESSION, 0) == f"203.0.113.7 by session 4660 of {CONCENTRATOR}"
