# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reload keeps and what it changes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.config import schema
from tandem.config.diff import IDENTITY, GroupChange, InstanceChange, diff
from tandem.config.schema import (
    Address,
    Config,
    ConntrackSync,
    Globals,
    Group,
    Instance,
    Notify,
    Route,
    Rule,
    Script,
    SyncPath,
    SyncPeer,
    Track,
)

A, B = Address("192.168.1.4", 24, 4), Address("192.168.1.5", 24, 4)
LAN = Instance("I1", "br-lan", 51, virtual_addresses=(A,))
WAN = Instance("E1", "eth0.2", 51, routes=(Route("0.0.0.0/0", 4, via="192.168.0.1"),))
ALONE = Instance("X1", "eth3", 7, tracks=(Track("script", "chk"),), rules=(Rule(4, table=5),))
OLD = Config(
    instances=(LAN, WAN, ALONE),
    groups=(Group("G1", ("E1", "I1")), Group("X1", ("X1",), implicit=True)),
    scripts=(Script("chk", ("/bin/chk",)),),
)


def with_instance(instance: Instance) -> Config:
    return replace(OLD, instances=tuple(instance if i.name == instance.name else i for i in OLD.instances))


def test_nothing() -> None:
    found = diff(OLD, OLD)
    assert found.empty
    assert found.unchanged == ("G1", "X1")


@pytest.mark.parametrize(
    "changed",
    [
        replace(LAN, priority=150),
        replace(LAN, advert_int_cs=500),
        replace(LAN, preempt=False),
        replace(LAN, notify=Notify(any=("/bin/x",))),
        replace(LAN, virtual_addresses=(A, B)),
    ],
)
def test_a_setting_keeps_the_role(changed: Instance) -> None:
    found = diff(OLD, with_instance(changed))
    assert (found.unchanged, [group.name for group in found.changed]) == (("X1",), ["G1"])
    assert not found.changed[0].hard
    assert [change.lost_addresses for change in found.changed[0].instances] == [(), ()]


@pytest.mark.parametrize("field", sorted(IDENTITY))
def test_identity_gives_the_role_up(field: str) -> None:
    found = diff(OLD, with_instance(replace(LAN, **{field: "other"})))
    assert found.changed[0].hard
    assert [change.fields for change in found.changed[0].instances] == [(), (field,)]


def test_what_is_lost() -> None:
    found = diff(OLD, with_instance(replace(LAN, virtual_addresses=(B,))))
    assert found.changed == (
        GroupChange(
            "G1", (InstanceChange("E1"), InstanceChange("I1", ("virtual_addresses",), lost_addresses=(A,)))
        ),
    )
    assert diff(OLD, with_instance(replace(WAN, routes=()))).changed[0].instances[0].lost_routes == WAN.routes
    assert (
        diff(OLD, with_instance(replace(ALONE, rules=()))).changed[0].instances[0].lost_rules == ALONE.rules
    )


def test_an_address_that_is_only_excluded_now_is_not_lost() -> None:
    moved = replace(LAN, virtual_addresses=(B,), excluded_addresses=(A,))
    assert diff(OLD, with_instance(moved)).changed[0].instances[1].lost_addresses == ()


def test_groups_come_and_go() -> None:
    new = replace(OLD, groups=(Group("I1", ("I1",), implicit=True), Group("X1", ("X1", "E1"))))
    found = diff(OLD, new)
    assert (found.added, found.removed) == (("I1",), ("G1",))
    assert found.changed == (GroupChange("X1", (InstanceChange("X1"),), added=("E1",)),)
    assert found.changed[0].hard


def test_a_script_changes_those_that_track_it() -> None:
    found = diff(OLD, replace(OLD, scripts=(Script("chk", ("/bin/other",)),)))
    assert (found.unchanged, found.scripts) == (("G1",), ("chk",))
    assert found.changed == (GroupChange("X1", (InstanceChange("X1"),)),)
    assert not found.changed[0].hard


def test_globals_and_static() -> None:
    assert diff(OLD, replace(OLD, globals=Globals(address_lifetime_s=0))).globals_changed
    assert diff(OLD, replace(OLD, static_addresses=(A,))).static_changed


def test_conntrack_sync() -> None:
    sync = ConntrackSync((SyncPeer("r2", (SyncPath("192.168.1.3"),)),), ((1, b"a" * 16),), 1)
    on = replace(OLD, conntrack_sync=sync)
    assert diff(on, on).empty
    changed = [OLD, replace(OLD, conntrack_sync=replace(sync, secrets=((1, b"b" * 16),)))]
    for new in changed:
        found = diff(on, new)
        assert found.conntrack_sync_changed
        assert not found.empty
        assert (found.changed, found.unchanged) == ((), ("G1", "X1"))


def test_the_daemon_can_afford_to_import_it() -> None:
    """diff and schema must not pull in what only the planner may use."""
    code = (
        "import sys, tandem.config.diff as d; "
        "heavy = ('ipaddress', 'difflib', 'shlex'); "
        "print(sorted(m for m in sys.modules if m.startswith('tandem') or m in heavy))"
    )
    source = str(Path(schema.__file__).parents[2])
    environment = {"PYTHONPATH": source}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert out.strip() == "['tandem', 'tandem.config', 'tandem.config.diff', 'tandem.config.schema']"
