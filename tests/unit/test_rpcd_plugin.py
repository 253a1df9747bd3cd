# SPDX-License-Identifier: GPL-2.0-or-later
"""The methods of rpcd's plugin: the table of commands knows them all, and their arguments are bounded."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tandem.control.command_table import TABLE
from tandem.doctor import visit
from tandem.doctor.finding import Finding
from tandem.doctor.visit import Visit
from tandem.rpcd import methods, plugin, setup
from tandem.rpcd.request import Files
from tandem.setup import service, token
from tests.lab.router import ROOT
from tests.lab.wait import wait_until

PROGRAM = ROOT / "files/usr/libexec/rpcd/tandem.commands"
NETWORK = """
config interface 'lan'
	option device 'no-such-device'
	option proto 'static'
	option ipaddr '192.168.1.{number}/24'

config interface 'wan'
	option device 'no-such-wan'
	option proto 'dhcp'
"""
ANSWERS = {"networks": ["lan=192.168.1.1"], "peer": "192.168.1.3", "sync": True, "force": True}


@pytest.fixture
def router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """The files of a router that has no service."""
    monkeypatch.setattr(service, "INIT_SCRIPT", str(tmp_path / "none"))
    return made(tmp_path, 2)


def made(where: Path, number: int) -> Files:
    where.mkdir(exist_ok=True)
    (where / "network").write_text(NETWORK.format(number=number))
    (where / "dhcp").write_text("config dhcp 'lan'\n\toption interface 'lan'\n")
    names = ("config", "network", "dhcp", "firewall", "secret", "control", "state")
    return Files(**{name: str(where / name) for name in names})


def call(files: Files, method: str, **values: object) -> dict[str, Any]:
    return plugin.answer(method, json.dumps(values).encode(), files)


def test_the_table_has_every_method() -> None:
    """rpcd learns the methods from the program, whose text `make generated` makes."""
    named = {command.method for command in TABLE if command.plugin is not None}
    assert named == set(plugin.METHODS)
    done = subprocess.run([PROGRAM, "list"], capture_output=True, check=True)
    assert set(json.loads(done.stdout)) == named


@pytest.mark.parametrize(
    ("method", "values", "reason"),
    [
        ("nothing", {}, "there is no method 'nothing'"),
        ("log", {"lines": 10**6}, "lines is a whole number from 1 to 1000"),
        ("log", {"lines": True}, "lines is a whole number"),
        ("conntrack_list", {"search": "x" * 201}, "at most 200 characters"),
        ("setup_draft", {"networks": "lan"}, "networks is a list of at most 64 texts"),
        ("setup_draft", {"networks": ["lan"] * 65}, "networks is a list of at most 64 texts"),
        ("setup_draft", {"networks": [1]}, "networks is a list of texts"),
        ("setup_draft", {"networks": ["lan"], "sync": "yes"}, "sync is true or false"),
        ("setup_join", {"token": "x" * 5000}, "token is a text of at most"),
    ],
)
def test_arguments_are_bounded(router: Files, method: str, values: dict[str, object], reason: str) -> None:
    assert reason in call(router, method, **values)["error"]


def test_what_is_no_object_or_too_long_is_refused(router: Files) -> None:
    for text in (b"[]", b"{", b"[" * 100_000, b"\xff"):
        assert "one object in JSON" in plugin.answer("log", text, router)["error"]
    assert "longer than" in plugin.answer("check", b" " * (plugin.LARGEST + 1), router)["error"]


def test_errors_have_their_place(router: Files) -> None:
    text = "config vrrp_instance\n\toption name 'I'\n\toption interface 'eth0'\n"
    text += "\toption virtual_router_id '999'\n"
    errors = call(router, "check", text=text)["errors"]
    assert {"line": 4, "option": "virtual_router_id", "value": "999"}.items() <= errors[0].items()
    text = text.replace("999", "9") + "\tlist virtual_ipaddress '10.0.0.1/24'\n"
    found = call(router, "check", text=text)
    assert found["errors"] == [] and "virtual_router_id '9'" in found["effective"]


def test_secrets_are_not_told(router: Files) -> None:
    text = (
        "config vrrp_instance\n\toption name 'I'\n\toption interface 'eth0'\n\toption virtual_router_id '9'\n"
        "\tlist virtual_ipaddress '10.0.0.1/24'\n\toption auth_type 'PASS'\n\toption auth_pass 'TellNo'\n"
    )
    for broken in (text, text.replace("'TellNo'", "'TellNoOne'"), text.replace("'9'", "'x'")):
        assert "TellNo" not in json.dumps(call(router, "check", text=broken))


def test_set_up_proposes_what_the_router_knows(router: Files) -> None:
    found = call(router, "setup_networks")
    assert [row["name"] for row in found["networks"]] == ["lan"]
    assert found["networks"][0]["proposal"] == "192.168.1.1" and found["networks"][0]["peer"] == "192.168.1.3"
    assert found["networks"][0]["dhcp"] and found["uplinks"] == ["wan"] and not found["in_use"]


def test_set_up_names_the_field_of_each_problem(router: Files) -> None:
    answers = {**ANSWERS, "networks": ["lan=192.168.1.2", "dmz=10.0.0.1"], "peer": "192.168.1.2"}
    problems = call(router, "setup_draft", **answers)["problems"]
    assert set(problems) == {"network.lan", "network.dmz"}
    problems = call(router, "setup_draft", **{**ANSWERS, "peer": "192.168.1.2"})["problems"]
    assert set(problems) == {"peer"}
    assert set(call(router, "setup_draft", **{**ANSWERS, "networks": []})["problems"]) == {"networks"}
    assert set(call(router, "setup_draft", **{**ANSWERS, "advert_int": "x"})["problems"]) == {""}
    many = [f"n{number}=10.0.0.1" for number in range(setup.MOST_NETWORKS + 1)]
    assert "networks" in call(router, "setup_draft", **{**ANSWERS, "networks": many})["problems"]
    assert not Path(router.config).exists()


def test_a_pair_is_set_up(router: Files, tmp_path: Path) -> None:
    draft = call(router, "setup_draft", **ANSWERS)
    assert "config peer 'other'" in draft["config"] and draft["notes"] and not Path(router.config).exists()
    written = call(router, "setup_write", **ANSWERS)
    assert Path(router.config).read_text() == written["config"] and not written["started"]
    assert Path(router.secret).stat().st_mode & 0o777 == 0o600
    assert Path(router.secret).read_text().strip() not in json.dumps(draft)
    other = made(tmp_path / "other", 3)
    checked = call(other, "setup_join", token=written["token"])
    assert checked["peer"] == "192.168.1.2" and not Path(other.config).exists()
    call(other, "setup_join", token=written["token"], write=True)
    assert Path(other.secret).read_text() == Path(router.secret).read_text()
    assert Path(other.config).read_text() == checked["config"]
    damaged = call(other, "setup_join", token=written["token"][:-5], write=True, force=True)
    assert set(damaged["problems"]) == {"token"}
    assert token.decode(written["token"]).host == "192.168.1.3"


@pytest.mark.parametrize("proto", ["dhcp", "pppoe"])
def test_a_line_that_both_routers_share(router: Files, tmp_path: Path, proto: str) -> None:
    other = made(tmp_path / "other", 3)
    for one in (router, other):
        text = Path(one.network).read_text().replace("proto 'dhcp'", f"proto '{proto}'")
        Path(one.network).write_text(text)
        Path(one.firewall).write_text("config zone\n\toption name 'wan'\n\tlist network 'wan'\n")
    assert call(router, "setup_networks")["lines"] == [{"name": "wan", "proto": proto}]
    wrong = call(router, "setup_draft", **ANSWERS, line="lan")["problems"]
    assert set(wrong) == {"line"} and "no port with DHCP or PPPoE" in wrong["line"][0]
    assert set(call(router, "setup_draft", **{**ANSWERS, "sync": False}, line="wan")["problems"]) == {"line"}
    assert call(router, "setup_draft", **ANSWERS, line="wan", mac="x")["problems"]
    draft = call(router, "setup_draft", **ANSWERS, line="wan")
    assert "track_interface" not in draft["config"] and "wan0" in draft["notes"][0]
    assert "wan0" not in Path(router.network).read_text(), "nothing is written yet"
    written = call(router, "setup_write", **ANSWERS, line="wan", mac=draft["mac"])
    assert written["config"] == draft["config"]
    call(other, "setup_join", token=written["token"], write=True)
    for one in (router, other):
        assert f"option mac '{draft['mac']}'" in Path(one.config).read_text()
        assert "option device 'wan0'" in Path(one.network).read_text()
        seen = {"dhcp": "wan0", "pppoe": "pppoe-wan"}[proto]
        assert f"list device '{seen}'" in Path(one.firewall).read_text()


def test_a_configuration_in_use_stays(router: Files) -> None:
    call(router, "setup_write", **ANSWERS)
    again = {**ANSWERS, "force": False}
    assert "set up already" in call(router, "setup_write", **again)["problems"][""][0]
    assert call(router, "setup_networks")["in_use"]
    copy = call(router, "setup_write", **ANSWERS)["copy"]
    assert "config vrrp_instance" in Path(copy).read_text()


def test_without_a_daemon_there_are_no_flows(router: Files) -> None:
    assert "is tandemd running?" in call(router, "conntrack_list")["error"]


def test_the_log_is_bounded(router: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "logread"
    program.write_text('#!/bin/sh\n[ "$1" = -e ] || exit 1\nseq 1 3000\n')
    program.chmod(0o755)
    monkeypatch.setattr(methods, "PATH", f"{tmp_path}:{methods.PATH}")
    assert call(router, "log", lines=3)["lines"] == ["2998", "2999", "3000"]


def test_one_doctor_at_a_time(router: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examination outlives the call that starts it; its result is for root alone."""
    read, write = os.pipe()

    def examine(*_: object) -> Visit:
        os.read(read, 1)  # until the test lets it go on
        return Visit([Finding("clock", "the clock is wrong", "set it")], ["a note"])

    monkeypatch.setattr(visit, "visit", examine)
    assert call(router, "doctor") == {"running": False}
    assert call(router, "doctor", start=True) == {"running": True}
    assert call(router, "doctor") == call(router, "doctor", start=True) == {"running": True}
    os.write(write, b"x")
    wait_until(lambda: not call(router, "doctor")["running"], 10, "the doctor is done")
    found = call(router, "doctor")
    assert found["findings"][0]["advice"] == "set it" and found["notes"] == ["a note"] and found["ago_s"] < 10
    assert (Path(router.state) / methods.DOCTOR_FILE).stat().st_mode & 0o777 == 0o600
    os.close(read)
    os.close(write)


def test_a_doctor_that_fails_says_so(router: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "visit", lambda *_: 1 / 0)
    call(router, "doctor", start=True)
    wait_until(lambda: not call(router, "doctor")["running"], 10, "the doctor is done")
    assert "division by zero" in call(router, "doctor")["error"]


def test_few_calls_at_once(router: Files) -> None:
    places = [plugin._place(router.state) for _ in range(plugin.MOST_AT_ONCE)]
    assert "try again" in call(router, "setup_networks")["error"]
    os.close(places.pop())
    assert "networks" in call(router, "setup_networks")
    assert "networks" in call(router, "setup_networks")
    for place in places:
        os.close(place)
