# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem conntrack`: flows and the state of replication, letter by letter, and the paging of lists."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from tandem.conntrack.parser import Parser
from tandem.conntrack.record import (
    DNAT,
    EXPECTATION,
    EXPECTED,
    ICMP,
    IPV6,
    MARK,
    NEW,
    SNAT,
    T_DCCP,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_SCTP,
    T_ZONE,
    TAIL,
    TCP,
    ZONED,
    pack_tail,
)
from tandem.control import cli, commands
from tandem.control.client import ControlError
from tandem.control.flows import decode, line
from tandem.control.replication_page import render_replication, size
from tandem.control.status_page import render_status
from tandem.control.step import step
from tandem.replication.cache import SHARDS, Cache
from tests.unit.flow_messages import event
from tests.unit.status_snapshot import STATUS

LAN, FAR, WAN = bytes((192, 168, 1, 10)), bytes((203, 0, 113, 1)), bytes((192, 168, 0, 4))
SIX, OTHER_SIX = bytes.fromhex("fd000001" + "00" * 11 + "10"), bytes.fromhex("fd00000f" + "00" * 11 + "01")


def number(value: int, size_: int = 2) -> bytes:
    return value.to_bytes(size_, "big")


def key(protocol: int, rest: bytes, zone: int = 0) -> bytes:
    return number(zone) + bytes((4, protocol)) + LAN + FAR + rest


def head(kind: int, status: int, timeout: int) -> bytes:
    return bytes((kind,)) + number(status) + number(timeout, 4)


