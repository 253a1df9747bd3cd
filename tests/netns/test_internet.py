# SPDX-License-Identifier: GPL-2.0-or-later
"""`config internet`: targets that one router no longer reaches move the role, any of them or all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import LanLab, Router, Tandem, stays, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, instance
from .test_checks import check

Open = Callable[[Any], Any]
TARGETS = ("192.168.1.10", "192.168.1.11")


def tandem(priority: int, policy: str) -> Tandem:
    instances = [replace(V1, priority=priority, options={"track_internet": ("uplink",)})]
    ways = f"\nconfig internet 'uplink'\n\tlist check 't0 t1'\n\toption policy '{policy}'\n"
    ways += "\toption weight '-60'\n\toption settle '0.5'\n"
    pings = "".join(check(f"t{number}", "ping", where=target) for number, target in enumerate(TARGETS))
    return Tandem(instances, text=tandem_uci(instances) + ways + pings)


def lose(router: Router, number: int) -> None:
    router.ip(f"route add blackhole {TARGETS[number]}")


def find(router: Router, number: int) -> None:
    router.ip(f"route del blackhole {TARGETS[number]}")


@pytest.mark.parametrize(("policy", "enough"), [("any", 2), ("all", 1)])
def test_targets_that_are_not_reached_move_the_role(open_lab: Open, policy: str, enough: int) -> None:
    lab: LanLab = open_lab(LanLab([tandem(150, policy), tandem(100, policy)]))
    r1, r2 = lab.routers
    lab.client.ip(f"address add {TARGETS[1]}/24 dev eth0")
    lab.elect()
    for number in range(enough - 1):
        lose(r1, number)
        stays(lambda: lab.active is r1, 1.5)
    lose(r1, enough - 1)
    wait_until(lambda: lab.active is r2, 10, "r2 takes over", explain=lab.logs)
    assert instance(r1)["priority"]["why"] == ["internet uplink -60"]
    find(r1, enough - 1)
    wait_until(lambda: lab.active is r1, 10, "r1 takes it back", explain=lab.logs)
