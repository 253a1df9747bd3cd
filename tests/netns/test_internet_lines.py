# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets behind a line that both routers share, and behind a line of each router's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.lab import FAR, Host, Instance, Lab, Port, Router, Tandem, stays, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_SECRET

from .shared_line import SharedLine, StandInTandem
from .test_checks import check, checks

Open = Callable[[Any], Any]
VIP = "192.168.1.4"
_OPTIONS = "\toption weight '-60'\n\toption settle '2'\n"
FAULT = f"""
table inet fault {{
    chain output {{
        type filter hook output priority 0
        ip daddr {FAR} drop
    }}
}}
"""


def lose(router: Router) -> None:
    """From this router, the target is not reached, and everything else is."""
    router.exec("nft", "-f", "-", stdin=FAULT)


def reached(router: Router) -> bool:
    return bool(checks(router)["far"]["up"])


def shared(open_lab: Open) -> tuple[SharedLine, Router, Router]:
    """Two routers that share a line, by which the active one reaches the target."""
    more = f"\nconfig internet 'line'\n\toption network 'wan'\n\tlist check 'far'\n{_OPTIONS}"
    more += check("far", "ping", "interface 'wan0'", where=FAR)
    lab: SharedLine = open_lab(SharedLine(lambda number: StandInTandem(number, more=more, track="line")))
    lab.start()
    active = lab.settle()
    wait_until(lambda: reached(active), 10, "the target is reached", explain=lab.logs)
    return lab, active, lab.other(active)


def test_the_role_leaves_a_router_that_does_not_reach_the_target(open_lab: Open) -> None:
    """It stays there when the second router does not reach the target either."""
    lab, first, second = shared(open_lab)
    assert not checks(second), "only the active router can judge the line"
    lose(first)
    wait_until(lambda: lab.active is second, 15, "the other takes over", explain=lab.logs)
    wait_until(lambda: reached(second), 10, "it reaches the target", explain=lab.logs)
    lose(second)
    wait_until(lambda: not reached(second), 10, "both have lost it", explain=lab.logs)
    stays(lambda: lab.active is second, 7)  # it is no better there: the first one remembers


def test_a_target_that_is_dead_moves_the_role_of_a_shared_line_once(open_lab: Open) -> None:
    lab, _first, second = shared(open_lab)
    lab.server.ip(f"address delete {FAR}/32 dev lo")
    wait_until(lambda: lab.active is second, 15, "the other router tries it", explain=lab.logs)
    wait_until(lambda: not reached(second), 10, "nor does it reach it", explain=lab.logs)
    stays(lambda: lab.active is second, 7)
    lab.server.ip(f"address add {FAR}/32 dev lo")
    wait_until(lambda: reached(second), 10, "the target is back", explain=lab.logs)
    stays(lambda: lab.active is second, 2)


class OwnLines(Lab):
    """Each router has a line and a provider of its own, both of which lead to FAR."""

    def __init__(self) -> None:
        super().__init__("lines")
        lan = self.switch("lan")
        self.routers, self.providers = [], []
        for number in (1, 2):
            wan = self.switch(f"wan{number}")
            ports = [
                Port("eth0", lan, f"192.168.1.{number + 1}/24"),
                Port("eth1", wan, f"10.{number}.0.2/24"),
            ]
            way = [f"default via 10.{number}.0.1"]
            self.routers.append(self.add(Router(f"r{number}", ports, self._tandem(number), routes=way)))
            provider = self.add(Host(f"p{number}", [Port("eth0", wan, f"10.{number}.0.1/24")]))
            provider.loopback = (f"{FAR}/32",)
            self.providers.append(provider)

    @staticmethod
    def _tandem(number: int) -> Tandem:
        instance = Instance("lan", "eth0", 51, (f"{VIP}/24",), priority=100, advert_s=1, version=3)
        text = tandem_uci([instance], options={"heartbeat_interval": "0.5"})
        text += f"""
	list track_internet 'line'

config peer 'other'
	list address '192.168.1.{4 - number}'
	option secret '{SYNC_SECRET}'

config internet 'line'
	list check 'far'
{_OPTIONS}"""
        return Tandem([instance], text=text + check("far", "ping", "interface 'eth1'", where=FAR))

    @property
    def active(self) -> Router | None:
        """The only router that holds the virtual address."""
        holders = [router for router in self.routers if router.active]
        return holders[0] if len(holders) == 1 else None


def test_with_own_lines_the_role_moves_only_to_a_line_that_is_better(open_lab: Open) -> None:
    lab: OwnLines = open_lab(OwnLines())
    for router in lab.routers:
        router.start()
    wait_until(
        lambda: lab.active is not None and all(map(reached, lab.routers)),
        20,
        "both lines work",
        explain=lab.logs,
    )
    active = lab.active
    assert active is not None
    first = lab.routers.index(active)
    here, there = lab.providers[first], lab.providers[1 - first]
    other = lab.routers[1 - first]

    there.ip(f"address delete {FAR}/32 dev lo")
    wait_until(lambda: not reached(other), 10, "the backup judges its own line", explain=lab.logs)
    here.ip(f"address delete {FAR}/32 dev lo")
    wait_until(lambda: not reached(active), 10, "neither line works", explain=lab.logs)
    stays(lambda: lab.active is active, 3)  # it is no better there
    there.ip(f"address add {FAR}/32 dev lo")
    wait_until(lambda: lab.active is other, 15, "it is better there", explain=lab.logs)
    here.ip(f"address add {FAR}/32 dev lo")
    wait_until(lambda: reached(active), 10, "both lines work", explain=lab.logs)
    stays(lambda: lab.active is other, 3)