PORTS = number(40000) + number(80)
FLOWS = [
    (
        key(6, PORTS),
        head(TCP | SNAT, 0x0E, 432000) + bytes((3, 7, 7, 1, 1)) + WAN + number(40000),
        "tcp      6 432000 ESTABLISHED src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
        "src=203.0.113.1 dst=192.168.0.4 sport=80 dport=40000 [ASSURED] mark=0",
    ),
    (
        key(6, PORTS, zone=5),
        head(TCP | SNAT | DNAT | MARK | ZONED, 0x08, 60)
        + bytes(5)
        + number(77, 4)
        + WAN
        + number(1024)
        + bytes((10, 0, 0, 9))
        + number(8080),
        "tcp      6 60 UNKNOWN src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 [UNREPLIED] "
        "src=10.0.0.9 dst=192.168.0.4 sport=8080 dport=1024 mark=77 zone=5",
    ),
    (
        key(17, PORTS),
        head(0, 0x0A, 30),
        "udp      17 30 src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
        "src=203.0.113.1 dst=192.168.1.10 sport=80 dport=40000 mark=0",
    ),
    (
        key(1, bytes((8, 0)) + number(99)),
        head(ICMP | SNAT, 0x0A, 30) + WAN + number(7),
        "icmp     1 30 src=192.168.1.10 dst=203.0.113.1 type=8 code=0 id=99 "
        "src=203.0.113.1 dst=192.168.0.4 type=0 code=0 id=7 mark=0",
    ),
    (
        key(47, number(0x10) + number(0x20)),
        head(0, 0x0A, 180),
        "gre      47 180 src=192.168.1.10 dst=203.0.113.1 srckey=0x10 dstkey=0x20 "
        "src=203.0.113.1 dst=192.168.1.10 srckey=0x20 dstkey=0x10 mark=0",
    ),
    (
        key(132, PORTS),
        head(TAIL, 0x0E, 210) + pack_tail({T_SCTP: b"\4" + bytes(8)}),
        "sctp     132 210 ESTABLISHED src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
        "src=203.0.113.1 dst=192.168.1.10 sport=80 dport=40000 [ASSURED] mark=0",
    ),
    (
        key(2, bytes(4)),
        head(TAIL, 0x08, 600) + pack_tail({T_HELPER: b"x\x1b"}),
        "unknown  2 600 src=192.168.1.10 dst=203.0.113.1 [UNREPLIED] src=203.0.113.1 dst=192.168.1.10 mark=0 "
        "helper=x\x1b",
    ),
    (
        key(136, PORTS),
        head(0, 0x0A, 30),
        "udplite  136 30 src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
        "src=203.0.113.1 dst=192.168.1.10 sport=80 dport=40000 mark=0",
    ),
    *(
        (
            key(33, PORTS),
            head(TAIL, 0x0E, 210) + pack_tail({T_DCCP: bytes((state,)) + bytes(9)}),
            f"dccp     33 210 {name} src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
            "src=203.0.113.1 dst=192.168.1.10 sport=80 dport=40000 [ASSURED] mark=0",
        )
        for state, name in ((4, "OPEN"), (9, "INVALID"))
    ),
    *(
        (
            key(6, PORTS),
            head(TCP | TAIL, 0x0E, 60)
            + bytes((3, 7, 7, 1, 1))
            + pack_tail({T_ZONE: bytes((side, 0, 7)), T_LABELS: b"\1" * 16, T_MASTER: key(17, PORTS)}),
            "tcp      6 60 ESTABLISHED src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
            f"src=203.0.113.1 dst=192.168.1.10 sport=80 dport=40000 [ASSURED] mark=0 zone-{name}=7 "
            f"labels={'01' * 16} master-src=192.168.1.10 master-dst=203.0.113.1 master-sport=40000 "
            "master-dport=80",
        )
        for side, name in ((1, "original"), (2, "reply"))
    ),
    (
        key(17, PORTS),
        head(SNAT | DNAT | TAIL, 0x0E, 1 << 25)
        + WAN
        + number(1024)
        + bytes((10, 0, 0, 9))
        + number(8080)
        + pack_tail({T_HELPER: b"sip"}),
        "udp      17 33554432 src=192.168.1.10 dst=203.0.113.1 sport=40000 dport=80 "
        "src=10.0.0.9 dst=192.168.0.4 sport=8080 dport=1024 [ASSURED] mark=0 helper=sip",
    ),
    (
        key(1, bytes((8, 5)) + number(99)),
        head(ICMP | DNAT, 0x0A, 30) + bytes((10, 0, 0, 9)) + number(7),
        "icmp     1 30 src=192.168.1.10 dst=203.0.113.1 type=8 code=5 id=99 "
        "src=10.0.0.9 dst=192.168.1.10 type=0 code=5 id=99 mark=0",
    ),
    (
        bytes((0, 0, 6, 17)) + SIX + OTHER_SIX + PORTS,
        head(IPV6 | SNAT | MARK, 0x0A, 30) + number(9, 4) + OTHER_SIX + number(1024),
        "udp      17 30 src=fd00:1::10 dst=fd00:f::1 sport=40000 dport=80 "
        "src=fd00:f::1 dst=fd00:f::1 sport=80 dport=1024 mark=9",
    ),
    (
        bytes((0, 7, 6 | EXPECTED, 17)) + SIX + OTHER_SIX + PORTS + OTHER_SIX + SIX + PORTS + b"\6",
        bytes((EXPECTATION,)) + number(1 << 25, 4) + bytes(8) + b"\xff" * 36 + bytes(40) + b"sip\0\0",
        "expect udp      17 33554432 src=fd00:1::10 dst=fd00:f::1 sport=40000 dport=80 master-src=fd00:f::1 "
        "master-dst=fd00:1::10 master-sport=40000 master-dport=80 zone=7 helper=sip",
    ),
    (
        bytes((0, 0, 6, 58)) + SIX + OTHER_SIX + bytes((128, 0)) + number(3),
        head(IPV6 | ICMP, 0x0A, 30),
        "icmpv6   58 30 src=fd00:1::10 dst=fd00:f::1 type=128 code=0 id=3 "
        "src=fd00:f::1 dst=fd00:1::10 type=129 code=0 id=3 mark=0",
    ),
    (
        bytes((0, 0, 4 | EXPECTED, 6)) + FAR + LAN + number(0) + number(2000) + LAN + FAR + PORTS + b"\6",
        bytes((EXPECTATION,)) + number(300, 4) + bytes(8) + bytes(12) + b"\xff" * 4 + bytes(12) + b"ftp\0\0",
        "expect tcp      6 300 src=203.0.113.1 dst=192.168.1.10 sport=0 dport=2000 master-src=192.168.1.10 "
        "master-dst=203.0.113.1 master-sport=40000 master-dport=80 helper=ftp",
    ),
]


@pytest.mark.parametrize(("key_", "body", "expected"), FLOWS)
def test_a_line_for_each_kind_of_flow(key_: bytes, body: bytes, expected: str) -> None:
    assert line(decode(key_, body)) == expected
    json.dumps(decode(key_, body))


