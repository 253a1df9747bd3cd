# SPDX-License-Identifier: GPL-2.0-or-later
"""Groups that go on with their role after a reload."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tandem.config import schema
from tandem.config.diff import Succession
from tandem.config.diff import succession as with_identity
from tandem.config.options import identity
from tandem.config.schema import Config
from tandem.core.settings import Group, Instance

LAN = Instance("I1", "br-lan", 51)
WAN = Instance("E1", "eth0.2", 51)
ALONE = Instance("X1", "eth3", 7)
IDENTITY = identity()
RUNNING = {"G1": (WAN, LAN), "X1": (ALONE,)}


def config(groups: dict[str, tuple[str, ...]], *changed: Instance) -> Config:
    instances = {instance.name: instance for instance in (LAN, WAN, ALONE, *changed)}
    members = [name for names in groups.values() for name in names]
    made = [Group(name, names, implicit=(name,) == names) for name, names in groups.items()]
    return Config(instances=tuple(instances[name] for name in members), groups=tuple(made))


def succession(running: dict[str, tuple[Instance, ...]], new: Config) -> dict[str, Succession]:
    return with_identity(running, new, IDENTITY)


SAME = {"G1": ("E1", "I1"), "X1": ("X1",)}


def test_the_table_names_the_identity() -> None:
    """RFC 9568 section 1.6 knows a virtual router by VRID, family and interface; versions do not mix."""
    assert IDENTITY == ("interface", "virtual_router_id", "version", "family")


def test_what_is_no_identity_keeps_the_role() -> None:
    for field in fields(Instance):
        if field.name in ("name", *IDENTITY):
            continue
        found = succession(RUNNING, config(SAME, replace(LAN, **{field.name: "other"})))
        assert found == {"G1": Succession(("E1", "I1"), "G1"), "X1": Succession(("X1",), "X1")}


@pytest.mark.parametrize("field", IDENTITY)
def test_another_identity_is_another_router_and_the_others_go_on(field: str) -> None:
    found = succession(RUNNING, config(SAME, replace(LAN, **{field: "other"})))
    assert found["G1"] == Succession(("E1",), "G1")
    found = succession(RUNNING, config(SAME, replace(ALONE, **{field: "other"})))
    assert found["X1"] == Succession()


def test_members_come_and_go() -> None:
    new = Instance("N1", "eth4", 9)
    found = succession(RUNNING, config({"G1": ("I1", "N1"), "X1": ("X1",)}, new))
    assert found["G1"] == Succession(("I1",), "G1")
    found = succession(RUNNING, config({"G2": ("N1", "E1", "I1")}, new))
    assert found == {"G2": Succession(("E1", "I1"), "G1")}, "a group with another name"


def test_groups_part_and_unite() -> None:
    found = succession(RUNNING, config({"E1": ("E1",), "I1": ("I1",), "X1": ("X1",)}))
    assert [(one.kept, one.heir_of) for one in found.values()] == [
        (("E1",), "G1"), (("I1",), "G1"), (("X1",), "X1")
    ]  # fmt: skip
    found = succession(RUNNING, config({"G1": ("X1", "I1", "E1")}))
    assert found == {"G1": Succession(("X1", "I1", "E1"), "G1")}, "the one of that name leads"


def test_the_daemon_can_afford_to_import_it() -> None:
    """diff, schema and settings must not pull in what only the planner may use."""
    code = (
        "import sys, tandem.config.diff as d; "
        "heavy = ('ipaddress', 'difflib', 'shlex'); "
        "print(sorted(m for m in sys.modules if m.startswith('tandem') or m in heavy))"
    )
    source = str(Path(schema.__file__).parents[2])
    environment = {"PYTHONPATH": source}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    ours = ["tandem", "tandem.config", "tandem.config.diff", "tandem.config.schema"]
    assert out.strip() == str([*ours, "tandem.core", "tandem.core.settings"])
