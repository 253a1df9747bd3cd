# SPDX-License-Identifier: GPL-2.0-or-later
"""200 TCP connections through NAT, checked byte by byte, survive whatever happens to the active router."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import FAR, SeedLab

from .live import (
    BACK,
    Connections,
    Event,
    connections,
    failover,
    lan_loss,
    no_resets,
    power_loss,
    settle,
    started,
    synced,
    takes_over,
    term,
    told,
    wan_loss,
)

Open = Callable[[SeedLab], SeedLab]


def two_hundred(lab: SeedLab, flows: Connections) -> None:
    """Open them: on half of them only the server speaks, on the others only the client."""
    flows.add(lab.client, lab.server, FAR, 100, server_speaks=True)
    flows.add(lab.client, lab.server, FAR, 100, server_speaks=False)
    flows.all_go_on()


def survive(lab: SeedLab, *events: Event) -> None:
    """All connections go on after each event, and nobody sends a reset."""
    started(lab)
    with connections() as flows, no_resets(lab):
        two_hundred(lab, flows)
        for event in events:
            active, backup = told(lab)
            event(lab, active)
            takes_over(lab, backup, why=event.__name__)
            flows.all_go_on(why=event.__name__)
            BACK[event](lab, active)
        settle(lab)
        flows.all_go_on()


def test_all_survive_ten_failovers_in_a_row(open_lab: Open) -> None:
    """Connections survive each fault, and the way back; then one fault on top of the other."""
    there_and_back = [one for event in (power_loss, wan_loss, term, lan_loss) for one in (event, failover)]
    survive(open_lab(SeedLab(synced)), *there_and_back, term, power_loss)
