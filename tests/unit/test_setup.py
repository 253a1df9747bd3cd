# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init` without a network: what it reads, refuses, writes, and hands to the other router."""

from __future__ import annotations

import io
import json
import os
import stat
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.config.load import load_text
from tandem.control import cli
from tandem.files import write_private
from tandem.setup import files, pair, service, steps, token
from tandem.setup.compose import compose
from tandem.setup.dialogue import Dialogue, ask_to_track
from tandem.setup.networks import Networks, advertised_networks, read_networks, served_networks
from tandem.setup.pair import Setup, SetupError, Shared
from tests.unit.fake_daemon import FakeDaemon

NETWORK = """
config interface 'loopback'
	option device 'lo'
	option proto 'static'
	option ipaddr '127.0.0.1/8'
config interface 'lan'
	option device 'br-lan'
	option proto 'static'
	option ipaddr '192.168.1.2'
	option netmask '255.255.255.0'
	list ip6addr 'fd00:1::2/64'
config interface 'wan'
	option device 'eth1'
	option proto 'static'
	list ipaddr '192.168.0.2/24'
	option gateway '192.168.0.1'
"""
OTHER = NETWORK.replace(".1.2'", ".1.3'").replace(".0.2/", ".0.3/").replace("::2/", "::3/")
SYNC = ("192.168.1.3", "a secret of the two routers")


def networks(text: str = NETWORK) -> Networks:
    return read_networks(text, "network")


def setup(**options: object) -> Setup:
    found = networks()
    shared = [pair.share(found, "lan", ["192.168.1.4"]), pair.share(found, "wan", ["192.168.0.4"])]
    return Setup(tuple(shared), "192.168.1.3", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "device", "addresses"),
    [
        ("option ifname eth0\n option ipaddr 10.0.0.1\n option netmask 255.0.0.0", "eth0", ["10.0.0.1/8"]),
        ("option type bridge\n option ifname 'e0 e1'\n option ipaddr 10.0.0.1/8", "br-x", ["10.0.0.1/8"]),
        (
            "option device a\n list ipaddr 10.0.0.1/8\n list ipaddr 10.1.0.1/8",
            "a",
            ["10.0.0.1/8", "10.1.0.1/8"],
        ),
        ("option device a\n option ipaddr '10.0.0.1/8 x 10.0.0.300/8'", "a", ["10.0.0.1/8"]),
        ("option device a\n option ip6addr fd00::1/64", "a", ["fd00::1/64"]),
    ],
)
def test_networks_in_all_their_spellings(options: str, device: str, addresses: list[str]) -> None:
    (network,) = read_networks(f"config interface x\n option proto static\n {options}\n", "f").static
    assert (network.device, list(map(str, network.addresses))) == (device, addresses)


@pytest.mark.parametrize(
    "options",
    [
        "option proto 'dhcp'\n option device 'a'",
        "option proto 'static'\n option device '@lan'\n option ipaddr '10.0.0.1/8'",
        "option proto 'static'\n option device 'a'\n option ipaddr '10.0.0.1'",
        "option proto 'static'\n option device 'a'\n option ipaddr '10.0.0.1/8'\n option disabled '1'",
        "option proto 'static'\n option ipaddr '10.0.0.1/8'",
        "option device 'a'",
    ],
)
def test_networks_that_can_not_have_a_shared_address(options: str) -> None:
    found = read_networks(f"config interface x\n {options}\n", "f")
    assert not found.static and [name for name, _ in found.others] == ["x"]
    with pytest.raises(SetupError, match="x"):
        pair.share(found, "x", ["10.0.0.2"])


@given(st.text(max_size=200))
def test_no_text_is_too_odd_for_the_reader(text: str) -> None:
    read_networks(text, "f")
    served_networks(text, "f")
    advertised_networks(text, "f")


def test_networks_that_dnsmasq_serves() -> None:
    text = (
        "config dhcp lan\n option interface lan\nconfig dhcp wan\n option interface wan\n option ignore 1\n"
    )
    text += "config dhcp x\n option interface x\n option dhcpv4 disabled\n"
    assert served_networks(text, "f") == {"lan"}


