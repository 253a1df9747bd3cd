# SPDX-License-Identifier: GPL-2.0-or-later
"""Wrong configurations by the dozen with their exact messages, and results that must never come."""

from __future__ import annotations

import pathlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.config import load
from tandem.config.load import Loaded, load_file, load_text
from tandem.config.problem import Problem

DATA = pathlib.Path(__file__).parent / "data"
GOOD = """config vrrp_instance 'I1'
	option interface 'br-lan'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'
"""
SEED = (DATA / "seed.config").read_text()


def messages(loaded: Loaded) -> list[str]:
    return [str(problem) for problem in loaded.errors]


def cases() -> list[tuple[str, list[str]]]:
    found = []
    blocks = re.split(r"^=== (.*)\n", (DATA / "bad_configs.txt").read_text(), flags=re.M)
    for kind, block in zip(blocks[1::2], blocks[2::2], strict=True):
        text, expected = block.split("--- messages\n")
        text = text.replace("@GOOD@\n", GOOD).replace("@BEL@", "\x07")
        found.append((GOOD + text if kind == "in instance" else text, expected.split("\n")[:-1]))
    return [(text, [line for line in expected if line]) for text, expected in found]


@pytest.mark.parametrize(("text", "expected"), cases())
def test_bad_configuration(text: str, expected: list[str]) -> None:
    loaded = load_text(text, "f")
    assert messages(loaded) == expected
    assert loaded.config is None


def test_keepalived_example() -> None:
    """Every line of the package's example is understood or refused with a reason."""
    loaded = load_text((DATA / "keepalived_example.config").read_text(), "keepalived")
    expected = (DATA / "keepalived_example.messages").read_text().splitlines()
    errors = [f"error {problem}" for problem in loaded.errors]
    assert errors + [f"warning {problem}" for problem in loaded.warnings] == expected


def test_warnings() -> None:
    text = (
        GOOD
        + """	option state 'MASTER'
	option nopreempt '1'
	option preempt_delay '10'
	option preempt_delay '20'
	option strict_mode '1'
	option auth_type 'PASS'
	option auth_pass 'longer than eight'
	option debug '3'
	option unicast_ttl ''
	list track_interface 'br-lan weight 5'
	option vmac_xmit_base '1'
	list virtual_ipaddress '192.168.2.255/24'

config route 'unused'
	option address 'default'

config vrrp_instance 'I1'
"""
    )
    loaded = load_text(text, "f")
    assert messages(loaded) == []
    at = "section 'I1' (vrrp_instance), option"
    assert [str(problem) for problem in loaded.warnings] == [
        f"f:5: {at} 'state', value 'MASTER': has no effect in strict mode: the RFC has MASTER at once at"
        " priority 255, and only there",
        f"f:5: {at} 'state', value 'MASTER': keepalived would take 255 without a priority; Tandem takes 100",
        f"f:8: {at} 'preempt_delay', value '20': has no effect with nopreempt",
        f"f:8: {at} 'preempt_delay', value '20': is given twice: this one counts, not the one at line 7",
        f"f:10: {at} 'auth_type', value 'PASS': has no effect in strict mode: RFC 3768 has removed"
        " authentication",
        f"f:11: {at} 'auth_pass', value '***': only the first 8 bytes count",
        f"f:12: {at} 'debug', value '3': no effect, as in keepalived: use log_level in globals",
        f"f:13: {at} 'unicast_ttl': is empty, which to UCI is the same as not set",
        f"f:14: {at} 'track_interface', value 'br-lan weight 5': the weight of 'br-lan' moves nothing while"
        " the other router has nopreempt too; with weight 0, down is a fault",
        f"f:14: {at} 'track_interface', value 'br-lan weight 5': the weight of 'br-lan' never counts: without"
        " dont_track_primary the instance is in fault when its own interface is down",
        f"f:15: {at} 'vmac_xmit_base', value '1': has no effect without use_vmac",
        f"f:16: {at} 'virtual_ipaddress', value '192.168.2.255/24': 192.168.2.255 is the broadcast address of"
        " 192.168.2.0/24",
        "f:18: section 'unused' (route): is not used: no virtual_routes names it",
        "f:21: section 'I1' (vrrp_instance): continues the section of the same name at line 1",
    ]


