# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem import`: the result for other programs' files, and the messages about the rest."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.config.load import load_text
from tandem.control import cli
from tandem.importer import sources
from tests.unit.importing import Imported, instance

DATA = Path(__file__).parent / "data" / "import"


# The expansion of bash.
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("x{a,b{c,d}}y", "xay xbcy xbdy"), ("{{a,b},c}", "a b c"), ("{a,b}{1,2}", "a1 a2 b1 b2"),
        ("{}", "{}"), ("a{b", "a{b"), ("{,x}.conf", ".conf x.conf"), ("plain", "plain"),
    ],
)  # fmt: skip
def test_braces(pattern: str, expected: str) -> None:
    assert list(sources.braces(pattern)) == expected.split(" ")


def data(name: str) -> str:
    return (DATA / name).read_text()


class TestSeed:
    """The files of the seed's last chapter, as they stand there."""

    def test_keepalived(self, imported: Imported) -> None:
        config = imported.run(k_conf=data("keepalived.conf")).config
        seed = load_text((DATA.parent / "seed.config").read_text(), "seed")
        assert imported.status == 0 and imported.said("not imported") == []
        assert seed.config is not None
        untranslated = tuple(replace(instance, snat=None) for instance in seed.config.instances)
        assert (config.instances, config.groups) == (untranslated, seed.config.groups)

    def test_two_pages(self, imported: Imported) -> None:
        """The end of the page tears the last block apart: what keepalived makes of that, with the lines."""
        config = imported.run(k_conf=data("keepalived_two_pages.conf")).config
        assert [instance.auth_pass for instance in config.instances] == [b"s3cret", None]
        assert imported.status == 0
        assert imported.said("not imported") == [
            "k.conf:37: 'auth_type PASS': no password is given, and so keepalived ignores it as well",
            "k.conf:41: 'auth_pass ***': unknown keyword",
            "k.conf:42: '}' without a block that it could close",
            "k.conf:43: 'nopreempt': unknown keyword",
            "k.conf:44: '}' without a block that it could close",
        ]

    def test_conntrackd(self, imported: Imported) -> None:
        secret = imported.directory / "secret"
        secret.write_text("between the two of us")
        secret.chmod(0o600)
        sync = imported.run(
            "--secret-file", str(secret), k_conf=data("keepalived.conf"), c_conf=data("conntrackd.conf")
        ).config
        assert sync.conntrack_sync is not None and imported.said("not imported") == []
        path = sync.peers[0].paths[0]
        assert (path.address, path.source, path.port) == ("192.168.0.3", "192.168.0.2", 3780)

    def test_openwrt_points_to_it(self, imported: Imported) -> None:
        root = imported.directory / "root"
        (root / "etc/keepalived").mkdir(parents=True)
        (root / "etc/config").mkdir()
        (root / "etc/keepalived/keepalived.conf").write_text(data("keepalived.conf"))
        (root / "etc/config/keepalived").write_text(data("keepalived.uci"))
        config = imported.run("--root", str(root)).config
        assert [instance.name for instance in config.instances] == ["I1", "E1"]


class TestOutput:
    def test_a_file_that_nobody_else_reads(self, imported: Imported) -> None:
        target = imported.directory / "tandem"
        assert imported.run("-o", str(target), k_conf=data("keepalived.conf")).status == 0
        assert imported.out == ""
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert load_text(target.read_text(), "tandem").config is not None
        assert (
            os.listdir(imported.directory) == ["tandem", "k.conf"] or len(os.listdir(imported.directory)) == 2
        )

    def test_not_over_another(self, imported: Imported) -> None:
        target = imported.directory / "tandem"
        target.write_text("mine")
        assert imported.run("-o", str(target), k_conf=data("keepalived.conf")).status == 2
        assert target.read_text() == "mine"
        assert imported.run("--force", "-o", str(target), k_conf=data("keepalived.conf")).status == 0
        assert "vrrp_instance" in target.read_text()

    def test_without_a_router_id_it_can_not_be_used(self, imported: Imported) -> None:
        assert imported.run(k_conf="vrrp_instance V {\n interface eth0\n}\n").status == 1
        assert imported.said("error") == [
            "k.conf:1: section 'V' (vrrp_instance), option 'virtual_router_id': is missing:"
            " a whole number from 1 to 255"
        ]


