# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem standby` of a real daemon lasts until `tandem resume`, whatever becomes of the daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.lab import LanLab, Router, Tandem, stays, wait_until

from .daemon import V1, VIP, state, status, tandem


def saved(router: Router) -> list[str]:
    """The states in the file of the history."""
    file = router.file("sock.history")
    return [entry["state"] for _, entry in json.loads(file.read_text())[2]] if file.exists() else []


def test_standby_lasts_until_resume(open_lab: Callable[[Any], Any]) -> None:
    lab: LanLab = open_lab(LanLab([tandem(V1)]))
    [router] = lab.routers
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    Tandem.request(router, "standby", by="maria")
    assert state(router) == "FAULT" and "standby asked for by maria" in router.log()
    for end in (router.stop, router.kill):
        told = [entry["state"] for entry in status(router)["history"]]
        wait_until(lambda told=told: saved(router) == told, 10, "the history is written")
        before = status(router)["groups"][0]
        wait_until(router.file("sock.standby").exists, 10, "it is written")
        end()
        router.start()
        wait_until(lambda: state(router) == "FAULT", 10, "in standby again", explain=router.log)
        stays(lambda: state(router) == "FAULT" and not router.has(VIP), 0.5, "it stays out of service")
        group = status(router)["groups"][0]
        assert group["faults"] == ["standby"]
        now = [entry["state"] for entry in status(router)["history"]]
        assert now[: len(told)] == told and len(now) > len(told), "the history goes on"
        assert router.file("sock.history").stat().st_mode & 0o777 == 0o600
        assert (group["standby_by"], group["standby_lasts"]) == ("maria", True)
        assert group["standby_since"] == before["standby_since"] <= time.time()
    Tandem.request(router, "resume")
    wait_until(lambda: router.active, 10, "it is active again")
    assert status(router)["groups"][0]["standby_since"] is None
    Tandem.request(router, "standby", once="yes")
    assert state(router) == "FAULT" and status(router)["groups"][0]["standby_lasts"] is False
    router.stop()
    router.start()
    wait_until(lambda: router.active, 10, "once does not outlive the daemon", explain=router.log)
    assert router.stop() == 0