def test_networks_that_advertise_this_router() -> None:
    text = "config dhcp lan\n option interface lan\n option ra server\n option dhcpv6 server\n"
    text += "config dhcp a\n option interface a\n option dhcpv6 hybrid\n"
    text += "config dhcp b\n option interface b\n option ra server\n option ignore 1\n"
    text += "config dhcp c\n option interface c\n option ra relay\n option dhcpv6 disabled\n"
    assert advertised_networks(text, "f") == {"lan", "a"}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.168.1.4", None),
        ("192.168.1.4/24", None),
        ("fd00:1::4", None),
        ("192.168.1.2", "own address"),
        ("192.168.2.4", "not in the subnet of lan"),
        ("192.168.1.4/16", "has the subnet 192.168.1.0/24"),
        ("192.168.1.0", "subnet itself"),
        ("192.168.1.255", "broadcast"),
        ("fd00:1::", "subnet itself"),
        ("fd00:2::4", "not in the subnet"),
        ("", "not an IP address"),
        ("192.168.1", "not an IP address"),
    ],
)
def test_shared_addresses(address: str, why: str | None) -> None:
    lan = networks().get("lan")
    assert lan is not None
    problem = pair.address_problem(lan, address)
    assert problem is None if why is None else problem and why in problem


def test_shared_addresses_of_a_wan() -> None:
    wan = networks().get("wan")
    assert wan is not None
    assert "provider" in (pair.address_problem(wan, "192.168.0.1") or "")
    assert "no static IPv6" in (pair.address_problem(wan, "fd00::4") or "")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.168.1.3", None),
        ("192.168.1.2", "own address"),
        ("192.168.1.4", "both routers share"),
        ("10.0.0.1", "any network"),
        ("192.168.0.1", "provider"),
        ("router", "not an IP address"),
    ],
)
def test_the_other_routers_address(address: str, why: str | None) -> None:
    problem = pair.peer_problem(setup().shared, networks(), address)
    assert problem is None if why is None else problem and why in problem


def test_proposals_are_never_refused() -> None:
    for own in ("10.0.0.1/30", "10.0.0.2/30", "10.0.0.1/8", "255.255.255.254/24", "fd00::1/64", "fe80::1/10"):
        option = "ip6addr" if ":" in own else "ipaddr"
        text = f"config interface x\n option proto static\n option device a\n list {option} {own}\n"
        found = read_networks(text, "f")
        address = pair.propose_address(found.static[0])
        if not address:
            continue  # a small subnet
        shared = pair.share(found, "x", [address])
        peer = pair.propose_peer([shared])
        assert not peer or pair.peer_problem([shared], found, peer) is None


@pytest.mark.parametrize("addresses", [["192.168.1.4"], ["192.168.1.4", "fd00:1::4"], ["fd00:1::4"]])
@pytest.mark.parametrize("peer", [None, "192.168.1.3"])
def test_what_is_composed_passes_the_check(addresses: list[str], peer: str | None, tmp_path: Path) -> None:
    shared = pair.share(networks(), "lan", addresses)
    secret = tmp_path / "secret"
    write_private(str(secret), files.new_secret())
    made = Setup((Shared(shared.network, shared.addresses, dhcp=True),), peer, secret_file=str(secret))
    loaded = load_text(compose(made), "made")
    assert loaded.config is not None and not loaded.warnings, (loaded.errors, loaded.warnings)
    found = [address.address for item in loaded.config.instances for address in item.virtual_addresses]
    assert set(addresses) <= set(found)
    assert (loaded.config.conntrack_sync is not None) == bool(peer)


