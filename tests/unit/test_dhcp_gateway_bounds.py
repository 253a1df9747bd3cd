# SPDX-License-Identifier: GPL-2.0-or-later
"""The times, the limits and the troubles of a DHCP gateway: each at its edge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dhcp_bench import EPOCH, Bench, wire


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.gateway.stop()


# The times


def test_a_prolonged_lease_is_written_a_minute_before_dnsmasq_forgets_it(bench: Bench) -> None:
    bench.start(bench.line(1, 600))  # two seconds ago
    bench.peer(wire(1, 900))
    bench.clock.run(600 - 60 - 2 - 1)
    assert bench.restarts.count == 0
    bench.clock.run(1)
    assert bench.restarts.count == 1


def test_a_lease_that_is_prolonged_in_its_last_minute_is_written_at_once(bench: Bench) -> None:
    bench.start(bench.line(1, 40))
    bench.peer(wire(1, 600))
    bench.clock.run(0)
    assert bench.restarts.count == 1


def test_a_lease_that_dnsmasq_knows_requires_no_restart(bench: Bench) -> None:
    bench.start(bench.line(1))
    bench.clock.run(620)
    assert bench.restarts.count == 0


def test_a_lease_that_has_ended_is_forgotten(bench: Bench) -> None:
    bench.start(bench.line(1, 100))
    bench.clock.run(97)
    assert bench.gateway.status()["leases"] == 1
    bench.clock.run(6)
    assert bench.gateway.status()["leases"] == 0


@pytest.mark.parametrize("seconds", [30, 31])
def test_a_clock_that_moves_by_more_than_half_a_minute_was_set(bench: Bench, seconds: int) -> None:
    bench.start(bench.line(1))
    bench.wall += seconds
    bench.clock.run(8)
    assert bench.restarts.count == (seconds > 30)


def test_a_new_master_is_silent_for_ten_seconds(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1))
    bench.clock.run(3)  # to one of the looks, which come every five seconds
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(9)
    assert "I1" in bench.guard.delayed
    bench.clock.run(1)
    assert bench.guard.delayed == {"I2"}


def test_a_restart_that_fails_after_the_patience_lets_the_master_answer(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(10.5)
    assert "I1" in bench.guard.delayed
    bench.restarts.end(1)
    assert bench.guard.delayed == {"I2"}


def test_an_instance_that_is_master_at_the_start_answers(bench: Bench) -> None:
    bench.file.write_text("")
    bench.gateway.start(("I1",))
    assert bench.guard.delayed == {"I2"}
    bench.clock.run(0.9)
    assert bench.restarts.count == 0
    bench.clock.run(0.1)
    assert bench.restarts.count == 1


def test_the_restart_waits_for_its_delay(bench: Bench) -> None:
    bench.start()
    assert not bench.gateway.status()["waiting"]
    bench.peer(wire(1))
    assert bench.gateway.status()["waiting"]
    bench.clock.run(0.9)
    assert bench.restarts.count == 0
    bench.clock.run(0.1)
    assert bench.restarts.count == 1


def test_the_file_is_looked_at_every_five_seconds(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("a") as file:  # nobody tells
        file.write(bench.line(1) + "\n")
    bench.clock.run(2.9)
    assert bench.channel.lines() == []
    bench.clock.run(0.2)
    assert bench.channel.lines() == [wire(1, 597)]


def test_attempts_to_restart_are_ten_seconds_to_five_minutes_apart(bench: Bench) -> None:
    bench.file.write_text("")
    bench.gateway.start(())
    bench.clock.run(1)
    assert bench.restarts.count == 1
    for seconds in (10, 20, 40, 80, 160, 300, 300):
        bench.restarts.end(1)
        bench.restarts.count = 0
        bench.clock.run(seconds - 0.1)
        assert bench.restarts.count == 0
        bench.clock.run(0.1)
        assert bench.restarts.count == 1


# dnsmasq's file


def test_what_stands_in_the_file_is_known_at_once(bench: Bench) -> None:
    guest = f"{EPOCH + 9000} 02:00:00:00:00:77 172.16.0.9 guest *"
    bench.file.write_text(f"{bench.line(1, 1)}\n{guest}\n")
    bench.gateway.start(())
    assert [lease.address for lease in bench.gateway.leases()] == ["192.168.1.1"]
    assert bench.gateway.status()["restarts"] == 0


def test_inotify_tells_of_a_change(bench: Bench) -> None:
    bench.start()
    bench.gateway.role("I1", "MASTER")
    with bench.file.open("a") as file:
        file.write(bench.line(1) + "\n")
    [notified] = bench.clock.readers.values()
    notified()
    bench.clock.run(0.02)
    assert bench.channel.lines() == [wire(1)]
    bench.gateway.stop()
    assert bench.clock.readers == {}


@pytest.mark.parametrize("duid", [True, False])
def test_what_a_backups_dnsmasq_adds_is_not_taken(bench: Bench, duid: bool) -> None:
    """Only what stood there at the first look is; neither lines nor leases alone make a look the first."""
    if duid:
        bench.start()
        bench.dnsmasq(bench.line(2))
        assert bench.gateway.status()["leases"] == 0
    else:
        bench.file.write_text(bench.line(1) + "\n")
        bench.gateway.start(())
        bench.file.write_text(f"{bench.line(1)}\n{bench.line(2)}\n")
        bench.gateway._read()
        assert bench.gateway.status()["leases"] == 1


def test_a_lease_is_written_until_its_last_second(bench: Bench) -> None:
    bench.start()
    bench.peer(wire(1, 2), wire(2))
    bench.clock.run(1)
    assert bench.known() == ["192.168.1.1 *", "192.168.1.2 *"]


@pytest.mark.parametrize("left", [3, 4])
def test_what_a_peer_has_heard_released_is_taken_out_unless_it_ends_now(bench: Bench, left: int) -> None:
    bench.start(bench.line(1, left + 2))
    bench.peer("-192.168.1.1")
    assert bench.gateway.status()["leases"] == 0
    bench.clock.run(1.5)
    assert bench.restarts.count == (left > 3)
    assert bench.known() == ([] if left > 3 else ["192.168.1.1 *"])


def test_a_master_does_not_hear_of_releases(bench: Bench) -> None:
    bench.start(bench.line(1))
    bench.gateway.role("I1", "MASTER")
    bench.peer("-192.168.1.1")
    assert bench.gateway.lease("192.168.1.1") is not None


def test_what_the_first_file_said_is_no_last_word(bench: Bench) -> None:
    """The leases of a replaced file are known, also at the first restart of all."""
    bench.file.write_text(bench.line(1, 600, who=3) + "\n")
    bench.gateway.start(())
    bench.peer(wire(1, 100, who=2))
    bench.gateway.role("I1", "MASTER")
    bench.clock.run(0)
    bench.restarts.end()
    found = bench.gateway.lease("192.168.1.1")
    assert found is not None and found.client.endswith("02")
    assert bench.gateway.status()["restarts"] == 1


def test_leases_of_ipv6_are_shared(bench: Bench) -> None:
    bench.start()
    bench.peer("=600 1234 fd00::5 * 00:01:02", "=600 1234 fd00:0:0:1::5 * 00:01:02")
    assert [lease.address for lease in bench.gateway.leases()] == ["fd00::5"]


# Trouble


def test_a_restart_that_is_not_possible_is_tried_again(bench: Bench) -> None:
    bench.start()
    bench.restarts.possible = False
    bench.peer(wire(1))
    bench.clock.run(1)
    assert bench.gateway.status()["problem"] == "dnsmasq can't be restarted"
    assert "error dhcp: dnsmasq can't be restarted" in bench.log.lines
    assert bench.gateway.status()["restarts"] == 1  # the first one
    bench.restarts.possible = True
    bench.clock.run(9.9)
    assert bench.restarts.count == 0
    bench.clock.run(0.1)
    assert bench.restarts.count == 1


def test_a_file_that_can_not_be_read_is_told(bench: Bench) -> None:
    bench.start()
    bench.file.unlink()
    bench.file.mkdir()
    bench.gateway._read()
    assert f"error dhcp: {bench.file}: is not an ordinary file" in bench.log.lines


def test_a_file_that_is_too_large_is_told(bench: Bench) -> None:
    bench.start()
    os.truncate(bench.file, (4 << 20) + 1)
    bench.gateway._read()
    assert f"error dhcp: {bench.file}: the lease file is larger than {4 << 20} bytes" in bench.log.lines


def test_why_a_file_can_not_be_written_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_old: str, _new: str) -> None:
        raise OSError(28, "No space left on device")

    bench.start()
    bench.peer(wire(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        bench.clock.run(1)
    assert bench.gateway.status()["problem"] == f"can't write {bench.file}: No space left on device"


def test_the_guard_is_looked_after_and_its_failures_are_told(bench: Bench) -> None:
    bench.start()
    bench.guard.refreshed = 0
    bench.guard.failures = ("nft: no such table",)
    bench.clock.run(5)
    assert bench.guard.refreshed == 1
    assert "error dhcp: nft: no such table" in bench.log.lines
    assert bench.gateway.status()["problem"] == "nft: no such table"


def test_a_snippet_that_can_not_be_written_is_told(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "conf.d").write_text("")
    bench.file.write_text("")
    bench.gateway.start(())
    assert f"error dhcp: can't write {tmp_path}/conf.d/tandem.conf: Not a directory" in bench.log.lines


def test_a_snippet_that_can_not_be_taken_back_is_told(bench: Bench, tmp_path: Path) -> None:
    bench.start()
    snippet = tmp_path / "conf.d/tandem.conf"
    snippet.unlink()
    snippet.mkdir()
    bench.gateway.release()
    assert f"error dhcp: can't take back {snippet}: Is a directory" in bench.log.lines


# The overlay of UCI


@pytest.mark.parametrize("before", ["", "dhcp.lan.start='5'\n"])
def test_force_is_set_in_the_overlay_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    overlay = tmp_path / "state/dhcp"
    overlay.parent.mkdir()
    if before:
        overlay.write_text(before)
    bench = Bench(tmp_path, monkeypatch, overlay.parent, ("lan", "guest"))
    bench.start()
    assert overlay.read_text() == f"{before}dhcp.lan.force='1'\ndhcp.guest.force='1'\n"
    bench.gateway.release()
    assert overlay.read_text() == before
    assert bench.log.lines == []


@pytest.mark.parametrize(("state", "force"), [(True, ()), (False, ("lan",))])
def test_without_sections_or_overlay_none_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: bool, force: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "None"  # where a path of no directory would lead
    directory.mkdir()
    bench = Bench(tmp_path, monkeypatch, directory if state else None, force)
    bench.start()
    bench.gateway.release()
    assert list(directory.iterdir()) == [] and bench.log.lines == []


@pytest.mark.parametrize("excess", [0, 1])
def test_an_overlay_of_more_than_a_mebibyte_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excess: int
) -> None:
    overlay = tmp_path / "dhcp"
    text = "#" * ((1 << 20) - 1 + excess) + "\n"
    overlay.write_text(text)
    bench = Bench(tmp_path, monkeypatch, tmp_path, ("lan",))
    bench.gateway.start(())
    bench.gateway.stop()
    assert overlay.read_text() == text + ("" if excess else "dhcp.lan.force='1'\n")
    assert len(bench.log.lines) == excess
