# SPDX-License-Identifier: GPL-2.0-or-later
"""An imported configuration does what the original did. Where it can't, the command says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tandem.core.settings import Nexthop
from tests.unit.importing import Imported, instance

DEFAULT_ROUTE = "virtual_routes {\n  default via 10.0.0.254 dev eth0\n }"


class TestTranslation:
    """keepalived never translates addresses."""

    def test_snat_is_not_switched_on(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(DEFAULT_ROUTE)).status == 0
        assert imported.only.snat is None and "option snat '0'" in imported.out
        [note] = imported.said("note")
        assert note.startswith("k.conf:1: 'vrrp_instance V'") and "snat 1" in note

    def test_nothing_is_said_where_there_is_nothing_to_translate(self, imported: Imported) -> None:
        imported.run(k_conf=instance())
        assert "snat" not in imported.out and imported.said("note") == []

    def test_openwrts_routes(self, imported: Imported) -> None:
        text = """
config route
	option name 'up'
	option address 'default'
	option gateway '10.0.0.254'
config vrrp_instance
	option name 'V'
	option interface 'eth0'
	option virtual_router_id '7'
	list virtual_ipaddress '10.0.0.1/24'
	list virtual_routes 'up'
"""
        assert imported.run(k_uci=text).only.snat is None


CHECK = """vrrp_script check {
 script "%s"
}
"""
TRACKED = "track_script {\n  check\n }"


class TestPrograms:
    """A program by its name, which keepalived looks for in PATH."""

    def test_it_is_found(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(TRACKED, head=CHECK % "test -e /run/x")).status == 0
        [script] = imported.config.scripts
        assert Path(script.argv[0]).is_absolute() and script.argv[1:] == ("-e", "/run/x")
        assert [(track.name, track.weight) for track in imported.only.tracks] == [("check", 0)]

    def test_on_the_router_that_is_imported(self, imported: Imported) -> None:
        root = imported.directory / "root"
        (root / "usr/sbin").mkdir(parents=True)
        (root / "usr/sbin/chk").write_text("#!/bin/sh\n")
        text = instance(TRACKED, head=CHECK % "chk -0 haproxy")
        assert imported.run("--root", str(root), k_conf=text).status == 1, "it is not executable"
        (root / "usr/sbin/chk").chmod(0o755)
        assert imported.run("--root", str(root), k_conf=text).status == 0
        assert imported.config.scripts[0].argv == ("/usr/sbin/chk", "-0", "haproxy")

    def test_a_check_that_is_lost_decides_the_status(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(TRACKED, head=CHECK % "no-such-program -x")).status == 1
        assert imported.said("error")[0].startswith(
            "k.conf:2: 'script no-such-program -x': there is no program 'no-such-program' in PATH here"
        )

    def test_openwrts_script(self, imported: Imported) -> None:
        text = "config vrrp_script\n option name 'c'\n option script 'test -e /run/x'\n"
        imported.run(k_uci=text + UCI_INSTANCE)
        assert imported.config.scripts[0].argv[0].endswith("/test")

    def test_a_file_that_can_be_opened(self, imported: Imported) -> None:
        imported.run(k_conf=instance(TRACKED, head=CHECK % "</run/x"))
        assert imported.config.scripts[0].argv == ("/bin/sh", "-c", "</run/x")


UCI_INSTANCE = """
config vrrp_instance
	option name 'V'
	option interface 'eth0'
	option virtual_router_id '7'
	list virtual_ipaddress '10.0.0.1/24'
