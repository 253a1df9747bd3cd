# SPDX-License-Identifier: GPL-2.0-or-later
"""The section conntrack_sync: the settings that it gives, and where secrets may and may not show."""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.channel.settings import Settings
from tandem.config import options
from tandem.config.effective import render
from tandem.config.load import Loaded, load_text
from tandem.config.schema import Config, ConntrackSync, Peer, PeerPath
from tandem.core.settings import Instance

SECRET = "correct horse battery staple"
HEAD = "config conntrack_sync 'sync'\n"
PEER = "list peer '192.168.1.3'"
KEY = f"option secret '{SECRET}'"
R2 = """config peer 'r2'
	list address '10.0.0.2 dev eth3 src 10.0.0.1'
	list address '192.168.1.3'
"""


def load(*lines: str, more: str = "") -> Loaded:
    """The section with these lines, then other sections."""
    return load_text(HEAD + "".join(f"\t{line}\n" for line in lines) + more, "f")


def whole(*lines: str, more: str = "") -> Config:
    """The configuration, in which nothing is wrong."""
    loaded = load(*lines, more=more)
    assert [str(problem) for problem in (*loaded.errors, *loaded.warnings)] == []
    assert loaded.config is not None
    return loaded.config


def good(*lines: str, more: str = "") -> ConntrackSync:
    found = whole(*lines, more=more).conntrack_sync
    assert found is not None
    return found


def peers(*lines: str, more: str = "") -> tuple[Peer, ...]:
    found = whole(*lines, more=more)
    assert found.conntrack_sync is not None
    assert found.conntrack_sync.peers == tuple(peer.name for peer in found.peers)
    return found.peers


def peer(*lines: str, more: str = "") -> Peer:
    (found,) = peers(*lines, more=more)
    return found


def messages(loaded: Loaded) -> list[str]:
    """The reasons, with the option in front."""
    return [f"{problem.option}: {problem.reason}" for problem in loaded.errors]


def warnings(loaded: Loaded) -> list[str]:
    return [f"{problem.option}: {problem.reason}" for problem in loaded.warnings]


# what is in force


def test_least() -> None:
    assert good(PEER, KEY) == ConntrackSync(("192.168.1.3",))
    assert peer(PEER, KEY) == Peer("192.168.1.3", (PeerPath("192.168.1.3"),), ((1, SECRET.encode()),), 1)


def test_defaults_are_those_of_the_session() -> None:
    sync, one, session = good(PEER, KEY), peer(PEER, KEY), Settings({1: SECRET.encode()}, 1)
    ours = one.heartbeat_ms, sync.digest_interval_ms, one.stall_timeout_ms
    theirs = session.heartbeat, session.digest_interval, session.stall_timeout
    assert tuple(number * 1_000_000 for number in ours) == theirs
    assert sync.queue_limit == session.queue_limit


def test_none_and_disabled() -> None:
    assert load_text("", "f").config == Config()
    loaded = load("option enabled '0'", PEER, "option secret_file '/nowhere'")
    assert (loaded.config, loaded.warnings) == (Config(), ())


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("list address '10.0.0.0/8 2001:DB8::/32'", "only_networks", ("10.0.0.0/8", "2001:db8::/32")),
        ("list ignore_address '10.0.0.1'", "ignore_networks", ("10.0.0.1/32",)),
        ("list protocol 'TCP'\n\tlist protocol 'udp 200'", "protocols", (6, 17, 200)),
        ("option ignore_protocol 'icmp icmpv6'", "ignore_protocols", (1, 58)),
        ("option protocol 'tcp udp sctp dccp udplite'", "protocols", (6, 17, 132, 33, 136)),
        ("option protocol 'gre esp ah l2tp ipip ipv6'", "protocols", (47, 50, 51, 115, 4, 41)),
        ("list tcp_state 'established'\n\tlist tcp_state 'TIME_WAIT'", "tcp_states", (3, 7)),
        ("option zone '0 7'", "zones", (0, 7)),
        ("option local '1'", "local", True),
        ("option limit_entries '1000000'", "limit_entries", 1_000_000),
        ("option limit_bytes '200m'", "limit_bytes", 200 << 20),
        ("option queue_limit '65536'", "queue_limit", 65536),
        ("option receive_buffer '1G'", "receive_buffer", 1 << 30),
        ("option hold '60'", "hold_s", 60),
        ("option preempt_sync_timeout '0'", "preempt_sync_timeout_ms", 0),
        ("option guarantee 'connection'", "guarantee", "connection"),
        ("option guarantee 'none'", "guarantee", None),
        (
            "option guarantee 'connection'\n\toption guarantee_timeout '0.025'\n\tlist tcp_state 'SYN_SENT'",
            "guarantee_timeout_ms",
            25,
        ),
        ("option stale_lag '2.5'", "stale_lag_ms", 2500),
        ("option stale_loss '0'", "stale_loss", 0),
        ("option sync_after '0'", "sync_after", 0),
    ],
)
def test_option(line: str, field: str, expected: Any) -> None:
    assert getattr(good(PEER, KEY, line), field) == expected


