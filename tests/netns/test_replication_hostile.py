# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that knows the secret and is broken or hostile: the router goes on, in bounds, and says so."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from itertools import chain

import pytest

from tandem.channel.frames import ACK
from tandem.conntrack.record import NEW, SNAT, Record
from tests.lab import FAR, WAN_ADDRESS, Router, SeedLab, Tandem, wait_until

from .live import (
    CLIENT,
    SECRET,
    SyncedTandem,
    connections,
    entries,
    held,
    sync,
    synced,
    takes_over,
    transitions,
)
from .rogue import Rogue, bulk, nonsense, stream

pytestmark = pytest.mark.alone

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


def against(open_lab: Open, **options: str) -> SeedLab:
    """r1 is active and r2 its backup; who speaks with r2 at r1's address is up to the test."""
    lab = open_lab(SeedLab(lambda number: without(number) if number == 1 else synced(number, **options)))
    lab.r1.start()
    lab.r1.wait_started()
    takes_over(lab, lab.r1)
    lab.r2.start()
    lab.r2.wait_started()
    return lab


def foolish(router: Router, sessions: int, chance: random.Random) -> None:
    """Talk nonsense to r2, one session after the other."""
    while sessions:
        with suppress(OSError), Rogue(router, ADDRESS, SECRET) as rogue:
            sessions -= 1
            for frame in nonsense(chance):
                rogue.say(frame)
            wait_until(lambda rogue=rogue: not rogue.hear(), 5, "it has had enough")


def test_nonsense_of_a_peer_that_knows_the_secret(open_lab: Open) -> None:
    lab = against(open_lab)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    before = [transitions(router) for router in lab.routers]
    foolish(lab.r1, 15, chance)
    assert [transitions(router) for router in lab.routers] == before
    lab.r1.stop()
    takes_over(lab, lab.r2)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        before = [transitions(lab.r2)]
        foolish(lab.r1, 15, chance)
        with suppress(OSError), Rogue(lab.r1, ADDRESS, SECRET) as rogue:
            rogue.say((ACK, 0, b""))  # random records need not be malformed
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


def many(count: int) -> list[Record]:
    """UDP flows of a client to as many hosts, each translated."""
    head = bytes((0, 0, 4, 17)) + socket.inet_aton(CLIENT)
    body = struct.pack("!BHI", SNAT, 0x0E, 600) + socket.inet_aton(WAN_ADDRESS) + b"\x10\0"
    return [
        (NEW, head + struct.pack("!I", 0x50000000 + number) + b"\x10\0\0\x35", body)
        for number in range(count)
    ]


def test_a_million_entries_and_no_more(open_lab: Open) -> None:
    """A table of the size that a large router has; what is too much is refused, counted and known."""
    limits = {"limit_entries": "1000000", "limit_bytes": "400M", "stale_loss": "50", "stall_timeout": "600"}
    lab = against(open_lab, **limits)
    frames = bulk(many(1_000_100))
    with Rogue(lab.r1, ADDRESS, SECRET, timeout=60) as rogue:
        before = [transitions(router) for router in lab.routers]
        rss = lab.r2.cost().rss_kib
        for frame in chain((stream(),), frames):
            rogue.say(frame, timeout=60)
        wait_until(
            lambda: sync(lab.r2)["overflow"]["held 192.168.1.2"] == 100, 60, "what is too much is counted"
        )
        found = sync(lab.r2)
        assert found["held"] == {"192.168.1.2": 1_000_000} and found["in_step"] == ["192.168.1.2"]
        wait_until(lambda: sync(lab.r2)["stale"], 10, "and known")
        assert (lab.r2.cost().rss_kib - rss) * 1024 < 1_000_000 * 200
        # Its kernel gets what that has room for.
        room = int(lab.r2.sysctl("netfilter/nf_conntrack_max")) * 7 // 10
        wait_until(lambda: entries(lab.r2) > min(room, 900_000), 60, "its kernel follows")
        assert [transitions(router) for router in lab.routers] == before and lab.r2.all_in("BACKUP")
        listed = Tandem.request(lab.r2, "conntrack_list", peer="192.168.1.2", cursor="0")
        assert len(listed["entries"]) >= 250 and listed["next"]
