# SPDX-License-Identifier: GPL-2.0-or-later
"""`config service`: what it makes, and every error with section, option and value."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import load_text
from tandem.config.options.service import SERVICES_MAX
from tandem.config.schema import Config
from tandem.core.settings import Service, Track

HEAD = """
config vrrp_instance 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'

config peer 'r2'
	list address '192.168.1.3'
	option secret 'a secret of twenty bytes'
"""
OTHER = """
config vrrp_instance 'V2'
	option interface 'eth1'
	option virtual_router_id '52'
	list virtual_ipaddress '192.168.2.4/24'
"""


def section(name: str, *lines: str) -> str:
    return f"\nconfig service '{name}'\n" + "".join(f"\t{line}\n" for line in lines)


def config(text: str) -> Config:
    loaded = load_text(HEAD + text, "f")
    assert not loaded.errors and not loaded.warnings, (loaded.errors, loaded.warnings)
    assert loaded.config is not None
    return loaded.config


def problems(text: str, head: str = HEAD) -> str:
    loaded = load_text(head + text, "f")
    return "\n".join(map(str, (*loaded.errors, *loaded.warnings)))


WEB = section(
    "web", "option agent 'ocf:heartbeat:nginx'", "list param 'configfile=/tmp/a b'", "list after 'db'"
)
DB = section("db", "option command '/usr/sbin/mysqld'", "option stickiness '5'")


def test_needs_come_first_and_the_group_follows() -> None:
    found = config(WEB + DB + section("all", "option agent 'procd:x'", "option where 'everywhere'"))
    db, web, everywhere = found.services
    assert db == Service("db", "", ("/usr/sbin/mysqld",), group="V1", monitor_interval_ms=0, stickiness=5)
    assert (web.params, web.after, web.group) == ((("configfile", "/tmp/a b"),), ("db",), "V1")
    assert everywhere.group == ""
    [group] = found.groups
    assert group.services and group.tracks == (
        Track("service", "db"), Track("service", "web"), Track("running", "db", 5),
    )  # fmt: skip


def test_the_effective_configuration_reads_the_same() -> None:
    found = config(WEB + DB)
    again = load_text(render(found).replace("***", "a secret of twenty bytes"), "f").config
    assert again is not None and again.services == found.services and again.groups == found.groups


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (section("a"), "section 'a' (service): needs one of agent and command"),
        (section("a", "option agent 'procd:x'", "option command '/bin/x'"), "needs one of agent and command"),
        (section("a", "option agent 'lxc:x'"), "value 'lxc:x': must be ocf:PROVIDER:AGENT, systemd:"),
        (section("a", "option agent 'procd:../x'"), "value 'procd:../x': must be"),
        (
            section("a", "option agent 'procd:x'", "list param 'a=b'"),
            "option 'param', value 'a=b': is for OCF",
        ),
        (section("a", "option agent 'ocf:a:b'", "list param '=b'"), "must be NAME=VALUE"),
        (
            section("a", "option agent 'procd:x'", "list after 'b'"),
            "value 'b': there is no service of this name",
        ),
        (
            section("a", "option agent 'procd:x'", "list after 'b'")
            + section("b", "option agent 'procd:y'", "list with 'a'"),
            "needs itself by after and with: a -> b -> a",
        ),
        (
            section("a", "option agent 'procd:x'", "list after 'b'", "list after 'c'")
            + section("b", "option agent 'procd:y'")
            + section("c", "option agent 'procd:z'", "list after 'a'"),
            "needs itself by after and with: a -> c -> a",
        ),
        (
            section("a", "option agent 'procd:x'", "option group 'G'"),
            "value 'G': there is no vrrp_sync_group or",
        ),
        (OTHER + section("a", "option agent 'procd:x'"), "names no group: which role does it follow?"),
        (
            section("a", "option agent 'procd:x'", "option on_fail 'fence'"),
            "restart, failover, ignore or block",
        ),
        (DB.replace("stickiness '5'", "monitor_interval '5'"), "has no effect: Tandem sees itself"),
        (
            section("a", "option agent 'procd:x'", "option where 'everywhere'", "option group 'V1'"),
            "has no effect: a service that runs everywhere follows no group",
        ),
        (DB + section("x", "option name 'db'", "option agent 'procd:y'"), "the service at line"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    assert problem in problems(text)


def test_services_are_bounded() -> None:
    text = "".join(section(f"s{number}", "option agent 'procd:x'") for number in range(SERVICES_MAX + 1))
    assert problems(text).endswith(f"section 's{SERVICES_MAX}' (service): more than {SERVICES_MAX} services")
    assert len(config(text.rpartition("config")[0]).services) == SERVICES_MAX


def test_without_a_channel_it_may_run_twice() -> None:
    head = HEAD.partition("config peer")[0]
    assert "without config peer" in problems(DB, head)
    everywhere = section("a", "option agent 'procd:x'", "option where 'everywhere'")
    assert problems(everywhere, head) == ""
