# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem history` of real daemons: what saw a change, how long a takeover took, and what a reboot keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lab import FAR, Router, SeedLab, Tandem, wait_until

from .live import connections, power_loss, started, synced, takes_over, told


def entries(router: Router) -> list[dict[str, Any]]:
    """The history of the daemon, without those of whole groups."""
    found = Tandem.request(router, "history")["transitions"]
    return [entry for entry in found if entry["kind"] == "instance"]


def test_a_takeover_and_a_reboot(open_lab: Callable[[SeedLab], SeedLab]) -> None:
    def daemon(number: int) -> Tandem:
        made = synced(number)
        kept = f"\toption history_file '{lab.directory}/r{number}.kept'\n"
        assert made.text is not None
        made.text = made.text.replace("config globals 'globals'\n", "config globals 'globals'\n" + kept)
        assert kept in made.text
        return made

    lab = SeedLab(synced, "history")
    for number, router in enumerate(lab.routers, 1):
        router.daemon = daemon(number)
    open_lab(lab)
    active, backup = started(lab)
    assert {entry["seen"] for entry in entries(backup)} == {"start"}
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        told(lab)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        found = wait_until(lambda: entries(backup)[-2:], what="it is told")
        assert {entry["name"] for entry in found} == {"I1", "E1"}
        for entry in found:
            assert (entry["state"], entry["seen"], entry["group"]) == ("MASTER", "heartbeat", "G1")
            assert 100 < entry["detection_ms"] < 2000, "three heartbeats of 50 ms are missed"
            assert entry["connections"] >= 20
            assert 0 <= entry["restore_ms"] <= entry["address_ms"] <= entry["announce_ms"] < 1000
    Tandem.request(backup, "standby", force="yes", once="yes")
    wait_until(lambda: entries(backup)[-1]["seen"] == "command", what="the command is told")
    before = [(entry["name"], entry["why"]) for entry in entries(backup)]
    assert backup.stop() == 0
    kept = lab.directory / f"{backup.name}.kept"
    wait_until(lambda: "stopped" in kept.read_text(), what="the disk has the end as well")
    backup.file("sock.history").unlink()  # the memory loses it when the router reboots
    backup.start()
    backup.wait_started()
    assert [(entry["name"], entry["why"]) for entry in entries(backup)][: len(before)] == before
    assert json.loads(kept.read_text())[0] == 1 and kept.stat().st_mode & 0o777 == 0o600