@pytest.mark.parametrize(
    ("lines", "option", "reason"),
    [
        (
            ("priority '255'", "nopreempt '1'"),
            "nopreempt",
            "the owner of the addresses (priority 255) always",
        ),
        (("auth_type 'PASS'", "auth_pass '***'"), "auth_pass", "is what tandem shows in the place of"),
        (("v3_checksum_as_v2 '1'",), "v3_checksum_as_v2", "has no effect: it is for version 3 over IPv4"),
        (
            ("priority '7'", "priority ''"),
            None,
            "option priority is empty, and UCI keeps the value of line 5",
        ),
    ],
)
def test_a_setting_without_its_effect_is_warned_about(
    lines: tuple[str, ...], option: str | None, reason: str
) -> None:
    loaded = load_text(GOOD + "".join(f"\toption {line}\n" for line in lines), "f")
    [warning] = loaded.warnings
    assert loaded.config is not None and warning.option == option and reason in warning.reason


def test_an_ipv4_rule_of_an_ipv6_instance_is_warned_about() -> None:
    """keepalived takes a rule without addresses for an IPv4 one."""
    six = GOOD.replace("192.168.1.4/24", "fe80::4/64")
    for rule, warnings in (
        ("iif lan lookup 7", 1),
        ("inet6 iif lan lookup 7", 0),
        ("from 10.0.0.0/8 lookup 7", 0),
    ):
        loaded = load_text(six + f"\tlist virtual_rules '{rule}'\n", "f")
        found = [problem.reason for problem in loaded.warnings]
        assert found == ["is an IPv4 rule, as in keepalived; for IPv6 add inet6"] * warnings


@pytest.mark.parametrize("preempt", [True, False])
def test_a_weight_of_a_group_that_can_move_nothing_is_warned_about(preempt: bool) -> None:
    text = GOOD + ("" if preempt else "\toption nopreempt '1'\n")
    text += "config vrrp_sync_group 'G'\n\tlist group 'I1'\n\tlist track_interface 'eth1 weight 5'\n"
    warned = [(one.section, one.option) for one in load_text(text, "f").warnings]
    assert warned == ([] if preempt else [("G", "track_interface")])


# how much there may be


