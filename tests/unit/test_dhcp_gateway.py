# SPDX-License-Identifier: GPL-2.0-or-later
"""When dnsmasq is restarted, with which leases, and what the peers are told: without processes or peers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.dhcp.exchange import MESSAGE_MAX
from tandem.dhcp.gateway import PATIENCE, RETRY, SECOND
from tests.unit.dhcp_bench import DUID, EPOCH, START, Bench, wire


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.gateway.stop()


def test_a_backup_gathers_leases_and_restarts_once(bench: Bench) -> None:
    bench.start()
    for number in range(1, 6):
        bench.peer(wire(number, name=f"host{number}"))
    assert bench.restarts.count == 0 and bench.guard.delayed == {"I1", "I2"}
    bench.clock.run(1.1)
    assert bench.restarts.count == 1 and bench.guard.delayed == {"I1", "I2"}
    assert bench.known() == [f"192.168.1.{n} host{n}" for n in range(1, 6)]
    bench.peer(wire(6))  # while it restarts
    bench.restarts.end()
    assert bench.guard.delayed == {"I1", "I2"}
    bench.clock.run(1.1)
    assert bench.restarts.count == 2 and "192.168.1.6 *" in bench.known()
    bench.restarts.end()
    bench.clock.run(3)
    assert bench.restarts.count == 2 and bench.guard.delayed == set()
    assert DUID in bench.file.read_text()
    assert bench.gateway.status()["leases"] == 6


def test_other_networks_stay_as_they_are(bench: Bench) -> None:
    guest = f"{EPOCH + 9000} 02:00:00:00:00:77 172.16.0.9 guest *"
    bench.start(guest)
    bench.peer(wire(1), "=600 02:00:00:00:00:78 172.16.0.10 * *")
    bench.clock.run(1.1)
    bench.restarts.end()
    assert bench.known() == ["172.16.0.9 guest", "192.168.1.1 *"]
    assert guest in bench.file.read_text()
    assert bench.channel.lines() == []


def test_a_prolonged_lease_waits_until_dnsmasq_would_forget_it(bench: Bench) -> None:
    bench.start(bench.line(1, 600))
    bench.clock.run(300)
    bench.peer(wire(1, 600))
    bench.clock.run(200)
    assert bench.restarts.count == 0 and bench.guard.delayed == set()
    bench.clock.run(60)
    assert bench.restarts.count == 1
    bench.restarts.end()
    assert bench.file.read_text().startswith(str(EPOCH + START // SECOND + 2 + 900)[:8])
    # Until then it was no reason to keep a new MASTER silent.


def test_a_new_master_restarts_at_once_and_is_silent_until_then(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(0)
    assert bench.restarts.count == 1 and "I1" in bench.guard.delayed
    bench.restarts.end()
    assert bench.guard.delayed == set()


def test_patience_ends(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(PATIENCE / SECOND - 1)
    assert "I1" in bench.guard.delayed
    bench.clock.run(6)
    assert bench.guard.delayed == {"I2"}  # which is not MASTER, and may yet be


def test_a_master_tells_what_its_dnsmasq_grants_and_hears_released(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    bench.dnsmasq(bench.line(1, 600, "laptop"))
    assert bench.channel.lines() == [wire(1, 600, "laptop")]
    bench.dnsmasq(bench.line(1, 600, "laptop"))
    assert bench.channel.lines() == []
    bench.clock.run(100)
    bench.dnsmasq(bench.line(1, 600, "laptop"), bench.line(2))
    assert bench.channel.lines() == [wire(1, 600, "laptop"), wire(2)]
    bench.dnsmasq(bench.line(2))
    assert bench.channel.lines() == ["-192.168.1.1"]
    # A backup accepts news from others only about leases that it does not know.
    bench.peer(wire(2, 900, who=9), "-192.168.1.2", wire(1, 500, "laptop"))
    assert bench.gateway.lease("192.168.1.1") is None
    assert bench.restarts.count == 0 or bench.known() == ["192.168.1.2 *"]


def test_the_last_word_of_a_master_that_gives_up_is_told(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("a") as file:  # just now, not read yet
        file.write(bench.line(1) + "\n")
    bench.gateway.role("I1", "BACKUP")
    assert bench.channel.lines() == [wire(1)]
    with bench.file.open("a") as file:
        file.write(bench.line(2))
    bench.gateway._read()  # in the middle of a write
    with bench.file.open("a") as file:
        file.write("\n")
    bench.clock.run(0.1)
    assert bench.channel.lines() == [wire(2)]
    bench.clock.run(2)
    bench.dnsmasq(bench.line(1), bench.line(2), bench.line(3))
    assert bench.channel.lines() == []


def test_what_a_backups_dnsmasq_does_is_no_news(bench: Bench) -> None:
    bench.start(bench.line(1))
    bench.dnsmasq()
    assert bench.channel.lines() == []
    bench.clock.run(1.1)
    assert bench.restarts.count == 1 and bench.known() == ["192.168.1.1 *"]


def test_a_master_of_one_network_is_backup_of_another(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I2", "MASTER")
    bench.dnsmasq(f"{EPOCH + 9000} 02:00:00:00:00:01 10.0.0.5 * *", bench.line(7))
    assert [line.split()[2] for line in bench.channel.lines()] == ["10.0.0.5"]
    bench.peer(wire(8, 100))
    assert bench.gateway.lease("192.168.1.8") is not None
    bench.peer("=900 02:00:00:00:00:02 10.0.0.5 * *")
    found = bench.gateway.lease("10.0.0.5")
    assert found is not None and found.client.endswith("01")


def no_room(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_what_dnsmasq_forgets_by_an_old_time_is_not_released(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.start(bench.line(1, 100))
    bench.peer(wire(1, 600))
    bench.gateway.role("I1", "MASTER")
    monkeypatch.setattr(os, "rename", no_room)
    bench.clock.run(101)
    bench.dnsmasq()
    assert bench.channel.lines() == []
    assert bench.gateway.lease("192.168.1.1") is not None
    monkeypatch.undo()


def test_a_clock_that_is_set_releases_nothing(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    bench.dnsmasq(bench.line(1, 3600))
    bench.channel.lines()
    bench.wall += 10**7  # the time server has answered
    bench.dnsmasq()  # and dnsmasq has forgotten everything
    assert bench.channel.lines() == []
    bench.clock.run(2)
    bench.restarts.end()
    [line] = [line for line in bench.file.read_text().splitlines() if "192.168.1.1" in line]
    assert abs(int(line.split()[0]) - (bench.wall + bench.now() + 3600)) < 5


@pytest.mark.parametrize("seconds", [3000, -3000])
def test_a_clock_that_is_set_is_no_news_of_the_leases_that_stay(bench: Bench, seconds: int) -> None:
    """dnsmasq's file says the same as before, and means another time."""
    bench.start()
    bench.gateway.role("I1", "MASTER")
    first = bench.line(1, 600)
    bench.dnsmasq(first)
    bench.channel.lines()
    bench.wall += seconds
    bench.dnsmasq(first, bench.line(2, 600))
    assert bench.channel.lines() == [wire(2, 600)]
    lease = bench.gateway.lease("192.168.1.1")
    assert lease is not None and lease.left(bench.now()) == 600
    bench.clock.run(7)
    bench.restarts.end()
    ends = [int(line.split()[0]) for line in bench.file.read_text().splitlines() if "192.168" in line]
    assert all(abs(end - (bench.wall + bench.now() + 593)) < 3 for end in ends)