class TestMessages:
    """Messages about lines without an equivalent: file, number, text, and the reason."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                instance(head="virtual_server 10.0.0.1 80 {\n lb_kind DR\n}\n"),
                "k.conf:1: 'virtual_server 10.0.0.1 80': lb_kind DR: not supported: Tandem balances with NAT",
            ),
            (
                instance("vmac_xmit_bse"),
                "k.conf:7: 'vmac_xmit_bse': unknown keyword; did you mean 'vmac_xmit_b",
            ),
            (
                instance("authentication {\n  auth_type PASS\n  auth_passs s3cret\n }"),
                "k.conf:9: 'auth_passs ***': unknown keyword; did you mean 'auth_pass'?",
            ),
            (instance("vrf red"), "k.conf:7: 'vrf red': not supported"),
            (
                instance("unicast_ttl 3"),
                "k.conf:7: 'unicast_ttl 3': there is no unicast_peer: adverts are",
            ),
            (
                instance("virtual_routes {\n  1.2.3.0/24 via 10.0.0.9 tos 1\n }"),
                "k.conf:8: section 'V' (vrrp_instance), option 'virtual_routes', value '1.2.3.0/24",
            ),
            (
                instance("virtual_ipaddress_excluded {\n  10.0.0.7/24 home\n }"),
                "k.conf:8: '10.0.0.7/24 home': 'home' is not supported; the rest is imported",
            ),
            (
                instance("unicast_peer {\n  10.0.0.3 max_ttl 255\n }"),
                "k.conf:8: '10.0.0.3 max_ttl 255': 'max_ttl 255' is not supported; the peer is imported",
            ),
            (
                instance('notify_master "relative.sh"'),
                "k.conf:7: 'notify_master relative.sh': there is no program 'relative.sh' in PATH here, and",
            ),
            (
                instance('notify_master_rx_lower_pri "/bin/x" nobody'),
                "k.conf:7: 'notify_master_rx_lower_pri /bin/x nobody': the user 'nobody' is not",
            ),
            (
                instance('notify_backup "/bin/x" nobody'),
                "k.conf:7: 'notify_backup /bin/x nobody': the user 'nobody' is not imported: Tandem has one",
            ),
            (
                instance("track_script {\n  gone\n }"),
                "k.conf:8: section 'V' (vrrp_instance), option 'track_script'",
            ),
            (
                instance("include /nowhere/x.conf"),
                "k.conf:7: include /nowhere/x.conf: No such file or directory",
            ),
            (instance('router_id "open'), 'k.conf:7: the quote " that begins on this line is never closed'),
            (instance("$A=x ${A}\n$A"), "k.conf:8: a definition contains itself"),
            (instance("~SEQ(X)"), "k.conf:7: ~SEQ takes a name and one to three numbers"),
        ],
    )
    def test_left_out(self, imported: Imported, text: str, expected: str) -> None:
        assert imported.run(k_conf=text).status == 0
        assert any(line.startswith(expected) for line in imported.said("not imported")), imported.err
        assert expected[:60] in imported.out, "and as a comment in the result"
        assert "s3cret" not in imported.err and "passs s3cret" not in imported.out

    def test_an_open_block(self, imported: Imported) -> None:
        imported.run(k_conf=instance().removesuffix("}\n"))
        assert imported.said("not imported") == [
            "k.conf:1: the block 'vrrp_instance' that begins here is never closed"
        ]

    def test_in_what_is_included(self, imported: Imported) -> None:
        (imported.directory / "part.inc").write_text("\n\nno_such_thing\n")
        imported.run(k_conf=instance("include part.inc"))
        assert imported.said("not imported") == ["part.inc:3: 'no_such_thing': unknown keyword"]

    def test_includes_with_braces(self, imported: Imported) -> None:
        """In the order of the braces, each of them sorted; what is not there is passed over."""
        for name in ("b1", "b2", "a1"):
            (imported.directory / f"{name}.inc").write_text(f"no_such_{name}\n")
        imported.run(k_conf=instance("include {b[12],{x,a1}}.inc\n"))
        told = {line.partition(":")[0] for line in imported.said("not imported")}
        assert told == {"b1.inc", "b2.inc", "a1.inc"}
        found = sources.Includes("")("{b[12],{x,a1}}.inc", str(imported.directory / "k.conf"))
        assert [Path(name).name for name, _ in found] == ["b1.inc", "b2.inc", "a1.inc"]
        imported.run(k_conf=instance("include " + "{" * 33 + "a" + "}" * 33))
        assert "more than 32 braces" in imported.err
        imported.run(k_conf=instance("include {a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"))
        assert "more than 256 files" in imported.err

    def test_include_of_itself(self, imported: Imported) -> None:
        imported.run(k_conf="include k.conf\n" + instance())
        assert "more than 32 files include each other" in imported.err

    def test_nothing_at_all(self, imported: Imported) -> None:
        assert imported.run(k_conf="just words\n").status == 1
        assert "there is nothing in it that could be imported" in imported.err

    def test_a_file_that_is_not_there(self, imported: Imported) -> None:
        assert cli.main(["import", str(imported.directory / "none")]) == 2

    @pytest.mark.parametrize("arguments", [("--peer", "x y"), ("--secret-file", "/no/such/secret")])
    def test_usage(self, imported: Imported, arguments: tuple[str, ...]) -> None:
        assert imported.run(*arguments, k_conf=instance()).status == 2
        assert imported.out == ""


class TestConntrackd:
    FTFW = """
