# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders, reports, package managers, and the daemon's part in an upgrade."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.effects.process import Exit
from tandem.log import Logger
from tandem.loop import Loop
from tandem.upgrade import exchange as module
from tandem.upgrade import job as jobs
from tandem.upgrade.exchange import Exchange
from tandem.upgrade.order import JOBS, parse_order, report_file
from tandem.upgrade.packages import MANAGERS
from tandem.upgrade.report import DONE, FAILED, Report, decode, encode

APK, OPKG = MANAGERS


def test_orders() -> None:
    for job in JOBS:
        assert parse_order(f"{job}:0123abcd") == (job, "0123abcd")
    for text in ("", "install", "install:", "install:0123abc", "install:0123ABCD", "reboot:0123abcd"):
        assert parse_order(text) is None
    for text in ("install:0123abcd ", "install:0123abcd;id", "install:0123abcd:0", "check:../../aa"):
        assert parse_order(text) is None


def test_reports_travel() -> None:
    report = Report("0123abcd", DONE, "why", {"tandem": ("1", "2")})
    assert decode(encode(report)) == report
    written = b'[1, "0123abcd", "done", "why", {"tandem": ["1", "2"]}]\n'
    assert encode(report) == written, "other releases read it"
    later = [*json.loads(encode(report)), "of a later release"]
    assert decode(json.dumps(later).encode()) == report
    assert len(decode(encode(Report("1", FAILED, "x" * 10_000))).why) == 600


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_any_report_is_one_or_none(data: bytes) -> None:
    assert isinstance(decode(data), Report)


def test_what_opkg_lists() -> None:
    """Of opkg 2022-02-24, as OpenWrt 22.03 has it."""
    text = "luci-base - 1 - 2\ntandem - 0.1.0-r1 - 0.1.0-r2\ntandem-gate - 0.1.0-r1 - 0.1.0-r2\nCollected:\n"
    assert OPKG.upgradable(text) == {
        "tandem": ("0.1.0-r1", "0.1.0-r2"),
        "tandem-gate": ("0.1.0-r1", "0.1.0-r2"),
    }


def test_what_apk_lists() -> None:
    """Of apk-tools 3.0.5 with --upgradable."""
    text = (
        "WARNING: opening something\n"
        "tandem-0.1.0-r2 noarch {feeds/tandem} (GPL-2.0-or-later) [upgradable from: tandem-0.1.0-r1]\n"
        "tandem-tools-0.1.0-r2 noarch {tandem} (GPL-2.0-or-later) [upgradable from: tandem-tools-0.1.0-r1]\n"
        "busybox-1.37.0-r5 x86_64 {feeds/base} (GPL-2.0) [upgradable from: busybox-1.37.0-r4]\n"
    )
    assert APK.upgradable(text) == {
        "tandem": ("0.1.0-r1", "0.1.0-r2"),
        "tandem-tools": ("0.1.0-r1", "0.1.0-r2"),
    }


# A job


@pytest.fixture
def opkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that keeps its version in a file, and what it was called with in another."""
    program = tmp_path / "opkg"
    program.write_text(f"""#!/bin/sh
cd {tmp_path}
echo "$*" >>calls
case "$1" in
list-upgradable) [ -e upgraded ] || echo 'tandem - 1 - 2'; echo 'busybox - 1 - 2' ;;
upgrade) [ ! -e broken ] || {{ echo 'no space left'; exit 255; }}; [ -e idle ] || touch upgraded ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setattr(jobs, "find_program", lambda name: str(tmp_path / name))
    return tmp_path


def calls(opkg: Path) -> list[str]:
    return (opkg / "calls").read_text().splitlines()


def test_only_tandems_packages_are_upgraded(opkg: Path) -> None:
    control = str(opkg / "sock")
    assert jobs.run_job("check:00000001", control, "") == 0
    assert jobs.read_report(control) == Report("00000001", DONE, "", {"tandem": ("1", "2")})
    assert jobs.run_job("install:00000002", control, "") == 0
    assert jobs.read_report(control) == Report("00000002", DONE)
    assert calls(opkg) == [
        "update",
        "list-upgradable",
        "list-upgradable",
        "upgrade tandem",
        "list-upgradable",
    ]


def test_a_job_is_done_once(opkg: Path) -> None:
    control = str(opkg / "sock")
    for _ in range(2):
        assert jobs.run_job("check:00000001", control, "") == 0
    assert calls(opkg) == ["update", "list-upgradable"]
    assert jobs.run_job("reboot:00000001", control, "") == 1


