# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem services` and `tandem checks` for people."""

from __future__ import annotations

import json

import pytest

from tandem.control import checks_page, cli
from tandem.control.services_page import lines
from tests.unit.fake_daemon import FakeDaemon
from tests.unit.status_snapshot import STATUS


def test_services_for_people() -> None:
    assert list(lines(STATUS["services"])) == [
        "nginx  running for 4 h 22 min, with G1: ocf:heartbeat:nginx",
        "       failures: 1, forgotten in 42.0 s",
        "       last failure: monitor not running: nginx is dead",
        "db     stopped, with G1: systemd:mariadb",
        "       waits for an end of its failures: tandem service clear db",
        "       failures: 1, does not run on this router",
        "       last failure: start failed: exit status 1",
    ]


def test_checks_for_people() -> None:
    assert list(checks_page.lines(STATUS["checks"])) == [
        "web       up for 4 h 22 min: status 200 (1.2 ms), 2 of 15732 tries bad",
        "          http 192.0.2.80:80 of service nginx",
        "provider  not known yet, 0 of 0 tries bad",
        "          ping 192.0.2.1",
    ]
    www = STATUS["virtual_servers"][0]
    assert list(checks_page.virtual_servers([www])) == [
        "www  tcp 192.0.2.4:80 (sh)",
        "    s1  10.0.0.1 port 8080: 100% of new connections",
        "    s2  10.0.0.2 port 8080: DOWN",
    ]
    idle = www | {"servers": [www["servers"][1]], "sorry": True}
    assert next(checks_page.virtual_servers([idle])).endswith(
        "no real server is up, the sorry server answers"
    )
    down = STATUS["checks"][0] | {"up": False, "since_s": 3.0, "last": "status 503"}
    assert next(checks_page.lines([down])).startswith("web  DOWN for 3.0 s: status 503 (1.2 ms)")
    assert "nothing is checked" in next(checks_page.lines([]))


def test_the_command_that_shows_them(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["services"] = {"services": STATUS["services"]}
    assert cli.main(["--control", daemon.path, "services"]) == 0
    assert capsys.readouterr().out.splitlines() == list(lines(STATUS["services"]))
    assert cli.main(["--control", daemon.path, "services", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out) == daemon.answers["services"] and out.endswith("}\n")


def test_the_command_that_shows_checks(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    answer = daemon.answers["checks"] = {name: STATUS[name] for name in ("checks", "virtual_servers")}
    assert cli.main(["--control", daemon.path, "checks"]) == 0
    shown = [*checks_page.virtual_servers(answer["virtual_servers"]), *checks_page.lines(answer["checks"])]
    assert capsys.readouterr().out.splitlines() == shown
    assert cli.main(["--control", daemon.path, "checks", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_the_command_that_acts_on_one(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["service"] = "nginx is stopped"
    assert cli.main(["--control", daemon.path, "service", "stop", "nginx"]) == 0
    [request] = daemon.requests
    assert (request["action"], request["name"]) == ("stop", "nginx") and request["by"]
    assert "nginx is stopped" in capsys.readouterr().out


def test_no_services() -> None:
    assert list(lines([])) == ["there is no service section"]


def test_where_they_run() -> None:
    [first, second] = STATUS["services"]
    quiet = {"failures": 0, "banned": False, "failure": "", "waits_for": ""}
    found = lines([first | quiet | {"where": "backup"}, second | quiet | {"where": "everywhere"}])
    assert [line.partition(", ")[2].partition(":")[0] for line in found] == [
        "on the backup of G1",
        "everywhere",
    ]
