# SPDX-License-Identifier: GPL-2.0-or-later
"""200 TCP connections through NAT, checked byte by byte, survive whatever happens to the active router."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
            active, backup = settle(lab)
            event(lab, active)
            takes_over(lab, backup)
            flows.all_go_on()
            BACK[event](lab, active)
        settle(lab)
        flows.all_go_on()


@pytest.mark.parametrize("event", [power_loss, wan_loss, term], ids=lambda event: event.__name__)
def test_all_survive_and_so_they_do_on_the_way_back(open_lab: Open, event: Event) -> None:
    survive(open_lab(SeedLab(synced)), event, failover)


def test_all_survive_ten_failovers_in_a_row(open_lab: Open) -> None:
    more = [power_loss, failover, term, wan_loss, lan_loss]
    survive(open_lab(SeedLab(synced)), *more, *more)