@pytest.mark.parametrize(
    ("protocol", "question", "answer"),
    [(1, 8, 0), (1, 13, 14), (1, 15, 16), (1, 17, 18), (1, 3, 3), (58, 128, 129), (58, 139, 140), (58, 1, 1)],
)
def test_the_reply_to_an_icmp_question_is_its_answer(protocol: int, question: int, answer: int) -> None:
    rest = bytes((question, 0)) + number(3)
    if protocol == 1:
        flow = decode(key(1, rest), head(ICMP, 0x0A, 30))
    else:
        flow = decode(bytes((0, 0, 6, 58)) + SIX + OTHER_SIX + rest, head(IPV6 | ICMP, 0x0A, 30))
    assert (flow["original"]["type"], flow["reply"]["type"]) == (question, answer)


def test_what_the_kernel_says_reads_the_same() -> None:
    message = event(LAN, FAR, reply=(FAR, WAN), ports=(40000, 443), state=3)
    record = Parser().parse(message)
    assert record is not None
    flow = decode(record[1], record[2])
    assert flow["reply"] == {"src": "203.0.113.1", "dst": "192.168.0.4", "sport": 443, "dport": 40000}
    assert flow["nat"] == ["snat"] and flow["family"] == "ipv4"


def test_an_expectation_has_the_family_of_its_flow() -> None:
    families = [decode(key_, body)["family"] for key_, body, line_ in FLOWS if line_.startswith("expect")]
    assert sorted(families) == ["ipv4", "ipv6"]


@pytest.mark.parametrize(("key_", "body"), [(b"", b""), (key(6, PORTS), b""), (b"x" * 16, FLOWS[0][1])])
def test_no_record(key_: bytes, body: bytes) -> None:
    with pytest.raises(ValueError, match="no record"):
        decode(key_, body)


# The page

PEER: dict[str, Any] = {
    "name": "r2",
    "state": "up",
    "sessions": 2,
    "last_error": "",
    "path": "10.9.9.2:3780",
    "preferred": False,
    "up_ms": 3340,
    "router_id": "r2",
    "authenticated": True,
    "rtt_ms": 0.38,
    "streaming": True,
    "in_step": True,
    "in_bulk": False,
    "lag_records": 12,
    "lag_ms": 0.349,
    "lag_max_ms": 1412.7,
    "queued_bytes": 4096,
    "peer_streaming": False,
    "held_in_step": False,
    "totals": {
        "dropped": 3, "coalesced": 40, "bulks": 1, "bytes_in": 1097, "bytes_out": 19250000, "drifts": 0,
        "resync_overflow": 1, "resync_drift": 2,
    },
    "resyncs": 3,
}  # fmt: skip
PASS = {
    "entries": 100000, "updated": 0, "replaced": 1, "clashed": 0, "alone": 0, "failed": 2,
    "errors": {"Invalid argument": 2},
    "ms": 287.4, "busy_ms": 250.0, "longest_step_ms": 1.2, "speculative": True,
}  # fmt: skip
REPLICATION: dict[str, Any] = {
    "own": 100021,
    "held": {"r2": 0},
    "in_step": [],
    "stale": [],
    "overflow": {"own": 0, "held r2": 7},
    "limit_entries": 262144,
    "sync_after": 2,
    "channel": {
        "streaming": True, "counters": {"stranger": 1}, "listening": ["0.0.0.0 port 3780"], "peers": [PEER],
    },
    "events": {"received": 62, "last_second": 3, "filtered": 0, "overruns": 1, "unreadable": 0},
    "restore_steps": [
        PASS, PASS | {"entries": 21, "ms": 1.4, "failed": 0, "errors": {}, "speculative": False},
    ],
    "restored_s": 65.2,
}  # fmt: skip
PAGE = """\
conntrack_sync
    own        100 021 entries, streamed
    held       0 entries of peers, at most 262 144
    events     62 received, 3 in the last second, 0 filtered here
    told       TCP when it is answered, UDP and ICMP after 2 s,
               UDP port forwards and flows of helpers at once
    lost       overruns 1, no room for held r2 7
    listening  0.0.0.0 port 3780
    channel    stranger 1
    restore    100 021 entries in 288.8 ms, 1 min 5 s ago
      step 1   100 000 entries in 287.4 ms, at most 1.2 ms at a time,
               in advance, replaced 1, failed 2
      errors   Invalid argument 2
      step 2   21 entries in 1.4 ms, at most 1.2 ms at a time, replaced 1

r2  in step  for 3.3 s
    path       10.9.9.2:3780 (not the preferred one), to r2, authenticated,
               round trip 0.4 ms
    lag        12 records, 0.3 ms (at most 1.4 s), 4096 bytes queued
    held       0 entries for it
    resyncs    3 (overflow 1, drift 2)
    records    dropped 3, coalesced 40, bulks 1
    traffic    19 MB sent, 1097 bytes received, 2 sessions
"""