Sync {
    Mode FTFW { }
    Multicast {
        IPv4_address 225.0.0.50
        Group 3781
        IPv4_interface 192.168.100.100
        Interface eth2
        Checksum on
    }
}
General {
    HashLimit 131072
    Filter From Userspace {
        Protocol Accept {
            TCP SCTP
            UDP
        }
        Address Ignore {
            IPv4_address 127.0.0.1 # loopback
            IPv4_address 10.0.0.1
            IPv4_address 192.168.100.100 # dedicated link
            IPv4_address 10.9.0.0/16
        }
        State Accept { ESTABLISHED CLOSE } for TCP
    }
}
"""

    def test_the_peer_of_a_multicast_group_is_asked_for(self, imported: Imported) -> None:
        assert imported.run(k_conf=instance(), c_conf=self.FTFW).status == 0
        assert imported.said("not imported") == [
            "c.conf:4: 'Multicast': a multicast group does not tell which router the peer is:"
            " give its address with --peer"
        ]
        assert imported.config.conntrack_sync is None

    def test_all_of_it(self, imported: Imported) -> None:
        secret = imported.directory / "secret"
        secret.write_text("between the two of us")
        secret.chmod(0o600)
        arguments = ("--peer", "192.168.100.2", "--secret-file", str(secret))
        config = imported.run(*arguments, k_conf=instance(), c_conf=self.FTFW).config
        sync, path = config.conntrack_sync, config.peers[0].paths[0]
        assert sync is not None and imported.said("not imported") == []
        assert (path.address, path.source, path.interface) == ("192.168.100.2", "192.168.100.100", "eth2")
        assert (sync.port, sync.limit_entries) == (3781, 131072)
        assert sync.protocols == (6, 132, 17) and sync.ignore_networks == ("10.9.0.0/16",)
        assert len(sync.tcp_states) == 2

    def test_without_a_secret_it_comes_out_switched_off(self, imported: Imported) -> None:
        text = data("conntrackd.conf")
        assert imported.run(k_conf=instance(), c_conf=text).status == 0
        assert "option enabled '0'" in imported.out
        assert "the peer is switched off" in imported.err

    def test_several_links_are_paths_to_one_peer(self, imported: Imported) -> None:
        link = "UDP {} {{ IPv4_address 10.0.{}.2 IPv4_Destination_Address 10.0.{}.3 Interface eth{} }}\n"
        text = "Sync {\n Mode NOTRACK {\n DisableExternalCache on\n }\n%s}\n"
        links = link.format("", 1, 1, 1) + link.format("Default", 2, 2, 2)
        imported.run(k_conf=instance(), c_conf=text % links)
        assert "list address '10.0.2.3 dev eth2 src 10.0.2.2'\n\tlist address '10.0.1.3 dev" in imported.out


class TestOthers:
    def test_openwrt(self, imported: Imported) -> None:
        text = (DATA.parent / "keepalived_example.config").read_text()
        assert imported.run(k_uci=text).status == 0
        assert [instance.name for instance in imported.config.instances] == ["VI_1"]
        assert "k.uci:" in imported.said("not imported")[0]

    def test_hotplug_scripts_are_to_be_moved(self, imported: Imported) -> None:
        root = imported.directory / "root"
        for path in ("etc/config", "etc/hotplug.d/keepalived"):
            (root / path).mkdir(parents=True)
        (root / "etc/config/keepalived").write_text((DATA.parent / "keepalived_example.config").read_text())
        imported.run("--root", str(root))
        assert "etc/hotplug.d/keepalived belong into /etc/hotplug.d/tandem" in imported.err

    def test_openwrt_sections_without_a_name_are_ignored(self, imported: Imported) -> None:
        imported.run(k_uci="config vrrp_instance 'lan'\n\toption interface 'eth0'\n")
        assert "has no option name" in imported.err and imported.status == 1

    def test_ucarp(self, imported: Imported) -> None:
        command = (
            "/usr/sbin/ucarp -i eth0 -s 10.0.0.2 --vhid=7 -p love -a 10.0.0.1 \\\n  -u /up.sh -k10 -P &\n"
        )
        [found] = imported.run(u_conf=command).config.instances
        assert (found.interface, found.virtual_router_id, found.priority) == ("eth0", 7, 244)
        assert found.preempt and found.mcast_src_ip == "10.0.0.2" and found.auth_pass is None
        assert "love" not in imported.err + imported.out

    def test_the_gateway_that_dnsmasq_gives_out(self, imported: Imported) -> None:
        """The seed's lines for /etc/config/dhcp."""
        dhcp = "config dhcp 'lan'\n  option force '1'\n  list dhcp_option '3,%s'\n  list dhcp_option '6,%s'\n"
        config = imported.run(k_conf=data("keepalived.conf"), d_uci=dhcp % (("192.168.1.4",) * 2)).config
        assert [instance.dhcp for instance in config.instances] == [True, False]
        assert imported.status == 0

    def test_a_process_becomes_a_script(self, imported: Imported) -> None:
        process = "vrrp_track_process web {\n process /usr/sbin/nginx\n weight 10\n delay 1\n}\n"
        config = imported.run(k_conf=instance("track_process {\n  web\n }", head=process)).config
        assert config.scripts[0].argv == ("/bin/pidof", "nginx")
        assert [(track.name, track.weight) for track in config.instances[0].tracks] == [("web", 10)]