@pytest.mark.parametrize(("version", "most"), [(4, 255), (6, 90)])
def test_all_addresses_fit_into_one_advert(version: int, most: int) -> None:
    first = "10.0.{}.{}/16" if version == 4 else "fe80::{}:{}/64"
    addresses = [first.format(number // 200, number % 200 + 1) for number in range(most + 1)]
    head = GOOD.partition("\tlist")[0]
    text = head + "".join(f"\tlist virtual_ipaddress '{address}'\n" for address in addresses)
    [error] = load_text(text, "f").errors
    assert error.reason.startswith(f"{most + 1} addresses do not fit into an advert: at most {most};")
    assert error.value == addresses[most]
    assert load_text(text.rpartition("\tlist")[0], "f").config is not None


def test_instances_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_INSTANCES", 3)
    text = "".join(
        f"config vrrp_instance 'I{number}'\n\toption interface 'lan{number}'\n"
        "\toption virtual_router_id '51'\n"
        f"\tlist virtual_ipaddress '10.0.{number}.1/24'\n"
        for number in range(4)
    )
    [error] = load_text(text, "f").errors
    assert error.reason == "more than 3 instances" and error.section == "I3"
    assert load_text(text.rpartition("config")[0], "f").config is not None


def test_each_group_is_checked_with_its_own_members() -> None:
    """Members that differ are named in their group, wherever it stands; one-member groups have none."""
    text = "".join(
        f"config vrrp_instance 'I{number}'\n\toption interface 'lan{number}'\n"
        f"\toption virtual_router_id '51'\n\toption priority '{100 + number // 3}'\n"
        f"\tlist virtual_ipaddress '10.0.{number}.1/24'\n"
        for number in range(4)
    )
    groups = [
        "config vrrp_sync_group 'alike'\n\tlist group 'I0'\n\tlist group 'I1'\n",
        "config vrrp_sync_group 'mixed'\n\tlist group 'I2'\n\tlist group 'I3'\n",
    ]
    for order in (groups, groups[::-1]):
        [warning] = load_text("".join(order) + text, "f").warnings
        assert warning.section == "mixed"
        assert warning.reason == "the members differ in priority: I2 100, I3 101"


def test_members_that_differ() -> None:
    text = SEED.replace("option priority '101'", "option priority '102'", 1)
    text = text.replace("\toption nopreempt '1'\n", "", 1)
    assert [str(problem) for problem in load_text(text, "f").warnings] == [
        "f:6: section 'G1' (vrrp_sync_group), option 'group', value 'I1': the members differ in nopreempt:"
        " E1 on, I1 off",
        "f:6: section 'G1' (vrrp_sync_group), option 'group', value 'I1': the members differ in priority:"
        " E1 101, I1 102",
    ]


# files


def test_missing_file() -> None:
    assert messages(load_file("/nowhere/tandem")) == [
        "/nowhere/tandem: can't be read: No such file or directory"
    ]


def test_directory(tmp_path: pathlib.Path) -> None:
    assert messages(load_file(str(tmp_path))) == [f"{tmp_path}: can't be read: Is a directory"]


def test_not_text(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tandem"
    path.write_bytes(b"config globals\n\toption router_id 'caf\xe9'\n")
    assert messages(load_file(str(path))) == [f"{path}:2: byte 0xe9 is not UTF-8 text"]


def test_too_large(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tandem"
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert messages(load_file(str(path))) == [f"{path}: larger than 1048576 bytes"]


@pytest.mark.parametrize(
    ("text", "line"), [("\0", 1), ("config globals\0\n", 1), ("config globals\n\0", 2), ("\n\n\0\n\n\0", 3)]
)
def test_nul_byte(text: str, line: int) -> None:
    assert messages(load_text(text, "f")) == [f"f:{line}: NUL byte"]


def test_number_of_errors_is_bounded() -> None:
    found = messages(
        load_text("config vrrp_instance\n" + "\toption prioritty '1'\n" * 5 + "nonsense\n" * 5000, "f")
    )
    assert len(found) <= 1001
    found = messages(load_text("config nonsense\n" * 4000, "f"))
    assert len(found) == 1001
    assert found[-1] == "f: more than 1000 errors: the rest is not shown"


def test_a_message_is_one_bounded_line() -> None:
    problem = Problem("f", 1, "r\x1b[1m" + "r" * 5000, "s\nt", "t", "o" * 5000, "v\tv" + "v" * 5000)
    text = str(problem)
    assert text.isprintable()
    assert len(text) < 1000


# what must never happen


WORDS = (
    "config", "option", "list", "package", "vrrp_instance", "I1", "name", "priority", "globals", "'", '"',
    "\\", "\n", " ", "#", ";", "interface", "virtual_ipaddress", "192.168.1.4/24", "dev", "1", "\t",
    "virtual_routes", "virtual_rules", "table", "from", "track_interface", "weight", "eth0", "%", "é",
    "\u0661", "0x", "-", ".", "/", "fe80::1", "snat", "use_vmac", "route", "vrrp_sync_group", "group",
)  # fmt: skip


@settings(max_examples=300)
@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=80).map(" ".join) | st.lists(
    st.sampled_from(WORDS), max_size=80).map("".join))  # fmt: skip
def test_any_text_is_a_configuration_or_errors(text: str) -> None:
    loaded = load_text(text, "f")
    assert (loaded.config is None) == bool(loaded.errors)
    for problem in (*loaded.errors, *loaded.warnings):
        assert str(problem).isprintable()


@settings(max_examples=300)
@given(st.data())
def test_a_seed_with_damage_never_raises(data: st.DataObject) -> None:
    option = st.sampled_from(["virtual_ipaddress", "virtual_routes", "virtual_rules", "track_interface",
                              "track_script", "unicast_peer", "snat", "use_vmac", "advert_int", "notify",
                              "mcast_src_ip", "mcast_dst_ip", "interface", "name"])  # fmt: skip
    value = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=8).map(" ".join)
    text = SEED
    for name, content in data.draw(st.lists(st.tuples(option, value), max_size=4)):
        text += f"\tlist {name} '{content}'\n"
    loaded = load_text(text, "f")
    assert (loaded.config is None) == bool(loaded.errors)


@settings(max_examples=500)
@given(
    st.integers(0, len(SEED)), st.sampled_from(["", "'", '"', "\\", ";", "#", "\n", " ", "''"]), st.booleans()
)
def test_a_password_is_never_shown(at: int, mark: str, replace: bool) -> None:
    text = SEED[:at] + mark + SEED[at + replace :]
    loaded = load_text(text, "f")
    for problem in (*loaded.errors, *loaded.warnings):
        assert "s3cret" not in str(problem)


def test_leases_without_a_channel_stay_on_one_router() -> None:
    loaded = load_text(GOOD + "\toption dhcp '1'\n", "f")
    reason = "leases are not replicated: there is no channel to another router, see config peer"
    assert [str(problem) for problem in loaded.warnings] == [
        f"f:5: section 'I1' (vrrp_instance), option 'dhcp', value '1': {reason}"
    ]


def test_options_of_dhcp_have_no_effect_without_it() -> None:
    loaded = load_text(GOOD + "\toption dhcp_tag 'lan'\n\tlist dhcp_network '192.168.1.0/24'\n", "f")
    assert loaded.config and not loaded.config.instances[0].dhcp and not loaded.config.instances[0].dhcp_tag
    assert loaded.config.instances[0].dhcp_networks == ()
    assert [(problem.option, problem.reason) for problem in loaded.warnings] == [
        ("dhcp_tag", "has no effect without option dhcp '1'"),
        ("dhcp_network", "has no effect without option dhcp '1'"),
    ]
