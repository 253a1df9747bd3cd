# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd and FRR's vrrpd 8.4 (version 3 only) as each other's peer, and a LAN with all three daemons."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab import Daemon, LanLab, Tandem

from .lan import Frr, Keepalived, both_families, needs, pair, settled, story, undisturbed

pytestmark = needs("zebra", "vrrpd", "vtysh")

Open = Callable[[LanLab], LanLab]
ROLES = pytest.mark.parametrize(
    ("one", "other"), [(Tandem, Frr), (Frr, Tandem)], ids=["tandem_active", "frr_active"]
)
# FRR's zebra sends a farewell router advertisement from the virtual address some ms after the next
# active router has announced it as its own, and sends the clients back: only the second burst of
# announcements puts that right, by default after 5 s.
SOON = {"garp_master_delay": "1"}
SOON_TOO = ("garp_master_delay 1",)
SIX = {"options": SOON, "keepalived": SOON_TOO}


@ROLES
@pytest.mark.parametrize("vmac", [False, True], ids=["plain", "vmac"])
def test_version_3(open_lab: Open, vmac: bool, one: type[Daemon], other: type[Daemon]) -> None:
    story(open_lab(pair(one, other, *both_families(SIX, vmac=vmac))), again=not vmac)


@pytest.mark.slow
@needs("keepalived")
@pytest.mark.parametrize(
    "order",
    [(Keepalived, Frr, Tandem), (Frr, Tandem, Keepalived), (Tandem, Keepalived, Frr)],
    ids=lambda order: "_".join(daemon.name for daemon in order),
)
def test_three_daemons(open_lab: Open, order: tuple[type[Daemon], ...]) -> None:
    """Three routers of three makes fall one after the other, and come back one after the other."""
    lab = open_lab(
        LanLab(
            [
                daemon([v.instance(number, 130 - 20 * number, routers=3) for v in both_families(SIX)])
                for number, daemon in enumerate(order, 1)
            ]
        )
    )
    first, second, third = lab.routers
    lab.start()
    settled(lab, first, [second, third])
    first.power_off()
    settled(lab, second, [third])
    second.stop()
    settled(lab, third, [])
    second.start()
    settled(lab, second, [third])
    first.power_on()
    settled(lab, first, [second, third])
    undisturbed(*lab.routers)
