# SPDX-License-Identifier: GPL-2.0-or-later
"""Helpers of the tests of the running daemon: a pair of routers on a LAN, and a look at them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import Instance, LanLab, Router, Tandem

VIP = "192.168.1.4"
V1 = Instance("V1", "eth0", 51, (f"{VIP}/24",), priority=150, advert_s=0.1, version=3)


def tandem(*instances: Instance, groups: dict[str, tuple[str, ...]] | None = None, **options: str) -> Tandem:
    """A tandemd with these instances; options of the globals section."""
    return Tandem(instances, groups, options=options)


def pair(open_lab: Callable[[Any], Any], *instances: Instance, lesser: int = 100, **options: str) -> LanLab:
    """Two routers with these instances, r2 with priority `lesser`: r1 is active and r2 its backup."""
    second = [replace(instance, priority=lesser) for instance in instances]
    lab: LanLab = open_lab(LanLab([tandem(*instances, **options), tandem(*second, **options)]))
    lab.elect()
    return lab


def status(router: Router) -> dict[str, Any]:
    """The daemon's snapshot."""
    found: dict[str, Any] = Tandem.request(router, "status")
    return found


def instance(router: Router, name: str = "V1") -> dict[str, Any]:
    """One instance in the daemon's snapshot."""
    return next(item for item in status(router)["instances"] if item["name"] == name)


def peer(router: Router, name: str = "V1") -> dict[str, Any]:
    """The router's report on the active router that it follows; empty before it has heard one."""
    found: dict[str, Any] = instance(router, name)["peer"] or {}
    return found


def state(router: Router, name: str = "V1") -> str:
    """The instance's state; "" while no daemon answers."""
    return router.states().get(name, "")


def ip_json(router: Router, *words: str) -> Any:
    """The output of `ip -j` in the router."""
    return json.loads(router.exec("ip", "-j", *words) or "[]")


def configure(router: Router, daemon: Tandem) -> None:
    """Reload another configuration; raises LabError when the daemon refuses it."""
    router.configure(daemon)
    Tandem.request(router, "reload")
