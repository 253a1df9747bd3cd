# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan as a whole, and the process that makes it."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tandem
from tandem.config.schema import Config, Globals, from_plain
from tandem.control import cli
from tandem.core.settings import Address, Group, Instance, Route, Rule
from tandem.plan import process as planner_module
from tandem.plan.process import build_plan, plan_file
from tandem.plan.result import Plan, PlanError, load_plan, planner_argv
from tandem.plan.template import EncodeError

PACKAGE_DIR = str(Path(tandem.__file__).parents[1])


def plan_of(config: Config, warnings: tuple[str, ...] = ()) -> Plan:
    return load_plan(marshal.dumps(build_plan(config, warnings)))


def instance(name: str, **options: object) -> Instance:
    return Instance(name, "v0", 7, **options)  # type: ignore[arg-type]


WAN = instance(
    "wan",
    virtual_addresses=(Address("192.168.0.4", 24, 4),),
    excluded_addresses=(Address("2001:db8::4", 64, 6, device="v1"),),
    routes=(Route("0.0.0.0/0", 4, via="192.168.0.1", metric=5), Route("2001:db8:1::/48", 6, device="v1")),
    rules=(Rule(4, source="192.168.0.4/32", table=1000), Rule(6, action="prohibit", priority=9)),
)


def test_the_order_of_up_and_its_reverse() -> None:
    part = plan_of(Config(instances=(WAN,))).instances["wan"]
    labels = [label for label, _, _ in part.up]
    assert labels == [
        "address 192.168.0.4/24 dev v0",
        "address 2001:db8::4/64 dev v1",
        "route default via 192.168.0.1 metric 5",
        "route 2001:db8:1::/48 dev v1 metric 1023",
        "rule priority 16384 from 192.168.0.4/32 lookup 1000",
        "rule priority 9 prohibit",
    ]
    assert [label for label, _, _ in part.down] == labels[::-1]
    assert part.refresh == part.up[:2]
    assert part.watch == (
        ("address", "v0", 4, bytes((192, 168, 0, 4))),
        ("address", "v1", 6, bytes.fromhex("20010db8000000000000000000000004")),
        ("route", 4, bytes(4), 0, 254, 5),
        ("route", 6, bytes.fromhex("20010db8000100000000000000000000"), 48, 254, 1023),
        ("rule", 4, 16384, 1000),
        ("rule", 6, 9, 0),
    )


def test_without_lifetime_there_is_nothing_to_refresh() -> None:
    plan = plan_of(Config(globals=Globals(address_lifetime_s=0), instances=(WAN,)))
    assert plan.instances["wan"].refresh == ()


def test_addresses_go_on_the_virtual_mac() -> None:
    part = plan_of(
        Config(instances=(instance("a", use_vmac="vr7", virtual_addresses=WAN.virtual_addresses),))
    )
    found = part.instances["a"]
    assert found.up[0][0] == "address 192.168.0.4/24 dev vr7"
    assert found.vmac is not None
    assert (found.vmac.name, found.vmac.base, found.vmac.mac.hex(":")) == ("vr7", "v0", "00:00:5e:00:01:07")


def test_rules_without_priority_never_share_one() -> None:
    rule = Rule(4, table=7)  # even the very same object
    config = Config(
        instances=(instance("a", rules=(rule, rule)), instance("b", rules=(rule,))), static_rules=(rule,)
    )
    plan = plan_of(config)
    rules = [*plan.instances["a"].up, *plan.instances["b"].up, *plan.static_up]
    assert [label for label, _, _ in rules] == [f"rule priority {16384 + n} lookup 7" for n in range(4)]


def test_static_things_last_for_ever() -> None:
    config = Config(
        static_addresses=(Address("10.0.0.1", 24, 4, device="v0"),),
        static_routes=(Route("10.1.0.0/16", 4, device="v0", protocol=9),),
    )
    plan = plan_of(config)
    assert [label for label, _, _ in plan.static_up] == [
        "address 10.0.0.1/24 dev v0",
        "route 10.1.0.0/16 dev v0",
    ]
    assert b"\xff\xff\xff\xff" * 2 in plan.static_up[0][1]
    assert plan.route_protocols == {112, 9}