"""
CONNTRACKD = "Sync {\n Mode FTFW {\n }\n UDP {\n  IPv4_Destination_Address 10.0.0.3\n }\n}\n"
PRIMARY = 'notify_master "/etc/conntrackd/primary-backup.sh primary"\n notify "/bin/mine"'


class TestConntrackdsScript:
    def test_it_is_left_out_beside_its_configuration(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(PRIMARY), c_conf=CONNTRACKD).status == 0
        assert imported.only.notify.master == () and imported.only.notify.any == ("/bin/mine",)
        [left_out] = imported.said("not imported")
        assert left_out.startswith("k.conf:7: ") and "conntrack_sync follows the role" in left_out

    def test_without_it_stays(self, imported: Imported) -> None:
        imported.run(k_conf=instance(PRIMARY))
        assert imported.only.notify.master == ("/etc/conntrackd/primary-backup.sh", "primary")


def filtered(text: str) -> str:
    """A conntrackd.conf with a filter."""
    return f"{CONNTRACKD}General {{\n Filter From Kernelspace {{\n  {text}\n }}\n}}\n"


class TestConntrackdsFilter:
    @pytest.mark.parametrize(
        ("text", "states"),
        [
            ("State Accept {\n ESTABLISHED CLOSED TIME_WAIT for TCP\n }", "ESTABLISHED CLOSE TIME_WAIT"),
            ("State Accept {\n ESTABLISHED\n CLOSED\n }", "ESTABLISHED CLOSE"),
            ("State Accept { ESTABLISHED LISTEN } for TCP", "ESTABLISHED"),
            (
                "State Ignore {\n SYN_SENT SYN_RECV SYN_SENT2 CLOSED for TCP\n }",
                "ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT",
            ),
        ],
    )
    def test_states(self, imported: Imported, text: str, states: str) -> None:
        assert imported.run(c_conf=filtered(text)).status == 0
        found = [line.split("'")[1] for line in imported.out.splitlines() if "list tcp_state" in line]
        assert found == states.split() and imported.said("not imported") == []

    def test_states_of_another_protocol(self, imported: Imported) -> None:
        imported.run(c_conf=filtered("State Accept {\n ESTABLISHED for SCTP\n }"))
        assert "tcp_state" not in imported.out.replace("'State", "")
        assert "SCTP has no states here" in imported.said("not imported")[0]


class TestStatus:
    """0 says that the result can be used."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                instance("authentication {\n auth_type AH\n auth_pass secret\n }"),
                "k.conf:8: 'auth_type AH': not",
            ),
            (
                instance().replace("10.0.0.1/24", "nonsense"),
                "k.conf:1: V has no virtual address in the result",
            ),
            (instance().replace("10.0.0.1/24", ""), "k.conf:1: V has no virtual address in the result"),
            ("vrrp_script a {\n script /bin/true\n}\n", "tandem: there is no vrrp_instance in the result"),
            ("global_defs {\n router_id x\n}\n", "tandem: there is no vrrp_instance in the result"),
        ],
    )
    def test_what_is_needed_is_not_left(self, imported: Imported, text: str, expected: str) -> None:
        assert imported.run(k_conf=text).status == 1
        assert any(line.startswith(expected) for line in imported.said("error")), imported.err
        assert "secret" not in imported.err + imported.out

    def test_without_authentication_in_version_3(self, imported: Imported) -> None:
        ah = "version 3\n authentication {\n auth_type AH\n auth_pass secret\n }"
        assert imported.run(k_conf=instance(ah)).status == 0, "keepalived ignores it as well"

    def test_addresses_that_are_not_advertised(self, imported: Imported) -> None:
        text = instance().replace("virtual_ipaddress", "virtual_ipaddress_excluded")
        assert imported.run(k_conf=text).status == 0

    def test_conntrackd_alone(self, imported: Imported) -> None:
        assert imported.run(c_conf=CONNTRACKD).status == 0


class TestValues:
    """Values that keepalived cuts, rounds or ignores."""

    @pytest.mark.parametrize(
        ("lines", "field", "expected"),
        [
            ("accept\n no_accept", "accept", False),
            ("no_accept\n accept", "accept", True),
            ("no_accept off", "accept", False),
            ("nopreempt off", "preempt", False),
            ("nopreempt\n preempt", "preempt", True),
            ("priority 256", "priority", 100),
            ("preempt_delay 2000", "preempt_delay_ms", 0),
            ("preempt_delay 1.5", "preempt_delay_ms", 1500),
            ("version 3\n version 2", "version", 3),
            ("down_timer_adverts 5", "down_timer_adverts", 5),
            ("down_timer_adverts 101", "down_timer_adverts", 3),
            ("unicast_peer {\n 10.0.0.3\n }", "check_unicast_src", False),
            ("unicast_peer {\n 10.0.0.3\n }\n check_unicast_src", "check_unicast_src", True),
            ("unicast_peer {\n fe80::3\n 10.0.0.3\n }", "unicast_peers", ("10.0.0.3",)),
            ("unicast_peer {\n 10.0.0.3\n }\n mcast_src_ip 10.0.0.2", "unicast_src_ip", "10.0.0.2"),
            ("unicast_src_ip 10.0.0.2", "mcast_src_ip", "10.0.0.2"),
            ("authentication {\n auth_type pass\n auth_pass x\n }", "auth_pass", None),
            ("authentication {\n advert_int x\n }", "auth_pass", None),
        ],
    )
    def test_of_an_instance(self, imported: Imported, lines: str, field: str, expected: Any) -> None:
        assert imported.run(k_conf=instance(lines)).status == 0
        assert getattr(imported.only, field) == expected

    def test_the_first_notify_script_counts(self, imported: Imported) -> None:
        imported.run(k_conf=instance('notify "/bin/a"\n notify "/bin/b"'))
        assert imported.only.notify.any == ("/bin/a",)
        assert "the one of line 7 counts" in imported.said("not imported")[0]

    def test_bounds_of_weights(self, imported: Imported) -> None:
        head = CHECK.replace("%s", "/bin/true").replace("}", " weight -254\n}")
        tracks = "track_interface {\n  eth1 weight -254\n  eth2 weight -300\n  eth3 reverse\n }"
        imported.run(k_conf=instance(f"{tracks}\n {TRACKED}", head=head))
        weights = {track.name: track.weight for track in imported.only.tracks}
        assert weights == {"eth1": -253, "eth2": 0, "check": -253}

    def test_bounds_of_weights_in_openwrts_sections(self, imported: Imported) -> None:
        text = "config track_interface\n option name 'p'\n option value 'eth1'\n option weight '-254'\n"
        imported.run(k_uci=text + UCI_INSTANCE + "\tlist track_interface 'p'\n")
        assert [track.weight for track in imported.only.tracks] == [-253]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("10.0.0.1/24 10.0.0.2/24", ["10.0.0.1"]),
            ("10.0.0.1/24 home nonsense", ["10.0.0.1"]),
            ("10.0.0.1/24 scope nonsense", ["10.0.0.1"]),
            ("nonsense", []),
            ("10.0.0.1/24 dev", []),
        ],
    )
    def test_addresses(self, imported: Imported, line: str, expected: list[str]) -> None:
        imported.run(
            k_conf=instance(f"virtual_ipaddress_excluded {{\n {line}\n }}").replace(
                "10.0.0.1/24", "10.0.0.9/24", 1
            )
        )
        assert [address.address for address in imported.only.excluded_addresses] == expected
        assert imported.err, "something is said of it"

    def test_names(self, imported: Imported) -> None:
        group = 'vrrp_sync_group "my group" {\n group {\n "A 1"\n NOSUCH\n }\n}\n'
        text = (
            group
            + instance().replace(" V ", ' "A 1" ')
            + instance().replace(" V ", " A_1 ").replace("7", "8").replace("10.0.0.1", "10.0.1.1")
        )
        assert imported.run(k_conf=text.replace("} vrrp", "}\nvrrp")).status == 0
        assert [found.name for found in imported.config.instances] == ["A_1", "A_1_2"]
        assert (imported.config.groups[0].name, imported.config.groups[0].members) == ("my_group", ("A_1",))