def test_page_at_80_columns() -> None:
    assert render_replication(REPLICATION) == PAGE
    coloured = render_replication(REPLICATION, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == PAGE
    assert "\x1b[1;32min step\x1b[m" in coloured


@pytest.mark.parametrize(
    ("kernel", "row"),
    [
        ({"whole": True, "waiting": 0, "refused": 0, "forgotten": 0}, "has what is held"),
        ({"whole": True, "waiting": 2600, "refused": 0, "forgotten": 0}, "2 600 entries behind what is held"),
        ({"whole": False, "waiting": 0, "refused": 3}, "does not have what is held yet, refused 3"),
    ],
)
def test_page_of_a_backup(kernel: dict[str, Any], row: str) -> None:
    kernel = {"forgotten": 0, "kept": 0} | kernel
    assert f"    kernel     {row}\n" in render_replication({**REPLICATION, "kernel": kernel})
    assert "kernel" not in render_replication({**REPLICATION, "kernel": None})


def test_page_with_a_guarantee() -> None:
    gate: dict[str, Any] = {
        "state": "on", "held": 1300, "acked": 1200, "timed_out": 3, "overload": 40, "lost": 0, "limited": 57,
        "unkept": 100, "trouble": ["not kept for 100 connections within a minute"],
        "latency_us": {"p50": 400, "p99": 900, "max": 100_000},
    }  # fmt: skip
    page = " ".join(render_replication({**REPLICATION, "gate": gate}).split())
    assert "guarantee gate on, 1 200 held until a peer knew them, for 0.4 ms (at most 100.0 ms)" in page
    assert "not kept for 100 (timed out 3, overload 40, limited 57)" in page
    assert "not kept for 100 connections within a minute" in page


def test_page_of_an_older_daemon() -> None:
    """A class that the status does not name has no line."""
    status = copy.deepcopy(REPLICATION)
    del status["sync_after"]
    status["held"] = {"r3": 2600}
    status["channel"]["peers"][0]["totals"] = {}
    page = render_replication(status)
    assert "    told       all flows at once\n" in page
    assert "    held       2 600 entries of peers" in page and "    held       0 entries for it\n" in page
    assert "    traffic    0 bytes sent, 0 bytes received" in page


def test_page_of_a_peer_that_is_down() -> None:
    status = copy.deepcopy(REPLICATION)
    status["stale"] = ["r2: not connected for 12 s"]
    status["restore_steps"], status["restored_s"] = [], None
    names = ("name", "sessions", "resyncs")
    status["channel"]["peers"] = [
        {name: PEER[name] for name in names} | {"state": "down", "last_error": "dead: \x1b", "totals": {}}
    ]
    page = render_replication(status)
    assert "    stale      r2: not connected for 12 s\n" in page
    assert "    restore    none yet\n" in page
    assert "r2  down  no session\n" in page
    assert "    last error dead: \\x1b\n" in page


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "in step"),
        ({"in_step": False}, "out of step"),
        ({"streaming": False}, "idle"),
        ({"streaming": False, "peer_streaming": True}, "out of step"),
        ({"streaming": False, "peer_streaming": True, "held_in_step": True}, "in step"),
        ({"state": "down"}, "down"),
    ],
)
def test_step(change: dict[str, Any], word: str) -> None:
    assert step(PEER | change) == word


def test_size() -> None:
    numbers = (9999, 10_000, 9_999_000, 10_000_000, 12_000_000_000)
    assert [size(number) for number in numbers] == ["9999 bytes", "10 kB", "9999 kB", "10 MB", "12 GB"]


def test_health_in_the_status() -> None:
    assert "health" not in render_status(STATUS)
    page = render_status(STATUS | {"health": {"replication_stale": ["r2: not connected for 12 s"]}})
    assert "    health     replication_stale: r2: not connected for 12 s\n" in page


# The commands


