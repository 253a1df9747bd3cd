# SPDX-License-Identifier: GPL-2.0-or-later
"""One line for both routers: the questions, OpenWrt's own configuration, and the way back."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Follow
from tandem.control import cli
from tandem.setup import line
from tandem.setup.dialogue import Dialogue, ask_for_line

NETWORK = """\
config interface 'lan'
	option device 'br-lan'
	option proto 'static'
	option ipaddr '192.168.1.2'
	option netmask '255.255.255.0'

# the cable of the provider
config interface 'wan'
	option device 'eth1'	# a port
	option proto 'dhcp'

config interface 'wan6'
	option device 'eth1'
	option proto 'dhcpv6'

config interface 'guest'
	option device 'br-guest'
	option proto 'static'
"""
HOLDER = "\nconfig interface 'wan_line'\n\toption device 'eth1'\n\toption proto 'none'\n"
FIREWALL = """\
config zone
	option name 'lan'
	list network 'lan'

config zone
	option name 'wan'
	list network 'wan'
	list network 'wan6'
"""
WAN = Follow("wan", "eth1", "wan0", "02:00:00:00:00:01")


def test_the_networks_of_the_line_move_to_the_device_and_back() -> None:
    there = line.network(NETWORK, [WAN], back=False, hostname="gateway")
    wan, wan6 = "config interface 'wan'\n", "config interface 'wan6'\n"
    client, client6 = "\toption clientid '01020000000001'\n", "\toption clientid '00030001020000000001'\n"
    expected = NETWORK.replace("device 'eth1'	# a port", "device 'wan0'")
    expected = expected.replace(wan, f"{wan}{client}\toption hostname 'gateway'\n")
    expected = expected.replace(f"{wan6}\toption device 'eth1'", f"{wan6}{client6}\toption device 'wan0'")
    assert there == expected + HOLDER
    assert line.network(there, [WAN], back=False, hostname="other") == there
    again = line.network(there, [WAN], back=True).replace("\toption hostname 'gateway'\n", "")
    assert again == NETWORK.replace("	# a port", "")
    assert line.network(again, [WAN], back=True) == again


def test_a_network_with_the_option_of_old_releases_moves_as_well() -> None:
    old = NETWORK.replace("device 'eth1'	# a port", "ifname 'eth1'")
    there = line.network(old, [WAN], back=False)
    wan = there.partition("config interface 'wan'\n")[2].partition("\n\n")[0]
    assert wan.splitlines() == [
        "\toption clientid '01020000000001'", "\toption device 'wan0'", "\toption proto 'dhcp'"
    ]  # fmt: skip


def test_an_alias_of_the_network_gets_the_identity_alone() -> None:
    alias = NETWORK.replace("'wan6'\n\toption device 'eth1'", "'wan6'\n\toption device '@wan'")
    there = line.network(alias, [WAN], back=False)
    assert "\toption clientid '00030001020000000001'\n\toption device '@wan'\n" in there
    assert line.network(there, [WAN], back=True) == alias.replace("	# a port", "")


PPPOE = NETWORK.replace("'dhcp'\n", "'pppoe'\n")


def test_with_pppoe_the_zone_names_the_device_of_pppd() -> None:
    assert line.zone_devices(NETWORK, [WAN]) == {"wan": "wan0"}
    assert line.zone_devices(PPPOE, [WAN]) == {"wan": "pppoe-wan"}
    named = PPPOE.replace("'pppoe'\n", "'pppoe'\n\toption pppname 'dsl'\n")
    assert line.zone_devices(named, [WAN]) == {"wan": "dsl"}


def test_with_pppoe_a_network_moves_without_a_name_for_a_dhcp_server() -> None:
    there = line.network(PPPOE, [WAN], back=False, hostname="gateway")
    assert "hostname" not in there and "\toption device 'wan0'\n\toption proto 'pppoe'\n" in there
    assert line.network(there, [WAN], back=True) == PPPOE.replace("	# a port", "")
    alias = PPPOE.replace("'wan6'\n\toption device 'eth1'", "'wan6'\n\toption device '@wan'")
    assert line.also_on(alias, "wan", "eth1") == (), "it comes and goes with the device of pppd"


@pytest.mark.parametrize("device", ["eth1", "@wan"])
def test_networks_with_dhcpv6_on_the_line(device: str) -> None:
    text = NETWORK.replace("'wan6'\n\toption device 'eth1'", f"'wan6'\n\toption device '{device}'")
    assert line.also_on(text, "wan", "eth1") == ("wan6",)
    assert line.also_on(text.replace("dhcpv6", "6rd"), "wan", "eth1") == ()
    assert line.also_on(text, "guest", "br-guest") == ()


def test_another_network_may_hold_the_port() -> None:
    modem = NETWORK + "config interface 'modem'\n\toption device 'eth1'\n\toption proto 'static'\n"
    there = line.network(modem, [WAN], back=False)
    assert "wan_line" not in there and there.endswith("'eth1'\n\toption proto 'static'\n")
    assert line.network(there, [WAN], back=True) == modem.replace("	# a port", "")


def test_the_zone_names_the_device_and_forgets_it() -> None:
    devices = {"wan": "wan0"}
    there = line.firewall(FIREWALL, devices, back=False)
    lan, zone, wan = FIREWALL.rpartition("config zone\n")
    assert there == f"{lan}{zone}\tlist device 'wan0'\n{wan}"
    assert line.firewall(there, devices, back=False) == there
    assert line.firewall(there, devices, back=True) == FIREWALL


def test_networks_of_netifd_alone_are_left_as_they_are() -> None:
    assert line.network(NETWORK, [Follow("wan")], back=False) == NETWORK
    assert line.zone_devices(NETWORK, [Follow("wan")]) == {}


def test_a_file_without_blank_lines_keeps_its_lines() -> None:
    close = NETWORK.replace("\n\n", "\n") + HOLDER.lstrip("\n")
    released = line.network(close.replace("'eth1'\t# a port", "'wan0'"), [WAN], back=True)
    assert released == NETWORK.replace("\n\n", "\n").replace("\t# a port", "")


def test_sections_behind_the_holder_stay() -> None:
    there = line.network(NETWORK, [WAN], back=False)
    more = "\nconfig interface 'modem'\n\toption device 'eth9'\n\toption proto 'static'\n"
    more += "\nconfig interface 'vpn'\n\toption proto 'wireguard'\n"
    assert line.network(there + more, [WAN], back=True) == NETWORK.replace("\t# a port", "") + more


def test_a_last_line_without_its_end_is_not_joined_with_the_next() -> None:
    bare = "config interface 'lan'\n\toption device 'br-lan'\nconfig interface 'wan'"
    lines = line.network(bare, [WAN], back=False).splitlines()
    assert lines[2] == "config interface 'wan'" and "\toption device 'wan0'" in lines


def test_a_last_line_without_its_end_where_another_network_holds_the_port() -> None:
    bare = "config interface 'modem'\n\toption device 'eth1'\nconfig interface 'wan'"
    assert line.network(bare, [WAN], back=False) == f"{bare}\n\toption device 'wan0'\n"


def test_networks_on_other_ports_are_left_as_they_are() -> None:
    second = "\nconfig interface 'lte'\n\toption device 'wwan0'\n\toption proto 'dhcp'\n"
    there = line.network(NETWORK + second, [WAN], back=False)
    assert there.endswith(second + HOLDER)
    assert line.network(there, [WAN], back=True).endswith(second)


def test_the_section_behind_the_holder_may_follow_it_at_once() -> None:
    holder, more = HOLDER.lstrip("\n"), "config interface 'vpn'\n\toption proto 'wireguard'\n"
    text = f"{NETWORK}{holder}{more}".replace("device 'eth1'\t# a port", "device 'wan0'")
    assert line.network(text, [WAN], back=True) == NETWORK.replace("\t# a port", "") + more


@pytest.mark.parametrize(
    ("change", "port"),
    [
        (("", ""), "eth1"),
        (("'dhcp'\n", "'pppoe'\n"), "eth1"),
        (("'dhcp'\n", "'qmi'\n"), None),
        (("'eth1'", "'@lan'"), None),
        (("'wan'", "'x'"), None),
    ],
)
def test_the_port_of_a_line(change: tuple[str, str], port: str | None) -> None:
    assert line.port_of(NETWORK.replace(*change), "wan") == port


@pytest.mark.parametrize(("answer", "shared"), [("", False), ("1", False), ("2", True), ("3\n2", True)])
@pytest.mark.parametrize(
    ("proto", "plan"), [("dhcp", "one address (DHCP)"), ("pppoe", "its account (PPPoE)")]
)
def test_the_question(answer: str, shared: bool, proto: str, plan: str) -> None:
    screen = io.StringIO()
    assert ask_for_line(Dialogue(io.StringIO(answer + "\n"), screen), "wan", proto) is shared
    said = screen.getvalue()
    assert plan in said
    assert (
        said.index("provider of wan?")
        < said.index("\n  1  each router has")
        < said.index("\n  2  both share")
    )


class Machine:
    """A router's files."""

    def __init__(self, directory: Path, number: int) -> None:
        self.at = directory / str(number)
        self.at.mkdir()
        (self.at / "network").write_text(
            NETWORK.replace("1.2", f"1.{number + 1}").replace("eth1", f"eth{number}")
        )
        (self.at / "firewall").write_text(FIREWALL)
        self.files = [f"--config={self.at}/tandem", f"--network-config={self.at}/network"]
        self.files.append(f"--firewall-config={self.at}/firewall")
        self.more = [f"--dhcp-config={self.at}/dhcp", f"--secret-file={self.at}/secret"]

    def read(self, name: str) -> str:
        return (self.at / name).read_text()