def test_the_last_words_of_the_dnsmasq_before_are_heard(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("r+") as old:  # as dnsmasq holds it
        bench.clock.run(20)
        bench.peer(wire(1, mark="+"))
        bench.clock.run(1.1)
        assert bench.restarts.running is not None
        old.write(bench.line(9, 600, "late") + "\n" + DUID + "\n")
        old.flush()
        bench.restarts.end()
    assert bench.channel.lines() == [wire(9, 600, "late")]
    bench.clock.run(1.1)
    assert bench.known() == ["192.168.1.1 *", "192.168.1.9 late"]


def test_what_the_file_before_said_already_is_no_last_word(bench: Bench) -> None:
    """The old file would undo news of a peer; found by two routers played through."""
    bench.start(bench.line(1, 600, who=3))
    bench.peer(wire(1, 600, who=2))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(0)
    bench.restarts.end()
    assert bench.channel.lines() == []
    found = bench.gateway.lease("192.168.1.1")
    assert found is not None and found.client.endswith("02")


def test_a_restart_that_fails_is_tried_again_ever_less_often(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1))
    bench.clock.run(1.1)
    for delay in (RETRY, 2 * RETRY, 4 * RETRY):
        bench.restarts.end(1)
        assert "exit status 1" in bench.gateway.status()["problem"]
        count = bench.restarts.count
        bench.clock.run(delay / SECOND - 1)
        assert bench.restarts.count == count
        bench.clock.run(1.1)
        assert bench.restarts.count == count + 1
    bench.restarts.end()
    assert bench.gateway.status()["problem"] == "" and bench.guard.delayed == set()
    assert "info dhcp: dnsmasq is restarted at last" in bench.log.lines