# peers


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("option heartbeat '0.25'", "heartbeat_ms", 250),
        ("option stall_timeout '5'", "stall_timeout_ms", 5000),
        ("option max_hops '2'", "max_hops", 2),
    ],
)
def test_option_of_a_peer(line: str, field: str, expected: Any) -> None:
    assert getattr(peer(PEER, KEY, line), field) == expected
    section = f"{R2}\t{line}\n\t{KEY}\n"
    assert getattr(peer(more=section), field) == expected
    other = re.sub(r"'.*'", "'9'", line)
    found = peers("list peer 'r2 192.168.1.9'", KEY, other, more=section)
    assert [getattr(one, field) for one in found] == [expected, 9 if field == "max_hops" else 9000]


def test_peers_by_themselves() -> None:
    """A peer section with a key is a peer, and needs no conntrack_sync."""
    alone = load_text(f"{R2}\t{KEY}\n\toption port '3781'\n\toption router_id 'two'\n", "f").config
    assert alone is not None and alone.conntrack_sync is None
    assert alone.peers == (
        Peer(
            "r2",
            (PeerPath("10.0.0.2", "10.0.0.1", "eth3", 3781), PeerPath("192.168.1.3", port=3781)),
            ((1, SECRET.encode()),),
            1,
            router_id="two",
        ),
    )
    # Connections are replicated with all of them, or with those that are listed.
    three = f"{R2}\t{KEY}\nconfig peer 'r3'\n\toption address '192.168.1.4'\n\toption insecure '1'\n"
    assert good(more=three).peers == ("r2", "r3")
    both = whole("list peer 'r3'", more=three)
    assert both.conntrack_sync is not None and both.conntrack_sync.peers == ("r3",)
    assert [one.name for one in both.peers] == ["r3", "r2"]
    # One without a key is for unicast_peer only, and one that is not enabled is no peer.
    assert load_text(R2, "f").config == Config()
    off = load_text(f"{R2}\t{KEY}\n\toption enabled '0'\n{HEAD}", "f")
    assert (off.config, off.warnings) == (Config(), ())
    off = load_text(f"{HEAD}\toption enabled '0'\n\tlist peer 'r2'\n{R2}\t{KEY}\n", "f")
    assert (off.config, off.warnings) == (Config(), ())


def test_a_peer_is_not_this_router() -> None:
    text = f"config globals\n\toption router_id 'one'\n{R2}\t{KEY}\n\toption router_id 'one'\n"
    assert messages(load_text(text, "f")) == ["router_id: is the name of this router itself"]


def one_path(text: str, *lines: str) -> PeerPath:
    found = peer(f"list peer '{text}'", KEY, *lines)
    (path,) = found.paths
    assert found.name == path.address.partition("%")[0]
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.2 dev eth3 src 10.0.0.1", PeerPath("10.0.0.2", "10.0.0.1", "eth3")),
        ("2001:DB8::2 src 2001:db8::1", PeerPath("2001:db8::2", "2001:db8::1")),
        ("fe80::2 dev eth3", PeerPath("fe80::2%eth3", None, "eth3")),
        ("fe80::2%eth3", PeerPath("fe80::2%eth3", None, "eth3")),
        ("fe80::2%eth3 src fe80::1", PeerPath("fe80::2%eth3", "fe80::1%eth3", "eth3")),
        ("2001:db8::2 dev eth3 src fe80::1", PeerPath("2001:db8::2", "fe80::1%eth3", "eth3")),
    ],
)
def test_path(text: str, expected: PeerPath) -> None:
    assert one_path(text) == expected


