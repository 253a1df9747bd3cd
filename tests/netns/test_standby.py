# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem standby` of a real daemon lasts until `tandem resume`, whatever becomes of the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.lab import LanLab, Tandem, stays, wait_until

from .daemon import V1, VIP, state, status, tandem


def test_standby_lasts_until_resume(open_lab: Callable[[Any], Any]) -> None:
    lab: LanLab = open_lab(LanLab([tandem(V1)]))
    [router] = lab.routers
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    Tandem.request(router, "standby", by="maria")
    assert state(router) == "FAULT" and "standby asked for by maria" in router.log()
    for end in (router.stop, router.kill):
        before = status(router)["groups"][0]
        wait_until(router.file("sock.standby").exists, 10, "it is written")
        end()
        router.start()
        wait_until(lambda: state(router) == "FAULT", 10, "in standby again", explain=router.log)
        stays(lambda: state(router) == "FAULT" and not router.has(VIP), 0.5, "it stays out of service")
        group = status(router)["groups"][0]
        assert group["faults"] == ["standby"]
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
