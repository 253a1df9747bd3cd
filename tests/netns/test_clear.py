# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandemd --clear`: a daemon was killed, and no other one will come after it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import LanLab, Router, Tandem, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP

ROUTE = "192.168.7.0/24 via 192.168.1.10 dev eth0"
INSTANCE = replace(V1, vmac="vrrp.51", routes=(f"192.168.8.0/24 via 192.168.1.10 dev {V1.device}",))
STATIC = f"\nconfig static_routes\n\tlist route '{ROUTE}'\n"


def clear(router: Router) -> int:
    """Its exit status."""
    [command] = router.daemon.commands(router)
    return router.popen(*command, "--clear", stdout=subprocess.DEVNULL).wait(30)


def traces(router: Router) -> list[str]:
    """What there is of a daemon's life in the kernel."""
    shown = router.exec("ip", "-o", "addr") + router.exec("ip", "route", "show", "table", "all")
    shown += router.exec("nft", "list", "tables") + f"arp_ignore {router.sysctl('ipv4/conf/eth0/arp_ignore')}"
    words = (VIP, "vrrp", "tandem", "192.168.7.", "192.168.8.", "arp_ignore 1")
    return [line for line in shown.splitlines() if any(word in line for word in words)]


def test_what_a_killed_daemon_has_left_is_taken_away(open_lab: Callable[[Any], Any]) -> None:
    text = tandem_uci([INSTANCE], options={"address_lifetime": "0"}) + STATIC
    lab: LanLab = open_lab(LanLab([Tandem([INSTANCE], text=text)]))
    [router] = lab.routers
    assert not traces(router)
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    before = traces(router)
    assert clear(router) == 1 and traces(router) == before  # not under the feet of one that runs
    router.kill()
    assert traces(router)
    assert clear(router) == 0
    assert not traces(router)
    assert not router.file("sock").exists()
    router.start()
    wait_until(lambda: router.active, 15, "another one starts as ever", explain=router.log)
