# SPDX-License-Identifier: GPL-2.0-or-later
"""`config check`: what it makes, who may name it, and every error with section, option and value."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import load_text
from tandem.config.schema import Check, Config
from tandem.core.settings import Track

HEAD = """
config vrrp_instance 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
"""


def section(kind: str, *lines: str, name: str = "one") -> str:
    return f"\nconfig check '{name}'\n\toption kind '{kind}'\n" + "".join(f"\t{line}\n" for line in lines)


def tracked(text: str, track: str = "one") -> str:
    return f"{HEAD}\tlist track_check '{track}'\n{text}"


def config(text: str) -> Config:
    loaded = load_text(text, "f")
    assert not loaded.errors and not loaded.warnings, (loaded.errors, loaded.warnings)
    assert loaded.config is not None
    return loaded.config


HOST = "option host '192.0.2.1'"


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (section("tcp", HOST, "option port '25'"), Check("one", "tcp", "192.0.2.1", 25)),
        (section("http", "option host '2001:DB8::0:1'"), Check("one", "http", "2001:db8::1", 80)),
        (
            section("https", HOST, "list status '200'", "list status '301-302'", "option interval '5'"),
            Check(
                "one",
                "https",
                "192.0.2.1",
                443,
                status=((200, 200), (301, 302)),
                interval_ms=5000,
                timeout_ms=5000,
            ),
        ),
        (
            section(
                "dns",
                HOST,
                "option query 'a.example'",
                "option record 'AAAA'",
                "option answer '2001:DB8::0:1'",
            ),
            Check("one", "dns", "192.0.2.1", 53, query="a.example", record="AAAA", answer="2001:db8::1"),
        ),
        (
            section(
                "ping",
                HOST,
                "option count '5'",
                "option loss '20'",
                "option latency '50'",
                "option source '192.0.2.9'",
            ),
            Check("one", "ping", "192.0.2.1", source="192.0.2.9", count=5, loss=20, latency_ms=50),
        ),
        (section("arp", HOST, "option interface 'lan'"), Check("one", "arp", "192.0.2.1", interface="lan")),
        (section("process", "option process 'nginx'"), Check("one", "process", process="nginx")),
        (
            section("file", "option file '/run/x'", "option text 'ok'"),
            Check("one", "file", file="/run/x", text="ok"),
        ),
        (
            section("script", "option script '/bin/x -a'", "option user 'nobody'", "option fall '1'"),
            Check("one", "script", script=("/bin/x", "-a"), user="nobody", fall=1),
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Check) else "",
)
def test_each_kind(text: str, check: Check) -> None:
    found = config(tracked(text))
    assert found.checks == (check,)
    again = load_text(render(found), "f").config
    assert again is not None and again.checks == found.checks, "what tandem check prints is read again"
    assert again.instances == found.instances


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ("one", Track("check", "one", -20)),
        ("one weight 5 reverse", Track("check", "one", 5, True)),
        ("one weight 0", Track("check", "one", 0)),
    ],
)
def test_a_tracker_has_the_weight_of_the_check_or_its_own(track: str, expected: Track) -> None:
    found = config(tracked(section("ping", HOST, "option weight '-20'"), track))
    assert expected in found.instances[0].tracks


def test_a_service_names_checks() -> None:
    service = "\nconfig service 'web'\n\toption agent 'procd:nginx'\n\toption where 'everywhere'\n"
    service += "\tlist check 'one two'\n"
    text = HEAD + service + section("ping", HOST) + section("ping", HOST, name="two")
    assert config(text).services[0].checks == ("one", "two")
    unknown = load_text(HEAD + service + section("ping", HOST), "f").errors
    assert "option 'check', value 'two': there is no check of this name; there is one" in str(unknown[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (section("smtp"), "option 'kind', value 'smtp': must be tcp, http, https"),
        (section("ping"), "section 'one' (check), option 'host': is missing: a check of kind ping needs it"),
        (section("tcp", HOST), "option 'port': is missing: which port is connected to?"),
        (section("arp", HOST), "option 'interface': is missing: a check of kind arp needs it"),
        (section("process"), "option 'process': is missing"),
        (section("file"), "option 'file': is missing"),
        (section("script"), "option 'script': is missing"),
        (
            section("ping", "option host 'www.example.org'"),
            "value 'www.example.org': 'www.example.org' is not an IP",
        ),
        (
            section("ping", HOST, "option port '1'"),
            "option 'port', value '1': has no effect: it is for tcp, http",
        ),
        (
            section("ping", HOST, "option source '::1'"),
            "option 'source', value '::1': is not of the address family",
        ),
        (section("arp", "option host '::1'", "option interface 'lan'"), "an IPv6 address, which has no ARP"),
        (section("http", HOST, "option path 'x'"), "value 'x': must be a path that begins with /"),
        (section("http", HOST, "option path '/a b'"), "value '/a b': must be a path"),
        (section("http", HOST, "list status '99'"), "value '99': must be a whole number from 100"),
        (section("http", HOST, "list status '300-200'"), "value '300-200': must be a whole number from 300"),
        (section("http", HOST, "option digest 'abc'"), "value 'abc': must be 32 (MD5"),
        (section("http", HOST, "option virtualhost 'a b'"), "value 'a b': must be the name of a host"),
        (
            section("dns", HOST, "option record 'A'", "option answer '::1'"),
            "value '::1': must be an IPv4 address",
        ),
        (section("dns", HOST, f"option query '{'a' * 64}.org'"), "must be a domain name"),
        (section("ping", HOST, "option loss '100'"), "must be a whole number from 0 to 99"),
        (section("script", f"option script '/bin/x {'a' * 1000}'"), "is longer than 1000 characters"),
        (
            section("ping", HOST) + section("ping", HOST, name="idle"),
            "section 'idle' (check): is not used: no track",
        ),
        (
            section("ping", HOST) + section("ping", HOST, "option name 'one'", name="two"),
            "the check at line 8 has this name too",
        ),
    ],
)
def test_problems(text: str, problem: str) -> None:
    loaded = load_text(tracked(text), "f")
    assert problem in "\n".join(map(str, (*loaded.errors, *loaded.warnings)))


def test_an_unknown_check() -> None:
    [error] = load_text(tracked(section("ping", HOST), "onn"), "f").errors
    assert "option 'track_check', value 'onn': there is no check 'onn'; did you mean 'one'?" in str(error)


def test_so_many_are_enough() -> None:
    text = "".join(section("ping", HOST, name=f"c{number}") for number in range(257))
    assert "more than 256 checks" in "\n".join(map(str, load_text(HEAD + text, "f").errors))