def test_scripts_keep_their_words(imported: Imported) -> None:
    script = r"""vrrp_script s {
 script "/bin/x 'one two' three\\ four \x41"
 interval 0
}
"""
    config = imported.run(k_conf=instance("track_script {\n  s\n }", head=script)).config
    assert config.scripts[0].argv == ("/bin/x", "one two", "three four", "A")
    assert config.scripts[0].interval_ms == 1000


FLOATING = {"eth1": 5, "own": -20, "other": 9}


@pytest.mark.parametrize(
    ("keyword", "weights"),
    [("", {"eth1": 0}), ("global_tracking", FLOATING), ("sync_group_tracking_weight", FLOATING)],
)
def test_weights_in_a_sync_group(imported: Imported, keyword: str, weights: dict[str, int]) -> None:
    """keepalived counts those of members only with one of two keywords.

    Without, an interface that is down is a fault, and a script with a weight counts for nothing.
    """
    head = f"""vrrp_sync_group G {{ group {{ V }}
{keyword}
}}
vrrp_script own {{
 script /bin/true
 weight -20
}}
vrrp_script other {{
 script /bin/true
}}
"""
    tracks = "track_interface {\n  eth1 weight 5\n }\n track_script {\n  own\n  other weight 9 reverse\n }"
    [instance_found] = imported.run(k_conf=instance(tracks, head=head)).config.instances
    assert {track.name: track.weight for track in instance_found.tracks} == weights
    assert [track.name for track in instance_found.tracks if track.reverse] == (["other"] if keyword else [])
    assert ("ignores the weight in a sync group" in imported.err) is (not keyword)


def test_weights_of_openwrts_sections_in_a_sync_group(imported: Imported) -> None:
    text = """
config vrrp_sync_group
	option name 'G'
	list group 'V'
config track_interface
	option name 'port'
	option value 'eth1'
	option weight '5'
config vrrp_instance
	option name 'V'
	option interface 'eth0'
	option virtual_router_id '7'
	list virtual_ipaddress '10.0.0.1/24'
	list track_interface 'port'
"""
    [found] = imported.run(k_uci=text).config.instances
    assert [(track.name, track.weight) for track in found.tracks] == [("eth1", 0)]


def test_a_sync_group_tracks_each_thing_once(imported: Imported) -> None:
    group = "vrrp_sync_group G {\n group { V }\n track_interface {\n  eth1\n }\n}\n"
    imported.run(k_conf=instance("track_interface {\n  eth1 weight 5\n }", head=group))
    assert imported.said("not imported") == [
        "k.conf:14: 'eth1 weight 5': counts once in a sync group, as 'eth1 weight 0'"
    ]