def test_config_and_warnings_survive_the_pipe() -> None:
    config = Config(instances=(WAN,), groups=(Group("wan", ("wan",), implicit=True),))
    plan = plan_of(config, ("careful",))
    assert plan.config == config
    assert plan.warnings == ("careful",)
    assert (plan.nft_head, plan.nft_tail) == (b"", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        marshal.dumps(None),
        marshal.dumps(7),
        marshal.dumps({}),
        marshal.dumps({"config": {}}),
        marshal.dumps([]),
        marshal.dumps("errors"),
        marshal.dumps({"errors": 3}),
        marshal.dumps(build_plan(Config(), ()))[:-3],
    ],
)
def test_what_is_not_a_plan_is_a_plan_error(data: bytes) -> None:
    with pytest.raises(PlanError, match="not a plan"):
        load_plan(data)


def test_errors_come_through() -> None:
    with pytest.raises(PlanError) as caught:
        load_plan(marshal.dumps({"errors": ["one", "two"]}))
    assert caught.value.errors == ("one", "two")
    assert str(caught.value) == "one; two"


def planner(path: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(planner_argv(PACKAGE_DIR, str(path)), capture_output=True, timeout=60)


def test_planner_process(tmp_path: Path) -> None:
    path = tmp_path / "tandem"
    path.write_text(
        "config vrrp_instance 'lan'\n\toption interface 'v0'\n\toption virtual_router_id '7'\n"
        "\tlist virtual_ipaddress '192.168.1.4/24'\n"
    )
    done = planner(path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(load_plan(done.stdout).instances) == ["lan"]


def test_planner_process_with_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "tandem"
    path.write_text("config vrrp_instance 'lan'\n\toption interface 'v0'\n\toption virtual_router_id '777'\n")
    done = planner(path)
    assert done.returncode == 2
    with pytest.raises(PlanError) as caught:
        load_plan(done.stdout)
    assert any("777" in error for error in caught.value.errors)


def test_planner_process_without_a_file(tmp_path: Path) -> None:
    done = planner(tmp_path / "missing")
    assert done.returncode == 2
    with pytest.raises(PlanError, match="missing"):
        load_plan(done.stdout)


def test_planner_process_whose_daemon_has_ended(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = planner_argv(PACKAGE_DIR, str(tmp_path / "missing"))
    with os.fdopen(writing) as pipe:
        done = subprocess.run(argv, stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_unknown_users_are_errors_before_the_daemon_meets_them(tmp_path: Path) -> None:
    file = tmp_path / "tandem"
    file.write_text(
        "config globals\n\toption script_user 'nobody nogrp'\n"
        "config vrrp_script c\n\toption script '/bin/true'\n\toption user 'root nogrp'\n"
        "config vrrp_instance I1\n\toption interface v0\n\toption virtual_router_id 3\n"
        "\tlist virtual_ipaddress 192.168.1.4/24\n\tlist track_script c\n"
    )
    reason = "getgrnam(): name not found: 'nogrp'"
    assert plan_file(str(file)) == {
        "errors": (f"{file}: script_user: {reason}", f"{file}: user of the vrrp_script c: {reason}")
    }


def test_a_router_without_a_name_has_that_of_the_host(tmp_path: Path) -> None:
    file = tmp_path / "tandem"
    for option, name in (("", os.uname().nodename), ("\toption router_id 'mine'\n", "mine")):
        file.write_text(f"config globals\n{option}")
        assert from_plain(plan_file(str(file))["config"]).globals.router_id == name


def test_the_check_knows_what_the_planner_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tandem"
    file.write_text("config globals\n\toption script_user 'nobody nogrp'\n")
    assert cli.main(["check", str(file)]) == 2
    assert capsys.readouterr().err == f"{file}: script_user: getgrnam(): name not found: 'nogrp'\n"
    file.write_text("config globals\n")
    assert cli.main(["check", str(file)]) == 0

    def refuse(*_: object) -> None:
        raise EncodeError("no interface index fits")

    monkeypatch.setattr(planner_module, "build_plan", refuse)
    assert cli.main(["check", str(file)]) == 2
    assert capsys.readouterr().err == f"{file}: no interface index fits\n"


def test_a_file_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A pipe that nobody writes to: the reload that waits for it would keep all later ones waiting."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    program = f"from tandem.plan.process import main; raise SystemExit(main(['-c', {str(path)!r}], 1))"
    environment = {**os.environ, "PYTHONPATH": PACKAGE_DIR}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, env=environment)
    assert done.returncode == 2
    with pytest.raises(PlanError) as refused:
        load_plan(done.stdout)
    assert refused.value.errors == (f"{path}: could not be read and planned within 1 s",)