def test_what_the_section_says_for_all_peers() -> None:
    lines = "option source '192.168.1.2'", "option interface 'br-lan'", "option port '3781'"
    assert one_path("192.168.1.3", *lines) == PeerPath("192.168.1.3", "192.168.1.2", "br-lan", 3781)
    assert one_path("fe80::3", "option source 'fe80::2'", "option interface 'br-lan'") == PeerPath(
        "fe80::3%br-lan", "fe80::2%br-lan", "br-lan"
    )
    # The setting does not count for a path with one of its own, nor the source for the other family.
    found = peers("list peer 'r2 2001:db8::9'", KEY, "option source '192.168.1.2'", more=R2)
    assert {one.name: one.paths for one in found} == {
        "r2": (PeerPath("10.0.0.2", "10.0.0.1", "eth3"), PeerPath("192.168.1.3", "192.168.1.2")),
        "2001:db8::9": (PeerPath("2001:db8::9"),),
    }


def test_a_word_of_a_path_may_be_the_name_of_a_peer() -> None:
    found = peers(
        "list peer '10.0.0.9 dev wan'", "list peer 'wan'", KEY, more=R2.replace("peer 'r2'", "peer 'wan'")
    )
    assert [one.name for one in found] == ["10.0.0.9", "wan"]
    assert found[0].paths == (PeerPath("10.0.0.9", None, "wan"),)


def unicast(interface: str, addresses: str, own: str = "192.168.1.4/24") -> Instance:
    text = f"""config vrrp_instance 'I1'
	option interface '{interface}'
	option virtual_router_id '51'
	list virtual_ipaddress '{own}'
	list unicast_peer 'r2'
config peer 'r2'
{addresses}"""
    loaded = load_text(text, "f")
    assert (messages(loaded), warnings(loaded)) == ([], [])
    assert loaded.config
    return loaded.config.instances[0]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ("\toption address '192.168.1.3'\n", "192.168.1.3"),
        ("\toption address '10.0.0.2 192.168.1.3'\n", "10.0.0.2"),
        ("\tlist address '10.0.0.2 dev eth3'\n\tlist address '192.168.1.3'\n", "192.168.1.3"),
        ("\tlist address '10.0.0.2 dev eth3'\n\tlist address '192.168.1.3 dev br-lan'\n", "192.168.1.3"),
        ("\tlist address '10.0.0.2 dev eth3'\n", "10.0.0.2"),
        ("\tlist address 'fe80::2%br-lan'\n\tlist address '10.0.0.2'\n", "10.0.0.2"),
    ],
)
def test_unicast_peer_takes_the_address_that_fits(addresses: str, expected: str) -> None:
    assert unicast("br-lan", addresses).unicast_peers == (expected,)


def test_unicast_peer_takes_an_address_of_the_family() -> None:
    both = "\toption address '192.168.1.3 fe80::2%br-lan'\n"
    assert unicast("br-lan", both).unicast_peers == ("192.168.1.3",)
    assert unicast("br-lan", both, "fe80::4/64").unicast_peers == ("fe80::2",)


# secrets


def secret_file(path: pathlib.Path, data: bytes = SECRET.encode() + b"\n", mode: int = 0o600) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


def test_secret_file(tmp_path: pathlib.Path) -> None:
    for data in (SECRET, SECRET + "\n", SECRET + "\r\n"):
        path = secret_file(tmp_path / "secret", data.encode())
        assert peer(PEER, f"option secret_file '{path}'").secrets == ((1, SECRET.encode()),)
        assert peer(more=f"{R2}\toption secret_file '{path}'\n").secrets == ((1, SECRET.encode()),)


def test_rotation(tmp_path: pathlib.Path) -> None:
    new = secret_file(tmp_path / "new", b"another secret, as long")
    for lines in ((KEY, f"list key '2:{new}'"), (f"list key '2:{new}'", KEY)):
        both = ((1, SECRET.encode()), (2, b"another secret, as long"))
        for found in (peer(PEER, *lines), peer(more=R2 + "".join(f"\t{line}\n" for line in lines))):
            assert (found.secrets, found.key_id) == (both, 1)
    assert peer(PEER, KEY, f"list key '2:{new}'", "option key_id '2'").key_id == 2
    found = peer(PEER, f"list key '2:{new}'")
    assert (found.secrets, found.key_id) == (((2, b"another secret, as long"),), 2)


