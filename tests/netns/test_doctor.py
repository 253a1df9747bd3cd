# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor` on a pair: healthy, it finds nothing; each check is seen to find what was broken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import Lab, Router, SeedLab, Tandem, wait_until
from tests.lab.router import TANDEM
from tests.lab.topology import synced_daemon

Open = Callable[[Any], Any]
Finding = dict[str, str]


@pytest.fixture(scope="module")
def pair() -> Iterator[SeedLab]:
    """Two routers that replicate connections; every test leaves them as it found them."""
    with SeedLab(synced_daemon, "doctor") as lab:
        lab.up()
        for router in lab.routers:
            router.start()
        wait_until(lambda: lab.active, 15, "one is active")
        wait_until(lambda: all(in_step(router) for router in lab.routers), 20, "in step")
        yield lab


def in_step(router: Router) -> bool:
    status = Tandem.request(router, "conntrack")
    return any(peer.get("in_step") or peer.get("held_in_step") for peer in status["channel"]["peers"])


def doctor(router: Router, *arguments: str) -> list[Finding]:
    """What the doctor finds from this router; its exit status must agree."""
    control = ["--control", str(router.file("sock"))]
    argv = ["ip", "netns", "exec", router.namespace, sys.executable, "-IS", str(TANDEM), "doctor", "--json"]
    done = subprocess.run([*argv, *control, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    findings: list[Finding] = json.loads(done.stdout)
    assert done.returncode == bool(findings)
    return findings


def found(findings: list[Finding]) -> set[str]:
    return {finding["check"] for finding in findings}


def test_nothing_is_wrong_with_a_healthy_pair(pair: SeedLab) -> None:
    for router in pair.routers:
        assert doctor(router) == []


def test_no_daemon(open_lab: Open) -> None:
    lab: Lab = open_lab(SeedLab(synced_daemon))
    r1 = lab["r1"]
    assert isinstance(r1, Router)
    r1.daemon.write(r1)
    assert found(doctor(r1, "-c", str(r1.file("conf")))) == {"daemon"}


def test_address_lost_and_kept(pair: SeedLab) -> None:
    active = pair.active
    assert active is not None
    other = pair.other(active)
    other.ip("address add 192.168.1.4/32 dev br-lan")
    try:
        assert "BACKUP" in next(item["what"] for item in doctor(other) if item["check"] == "addresses")
    finally:
        other.ip("address delete 192.168.1.4/32 dev br-lan")