@pytest.mark.parametrize(("how", "why"), [("broken", "no space left"), ("idle", "did not upgrade tandem")])
def test_a_failure_is_told(opkg: Path, how: str, why: str) -> None:
    (opkg / how).touch()
    control = str(opkg / "sock")
    assert jobs.run_job("install:00000002", control, "") == 1
    report = jobs.read_report(control)
    assert report.state == FAILED and why in report.why
    assert jobs.run_job("failover:00000003", control, "") == 1
    assert "is tandemd running" in jobs.read_report(control).why


def test_a_router_without_a_package_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "find_program", lambda name: str(tmp_path / name))
    assert jobs.run_job("check:00000001", str(tmp_path / "sock"), "") == 1
    assert jobs.read_report(str(tmp_path / "sock")).why == "there is neither apk nor opkg"


# The daemon's part


class Started:
    """Stands in for the processes."""

    def __init__(self, *_: object, **__: object) -> None:
        self.argv: list[list[str]] = []
        self.running = 0

    def __len__(self) -> int:
        return self.running

    def start(self, argv: list[str], _timeout: int, ended: object, outlives: bool = False) -> int:
        assert outlives, "it must outlive the daemon that the upgrade ends"
        self.argv.append(argv)
        self.running = 1
        self.ended = ended
        return 1


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, _level: str, line: str) -> bool:
        self.lines.append(line)
        return True


class Pair:
    """Two ends; what one sends arrives at once."""

    def __init__(self, directory: Path, permits: bool = True) -> None:
        self.log = Lines()
        self.loop = Loop()
        self.up = True
        self.asker = self.end("asker", directory, True)
        self.obeying = self.end("obeying", directory, permits)
        self.answers: list[dict[str, object]] = []

    def end(self, name: str, directory: Path, permits: bool) -> Exchange:
        def send(peer: str, data: bytes) -> bool:
            if self.up:
                (self.obeying if name == "asker" else self.asker).received(
                    "r1" if name == "asker" else "r2", data
                )
            return self.up

        log = Logger("info", self.log)
        return Exchange(self.loop, log, send, lambda _peer: permits, "/lib", str(directory / f"{name}.sock"))

    def ask(self, order: str = "") -> None:
        self.asker.ask("r2", order, self.answers.append)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    made: list[Started] = []

    def make(*_: object, **__: object) -> Started:
        made.append(Started())
        return made[-1]

    monkeypatch.setattr(module, "Processes", make)
    return made


def test_an_order_starts_its_job_once_and_the_report_comes(tmp_path: Path, started: list[Started]) -> None:
    pair = Pair(tmp_path)
    Path(report_file(str(tmp_path / "obeying.sock"))).write_bytes(encode(Report("1")))
    for _ in range(3):
        pair.ask("install:00000001")
    [processes] = started
    [argv] = processes.argv
    assert argv[4:] == [
        "/lib", "upgrade", "--job", "install:00000001", "--by", "tandem upgrade on r1",
        "--control", str(tmp_path / "obeying.sock"),
    ]  # fmt: skip
    assert len(pair.answers) == 3
    answer = pair.answers[0]["result"]
    assert isinstance(answer, dict) and decode(answer["report"].encode()) == Report("1") and answer["pid"]
    pair.ask("check:00000002")
    assert len(processes.argv) == 1, "one at a time"
    processes.running = 0
    pair.obeying._ended(Exit(1, 0))
    pair.ask("check:00000002")
    assert len(processes.argv) == 2
    assert "upgrade: install failed: exit status 1" in "\n".join(pair.log.lines)


@pytest.mark.parametrize("order", ["", "reboot:00000001", "install:1", "install:0000000\u00e9", "x" * 5000])
def test_nothing_else_starts(tmp_path: Path, started: list[Started], order: str) -> None:
    pair = Pair(tmp_path)
    pair.ask(order)
    assert not started and pair.answers[0]["ok"]


def test_a_router_that_does_not_permit_it_is_silent(tmp_path: Path, started: list[Started]) -> None:
    pair = Pair(tmp_path, permits=False)
    pair.ask("install:00000001")
    assert not started and not pair.answers
    pair.asker.peer_closed("r2")
    assert pair.answers == [{"ok": False, "error": "r2 does not answer: the session has ended"}]


def test_a_peer_that_is_gone(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.up = False
    pair.ask()
    assert pair.answers == [{"ok": False, "error": "r2 can't be reached"}]


@given(st.binary(max_size=200))
def test_any_message_is_harmless(data: bytes) -> None:
    pair = Pair(Path("/nonexistent"))
    pair.obeying._permits = lambda _peer: False
    pair.obeying.received("r1", data)
    pair.asker.received("r2", data)
