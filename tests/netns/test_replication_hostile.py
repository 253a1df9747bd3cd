# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that knows the secret and is broken or hostile: the router goes on, in bounds, and says so."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.lab import FAR, Router, SeedLab, wait_until

from .live import SECRET, SyncedTandem, connections, held, sync, synced, takes_over, transitions
from .rogue import Rogue, nonsense

Open = Callable[[SeedLab], SeedLab]

ADDRESS = "192.168.1.3"  # of r2


def without(number: int) -> SyncedTandem:
    """A daemon that leaves the channel to others."""
    daemon = synced(number)
    assert daemon.text is not None
    daemon.text = daemon.text.replace(
        "config conntrack_sync\n\toption enabled '1'", "config conntrack_sync\n\toption enabled '0'"
    )
    return daemon


@pytest.fixture
def lab(open_lab: Open) -> SeedLab:
    """r1 is active and r2 its backup; who speaks with r2 at r1's address is up to the test."""
    made = open_lab(SeedLab(lambda number: without(number) if number == 1 else synced(number)))
    made.r1.start()
    made.r1.wait_started()
    takes_over(made, made.r1)
    made.r2.start()
    made.r2.wait_started()
    return made


def foolish(router: Router, seconds: float, chance: random.Random) -> int:
    """Talk nonsense to r2, one session after the other; how many there were."""
    sessions, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError), Rogue(router, ADDRESS, SECRET) as rogue:
            sessions += 1
            for frame in nonsense(chance):
                rogue.say(frame)
            wait_until(lambda rogue=rogue: not rogue.hear(), 2, "it has had enough")
    return sessions


def test_nonsense_of_a_peer_that_knows_the_secret(lab: SeedLab) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    before = [transitions(router) for router in lab.routers]
    assert foolish(lab.r1, 4, chance) > 20
    assert [transitions(router) for router in lab.routers] == before
    lab.r1.stop()
    takes_over(lab, lab.r2)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        before = [transitions(lab.r2)]
        assert foolish(lab.r1, 4, chance) > 20
        flows.all_go_on()
        assert [transitions(lab.r2)] == before and lab.r2.all_in("MASTER")
        counters = sync(lab.r2)["channel"]["counters"]
        assert {"malformed", "unexpected"} <= counters.keys(), counters
        assert lab.r2.cost().rss_kib < 60_000
        assert len(lab.r2.log().splitlines()) < 150, lab.r2.log()
        assert "Traceback" not in lab.r2.log()
        lab.r1.configure(synced(1))
        lab.r1.start()
        lab.r1.wait_started()
        wait_until(lambda: sync(lab.r1)["in_step"] and held(lab.r1) >= 20, 20, "an honest peer")
        lab.r2.power_off()
        takes_over(lab, lab.r1)
        flows.all_go_on()
