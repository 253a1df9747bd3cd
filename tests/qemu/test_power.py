# SPDX-License-Identifier: GPL-2.0-or-later
"""Power loss of the active router: what a client has goes on through the other one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from qemu.router import Pair, RouterMachine
from qemu.traffic import traffic

PairMaker = Callable[..., Pair]


def ready(lab: Pair) -> RouterMachine:
    """Install Tandem on both routers and wait until one is active and the other in step with it."""
    for router in lab.routers:
        router.install()
    return lab.in_step()


def survives_power_loss(lab: Pair, downloads: bool = True) -> None:
    """The active router loses its power under traffic; the other takes over, and the first one comes back."""
    active = lab.in_step()
    other = lab.other(active)
    with traffic(lab) as client:
        assert lab.in_step() is active
        start = time.monotonic()
        active.power_off()
        outage = client.outage_since(start)
        assert outage.lost > 0, "a router lost its power and nothing was lost: did it route at all?"
        client.go_on()
        assert other.active

        active.power_on()
        active.wait_booted()
        assert lab.in_step() is other, "the router that came back took over although nopreempt is set"
        client.go_on()


@pytest.mark.ci
def test_downloads_survive_a_power_loss_x86_64(pair: PairMaker) -> None:
    lab = pair("x86_64", "x86_64")
    ready(lab)
    survives_power_loss(lab)


@pytest.mark.ci
def test_downloads_survive_power_losses_of_a_mixed_pair(pair: PairMaker) -> None:
    """Both ways: what one architecture's kernel says of its connections, the other's takes."""
    lab = pair("aarch64", "x86_64")
    first = ready(lab)
    survives_power_loss(lab)
    assert lab.in_step() is not first
    survives_power_loss(lab)
    assert lab.in_step() is first