def test_what_dnsmasq_grants_between_two_failed_restarts_is_heard(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("r+") as old:  # the dnsmasq that is not restarted writes there
        bench.clock.run(20)
        bench.peer(wire(1, mark="+"))
        for number in (2, 3):
            bench.clock.run(2 * RETRY / SECOND + 2)
            old.seek(0)
            old.write(bench.line(number) + "\n")
            old.truncate()
            old.flush()
            bench.restarts.end(1)
            assert bench.channel.lines() == [wire(number)]
        bench.clock.run(60)
    assert bench.known() == ["192.168.1.1 *", "192.168.1.2 *", "192.168.1.3 *"]


def test_a_file_that_can_not_be_written_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    monkeypatch.setattr(os, "rename", no_room)
    bench.peer(wire(1))
    bench.clock.run(2)
    assert "No space left" in bench.gateway.status()["problem"]
    assert sorted(path.name for path in bench.file.parent.iterdir()) == ["conf.d", "leases"]
    monkeypatch.undo()


def test_a_file_that_is_being_written_is_read_later(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    bench.file.write_text(bench.line(1))  # without its end
    bench.gateway._read()
    assert bench.channel.lines() == []
    bench.file.write_text(bench.line(1) + "\n")
    bench.clock.run(0.1)
    assert bench.channel.lines() == [wire(1)]


def test_a_change_is_found_without_inotify(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("a") as file:  # nobody tells
        file.write(bench.line(1) + "\n")
    bench.clock.run(6)
    assert [line.split()[2] for line in bench.channel.lines()] == ["192.168.1.1"]


def test_a_peer_that_could_not_be_told_is_told_everything_later(bench: Bench) -> None:
    bench.start(bench.line(1))
    bench.gateway.role("I1", "MASTER")
    bench.channel.room = False
    bench.dnsmasq(bench.line(1), bench.line(2))
    assert bench.gateway.status()["told"] == []
    bench.channel.room = True
    bench.clock.run(6)
    assert sorted(line.split()[2] for line in bench.channel.lines()) == ["192.168.1.1", "192.168.1.2"]
    assert bench.gateway.status()["told"] == ["r2"]


def test_many_leases_go_in_several_messages(bench: Bench) -> None:
    bench.start(*(bench.line(number, name="n" * 200) for number in range(1, 201)))
    bench.gateway.exchange.peer_closed("r2")
    bench.gateway.exchange.peer_opened("r2")
    assert all(len(data) <= MESSAGE_MAX + 300 for data in bench.channel.sent)
    assert len(bench.channel.sent) > 4
    assert len(bench.channel.lines()) == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"2\n=100 02:00:00:00:00:01 192.168.1.1 * *",
        b"1\n?",
        b"1\n=\xff\xff",
        b"1\n-no address",
        b"1\n=" + b"9" * 9000,
    ],
)
def test_what_is_no_lease_is_counted(bench: Bench, data: bytes) -> None:
    bench.start()
    bench.gateway.exchange.received("r2", data)
    assert bench.gateway.status()["malformed"] == 1
    assert bench.gateway.status()["leases"] == 0
    bench.clock.run(5)
    assert bench.restarts.count == 0


def test_the_snippet_is_written_once(bench: Bench, tmp_path: Path) -> None:
    bench.start()
    assert (tmp_path / "conf.d/tandem.conf").read_text() == "text\n"
    bench.gateway.stop()
    bench.gateway.start(("I1",))
    bench.clock.run(5)
    assert bench.restarts.count == 0 and bench.guard.delayed == set()


@pytest.mark.parametrize("end", ["stop", "release"])
def test_after_its_end_nothing_happens_any_more(bench: Bench, end: str) -> None:
    bench.start()
    getattr(bench.gateway, end)()
    count = bench.restarts.count
    assert count == (end == "release")
    bench.peer(wire(1))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(60)
    assert bench.restarts.count == count and bench.clock.timers == {}
    assert (bench.file.parent / "conf.d/tandem.conf").exists() == (end == "stop")