def test_init_on_both_routers_and_the_way_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Machine(tmp_path, 1), Machine(tmp_path, 2)
    argv = ["init", *first.files, *first.more, "--network=lan=192.168.1.4", "--peer=192.168.1.3"]
    assert cli.main([*argv, "--one-line=wan", "--force"]) == 0
    said = capsys.readouterr().out
    assert "The way back: tandem follow release" in said
    word = next(part for part in said.split() if len(part) > 100)
    monkeypatch.setattr("sys.stdin", io.StringIO(word + "\n"))
    assert cli.main(["init", "--join", *second.files, *second.more]) == 0
    configs = [load_text(machine.read("tandem"), "f").config for machine in (first, second)]
    assert configs[0] is not None and configs[1] is not None
    one, other = configs[0].follows[0], configs[1].follows[0]
    assert configs[0].follows[1:] == configs[1].follows[1:] == (Follow("wan6", "@wan"),)
    assert (one.name, one.interface, one.device) == ("wan", "eth1", "wan0")
    assert (other.interface, other.mac) == ("eth2", one.mac) and one.mac.startswith("02:")
    assert [config.groups[0].follow for config in configs if config] == [("wan", "wan6")] * 2
    names = [
        section.split("'")[1]
        for machine in (first, second)
        for section in machine.read("network").splitlines()
        if "hostname" in section
    ]
    assert len(names) == 2 and names[0] == names[1]
    for machine in (first, second):
        assert "option device 'wan0'" in machine.read("network")
        assert "list device 'wan0'" in machine.read("firewall")
        assert stat.S_IMODE((machine.at / "network").stat().st_mode) == 0o644
        assert cli.main(["follow", "release", *machine.files]) == 0
        assert "wan0" not in machine.read("network") and "wan0" not in machine.read("firewall")
        assert cli.main(["follow", "apply", *machine.files]) == 0
        assert "wan0" in machine.read("network")


def test_a_line_that_nobody_can_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(tmp_path, 1)
    argv = ["init", *machine.files, *machine.more, "--network=lan=192.168.1.4", "--one-line=guest", "--force"]
    assert cli.main(argv) == 2
    assert "has no port with DHCP" in capsys.readouterr().err
    assert not (machine.at / "tandem").exists()
    assert cli.main([*argv[:-2], "--one-line=wan", "--no-sync", "--force"]) == 2
    assert "needs the channel" in capsys.readouterr().err