def test_ipv6_is_set_up_as_ipv4_is(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenWrt's default: ip6assign, and both routers would advertise themselves."""
    (tmp_path / "network").write_text(NETWORK.replace("list ip6addr 'fd00:1::2/64'", "option ip6assign '60'"))
    (tmp_path / "dhcp").write_text(
        "config dhcp 'lan'\n option interface 'lan'\n option ra 'server'\n option dhcpv6 'server'\n"
    )
    assert cli.main(flags) == 0
    loaded = load_text((tmp_path / "config").read_text(), "made")
    assert loaded.config is not None and not loaded.warnings, (loaded.errors, loaded.warnings)
    assert {item.name: item.dhcp for item in loaded.config.instances} == {"lan": True, "lan_v6": True}
    (address,) = loaded.config.instances[1].virtual_addresses
    assert address.address == "fe80::200:5eff:fe00:233"
    assert [group.members for group in loaded.config.groups] == [("lan", "lan_v6")]
    word = next(line.split()[1] for line in capsys.readouterr().out.splitlines() if "| tandem init" in line)
    second = token.accept(token.decode(word), networks(OTHER), "/x")
    assert [(one.dhcp, one.ra) for one in second.shared] == [(True, True)]


def test_a_device_without_ipv6_gets_no_instance(
    tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance there would be in FAULT for ever, and its group with it."""
    (tmp_path / "dhcp").write_text("config dhcp 'lan'\n option interface 'lan'\n option ra 'server'\n")
    setting = tmp_path / "conf/br-lan/disable_ipv6"
    setting.parent.mkdir(parents=True)
    monkeypatch.setattr(steps, "IPV6", str(tmp_path))
    for value, wanted in (("1", False), ("0", True)):
        setting.write_text(f"{value}\n")
        assert cli.main([*flags, "--force"]) == 0
        assert ("lan_v6" in (tmp_path / "config").read_text()) is wanted
    monkeypatch.setattr(steps, "IPV6", str(tmp_path / "nothing"))
    assert cli.main([*flags, "--force"]) == 0
    assert "lan_v6" not in (tmp_path / "config").read_text()


def test_the_second_router_gets_what_the_first_one_has() -> None:
    first = setup(virtual_router_id=77, advert_int="0.5")
    word = token.encode(token.invitation(first, networks(), SYNC[1]))
    invited = token.decode(f" {word[:50]}\n{word[50:]} ")  # as a terminal may have broken it
    second = token.accept(invited, networks(OTHER), "/etc/tandem/secret")
    assert invited.secret == SYNC[1]
    assert (second.peer, second.virtual_router_id, second.advert_int) == ("192.168.1.2", 77, "0.5")
    assert second.priority < first.priority
    for one, other in zip(compose(first).splitlines(), compose(second).splitlines(), strict=True):
        assert one == other or "priority" in one or "list address" in one


def test_a_router_that_does_not_fit_says_all_that_is_wrong() -> None:
    word = token.encode(token.invitation(setup(), networks(), SYNC[1]))
    elsewhere = OTHER.replace("'wan'", "'uplink'").replace("192.168.0.", "10.0.0.").replace("1.3'", "1.7'")
    with pytest.raises(SetupError) as refused:
        token.accept(token.decode(word), networks(elsewhere), "/x")
    assert len(refused.value.problems) == 2
    assert "no network wan" in refused.value.problems[0]
    assert "expects this one at 192.168.1.3, but this router has 192.168.1.7" in refused.value.problems[1]
    with pytest.raises(SetupError, match="own address"):
        token.accept(token.decode(word), networks(), "/x")  # the first router itself


def test_another_name_for_the_same_network() -> None:
    word = token.encode(token.invitation(setup(), networks(), SYNC[1]))
    second = token.accept(token.decode(word), networks(OTHER.replace("'wan'", "'uplink'")), "/x")
    assert [one.network.name for one in second.shared] == ["lan", "uplink"]


@given(st.data())
def test_a_damaged_token_is_refused(data: st.DataObject) -> None:
    word = token.encode(token.invitation(setup(), networks(), SYNC[1]))
    at = data.draw(st.integers(0, len(word) - 2))  # of the last character not all bits count
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda char: char != word[at]))
    for damaged in (word[:at], word[:at] + letter + word[at + 1 :]):
        with pytest.raises(SetupError):
            token.decode(damaged)


@given(st.text(max_size=300))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    with pytest.raises(SetupError):
        token.decode(text)


def test_a_token_that_unpacks_to_very_much() -> None:
    packed = zlib.compress(b"[" * 3_000_000, 9)
    data = bytes((1,)) + zlib.crc32(packed).to_bytes(4, "big") + packed
    with pytest.raises(SetupError):
        token.decode(urlsafe_b64encode(data).decode().rstrip("="))


def token_of(fields: object) -> str:
    """A token that is whole and says anything at all."""
    packed = zlib.compress(fields.encode() if isinstance(fields, str) else json.dumps(fields).encode())
    version = urlsafe_b64decode(token.encode(token.Invitation(51, "1", ())) + "==")[:1]
    data = version + zlib.crc32(packed).to_bytes(4, "big") + packed
    return urlsafe_b64encode(data).decode().rstrip("=")


WORDS = st.sampled_from(
    ("lan", "wan", "192.168.1.254", "192.168.1.3", "1", "", "\n", "0.1\n\toption x 'y'")
) | st.text(max_size=5)
NUMBERS = st.integers(-1, 300) | st.floats() | st.sampled_from((10**400, float("inf")))
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=8,
)
NETWORKS = st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=2), st.booleans(), st.booleans()), max_size=2)


@given(
    ANYTHING
    | st.tuples(NUMBERS | ANYTHING, WORDS | ANYTHING, NETWORKS | ANYTHING, WORDS, st.booleans(), WORDS, WORDS)
)
def test_a_whole_token_that_says_nonsense_is_refused(fields: object) -> None:
    """A token with any fields gives a set-up that is right, or a reason."""
    with suppress(SetupError):
        invited = token.decode(token_of(fields))
        files.verify(token.accept(invited, networks(OTHER), "/etc/tandem/secret"), invited.secret)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "51.5", "true", "0", "256", '"51"', "null"])
def test_the_id_of_a_token_is_a_number(number: str) -> None:
    with pytest.raises(SetupError, match="not a token"):
        token.decode(token_of(f'[{number},"1",[["lan",["192.168.1.254"],false,false]],"",false,"",""]'))


def test_four_networks_fit_into_the_line() -> None:
    text = "".join(
        f"config interface network{n}\n option proto static\n option device b\n option ipaddr 10.{n}.1.2/24\n"
        for n in range(4)
    )
    found = read_networks(text, "f")
    shared = tuple(pair.share(found, f"network{n}", [f"10.{n}.1.254"]) for n in range(4))
    word = token.encode(token.invitation(Setup(shared, "10.0.1.3"), found, files.new_secret()))
    assert len(f"echo {word} | tandem init --join --start") < 512


# A way out that can't be shared

DHCP_WAN = (
    NETWORK[: NETWORK.index("config interface 'wan'")]
    + """
config interface 'wan'
	option device 'eth1'
	option proto '{proto}'
config interface 'wan6'
	option device 'eth1'
	option proto 'dhcpv6'
config interface 'guest'
	option device 'eth2'
	option proto 'dhcp'
	option defaultroute '0'
"""
)


@pytest.mark.parametrize("proto", ["dhcp", "pppoe", "qmi"])
def test_ways_out_with_an_address_of_the_providers(proto: str) -> None:
    assert networks(DHCP_WAN.replace("{proto}", proto)).uplinks == ("wan",)
    assert networks(DHCP_WAN.replace("{proto}", "wireguard")).uplinks == ()
    assert networks(DHCP_WAN.replace("{proto}", "dhcp") + "\toption disabled '1'\n").uplinks == ("wan",)
    assert networks().uplinks == ()


def test_routers_that_track_their_way_out_prefer_the_one_that_has_one() -> None:
    """With one priority for both: who has the role keeps it while both, or none, have a way out."""
    found = networks(DHCP_WAN.replace("{proto}", "dhcp"))
    lan = pair.share(found, "lan", ["192.168.1.4"])
    assert pair.uplinks([lan], found) == ("wan",)
    assert pair.uplinks([pair.share(networks(), "wan", ["192.168.0.4"])], networks()) == ()
    first = Setup((lan,), "192.168.1.3", uplinks=("wan",))
    word = token.encode(token.invitation(first, found, SYNC[1]))
    other = networks(
        OTHER[: OTHER.index("config interface 'wan'")] + "config interface 'dsl'\n\toption proto 'pppoe'\n"
    )
    second = token.accept(token.decode(word), other, "/secret")
    assert second.uplinks == ("dsl",)
    for one, name in ((first, "wan"), (second, "dsl")):
        loaded = load_text(compose(replace(one, peer=None)), "f")
        assert loaded.config, loaded.errors
        (instance,) = loaded.config.instances
        assert (instance.priority, instance.preempt) == (100, True)
        (track,) = instance.tracks
        assert (track.name, track.weight) == (name, -50)
    assert "nopreempt" in compose(replace(first, uplinks=None))
    assert "nopreempt" not in compose(replace(second, uplinks=()))  # only the other router has one


def test_init_tracks_the_way_out_and_says_what_does_not_survive(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "network").write_text(DHCP_WAN.replace("{proto}", "dhcp"))
    assert cli.main(flags) == 0
    said = capsys.readouterr().out
    assert "connections to the internet break" in said and "port forwards" in said
    assert "list track_interface 'wan weight -50'" in (tmp_path / "config").read_text()
    assert cli.main([*flags, "--force", "--no-track"]) == 0
    assert "track_interface" not in (tmp_path / "config").read_text()


@pytest.mark.parametrize(("answer", "tracked"), [("y", True), ("", True), ("n", False)])
def test_the_person_is_asked(answer: str, tracked: bool) -> None:
    out = io.StringIO()
    assert ask_to_track(Dialogue(io.StringIO(answer + "\n"), out), ("wan", "lte")) is tracked
    assert "connections to the internet break" in out.getvalue()
    assert "when wan or lte has failed here" in out.getvalue()


# Files


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    (tmp_path / "network").write_text(NETWORK)
    return [
        "init", "--network=lan=192.168.1.4", "--peer=192.168.1.3", f"--config={tmp_path}/config",
        f"--network-config={tmp_path}/network", f"--dhcp-config={tmp_path}/dhcp",
        f"--secret-file={tmp_path}/etc/secret",
    ]  # fmt: skip


def test_only_the_example_is_replaced_unasked(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config, copy = tmp_path / "config", tmp_path / "etc" / files.BACKUP
    example = Path(__file__).parents[2] / "files/etc/config/tandem"
    config.write_text(example.read_text())
    assert cli.main(flags) == 0
    assert copy.read_text() == example.read_text()
    first = config.read_text()
    assert cli.main(flags) == 2
    assert "is in use" in capsys.readouterr().err and config.read_text() == first
    secret = (tmp_path / "etc/secret").read_text()
    assert cli.main([*flags, "--force"]) == 0
    assert (tmp_path / "etc/secret").read_text() != secret and copy.read_text() == first
    for path in (config, copy, tmp_path / "etc/secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == [files.BACKUP, "secret"]


@pytest.fixture
def init_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """/etc/init.d/tandem, whose action `fails` fails, and logread; the file says what was called."""

    def make(fails: str = "") -> Path:
        script, called = tmp_path / "tandem.init", tmp_path / "called"
        script.write_text(f'#!/bin/sh\necho "$@" >>{called}\n[ "$1" != "{fails}" ]\n')
        (tmp_path / "bin").mkdir()
        logread = tmp_path / "bin/logread"
        logread.write_text(f'#!/bin/sh\necho "logread $@" >>{called}\necho "daemon.err tandemd: no way"\n')
        for program in (script, logread):
            program.chmod(0o755)
        monkeypatch.setattr(service, "INIT_SCRIPT", str(script))
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        return called

    return make


def test_a_start_has_seen_the_daemon_run(
    tmp_path: Path, flags: list[str], init_script: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    called = init_script("")
    daemon = FakeDaemon(tmp_path / "sock")
    daemon.answers["status"] = {"config_file": f"{tmp_path}/config"}
    try:
        assert cli.main([*flags, "--start", f"--control={tmp_path}/sock"]) == 0
    finally:
        daemon.close()
    assert called.read_text() == "enable\nrestart\n"
    assert "tandem runs here" in capsys.readouterr().out


@pytest.mark.parametrize("fails", ["enable", "restart", "running"])
def test_a_start_that_fails_is_no_start(
    tmp_path: Path, flags: list[str], fails: str, init_script: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`restart` succeeds also where the init script refuses the configuration, or the daemon ends at once."""
    called = init_script(fails)
    assert cli.main([*flags, "--start", f"--control={tmp_path}/sock"]) == 1
    said = capsys.readouterr()
    assert "tandem runs here" not in said.out
    assert called.read_text().splitlines()[-1] == (fails if fails != "running" else "logread -e tandemd")
    if fails == "running":
        expected = "tandemd does not run: it was not started, or has ended", "log: daemon.err tandemd: no way"
        assert said.err.splitlines() == [f"tandem: {line}" for line in expected]


def test_a_start_ends_with_the_daemon_of_this_configuration(
    tmp_path: Path, flags: list[str], init_script: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """And not with any that answers."""
    init_script("")
    monkeypatch.setattr(service, "APPEARS_S", 0.0)
    daemon = FakeDaemon(tmp_path / "sock")
    daemon.answers["status"] = {"config_file": "/etc/config/another"}
    try:
        assert cli.main([*flags, "--start", f"--control={tmp_path}/sock"]) == 1
    finally:
        daemon.close()
    assert "the running daemon uses /etc/config/another" in capsys.readouterr().err


def test_dry_run_writes_nothing(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*flags, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "192.168.1.4/24" in out and "init --join" not in out
    assert not (tmp_path / "config").exists() and not (tmp_path / "etc").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--network=guest"], "there is no network guest; with static addresses: lan, wan"),
        (["--network=wan=192.168.0.2"], "own address"),
        (["--peer=192.168.1.2"], "own address"),
        (["--advert-int=never"], "advert_int"),
        (["--join"], "from the token"),
    ],
)
def test_everything_wrong_is_told(
    flags: list[str], more: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*flags, *more]) == 2
    assert why in capsys.readouterr().err


def test_files_that_can_not_be_read_or_written(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*flags, f"--network-config={tmp_path}/nothing"]) == 1
    (tmp_path / "file").write_text("")
    assert cli.main([*flags, f"--secret-file={tmp_path}/file/secret"]) == 1
    assert capsys.readouterr().err.count("tandem: ") == 2
