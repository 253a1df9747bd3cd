# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate without packets: which flow a packet belongs to, how long it is held, and the daemon's answers."""

from __future__ import annotations

import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from tandem.gate.hold import (
    ACKED,
    BYPASSED,
    HELD_MAX,
    MINUTE,
    OVERLOAD,
    TIMED_OUT,
    Hold,
    Unkept,
    Waiting,
    read_figures,
    reply_tuple,
    unkept,
)
from tandem.gate.link import _START, GateLink
from tandem.gate.rules import iptables_rules, nft_rules
from tandem.log import Logger
from tandem.loop import Loop
from tandem.programs import PACKAGE_DIR
from tests.lab.log import Lines

MS = 1_000_000
PORTS = struct.pack("!HH", 80, 40000)
SERVER4, CLIENT4 = socket.inet_aton("203.0.113.1"), socket.inet_aton("192.0.2.4")
SERVER6, CLIENT6 = bytes(15) + b"\1", bytes(15) + b"\2"


def _ipv4(protocol: int = 6, options: bytes = b"", fragment: int = 0) -> bytes:
    head = bytes((0x45 + len(options) // 4, 0)) + bytes(4) + struct.pack("!HBB", fragment, 64, protocol)
    return head + bytes(2) + SERVER4 + CLIENT4 + options + PORTS + bytes(16)


def _ipv6(header: int = 6, extension: bytes = b"") -> bytes:
    return b"\x60" + bytes(5) + bytes((header, 64)) + SERVER6 + CLIENT6 + extension + PORTS + bytes(16)


@pytest.mark.parametrize(
    "packet", [_ipv4(), _ipv4(options=bytes(8)), _ipv4(fragment=0x4000), _ipv4(fragment=0x2000)]
)
def test_tuple_of_ipv4(packet: bytes) -> None:
    assert reply_tuple(packet) == b"\0\0\4\6" + SERVER4 + CLIENT4 + PORTS


@pytest.mark.parametrize(
    "packet",
    [
        _ipv6(),
        _ipv6(60, b"\6\1" + bytes(14)),
        _ipv6(43, b"\6\0" + bytes(6)),
        _ipv6(0, b"\6\0" + bytes(6)),
        _ipv6(0, b"\x3c\0" + bytes(6) + b"\x2b\1" + bytes(14) + b"\6\0" + bytes(6)),
    ],
)
def test_tuple_of_ipv6(packet: bytes) -> None:
    assert reply_tuple(packet) == b"\0\0\6\6" + SERVER6 + CLIENT6 + PORTS


def test_tuple_of_udp_and_icmp() -> None:
    assert reply_tuple(_ipv4(17)) == b"\0\0\4\x11" + SERVER4 + CLIENT4 + PORTS
    assert reply_tuple(_ipv6(17)) == b"\0\0\6\x11" + SERVER6 + CLIENT6 + PORTS
    echo = struct.pack("!BBHHH", 0, 0, 0xFFFF, 7, 1)  # type, code, checksum, id, sequence number
    assert reply_tuple(_ipv4(1)[:20] + echo) == b"\0\0\4\1" + SERVER4 + CLIENT4 + b"\0\0\0\7"
    echo = struct.pack("!BBHHH", 129, 0, 0xFFFF, 7, 1)
    assert reply_tuple(_ipv6(58)[:40] + echo) == b"\0\0\6\x3a" + SERVER6 + CLIENT6 + b"\x81\0\0\7"


@pytest.mark.parametrize(
    "packet",
    [b"", bytes(60), _ipv4(protocol=132), _ipv4(protocol=58), _ipv4(fragment=1), _ipv4(fragment=0x1F00),
     _ipv4()[:22],
     b"\x44" + _ipv4()[1:], b"\x74" + _ipv6()[1:], _ipv6()[:40] + b"\1",
     _ipv6(1), _ipv6()[:42], _ipv6(0, b"\0\0"), _ipv6(44)],
)  # fmt: skip
def test_other_packets_have_none(packet: bytes) -> None:
    assert reply_tuple(packet) is None


def test_a_packet_may_end_behind_its_ports() -> None:
    assert reply_tuple(_ipv4()[:24]) == reply_tuple(_ipv4()) and reply_tuple(_ipv4()[:23]) is None
    assert reply_tuple(_ipv6()[:44]) == reply_tuple(_ipv6()) and reply_tuple(_ipv6()[:43]) is None


def test_every_beginning_of_a_packet_is_harmless() -> None:
    for packet in (_ipv4(options=bytes(8)), _ipv6(60, b"\6\1" + bytes(14))):
        for size in range(len(packet)):
            reply_tuple(packet[:size])


def test_a_gate_that_has_held_nothing_says_so() -> None:
    figures = read_figures(Hold(100 * MS).figures(False, 0))
    assert figures.pop("latency_us") == {"p50": 0, "p99": 0, "max": 0}
    assert set(figures.values()) == {0}


def test_packets_are_held_until_the_timeout() -> None:
    hold = Hold(100 * MS)
    out: list[int] = []
    assert hold.deadline() is None
    hold.add(1, lambda: out.append(1), 1000 * MS, 1000 * MS)
    hold.add(2, lambda: out.append(2), 1010 * MS, 1010 * MS)
    hold.add(3, lambda: out.append(3), 1020 * MS, 1020 * MS)
    assert hold.deadline() == 1100 * MS
    assert hold.expire(1100 * MS - 1) == []
    for accept in (*hold.release([2, 9], ACKED, 1012 * MS), *hold.expire(1100 * MS)):
        accept()
    assert out == [2, 1]
    assert hold.deadline() == 1120 * MS
    assert len(hold.release_all(BYPASSED, 1110 * MS)) == 1
    figures = read_figures(hold.figures(True, 7))
    assert (figures["on"], figures["limited"], figures["lost"]) == (1, 7, 0)
    assert (figures["held"], figures["acked"], figures["timed_out"], figures["bypassed"]) == (3, 1, 1, 1)
    assert figures["latency_us"] == {"p50": 100_000, "p99": 100_000, "max": 100_000}
    assert hold.left[TIMED_OUT] == 1 and not len(hold)


def test_the_percentiles_are_those_of_the_last_1024() -> None:
    hold = Hold(10_000 * MS)
    for number in range(1, 3001):
        hold.add(number, lambda: None, 0, 0)
        hold.release([number], ACKED, (number - 2000 if number > 2000 else 9000) * MS)
    figures = read_figures(hold.figures(True, 0))
    # 24 of 9 s, and 1 to 1000 ms
    assert figures["latency_us"] == {"p50": 513_000, "p99": 9_000_000, "max": 9_000_000}
    for number in range(3001, 3101):
        hold.add(number, lambda: None, 0, 0)
        hold.release([number], ACKED, 500 * MS)
    figures = read_figures(hold.figures(True, 0))
    assert figures["latency_us"] == {"p50": 500_000, "p99": 990_000, "max": 9_000_000}


def test_a_packet_is_released_once() -> None:
    hold = Hold(100 * MS)
    hold.add(1, lambda: None, 0, 0)
    assert len(hold.release([1, 1], ACKED, 1)) == 1
    assert hold.release([1], ACKED, 2) == []


def test_a_packet_is_as_old_as_the_kernel_says() -> None:
    hold = Hold(100 * MS)
    assert hold.add(1, lambda: None, 910 * MS, 1000 * MS) is None
    assert hold.deadline() == 1010 * MS
    assert hold.add(2, lambda: None, 900 * MS, 1000 * MS) == TIMED_OUT
    assert len(hold.expire(1000 * MS)) == 0, "the process releases what add() says"
    assert len(hold.release([2], TIMED_OUT, 1000 * MS)) == 1


def test_under_a_flood_few_are_held_and_all_are_counted() -> None:
    hold = Hold(100 * MS)
    ways = [hold.add(number, lambda: None, 0, 0) for number in range(1, HELD_MAX + 11)]
    assert ways == [None] * 512 + [OVERLOAD] * 10
    hold.release(range(HELD_MAX + 1, HELD_MAX + 11), OVERLOAD, 0)
    hold.add(HELD_MAX + 31, lambda: None, 0, 0)  # the kernel had no room for twenty
    hold.release([HELD_MAX + 31], OVERLOAD, 0)
    assert hold.lost == 20
    assert unkept(read_figures(hold.figures(True, 5))) == 11 + 20 + 5


def test_for_how_many_the_guarantee_was_not_kept_lately() -> None:
    assert Unkept().judge(3, 0) == 3  # since the start
    found = Unkept()
    assert found.judge(0, 0) == 0
    assert found.judge(5, 10) == 5
    assert found.judge(7, 10 + MINUTE // 2) == 2
    assert found.lately(MINUTE) == 7
    assert found.lately(10 + MINUTE) == 2
    for second in range(1000):
        found.judge(8 + second, 2 * MINUTE + second)
    assert found.lately(4 * MINUTE) == 0
    assert found.judge(1008, 5 * MINUTE) == found.lately(5 * MINUTE) == 1
    assert found.judge(900, 5 * MINUTE + 1) == 0  # the process is a new one, and counts from 0
    assert found.judge(901, 5 * MINUTE + 2) == 1
    assert found.lately(5 * MINUTE + 2) == 2


def test_positions_release_what_waits_for_them() -> None:
    waiting = Waiting(100 * MS)
    waiting.add(10, b"aaaa", 0)
    waiting.add(12, b"bbbb", 1 * MS)
    assert waiting.acked(9) == b""
    assert waiting.acked(11) == b"aaaa"
    assert waiting.acked(12) == b"bbbb"
    waiting.add(13, b"cccc", 2 * MS)
    assert waiting.clear() == b"cccc"
    assert waiting.acked(99) == b""


def test_a_stall_lasts_until_something_that_waited_is_acknowledged() -> None:
    waiting = Waiting(100 * MS)
    waiting.add(10, b"aaaa", 0)
    assert not waiting.stalled(100 * MS)
    assert waiting.stalled(101 * MS)
    for position in range(11, 1000):
        waiting.add(position, b"bbbb", 150 * MS)
    assert waiting.acked(10) == b"aaaa"
    assert not waiting.stalled(200 * MS)
    assert waiting.acked(999) == b""
    assert not waiting.stalled(10_000 * MS)


def test_what_waited_before_a_stall_still_has_its_turn() -> None:
    waiting = Waiting(100 * MS)
    waiting.add(10, b"aaaa", 0)
    waiting.add(12, b"bbbb", 50 * MS)
    for position in range(13, 99):
        waiting.add(position, b"cccc", 150 * MS)
    assert waiting.acked(12) == b"aaaabbbb"
    assert waiting.acked(99) == b""


def test_a_stall_is_remembered_in_two_places() -> None:
    """A peer that does not answer for days costs no memory."""
    waiting = Waiting(100 * MS)
    waiting.add(10, b"aaaa", 0)
    for position in range(11, 99):
        waiting.add(position, b"bbbb", 150 * MS)
        assert len(waiting._batches) == 2


def test_what_nft_and_iptables_are_told() -> None:
    text = nft_rules(3780, 1234)
    lines = [line.strip() for line in text.splitlines()]
    held = [line for line in lines if line.endswith("goto hold")]
    assert [line.split()[0] for line in held] == ["tcp", "meta", "icmp", "icmpv6"]
    chain = lines[lines.index("chain hold {") + 1 :]
    assert [line.split()[0] for line in chain[:3]] == ["update", "update", "queue"]
    assert all("limit rate over 1000/second burst 500 packets }" in line for line in chain[:2])
    assert chain[2] == "queue num 3780 bypass" and text.count("size 4096;") == 2
    assert "tcp sport != 1234" in held[0] and all("packets 1-4 " in line for line in held[1:])
    assert lines.index('iifname "lo" accept') < lines.index("ct direction original accept")
    assert lines.index("ct direction original accept") < lines.index(held[0])
    for v6 in (False, True):
        rules = [" ".join(rule) for rule in iptables_rules(3780, 1234, v6)]
        assert all("--ctdir REPLY" in rule and "--queue-num 3780 --queue-bypass" in rule for rule in rules)
        assert "! --sport 1234" in rules[0] and all("--connbytes 1:4 " in rule for rule in rules[1:])
        assert ("icmpv6" in rules[2]) is v6


def test_the_process_inherits_nothing_of_the_daemons_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_MINE", "x")
    loop = Loop()
    said = tmp_path / "environment"
    argv = ["/bin/sh", "-c", f"/usr/bin/env > {said}.new; mv {said}.new {said}"]
    link = GateLink(loop, Logger("info", Lines()), 100 * MS, 3780, lambda messages: None, lambda fd: argv)
    link.start()
    deadline = loop.now() + 10_000 * MS
    while not said.exists() and loop.now() < deadline:
        loop.turn(10 * MS)
    names = {line.partition("=")[0] for line in said.read_text().splitlines()}
    assert names <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}
    link.stop()
    loop.close()


def test_without_netfilterqueue_the_guarantee_is_missing_and_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "netfilterqueue.py").write_text("raise ImportError('no netfilterqueue here')")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {_START}"
    loop, sink = Loop(), Lines()
    link = GateLink(
        loop,
        Logger("info", sink),
        100 * MS,
        3780,
        lambda messages: None,
        lambda fd: [sys.executable, "-IS", "-c", start, PACKAGE_DIR, str(fd), "3780", "3780", "100"],
    )
    descriptors = len(os.listdir("/proc/self/fd"))
    link.switch(True)
    link.start()
    deadline = loop.now() + 10_000 * MS
    while link.status()["state"] != "unable" and loop.now() < deadline:
        loop.turn(10 * MS)
    assert "no netfilterqueue here" in link.status()["error"]
    assert any(line.startswith("error") and "no guarantee" in line for line in sink.lines)
    assert link.status()["starts"] == 1
    link.stop()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    loop.close()
