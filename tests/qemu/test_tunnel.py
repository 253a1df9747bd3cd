# SPDX-License-Identifier: GPL-2.0-or-later
"""A WireGuard tunnel with one key is up on the active router only; a new one begins a handshake at once.

A build machine's kernel may lack WireGuard; that of these machines has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qemu import pairs
from qemu.router import RouterMachine
from qemu.tunnel import OFFICE, TunnelPair, TunnelRouter
from tandem.core.timers import SECOND
from tandem.follow.tunnels import LOOK_EVERY
from tests.lab import Pings, stays, wait_until

from .guests import booted, skipped

SILENT_S = 15  # a peer whose session was with the other router would not speak to the new one for so long


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[TunnelPair]:
    with skipped():
        made = pairs.tunnel(lambda: request.getfixturevalue("router_feeds"))
    with booted("tunnel", made) as pair:
        assert isinstance(pair, TunnelPair)
        pair.set_up()
        yield pair


def planned(active: RouterMachine) -> None:
    active.run("tandem failover")


def power_loss(active: RouterMachine) -> None:
    active.run("sync")
    active.power_off()


def has_tunnel(router: RouterMachine) -> bool:
    return "vpn" in router.run("ip -br link")


def test_the_tunnel_follows_the_role_x86_64(lab: TunnelPair) -> None:
    active = lab.in_step()
    wait_until(lambda: has_tunnel(active), 60, "the tunnel is up", every=0.5, explain=lab.explain)
    assert not has_tunnel(lab.other(active))
    lab.office.speak()
    pings = Pings(lab.client, OFFICE, interval_us=10_000)
    pings.flowing(timeout=60)
    for fault in (planned, power_loss):
        active = lab.in_step()
        other = lab.other(active)
        stays(lambda: lab.active is active, LOOK_EVERY // SECOND + 1)  # noqa: B023 - it tells what it sees then
        start = time.monotonic()
        fault(active)
        outage = pings.outage_since(start - 0.5, 120)
        print(fault.__name__, outage)
        assert outage.ms < SILENT_S * 1000
        assert isinstance(other, TunnelRouter) and other.handshake() > 0
        if fault is power_loss:
            active.power_on()
            active.wait_booted()
        wait_until(lambda: not has_tunnel(active), 60, "it is down on the backup", every=0.5)  # noqa: B023
    pings.stop()
