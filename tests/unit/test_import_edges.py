# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem import` of ucarp's command lines and settings, and keepalived's options at their edges."""

from __future__ import annotations

import pytest

from tests.unit.importing import Imported, instance

# ucarp


def test_a_line_goes_on_behind_a_backslash_in_the_middle_of_a_word(imported: Imported) -> None:
    imported.run(u_conf="ucarp -i eth0 --vh\\\nid=7 -a 10.0.0.1/24\n")
    assert imported.only.virtual_router_id == 7


def test_messages_have_the_number_of_the_first_line(imported: Imported) -> None:
    imported.run(
        u_conf="ucarp -i eth0 -v 7 -a 10.0.0.1/24\n\nucarp -i eth1 -v 8 -a 10.0.0.2/24 \\\n --deadratio=4\n"
    )
    assert [line for line in imported.said("not imported") if line.startswith("u.conf:3: ")]
    assert len(imported.config.instances) == 2


@pytest.mark.parametrize(
    ("skew", "priority"),
    [("0", 254), ("1", 253), ("253", 1), ("254", 1), ("255", 1), ("256", 100), ("x", 100)],
)
def test_advskew_is_a_priority(imported: Imported, skew: str, priority: int) -> None:
    imported.run(u_conf=f"ucarp -i eth0 -v 7 -k {skew} -a 10.0.0.1/24\n")
    assert imported.only.priority == priority
    assert ("must be 0 to 255" in imported.err) == (priority == 100)


def test_what_ucarp_is_not_told_has_its_defaults(imported: Imported) -> None:
    [found] = imported.run(u_conf="ucarp -i eth0 -a 10.0.0.1\n").config.instances
    assert (found.name, found.virtual_router_id, found.preempt) == ("eth0_1", 1, False)
    assert [address.prefixlen for address in found.virtual_addresses] == [32]
    assert "no vhid is given" in imported.err and "no prefix length is given" in imported.err


def test_the_instances_of_another_file_stay_as_they_are(imported: Imported) -> None:
    imported.run(k_conf=instance(), u_conf="ucarp -i eth1 -v 8 -a 10.0.1.1/24\n")
    assert [(found.name, found.preempt) for found in imported.config.instances] == [
        ("V", True),
        ("eth1_8", False),
    ]
    assert imported.err.count("CARP is not VRRP") == 1


# keepalived

SCRIPTS = """\
vrrp_script a {
    script /a
    weight 3
}
vrrp_script b {
    script /b
    weight 7
}
vrrp_script c {
    script /c
}
"""


@pytest.mark.parametrize(("name", "weight"), [("a", 3), ("b", 7), ("c", 0)])
def test_a_weight_that_is_out_of_bounds_is_that_of_the_script(
    imported: Imported, name: str, weight: int
) -> None:
    imported.run(k_conf=instance(f"track_script {{\n {name} weight 300\n }}", head=SCRIPTS))
    assert [(track.name, track.weight) for track in imported.only.tracks] == [(name, weight)]


def test_a_script_that_is_not_there_has_no_weight(imported: Imported) -> None:
    imported.run(k_conf=instance("track_script {\n x weight 300\n }"))
    assert "value 'x weight 0': there is no track_script or vrrp_script 'x'" in imported.err


@pytest.mark.parametrize(
    ("peers", "least", "refused"),
    [
        (["10.0.0.9"], 1, ""),
        (["10.0.0.9 min_ttl 64"], 64, ""),
        (["10.0.0.9 min_ttl 255"], 255, ""),
        (["10.0.0.9 min_ttl 0"], 1, ""),
        (["10.0.0.9 min_ttl 256"], 1, "min_ttl 256"),
        (["10.0.0.9 min_ttl"], 1, "min_ttl"),
        (["10.0.0.9 min_ttl 64", "10.0.0.8 min_ttl 32"], 32, ""),
        (["10.0.0.9 max_ttl 9 min_ttl 32"], 32, "max_ttl 9"),
    ],
)
def test_the_least_ttl_of_peers(imported: Imported, peers: list[str], least: int, refused: str) -> None:
    imported.run(k_conf=instance("unicast_peer {\n" + "\n".join(peers) + "\n}"))
    assert imported.only.unicast_min_ttl == least
    assert (f"'{refused}' is not supported; the peer is imported" in imported.err) == bool(refused)


def test_long_names_are_cut(imported: Imported) -> None:
    text = instance().replace("vrrp_instance V", f"vrrp_instance {'n' * 61}")
    assert imported.run(k_conf=text).only.name == "n" * 60


@pytest.mark.parametrize(("user", "refused"), [("ann", False), ("bob", True)])
def test_the_user_of_a_command_is_that_of_all_scripts(imported: Imported, user: str, refused: bool) -> None:
    head = "global_defs {\n script_user ann staff\n}\n"
    imported.run(k_conf=instance(f'notify_master "/x y" {user}', head=head))
    assert (f"the user '{user}' is not imported" in imported.err) == refused
    assert imported.only.notify.master == ("/x", "y")


def test_the_user_of_a_command_is_root_otherwise(imported: Imported) -> None:
    imported.run(k_conf=instance('notify_master "/x y" root\n notify_backup "/x z" bob'))
    assert "'root' is not imported" not in imported.err and "'bob' is not imported" in imported.err


def test_only_two_words_of_use_vmac_count(imported: Imported) -> None:
    imported.run(k_conf=instance("use_vmac vrrp.7 02:00:00:00:00:01 other"))
    assert imported.only.use_vmac == "vrrp.7"
    assert "the MAC address 02:00:00:00:00:01 is not supported" in imported.err


def test_a_route_that_is_lost_is_not_imported(imported: Imported) -> None:
    imported.run(
        k_conf=instance("virtual_routes {\n 10.9.0.0/16 via\n 10.8.0.0/16 via 10.0.0.5 dev eth0\n }")
    )
    assert len(imported.only.routes) == 1
    assert any("via" in line for line in imported.said("not imported"))


def test_what_comes_first_settles_the_family(imported: Imported) -> None:
    first = "virtual_router_id 7\n mcast_src_ip fe80::1"
    text = instance().replace("virtual_router_id 7", first).replace("10.0.0.1/24", "fd00::1/64\n 10.0.0.1/24")
    imported.run(k_conf=text)
    assert (imported.only.family, imported.only.mcast_src_ip) == (6, "fe80::1")
    assert [address.address for address in imported.only.virtual_addresses] == ["fd00::1"]
    assert "'10.0.0.1/24': is not IPv6, as what stands before it" in imported.err
