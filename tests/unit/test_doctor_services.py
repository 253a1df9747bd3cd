# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor about services and checks: what starts them is there, and only Tandem does."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem.config.schema import Check, Config
from tandem.core.settings import Service
from tandem.doctor import facts, services
from tandem.doctor.checks_router import examine
from tandem.doctor.facts import CheckFacts, ServiceFacts
from tests.unit.status_snapshot import STATUS
from tests.unit.test_doctor import ACTIVE

WEB = ServiceFacts("web")


@pytest.mark.parametrize(
    ("found", "what", "advice"),
    [
        (WEB, "", ""),
        (
            replace(WEB, missing="/etc/init.d/web"),
            "cannot start here: there is no /etc/init.d/web",
            "install",
        ),
        (replace(WEB, disable="systemctl disable web"), "also starts by itself", "systemctl disable web"),
        (replace(WEB, blind=True), "nobody sees whether service web runs", "list check"),
        (replace(WEB, failure="start failed"), "web has failed: start failed", "tandem service clear web"),
        (
            replace(WEB, failure="stop failed", blocked=True),
            "could not be stopped",
            "has ended",
        ),
    ],
)
def test_findings(found: ServiceFacts, what: str, advice: str) -> None:
    router = facts.decode(facts.encode(replace(ACTIVE, services=(found,))))
    findings = [one for one in examine(router) if one.check == "service"]
    assert bool(what) is bool(findings)
    for finding in findings:
        assert what in finding.what and advice in finding.advice


def collected(**settings: Any) -> ServiceFacts:
    [found] = services.collect(
        Config(services=(Service("s", **settings),)), [{"name": "s", "failure": "why"}]
    )
    return found


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"/bin/here", "/usr/bin/systemctl", "/etc/init.d/here", "/usr/lib/ocf/resource.d/heartbeat/here"}
    monkeypatch.setattr(os, "access", lambda path, _mode: path in there)
    assert [collected(agent=f"{kind}here").missing for kind in ("procd:", "systemd:", "ocf:heartbeat:")] == [
        ""
    ] * 3
    assert collected(command=("/bin/here", "x")).missing == ""
    assert collected(command=("/bin/gone",)).missing == "/bin/gone"
    assert collected(agent="ocf:a:b").missing == "/usr/lib/ocf/resource.d/a/b"
    assert collected(agent="docker:x").missing == "docker"
    assert collected(agent="lsb:x").failure == "why"


def test_what_starts_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    links = {
        "/etc/rc.d/S[0-9][0-9]x": "procd:x", "/etc/rc[2-5].d/S[0-9][0-9]x": "lsb:x",
        "/etc/systemd/system/*.wants/x.service": "systemd:x",
    }  # fmt: skip
    for pattern, agent in links.items():
        monkeypatch.setattr(
            services, "glob", lambda asked, pattern=pattern: [asked] if asked == pattern else []
        )
        assert [bool(collected(agent=other).disable) for other in links.values()] == [
            other == agent for other in links.values()
        ]
    assert collected(command=("/bin/x",)).disable == ""


def test_what_cannot_tell_whether_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = {"/etc/init.d/old": b"start() {", "/etc/init.d/new": b"USE_PROCD=1"}

    def opened(path: str, _mode: str) -> io.BytesIO:
        if path not in texts:
            raise FileNotFoundError
        return io.BytesIO(texts[path])

    monkeypatch.setattr("builtins.open", opened)
    agents = ("procd:old", "procd:new", "procd:gone", "lsb:old")
    assert [collected(agent=agent).blind for agent in agents] == [True, False, False, False]
    assert not collected(agent="procd:old", checks=("alive",)).blind


def test_checks_that_are_never_up() -> None:
    config = Config(
        checks=(
            Check("web", "http"),
            Check("provider", "ping"),
            Check("own", "script", script=("/no/such/script",)),
        )
    )
    web, provider = STATUS["checks"]
    tried = provider | {"failures": 5, "last": "no answer"}
    found = tuple(services.collect_checks(config, [web, tried]))
    assert found == (
        CheckFacts("web", "http 192.0.2.80:80"),
        CheckFacts("provider", "ping 192.0.2.1", never="no answer"),
        CheckFacts("own", "script", missing="/no/such/script"),
    )
    router = facts.decode(facts.encode(replace(ACTIVE, checks=found)))
    assert [one.what for one in examine(router) if one.check == "check"] == [
        "check provider (ping 192.0.2.1) was never up since its start: no answer",
        "check own is always down: there is no /no/such/script",
    ]
    young = provider | {"failures": 2, "last": "no answer"}
    assert not list(services.collect_checks(config, [young]))[1].never, "its state is not decided"