@pytest.mark.parametrize(
    ("data", "mode", "reason"),
    [
        (SECRET.encode(), 0o640, "{path} is open to others (mode 0640): chmod 600 it"),
        (SECRET.encode(), 0o602, "{path} is open to others (mode 0602): chmod 600 it"),
        (b"too short\n", 0o600, "{path} must hold 16 to 64 bytes"),
        (b"", 0o600, "{path} must hold 16 to 64 bytes"),
        (b"x" * 65, 0o600, "{path} must hold 16 to 64 bytes"),
        (b"x" * 100_000, 0o600, "{path} must hold 16 to 64 bytes"),
    ],
)
def test_bad_secret_file(tmp_path: pathlib.Path, data: bytes, mode: int, reason: str) -> None:
    path = secret_file(tmp_path / "secret", data, mode)
    loaded = load(PEER, f"option secret_file '{path}'", f"list key '2:{path}'")
    reason = reason.format(path=path)
    assert messages(loaded) == [f"secret_file: {reason}", f"key: {reason}"]


def test_no_secret_file(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (tmp_path / "missing", "can't be read: No such file or directory"),
        (tmp_path, "is not an ordinary file"),
        (pipe, "is not an ordinary file"),
        (tmp_path / "missing" / "secret", "can't be read: No such file or directory"),
    ):
        loaded = load(PEER, f"option secret_file '{path}'")
        assert messages(loaded) == [f"secret_file: {path} {reason}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_secret_file_is_root_s(tmp_path: pathlib.Path) -> None:
    path = secret_file(tmp_path / "secret")
    os.chown(path, 1234, 0)
    assert messages(load(PEER, f"option secret_file '{path}'")) == [
        f"secret_file: {path} does not belong to root: its owner could read or change it"
    ]


def test_secrets_are_masked() -> None:
    loaded = load(PEER, KEY, f"list key '7:{SECRET}'", "option key_id '7'")
    assert loaded.config
    assert SECRET not in repr(loaded.config)
    text = render(loaded.config)
    assert SECRET not in text
    assert "\tlist key '1:***'\n\tlist key '7:***'\n\toption key_id '7'\n" in text
    again = load_text(text, "f")
    assert [str(problem) for problem in again.errors] == [
        f"f:{line}: section '192.168.1.3' (peer), option 'key', value '***': is what tandem shows in the"
        " place of a secret: write the secret itself"
        for line, found in enumerate(text.splitlines(), 1)
        if "list key" in found
    ]
    assert load_text(text.replace("***", SECRET), "f").config == loaded.config


def test_the_options_that_are_secret() -> None:
    assert options.secret_options() == ["secret_file", "auth_pass", "secret", "key"]


WORD = "h0rse-battery.staple_0123"
SECTION = f"""config conntrack_sync 'sync'
	list peer '192.168.1.3'
	option secret '{WORD}'
	list key '2:{WORD}'
	option port '3780'
"""


@settings(max_examples=500)
@given(
    st.integers(0, len(SECTION)),
    st.sampled_from(["", "'", '"', "\\", ";", "#", "\n", " ", "''"]),
    st.booleans(),
)
def test_a_secret_is_never_shown(at: int, mark: str, replace: bool) -> None:
    loaded = load_text(SECTION[:at] + mark + SECTION[at + replace :], "f")
    for problem in (*loaded.errors, *loaded.warnings):
        assert "h0rse" not in str(problem)
        assert "battery" not in str(problem)


PIECES = (
    "dev", "src", "eth0", "r2", "10.0.0.2", "fe80::2", "fe80::2%eth0", "2001:db8::2", "%", ":", "1:", "2:/",
    "/", "-1", "99999999999", "4G", "tcp", "CLOSE", "é", "\u0661", "::", "10.0.0.0/8", "0", "1", "connection",
    "***", "x" * 16,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_section_is_a_configuration_or_errors(data: st.DataObject) -> None:
    option = st.sampled_from(sorted(options.CONNTRACK_SYNC))
    value = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6).map(" ".join)
    values = st.lists(st.tuples(option, value), max_size=5)
    lines = [f"list {name} '{text}'" for name, text in data.draw(values)]
    peer = [f"\tlist address '{text}'\n" for text in data.draw(st.lists(value, max_size=3))]
    loaded = load(PEER, KEY, *lines, more="config peer 'r2'\n" + "".join(peer))
    assert (loaded.config is None) == bool(loaded.errors)
    if loaded.config and loaded.config.conntrack_sync:
        again = load_text(render(loaded.config).replace("***", SECRET), "f")
        assert [str(problem) for problem in again.errors] == []
        assert again.config
        assert render(again.config) == render(loaded.config)
        assert repr(again.config) == repr(loaded.config)  # without the secrets


# the example


def test_example(tmp_path: pathlib.Path) -> None:
    """With every comment mark removed it is clean, and says the defaults where it does not choose."""
    text = (pathlib.Path(__file__).parents[2] / "files/etc/config/tandem").read_text()
    text = re.sub(r"^#(?=\t|config)", "", text, flags=re.M).replace(
        "option enabled '0'", "option enabled '1'"
    )
    secrets = [secret_file(tmp_path / name) for name in ("secret", "secret2")]
    text = text.replace("'/etc/tandem/secret'", f"'{secrets[0]}'").replace("/etc/tandem/secret2", secrets[1])
    loaded = load_text(text, "f")
    assert (messages(loaded), warnings(loaded)) == ([], [])
    assert loaded.config
    assert loaded.config.peers == (
        Peer(
            "r2",
            (PeerPath("10.0.0.3", "10.0.0.2", "eth3"), PeerPath("192.168.1.3")),
            ((1, SECRET.encode()), (2, SECRET.encode())),
            1,
            router_id="router2",
        ),
    )
    assert loaded.config.conntrack_sync == ConntrackSync(
        peers=("r2",),
        ignore_networks=("192.168.9.0/24",),
        ignore_protocols=(1,),
        tcp_states=(1, 2, 3),
        zones=(0,),
        guarantee="connection",
    )


# secrets of one peer, and those that can be guessed


def test_a_peer_with_a_secret_of_its_own(tmp_path: pathlib.Path) -> None:
    other = "quite another secret"
    file = secret_file(tmp_path / "r2", other.encode())
    for line in (f"option secret '{other}'", f"option secret_file '{file}'"):
        found = peers(KEY, "list peer 'r2'", "list peer '192.168.1.9'", more=f"{R2}\t{line}\n")
        assert [one.secrets for one in found] == [((1, other.encode()),), ((1, SECRET.encode()),)]
        assert other not in repr(found)
    alone = peer("list peer 'r2'", more=f"{R2}\toption secret '{other}'\n")
    assert (alone.secrets, alone.key_id, alone.insecure) == (((1, other.encode()),), 1, False)
    loaded = load("list peer 'r2'", "option insecure '1'", more=f"{R2}\toption secret '{other}'\n")
    assert messages(loaded) == ["insecure: contradicts the secret of peer 'r2'"]
    loaded = load("list peer 'r2'", "list peer '192.168.1.9'", more=f"{R2}\toption secret '{other}'\n")
    assert messages(loaded)[0].startswith("secret: is missing")


@pytest.mark.parametrize("where", ["secret", "secret_file", "key", "peer"])
def test_a_secret_that_can_be_guessed_is_refused(where: str, tmp_path: pathlib.Path) -> None:
    weak = "password12345678"
    file = secret_file(tmp_path / "weak", weak.encode())
    lines = {
        "secret": (f"option secret '{weak}'",),
        "secret_file": (f"option secret_file '{file}'",),
        "key": (KEY, f"list key '2:{file}'"),
        "peer": (KEY,),
    }[where]
    more = R2 + (f"\toption secret '{weak}'\n" if where == "peer" else "")
    [problem] = load("list peer 'r2'", *lines, more=more).errors
    assert "can be guessed" in problem.reason and "urandom" in problem.reason
    assert weak not in str(problem)


# warnings


def test_warnings() -> None:
    networks = " ".join(f"10.{n}.0.0/16" for n in range(33))
    loaded = load(
        "list peer '10.0.0.2 dev eth3'",
        "list peer '192.168.1.3'",
        "option insecure '1'",
        "option guarantee_timeout '0.5'",
        f"option address '{networks}'",
        more="config peer 'r2'\n\toption address '10.0.0.9'\n",
    )
    assert messages(loaded) == []
    assert warnings(loaded) == [
        "insecure: whoever reaches port 3780 can make and break connections; at least name the interface of"
        " 192.168.1.3",
        "guarantee_timeout: has no effect without guarantee",
        "address: more than 32 are too many for the kernel's filter: the daemon filters, at more cost",
        "None: is not used: no unicast_peer or conntrack_sync names it",
    ]
    assert loaded.config
    assert loaded.config.conntrack_sync
    assert loaded.config.conntrack_sync.guarantee_timeout_ms == 100
    loaded = load(
        "list peer '10.0.0.2 dev eth3'", KEY, "option interface 'br-lan'", "option source '10.0.0.1'"
    )
    assert warnings(loaded) == [
        "interface: has no effect: each peer has dev or src of its own",
        "source: has no effect: each peer has dev or src of its own",
    ]