class TestRoutes:
    @pytest.mark.parametrize(
        "line",
        [
            "default via 10.0.0.254 features ecn", "default via 10.0.0.254 realms 5",
            "default via inet 10.0.0.254 rtt lock 30ms", "default gw 10.0.0.254 initcwnd 20 quickack 1",
            "default via 10.0.0.254 protocol 20", "add default via 10.0.0.254 no_track",
        ],
    )  # fmt: skip
    def test_an_option_that_is_lacking_does_not_cost_the_route(self, imported: Imported, line: str) -> None:
        assert imported.run(k_conf=instance(f"virtual_routes {{\n {line}\n }}")).status == 0
        [route] = imported.only.routes
        assert (route.destination, route.via) == ("0.0.0.0/0", "10.0.0.254")

    def test_locked_values_stay(self, imported: Imported) -> None:
        imported.run(k_conf=instance("virtual_routes {\n default via 10.0.0.254 mtu lock 1400\n }"))
        assert imported.only.routes[0].mtu == 1400
        assert "'mtu lock' is not supported" in imported.said("not imported")[0]

    def test_two_ways(self, imported: Imported) -> None:
        imported.run(k_conf=instance("virtual_routes {\n default via 10.0.0.254 or 10.0.0.253\n }"))
        assert imported.only.routes[0].nexthops == (Nexthop(via="10.0.0.254"), Nexthop(via="10.0.0.253"))

    @pytest.mark.parametrize(
        "line", ["default via 10.0.0.254 encap mpls 5", "default via 10.0.0.254 vrf red"]
    )
    def test_what_leads_elsewhere_without_an_option(self, imported: Imported, line: str) -> None:
        imported.run(k_conf=instance(f"virtual_routes {{\n {line}\n }}"))
        assert imported.only.routes == () and len(imported.said("not imported")) == 1

    def test_tables_with_names(self, imported: Imported) -> None:
        root = imported.directory / "root"
        (root / "etc/iproute2").mkdir(parents=True)
        (root / "etc/iproute2/rt_tables").write_text("254 main\n100\tisp # the second one\n")
        text = instance("virtual_routes {\n default via 10.0.0.254 table isp\n }")
        assert imported.run("--root", str(root), k_conf=text).only.routes[0].table == 100

    def test_a_rule_keeps_all_its_conditions_or_goes(self, imported: Imported) -> None:
        rules = "from 10.0.0.0/8 realms 5 table 100\n from 10.0.0.0/8 ipproto tcp table 100"
        imported.run(k_conf=instance(f"virtual_rules {{\n {rules}\n }}"))
        assert [rule.table for rule in imported.only.rules] == [100]


def test_ipv6_begins_with_a_link_local_address(imported: Imported) -> None:
    imported.run(k_conf=instance().replace("10.0.0.1/24", "2001:db8::1/64"))
    assert "should be a link-local address" in imported.err
