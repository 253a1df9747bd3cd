# SPDX-License-Identifier: GPL-2.0-or-later
"""Two releases of Tandem as a pair: r1 runs an earlier one, from git, and r2 runs this one.

The routers are updated one after the other, so connections must survive a failover in both directions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import FAR, Router, SeedLab, release

from .live import (
    BACK,
    SECRET,
    SyncedTandem,
    connections,
    no_resets,
    power_loss,
    settle,
    started,
    synced,
    takes_over,
    term,
)

PEER = f"""
config peer 'old'
\tlist address '192.168.1.2'
\toption secret '{SECRET}'
\toption heartbeat '0.2'

config conntrack_sync
\toption digest_interval '1'
\toption sync_after '0'
"""


class Earlier(SyncedTandem):
    """tandemd of an earlier release, whose tree is in `tree`."""

    tree = Path()

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        return [[sys.executable, "-IS", str(self.tree / "files/usr/sbin/tandemd"), *argv[3:]]]


@pytest.fixture
def old_tree(tmp_path: Path) -> Path:
    tree = release.unpack(tmp_path)
    if tree is None:
        pytest.skip(f"the history of this checkout has no {release.OLD} (a shallow clone)")
    return tree


def test_connections_survive_between_releases(open_lab: Callable[[SeedLab], SeedLab], old_tree: Path) -> None:
    def daemon(number: int) -> SyncedTandem:
        made = synced(number)
        text = made.text
        assert text is not None
        if number == 1:
            made.__class__, Earlier.tree = Earlier, old_tree
            made.text = text.replace("\toption sync_after '0'\n", "")  # an option of this release
        else:
            made.text = text[: text.index("\nconfig conntrack_sync")] + PEER
        return made

    lab = open_lab(SeedLab(daemon, "releases"))
    started(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=False)
        flows.all_go_on()
        was_active = set()
        for event in (term, power_loss, term):
            active, backup = settle(lab)
            was_active.add(active.name)
            event(lab, active)
            takes_over(lab, backup, why=event.__name__)
            flows.all_go_on(why=event.__name__)
            BACK[event](lab, active)
        settle(lab)
        flows.all_go_on()
    assert was_active == {"r1", "r2"}
