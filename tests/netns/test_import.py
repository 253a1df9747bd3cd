# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed's own files, imported as they stand, make a pair that works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tandem.control import cli
from tests.lab import (
    FAR,
    LanLab,
    Pings,
    SeedLab,
    Service,
    Tandem,
    wait_until,
)
from tests.lab.topology import SYNC_GROUP, seed_instances

DATA = Path(__file__).parents[1] / "unit/data/import"
Open = Callable[[SeedLab | LanLab], SeedLab]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The file that both routers share, as the messages of the import ask for."""
    path = tmp_path / "secret"
    path.write_text("of the seed, and of nothing else\n")
    path.chmod(0o600)
    return path


def test_the_seed_elects_fails_over_and_keeps_its_connections(
    open_lab: Open, secret: Path, tmp_path: Path
) -> None:
    def daemon(number: int) -> Tandem:
        conntrackd = (DATA / "conntrackd.conf").read_text()
        if number == 2:  # the seed shows the file of its first router
            for old, new in (("0.2", "other"), ("0.3", "0.2"), ("other", "0.3")):
                conntrackd = conntrackd.replace(f'168.{old}"', f'168.{new}"')
        theirs, ours = tmp_path / f"conntrackd{number}.conf", tmp_path / f"tandem{number}"
        theirs.write_text(conntrackd)
        arguments = ["--secret-file", str(secret), "-o", str(ours)]
        assert cli.main(["import", str(DATA / "keepalived.conf"), str(theirs), *arguments]) == 0
        # keepalived leaves the translation to others, and so does its import. As the note says:
        text = ours.read_text().replace("\toption snat '0'\n", "")
        return Tandem(seed_instances(), SYNC_GROUP, text=text)

    lab = open_lab(SeedLab(daemon))
    active, backup = lab.elect()
    wait_until(lambda: in_step(active, backup), 15, "connections are replicated", explain=lab.logs)
    service, pings = Service(lab.server, "echo", FAR, "7"), Pings(lab.client, FAR)
    try:
        pings.flowing()
        lab.cut(active, "eth0.2")  # "scollegare il cavo WAN"
        wait_until(lambda: lab.active is backup, 15, "the other one takes over both networks")
        pings.flowing()
        lab.plug(active, "eth0.2")
        wait_until(lambda: active.all_in("BACKUP"), 15, "the first one is backup again")
        assert lab.active is backup, "nopreempt"
    finally:
        pings.stop()
        service.stop()


def in_step(active: object, backup: object) -> bool:
    """Whether the backup holds all connections of the active router."""
    return bool(Tandem.request(backup, "conntrack")["in_step"])  # type: ignore[arg-type]
