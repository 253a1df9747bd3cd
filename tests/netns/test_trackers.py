# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracked interfaces and scripts move the priority or are faults; notify scripts are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab import Instance, LanLab, Tandem, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, instance, pair, state

Open = Callable[[Any], Any]

SCRIPT = """
config vrrp_script
	option name 'chk'
	option script '/bin/grep -q good {file}'
	option interval '0.1'
	option rise '1'
	option fall '2'
"""


def with_script(instances: list[Instance], file: Path) -> Tandem:
    return Tandem(instances, text=tandem_uci(instances) + SCRIPT.format(file=file))


def scripted(open_lab: Open, tmp_path: Path, track: str) -> tuple[LanLab, Path]:
    file = tmp_path / "health"
    file.write_text("good")
    tracked = replace(V1, options={"track_script": (track,)})
    lab: LanLab = open_lab(LanLab([with_script([tracked], file), Tandem([replace(V1, priority=145)])]))
    lab.elect()
    return lab, file


def test_a_failing_script_without_weight_is_a_fault(open_lab: Open, tmp_path: Path) -> None:
    lab, file = scripted(open_lab, tmp_path, "chk")
    r1, r2 = lab.routers
    file.write_text("bad")
    wait_until(lambda: r2.has(VIP) and state(r1) == "FAULT", 10, "given up")
    assert instance(r1)["faults"] == ["script chk down"]
    file.write_text("good")
    wait_until(lambda: lab.active is r1, 10, "taken back")


def test_a_failing_script_with_weight_moves_the_priority(open_lab: Open, tmp_path: Path) -> None:
    lab, file = scripted(open_lab, tmp_path, "chk weight -10")
    r1, r2 = lab.routers
    file.write_text("bad")
    wait_until(lambda: lab.active is r2, 10, "145 beats 140")
    assert instance(r1)["priority"] == {"base": 150, "effective": 140, "why": ["script chk -10"]}
    file.write_text("good")
    wait_until(lambda: lab.active is r1, 10, "150 beats 145")


def test_a_tracked_interface_with_weight(open_lab: Open) -> None:
    tracked = replace(V1, options={"track_interface": ("lo weight 5", "gone0 weight -20")})
    lab = pair(open_lab, tracked)
    r1 = lab.routers[0]
    assert instance(r1)["priority"] == {
        "base": 150,
        "effective": 135,
        "why": ["interface lo +5", "interface gone0 -20"],
    }


def test_weights_move_a_sync_group_as_one(open_lab: Open) -> None:
    tracked = replace(V1, options={"track_interface": ("gone0 weight -20",)})
    other = replace(V1, name="V2", virtual_router_id=52, addresses=("192.168.1.5/24",))
    lab = open_lab(LanLab([Tandem([tracked, other], {"G": ("V1", "V2")})]))
    [r1] = lab.routers
    r1.start()
    wait_until(lambda: r1.active, 10, "elected")
    assert [instance(r1, name)["priority"]["effective"] for name in ("V1", "V2")] == [130, 130]


def test_notify_scripts_are_told_in_keepalived_s_words(open_lab: Open, tmp_path: Path) -> None:
    script, told = tmp_path / "notify.sh", tmp_path / "told"
    script.write_text(f'#!/bin/sh\necho "$@ $ACTION" >> {told}\n')
    script.chmod(0o755)
    notified = replace(V1, options={"notify": str(script), "notify_master": f"{script} only master"})
    lab = open_lab(LanLab([Tandem([notified]), Tandem([replace(V1, priority=100)])]))
    lab.start()
    r1 = lab.routers[0]
    wait_until(lambda: told.exists() and told.read_text().count("MASTER") >= 3, 15, "told of MASTER")
    r1.stop()
    assert told.read_text().splitlines() == [
        "INSTANCE V1 BACKUP 150 NOTIFY_BACKUP",
        "only master NOTIFY_MASTER",
        "INSTANCE V1 MASTER 150 NOTIFY_MASTER",
        "INSTANCE V1 STOP 150 NOTIFY_STOP",
    ]


def test_two_groups_decide_apart(open_lab: Open) -> None:
    guest = replace(V1, name="V2", virtual_router_id=52, addresses=("192.168.1.5/24",))
    first = [V1, replace(guest, priority=100)]
    second = [replace(V1, priority=100), guest]
    lab = open_lab(LanLab([Tandem(first), Tandem(second)]))
    r1, r2 = lab.routers
    lab.start()
    held = {r1: [VIP], r2: ["192.168.1.5"]}
    wait_until(
        lambda: all([a for a in (VIP, "192.168.1.5") if r.has(a)] == own for r, own in held.items()),
        10, "each has its own",
    )  # fmt: skip
    r2.power_off()
    wait_until(lambda: r1.has(VIP) and r1.has("192.168.1.5"), 10, "r1 serves both")
