# SPDX-License-Identifier: GPL-2.0-or-later
"""The option table agrees with the settings, and everything that is made from it is complete."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from tandem.config import option as rows
from tandem.config.option import KEEPS, NEXT, ROLE, SESSION, START, Option
from tandem.config.options import SECTIONS
from tandem.config.schema import (
    Check,
    Config,
    ConntrackSync,
    DhcpGateway,
    Follow,
    Globals,
    Internet,
    Peer,
    PeerPath,
    RealServer,
    Script,
    VirtualServer,
    Witness,
    WitnessServer,
)
from tandem.control import options_command
from tandem.core.settings import Garp, Group, Instance, Notify, Service
from tandem.peers import of_config

SETTINGS: dict[str, type[Any]] = {
    "globals": Globals,
    "vrrp_instance": Instance,
    "vrrp_sync_group": Group,
    "vrrp_script": Script,
    "peer": Peer,
    "conntrack_sync": ConntrackSync,
    "dhcp_gateway": DhcpGateway,
    "follow": Follow,
    "witness": Witness,
    "witness_server": WitnessServer,
    "service": Service,
    "check": Check,
    "real_server": RealServer,
    "virtual_server": VirtualServer,
    "internet": Internet,
}
PARTS: dict[str, type[Any]] = {"garp": Garp, "notify": Notify}
# Fields that several options decide together; `shown` makes their options from them.
TOGETHER = {
    "globals": {"script_user", "script_group"},
    "vrrp_instance": {"initial_master", "preempt", "multicast_group", "track_primary", "tracks"},
    "vrrp_sync_group": {"tracks", "implicit", "services"},
    "vrrp_script": {"user", "group"},
    "check": {"user", "group"},
    "peer": {"secrets"},
    "conntrack_sync": {"port"},
}
ALL = [
    pytest.param(section, name, row, id=f"{section}.{name}")
    for section, table in SECTIONS.items()
    for name, row in table.items()
    if isinstance(row, Option) and section != "global_defs"
]


def default(kind: type[Any], name: str) -> Any:
    field = next(field for field in fields(kind) if field.name == name)
    return field.default


@pytest.mark.parametrize("section", SETTINGS)
def test_every_field_of_the_settings_has_an_option(section: str) -> None:
    named = {
        row.field.split(".")[0] for row in SECTIONS[section].values() if isinstance(row, Option) and row.field
    }
    wanted = {field.name for field in fields(SETTINGS[section])}
    assert named | TOGETHER.get(section, set()) == wanted


@pytest.mark.parametrize(("section", "name", "row"), ALL)
def test_a_row_is_complete(section: str, name: str, row: Option) -> None:
    assert row.help.endswith((".", "; 0: off.")), "a sentence"
    assert row.reload in (KEEPS, ROLE, SESSION, START)
    assert row.since == NEXT or row.since.count(".") == 1
    if row.default is None:
        return
    value = row.kind.read(row.default)
    assert row.kind.read(row.kind.write(value)) == value, "what tandem check prints is read again"
    if not row.field or row.shown is not None:
        return
    owner, _, field = row.field.rpartition(".")
    declared = default(PARTS[owner] if owner else SETTINGS[section], field)
    if name in ("version", "native_ipv6"):
        return
    assert declared in (value, MISSING), "the settings have the default of the table"


def test_the_parts_have_the_defaults_of_globals() -> None:
    for name, row in SECTIONS["vrrp_instance"].items():
        if isinstance(row, Option) and (row.field or "").startswith("garp."):
            known = SECTIONS["globals"][f"vrrp_{name}"]
            assert isinstance(known, Option)
            text = known.default or {"garp_lower_prio_delay": "5", "garp_lower_prio_repeat": "5"}[name]
            assert default(Garp, str(row.field).removeprefix("garp.")) == row.kind.read(text)


def test_a_new_option_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser, its errors, the settings, tandem check and tandem options know it from the row alone."""
    from tandem.config.effective import render
    from tandem.config.load import load_text
    from tandem.config.values import whole

    row = Option(whole(1, 9, "s"), "4", "A new option.", "rt_priority")
    table = {name: entry for name, entry in SECTIONS["globals"].items() if name != "vrrp_rt_priority"}
    monkeypatch.setitem(SECTIONS, "globals", table | {"new_one": row})
    loaded = load_text("config globals\n\toption new_one '7'\n", "f")
    assert loaded.config and loaded.config.globals.rt_priority == 7
    assert "\toption new_one '7'\n" in render(loaded.config)
    assert "\toption new_one '4'\n" in render(load_text("", "f").config or pytest.fail("no configuration"))
    (error,) = load_text("config globals\n\toption new_one '10'\n", "f").errors
    assert "section '@globals[0]' (globals), option 'new_one', value '10': must be a whole number" in str(
        error
    )
    (section,) = options_command.metadata("globals.new_one")
    assert section["options"] == [
        {
            "name": "new_one", "type": "integer", "unit": "s", "min": "1", "max": "9", "default": "4",
            "list": False, "allowed": "a whole number from 1 to 9", "help": "A new option.",
            "required": False, "secret": False, "reload": "keeps", "since": "0.1",
        }
    ]  # fmt: skip


