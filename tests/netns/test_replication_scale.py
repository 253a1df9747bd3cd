# SPDX-License-Identifier: GPL-2.0-or-later
"""200 live connections among many others: none is lost, and no advertisement is missed for the work."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from tests.lab import FAR, Router, SeedLab, netns, wait_until
from tests.lab.router import TANDEM

from .live import (
    BACK,
    connections,
    entries,
    equal,
    failover,
    no_resets,
    power_loss,
    started,
    synced,
    takes_over,
    told,
    transitions,
    udp_flows,
)

pytestmark = pytest.mark.alone

Open = Callable[[SeedLab], SeedLab]


OTHERS = 100_000


def listed(router: Router) -> int:
    """How many flows `tandem conntrack list` prints, one a line."""
    command = [sys.executable, "-IS", str(TANDEM), "--control", str(router.file("sock")), "conntrack", "list"]
    lines = router.exec(*command).splitlines()
    assert lines[0] == "# own" or lines[0].startswith("# held for ")
    flow = re.compile(r"(tcp|udp) +\d+ .*src=192\.168\.1\.10 dst=203\.0\.113\.1 sport=\d+ dport=\d+ .*")
    return sum(bool(flow.fullmatch(line)) for line in lines)


@pytest.mark.slow
def test_two_hundred_among_a_hundred_thousand_others(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, _ = started(lab)
    netns.write_sysctls(active.namespace, {"netfilter/nf_conntrack_udp_timeout": 600})
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=False)
        for part in range(OTHERS // 20_000):
            udp_flows(lab.client, 20_000, source=5000 + part)
        flows.all_go_on()
        for event in (power_loss, failover):
            wait_until(lambda: equal(lab), 60, "both have the same table")
            active, backup = told(lab)
            before = transitions(active), transitions(backup)
            if event is power_loss:
                assert min(map(listed, lab.routers)) >= OTHERS + 200
            assert (transitions(active), transitions(backup)) == before
            event(lab, active)
            takes_over(lab, backup)
            flows.all_go_on()
            assert entries(backup) >= OTHERS + 200
            BACK[event](lab, active)
            wait_until(lambda: equal(lab), 60, "both have the same table again")
            # One change of both instances: whoever misses advertisements while the other works makes more.
            if event is failover:
                assert transitions(active) == before[0] + 2
            assert transitions(backup) == before[1] + 2
            assert lab.active is backup and backup.all_in("MASTER") and active.all_in("BACKUP")