class FakeAsk:
    """Answers as the daemon does, a page at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables: dict[str | None, list[tuple[bytes, bytes]]] = {None: [], "r2": []}
        self.asked: list[tuple[str | None, str | None]] = []
        monkeypatch.setattr(commands, "ask", self.ask)

    def ask(self, path: str, command: str, peer: str | None = None, cursor: str | None = None) -> Any:
        if command == "conntrack":
            return REPLICATION
        assert cursor is not None
        self.asked.append((peer, cursor))
        at, table = int(cursor), self.tables[peer]
        return {
            "entries": [[key_.hex(), body.hex()] for key_, body in table[at : at + 2]],
            "next": str(at + 2) if at + 2 < len(table) else None,
        }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAsk:
    return FakeAsk(monkeypatch)


def test_conntrack(fake: FakeAsk, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conntrack"]) == 0
    assert capsys.readouterr() == (PAGE, "")
    assert cli.main(["conntrack", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == REPLICATION


def test_list_of_all_tables(fake: FakeAsk, capsys: pytest.CaptureFixture[str]) -> None:
    fake.tables = {None: [flow[:2] for flow in FLOWS[:3]], "r2": [FLOWS[3][:2]]}
    assert cli.main(["conntrack", "list"]) == 0
    lines = [flow[2] for flow in FLOWS]
    assert capsys.readouterr().out.splitlines() == ["# own", *lines[:3], "# held for r2", lines[3]]
    assert fake.asked == [(None, "0"), (None, "2"), ("r2", "0")]


def test_list_of_one_table_and_its_limit(fake: FakeAsk, capsys: pytest.CaptureFixture[str]) -> None:
    fake.tables = {None: [flow[:2] for flow in FLOWS], "r2": [FLOWS[3][:2]]}
    assert cli.main(["conntrack", "list", "--peer", "r2"]) == 0
    assert capsys.readouterr().out.splitlines() == [FLOWS[3][2]]
    fake.asked.clear()
    assert cli.main(["conntrack", "list", "--own", "--limit", "3", "--json"]) == 0
    found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [flow["number"] for flow in found] == [6, 6, 17]
    assert len(fake.asked) == 2, "no more is asked for than is printed"


def test_the_mask_of_an_expectation_says_what_counts() -> None:
    key_ = bytes((0, 0, 4 | EXPECTED, 6)) + FAR + LAN + number(0) + number(2000) + LAN + FAR + PORTS + b"\6"
    mask = bytes((255, 255, 255, 0)) + b"\xff" * 4 + number(0) + number(0xFFFF)
    found = decode(key_, bytes((EXPECTATION,)) + number(300, 4) + bytes(8) + mask + bytes(16) + b"ftp\0\0")
    assert found["mask"] == {"src": "255.255.255.0", "dst": "255.255.255.255", "sport": 0, "dport": 65535}


def test_list_can_not_act_on_the_terminal(fake: FakeAsk, capsys: pytest.CaptureFixture[str]) -> None:
    fake.tables[None] = [FLOWS[6][:2]]
    assert cli.main(["conntrack", "list", "--own"]) == 0
    assert "helper=x\\x1b\n" in capsys.readouterr().out


def test_answer_of_another_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "ask", lambda *_, **__: {"entries": [["zz", ""]], "next": None})
    for command in (["conntrack"], ["conntrack", "list", "--own"]):
        assert cli.main(command) == 1
        assert "not understood" in capsys.readouterr().err
    with pytest.raises(ControlError):
        list(commands.flows("", None, 1))


@pytest.mark.parametrize("arguments", [["--own", "--peer", "r2"], ["--limit", "0"], ["--nothing"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["conntrack", "list", *arguments])
    assert raised.value.code == 2
    capsys.readouterr()


# The table's pages


def filled(count: int) -> Cache:
    cache = Cache(1_000_000, 1 << 30)
    for index in range(count):
        cache.apply((NEW, key(17, number(index, 4)), FLOWS[2][1]), 1_000_000_000)
    return cache


def test_pages_give_each_entry_once() -> None:
    cache = filled(3000)
    place: int | None = 0
    found: list[bytes] = []
    while place is not None:
        entries, place = cache.page(place, 500)
        assert len(entries) <= 500 + 40, "bounded by the request and one shard"
        assert place is None or len(entries) >= 500
        found += [entry[0] for entry in entries]
    assert len(found) == len(set(found)) == 3000


def test_pages_leave_out_what_a_bulk_did_not_have() -> None:
    cache = filled(10)
    cache.begin_bulk()
    cache.apply((NEW, key(17, number(3, 4)), FLOWS[2][1]), 2_000_000_000)
    cache.end_bulk()
    assert [entry[0] for entry in cache.page(0, 500)[0]] == [key(17, number(3, 4))]


def test_page_beyond_the_end() -> None:
    assert filled(3).page(SHARDS + 7, 500) == ([], None)
