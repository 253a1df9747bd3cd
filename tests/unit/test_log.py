# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tandem.log import Logger, RateLimiter, StderrSink, SyslogSink, printable
from tandem.loop import Loop

SECOND = 1_000_000_000


class Lines:
    """A sink that keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.blocked = False

    def write(self, level: str, line: str) -> bool:
        if not self.blocked:
            self.lines.append(f"{level} {line}")
        return not self.blocked


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_messages_below_the_level_are_left_out() -> None:
    sink = Lines()
    log = Logger("warning", sink)
    log.error("one")
    log.warning("two")
    log.info("three")
    log.level = "debug"
    log.debug("four")
    assert sink.lines == ["error one", "warning two", "debug four"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, ümlaut", "plain text, ümlaut"),
        ("name\nerror forged", "name\\nerror forged"),
        ("\x1b[2J\r\t\0", "\\x1b[2J\\r\\t\\x00"),
        ("a\u202eb\u2028c\x85", "a\\u202eb\\u2028c\\x85"),
        ("\udcff", "\\udcff"),
        ("x" * 5000, "x" * 1024),
        ("\n" * 5000, "\\n" * 512),
    ],
)
def test_a_message_is_one_printable_line(text: str, line: str) -> None:
    assert printable(text) == line


def test_lines_that_were_dropped_are_counted_and_told() -> None:
    sink = Lines()
    log = Logger("info", sink)
    sink.blocked = True
    log.info("one")
    log.info("two")
    assert log.dropped == 2
    sink.blocked = False
    log.info("three")
    log.info("four")
    assert sink.lines == ["warning 2 log lines were dropped", "info three", "info four"]


def test_stderr_never_blocks() -> None:
    reader, writer = os.pipe()
    log = Logger("info", StderrSink(writer))
    try:
        log.info("first")
        assert os.read(reader, 100) == b"info first\n"
        for _ in range(1000):
            log.info("x" * 1000)
        assert log.dropped > 900
        taken = 0
        while taken < (1000 - log.dropped) * 1006:
            taken += len(os.read(reader, 65536))
        log.info("after")
        assert os.read(reader, 100) == f"warning {log.dropped} log lines were dropped\ninfo after\n".encode()
    finally:
        os.close(reader)
    log.info("reader gone")  # EPIPE, not SIGPIPE: Python ignores that
    assert log.dropped > 900
    os.close(writer)


def syslogd(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(5)
    return server


def test_syslog_format_and_reconnection(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = SyslogSink("tandemd", str(path))
    log = Logger("debug", sink)
    log.error("nobody listens")
    assert log.dropped == 1
    server = syslogd(path)
    log.error("one")
    tag = f"tandemd[{os.getpid()}]"
    assert server.recv(200).decode() == f"<28>{tag}: 1 log lines were dropped"
    assert server.recv(200).decode() == f"<27>{tag}: one"
    server.close()
    path.unlink()
    server = syslogd(path)
    log.debug("two")
    assert server.recv(200).decode() == f"<31>{tag}: two"
    server.close()
    sink.close()


def test_syslog_never_blocks(tmp_path: Path) -> None:
    server = syslogd(tmp_path / "log")
    log = Logger("info", SyslogSink(path=str(tmp_path / "log")))
    for _ in range(10000):
        log.info("x" * 500)
    assert log.dropped > 0
    server.close()


def test_one_event_per_key_and_period() -> None:
    limiter = RateLimiter(period=10)
    assert [limiter.allow("a", now) for now in (0, 1, 9)] == [True, False, False]
    assert limiter.allow("b", 5)
    assert limiter.next_deadline() == 10
    assert limiter.expire(9) == []
    assert limiter.expire(10) == [("a", 2)]
    assert limiter.allow("a", 10)
    assert limiter.expire(15) == [("b", 0)]


def test_the_bucket_bounds_all_keys_together() -> None:
    limiter = RateLimiter(period=100, burst=3, refill=10)
    assert [limiter.allow(key, 0) for key in range(6)] == [True] * 3 + [False] * 3
    assert [limiter.allow(key, 10) for key in (6, 7)] == [True, False]
    assert limiter.expire(100) == [(0, 0), (1, 0), (2, 0), (None, 4)]


def test_the_table_is_bounded() -> None:
    limiter = RateLimiter(period=100, keys=4, burst=1000)
    assert sum(limiter.allow(key, 0) for key in range(1000)) == 4
    assert limiter.expire(100)[-1] == (None, 996)
    assert limiter.next_deadline() is None


def test_a_flood_gives_a_bounded_number_of_lines() -> None:
    sink, clock = Lines(), Clock()
    log = Logger("info", sink, clock=clock)
    for number in range(100_000):  # 100 s, half from one source, half from ever new ones
        clock.now = number * SECOND // 1000
        log.limited(("bad", number if number % 2 else 0), "warning", f"bad packet from {number}")
    log.flush(1000 * SECOND)
    assert len(sink.lines) < 150
    suppressed = sum(int(line.split()[1]) for line in sink.lines if "suppressed" in line)
    assert suppressed + sum("suppressed" not in line for line in sink.lines) == 100_000


def test_what_was_suppressed_is_told_when_the_period_ends() -> None:
    sink, clock = Lines(), Clock()
    log = Logger("info", sink, clock=clock)
    for _ in range(4):
        log.limited("key", "info", "wrong TTL from 10.0.0.1")
    log.limited("other", "debug", "not at this level")
    log.flush(59 * SECOND)
    assert sink.lines == ["info wrong TTL from 10.0.0.1"]
    log.flush(60 * SECOND)
    log.flush(200 * SECOND)
    assert sink.lines[1:] == ["info 3 more suppressed: wrong TTL from 10.0.0.1"]


def test_the_loop_ends_the_period_by_itself() -> None:
    sink, loop, clock = Lines(), Loop(), Clock()
    clock.now = loop.now()
    log = Logger("info", sink, lambda: RateLimiter(period=SECOND // 100), clock=clock)
    log.attach(loop)
    log.limited("key", "info", "first")
    log.limited("key", "info", "second")
    clock.now += SECOND
    while len(sink.lines) < 2:
        loop.turn(5 * SECOND)
    assert sink.lines == ["info first", "info 1 more suppressed: first"]
    loop.close()


def test_a_flood_of_junk_hides_no_error_and_no_failed_authentication() -> None:
    sink, clock = Lines(), Clock()
    log = Logger("info", sink, clock=clock)
    for number in range(5000):
        log.limited(("adverts", number, "bad_checksum"), "warning", f"junk from {number}")
    log.limited(("adverts", 1, "no socket"), "error", "adverts: an error")
    log.limited(("advert-authentication", 1, "auth_failure"), "warning", "wrong password from 10.0.0.1")
    log.limited("dhcp restart", "warning", "dnsmasq")
    assert sink.lines[-3:] == [
        "error adverts: an error", "warning wrong password from 10.0.0.1", "warning dnsmasq",
    ]  # fmt: skip
    for number in range(5000):
        log.limited(("advert-authentication", number, "auth_failure"), "warning", "wrong password")
    log.limited("conntrack_sync", "warning", "channel")
    assert sink.lines[-1] == "warning channel"


def test_subsystems_beyond_the_most_share_a_budget() -> None:
    sink = Lines()
    log = Logger("info", sink, clock=Clock())
    for number in range(10_000):
        log.limited((f"subsystem{number}", 1), "warning", "text")
    assert len(sink.lines) < 100


def test_of_many_changes_some_and_the_last_one_are_logged() -> None:
    sink, clock = Lines(), Clock()
    log = Logger("info", sink, clock=clock)
    for number in range(80):  # 40 carrier changes in 4 s
        clock.now = number * SECOND // 20
        log.change(("role", "lan"), "info", f"lan: {'FAULT' if number % 2 else 'BACKUP'} {number}")
    log.change(("role", "wan"), "info", "wan: MASTER")
    assert len(sink.lines) < 10
    assert sink.lines[-1] == "info wan: MASTER"
    log.flush(100 * SECOND)
    log.flush(200 * SECOND)
    assert sink.lines[-1] == "info lan: FAULT 79; 73 changes before it are not logged"


def test_the_loop_says_the_last_change_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.log._CHANGES_REFILL", SECOND // 100)
    sink, loop = Lines(), Loop()
    log = Logger("info", sink)
    log.attach(loop)
    for number in range(20):
        log.change("lan", "info", f"{number}")
    while not sink.lines[-1].startswith("info 19"):
        loop.turn(5 * SECOND)
    loop.close()
