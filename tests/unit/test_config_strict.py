# SPDX-License-Identifier: GPL-2.0-or-later
"""Strict mode changes what keepalived's changes: a mixed pair must agree, on the wire above all."""

from __future__ import annotations

import pytest

from tandem.config.load import Loaded, load_text
from tandem.core.settings import Instance


def loaded(*lines: str, settings: str = "option vrrp_strict '1'", address: str = "192.168.1.4/24") -> Loaded:
    options = "\n".join(f"\t{line}" for line in lines)
    return load_text(
        f"""
config globals
	{settings}

config vrrp_instance 'I1'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '{address}'
{options}
""",
        "f",
    )


def instance(*lines: str, **arguments: str) -> Instance:
    found = loaded(*lines, **arguments)
    assert found.config is not None, [str(problem) for problem in found.errors]
    return found.config.instances[0]


def test_no_password_goes_out() -> None:
    password = ("option auth_type 'PASS'", "option auth_pass 's3cret'")
    assert instance(*password).auth_pass is None
    assert instance(*password, "option strict_mode '0'").auth_pass == b"s3cret"


def test_the_role_to_begin_with_is_that_of_the_priority() -> None:
    assert not instance("option state 'MASTER'", "option priority '200'").initial_master
    assert instance("option state 'BACKUP'", "option priority '255'").initial_master


@pytest.mark.parametrize(
    ("lines", "accept"),
    [
        ((), False),
        (("option priority '255'",), True),
        (("option accept '1'",), False),  # RFC 3768 knows no accept mode
        (("option accept '1'", "option version '3'"), True),
    ],
)
def test_packets_to_the_virtual_address(lines: tuple[str, ...], accept: bool) -> None:
    assert instance(*lines).accept is accept


def test_no_delay_and_no_answer_to_lesser_routers() -> None:
    found = instance("option preempt_delay '10'", "option garp_lower_prio_repeat '3'")
    assert (found.preempt_delay_ms, found.garp.lower_prio_repeat) == (0, 0)
    assert found.garp.lower_prio_delay_ms == 0


def test_unicast_is_refused() -> None:
    found = loaded("option unicast_src_ip '192.168.1.2'", "list unicast_peer '192.168.1.3'")
    assert [problem.reason for problem in found.errors] == ["strict: the RFC knows multicast only"]


@pytest.mark.parametrize(
    ("lines", "address", "option", "reason"),
    [
        (("option use_vmac '1'", "option vmac_xmit_base '1'"), "192.168.1.4/24", "vmac_xmit_base",
         "strict: the RFC wants adverts from the virtual MAC"),
        ((), "2001:db8::4/64", "virtual_ipaddress", "strict: the RFC wants a link-local address first"),
        (("option version '3'", "option down_timer_adverts '2'"), "192.168.1.4/24", "down_timer_adverts",
         "has no effect in strict mode: the RFC waits for 3"),
        (("option preempt_delay '9'",), "192.168.1.4/24", "preempt_delay",
         "has no effect in strict mode: the RFC does not know it"),
    ],
)  # fmt: skip
def test_what_the_rfc_does_not_have_is_said(
    lines: tuple[str, ...], address: str, option: str, reason: str
) -> None:
    found = loaded(*lines, address=address)
    [warning] = found.warnings
    assert (warning.option, warning.reason) == (option, reason)
    assert found.config is not None and found.config.instances[0].down_timer_adverts == 3


def test_a_link_local_address_is_first_in_ipv6() -> None:
    assert loaded(address="fe80::4/64").warnings == ()


def test_an_instance_has_an_address() -> None:
    text = (
        "config globals\n\toption vrrp_strict '1'\nconfig vrrp_instance 'I1'\n\toption interface 'br-lan'\n"
    )
    found = load_text(text + "\toption virtual_router_id '51'\n", "f")
    assert [problem.reason for problem in found.errors] == ["strict: the RFC wants at least one address"]


def test_everything_that_is_changed_is_said() -> None:
    found = loaded(
        "option state 'MASTER'",
        "option priority '200'",
        "option auth_type 'PASS'",
        "option auth_pass 's3cret'",
        "option accept '1'",
    )
    assert [problem.option for problem in found.warnings] == ["state", "auth_type", "accept"]