def test_what_ends_sessions_is_what_the_table_says() -> None:
    """An option of the channel ends sessions exactly when what a session is made of contains it."""
    peer = Peer("r2", (PeerPath("192.168.1.3"),), ((1, b"x" * 16), (7, b"y" * 16)), 1)
    sync = ConntrackSync(("r2",))
    before = of_config(Config(peers=(peer,), conntrack_sync=sync), lambda name: name)
    for section, settings in (("peer", peer), ("conntrack_sync", sync)):
        for name, row in SECTIONS[section].items():
            if not isinstance(row, Option) or not row.field or row.many or row.field == "name":
                continue
            old = getattr(settings, row.field)
            other: dict[str, Any] = {row.field: not old if isinstance(old, bool) else 7}
            if isinstance(old, str):
                other = {row.field: "7"}
            if name == "insecure":
                other["secrets"] = ()
            changed: Any = replace(settings, **other)
            config = Config(
                peers=(changed if section == "peer" else peer,),
                conntrack_sync=sync if section == "peer" else changed,
            )
            assert (of_config(config, lambda name: name) != before) == (row.reload == SESSION), name


# tandem options


def asked(
    capsys: pytest.CaptureFixture[str], name: str | None, as_json: bool = False
) -> tuple[int, str, str]:
    status = options_command.run(Namespace(name=name, json=as_json))
    out = capsys.readouterr()
    return status, out.out, out.err


def test_people_ask_for_a_section_or_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = asked(capsys, None)
    assert status == 0 and "vrrp_instance: name, interface, virtual_router_id" in out
    assert "global_defs" not in out and "lvs" not in out
    assert asked(capsys, "vrrp_instance.priority") == (
        0,
        "option priority; must be a whole number from 1 to 255; default '100'\n"
        "    The router with the highest priority becomes MASTER; 255: the owner of the\n"
        "    addresses.\n",
        "",
    )
    status, out, _ = asked(capsys, "peer")
    assert (
        out.count("\n    ") >= 4 and "list address; must be unicast IP addresses" in out and "required" in out
    )
    assert "After a reload, sessions with peers begin anew; roles stay." in " ".join(out.split())


def test_unknown_names_get_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, "vrrp_instanc")[::2] == (
        1,
        "tandem: there is no section 'vrrp_instanc'; did you mean 'vrrp_instance'?\n",
    )
    assert asked(capsys, "peer.adress")[2] == (
        "tandem: section peer has no option 'adress'; did you mean 'address'?\n"
    )
    assert asked(capsys, "peer.zzzzzz")[2].endswith("'zzzzzz'; `tandem options` lists them\n")


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(asked(capsys, None, as_json=True)[1])
    assert found["format"] == 1 and found["version"]
    by_name = {section["name"]: {o["name"]: o for o in section["options"]} for section in found["sections"]}
    assert "global_defs" not in by_name
    assert by_name["vrrp_instance"]["state"]["choices"] == ["MASTER", "BACKUP"]
    assert by_name["conntrack_sync"]["queue_limit"] | {"help": ""} == {
        "name": "queue_limit", "type": "size", "unit": "bytes", "min": "64K", "max": "1G", "default": "4M",
        "allowed": "bytes from 64K to 1G (K: 1024, M: 1024 K, G: 1024 M)", "help": "", "list": False,
        "required": False, "secret": False, "reload": "session", "since": "0.1",
    }  # fmt: skip
    assert by_name["vrrp_instance"]["interface"]["reload"] == "role"
    assert by_name["globals"]["enabled"]["reload"] == "start"
    one = json.loads(asked(capsys, "peer.secret", as_json=True)[1])
    assert [o["name"] for s in one["sections"] for o in s["options"]] == ["secret"]


def test_the_resident_daemon_has_no_help() -> None:
    resident = (
        "tandem.tandemd, tandem.daemon, tandem.replication.replication, tandem.dhcp.gateway,"
        " tandem.doctor.exchange, tandem.openwrt.integration"
    )
    source = str(Path(rows.__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {source!r})\nimport {resident}\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in out.stdout.split() if name.startswith("tandem.config")}
    assert loaded == {"tandem.config", "tandem.config.diff", "tandem.config.schema"}
