# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init`: whole dialogues, every reason against an address, every proposal, and the token's bounds."""

# ruff: noqa: E501

from __future__ import annotations

import io
import json
import zlib
from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest

from tandem.setup import pair, segment, token
from tandem.setup.compose import compose
from tandem.setup.dialogue import Dialogue, Ended, ask_to_track, interview
from tandem.setup.networks import Networks, read_networks
from tandem.setup.pair import Setup, SetupError
from tests.unit.test_setup import NETWORK, networks, setup

DYNAMIC = NETWORK + "config interface 'cable'\n\toption proto 'dhcp'\n\toption device 'eth2'\n"
WELCOME = """\
Two routers share one gateway address for each of these networks: the active one has it, and when
that one fails the other takes it. Each router also keeps an address of its own.
Enter takes what stands in [brackets]; Ctrl-C ends, and nothing has changed.

Networks of this router with a static address:
  lan: 192.168.1.2/24 fd00:1::2/64 on br-lan
  wan: 192.168.0.2/24 on eth1, way out by 192.168.0.1
  (cable: dhcp, has no static address and can't have a shared one)

"""


class Screen(io.StringIO):
    """The lines on the screen; every answer must be asked for on a line that can be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def flush(self) -> None:
        self.seen = self.tell()


class Answers(io.StringIO):
    def __init__(self, text: str, screen: Screen) -> None:
        super().__init__(text)
        self.screen = screen

    def readline(self, size: int = -1, /) -> str:
        assert self.screen.seen == self.screen.tell(), "a question that is not shown"
        return super().readline(size)


def talk(
    answers: str, found: Networks | None = None, start: Setup | None = None, **options: Any
) -> tuple[Setup, str]:
    """The result of a dialogue, and the screen."""
    screen = Screen()
    dialogue = Dialogue(Answers(answers, screen), screen)
    result = interview(
        dialogue, found or networks(DYNAMIC), start or Setup(()), **{"sync": True, "look": False, **options}
    )
    return result, screen.getvalue()


def test_enter_takes_what_is_proposed() -> None:
    found, screen = talk("\n\n\n\n")
    assert screen == WELCOME + (
        "Networks with a shared address [lan wan]: "
        "Gateway address of the clients in lan (this router is 192.168.1.2/24 fd00:1::2/64) [192.168.1.1]: "
        "Shared address in wan (this router is 192.168.0.2/24) [192.168.0.254]: "
        "The other router's own address, in lan or another network [192.168.1.3]: "
    )
    assert [one.addresses for one in found.shared] == [("192.168.1.1",), ("192.168.0.254",)]
    assert found.peer == "192.168.1.3"


def test_answers_that_are_wrong_are_asked_again() -> None:
    found, screen = talk(
        "nowhere lan x\nlan lan\nx 10.0.0.1\n192.168.1.9/24 fd00:1::9\n192.168.1.9\n192.168.1.7/24\n"
    )
    which = "Networks with a shared address [lan wan]: "
    shared = (
        "Gateway address of the clients in lan (this router is 192.168.1.2/24 fd00:1::2/64) [192.168.1.1]: "
    )
    other = "The other router's own address, in lan or another network [192.168.1.3]: "
    assert screen.removeprefix(WELCOME).splitlines() == [
        f"{which}  not one of them: nowhere x",
        f"{which}{shared}  x is not an IP address",
        "  10.0.0.1 is not in the subnet of lan, 192.168.1.0/24",
        f"{shared}{other}  192.168.1.9 is the address that both routers share: the other router has one of its own",
        other,
    ]
    assert [one.addresses for one in found.shared] == [("192.168.1.9", "fd00:1::9")]
    assert found.peer == "192.168.1.7"


def test_the_other_router_is_asked_for_where_no_provider_is() -> None:
    found, screen = talk("wan lan\n\n\n\n")
    assert "address, in lan or another network [192.168.1.3]" in screen and found.peer == "192.168.1.3"
    found, screen = talk("wan\n\n\n")
    assert "address, in wan or another network [192.168.0.3]" in screen and found.peer == "192.168.0.3"


@pytest.mark.parametrize(
    ("options", "peer"), [({"sync": False}, None), ({"start": Setup((), "192.168.1.8")}, "192.168.1.8")]
)
def test_the_other_router_is_not_asked_for(options: dict[str, Any], peer: str | None) -> None:
    found, screen = talk("lan\n\n", **options)
    assert found.peer == peer and "other router's own" not in screen


def test_nothing_is_no_answer() -> None:
    bare = networks(
        "config interface x\n option proto static\n option device a\n option ipaddr 10.0.0.0/31\n option ip6addr fd00::/127\n"
    )
    with pytest.raises(Ended):
        talk("x\n", bare)
    found, screen = talk(
        " \n10.0.0.1\n",
        replace(bare, static=(replace(bare.static[0], addresses=bare.static[0].addresses[:1]),)),
        sync=False,
    )
    assert found.shared[0].addresses == ("10.0.0.1",), screen


def test_an_address_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def who_has(device: str, address: str) -> str | None:
        asked.append((device, address))
        return "02:00:00:00:00:09" if address == "192.168.1.9" else None

    monkeypatch.setattr(segment, "who_has", who_has)
    found, screen = talk("lan\n192.168.1.9 fd00:1::9\nx 192.168.1.9\n192.168.1.8\n", sync=False, look=True)
    assert "  192.168.1.9 is taken in lan: 02:00:00:00:00:09 answers for it\n" in screen
    assert asked == [("br-lan", "192.168.1.9"), ("br-lan", "192.168.1.8")], (
        "not of IPv6, and not beside another problem"
    )
    assert found.shared[0].addresses == ("192.168.1.8",)
    asked.clear()
    talk("lan\n192.168.1.9\n", sync=False, look=False)
    assert asked == []


def test_no_network_at_all() -> None:
    for text, others in (
        ("", "none at all"),
        ("config interface x\n option proto dhcp\nconfig interface y\n", "x (dhcp), y (none)"),
    ):
        with pytest.raises(SetupError, match="no network has a static address") as caught:
            talk("", networks(text + " "))
        assert str(caught.value).endswith(f"there are: {others}")


@pytest.mark.parametrize(
    ("answers", "result"), [("\n", True), ("N\n", False), ("perhaps\nYES\n", True), ("no\n", False)]
)
def test_yes_or_no(answers: str, result: bool) -> None:
    screen = Screen()
    assert ask_to_track(Dialogue(Answers(answers, screen), screen), ["wan", "lte"]) is result
    lines = screen.getvalue()
    assert lines.startswith("The provider's address on wan and lte stays with its router.")
    assert "Hand the gateway over when wan or lte has failed here and not there? (y/n) [y]: " in lines
    assert ("  y or n?\n" in lines) == ("perhaps" in answers)


# Addresses


SMALL = "config interface p2p\n option proto static\n option device a\n option ipaddr 10.0.0.0/31\n list ip6addr fd00::/127\n"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("lan", "192.168.1.4", None), ("lan", "192.168.1.4/24", None), ("lan", "fd00:1::4", None),
        ("lan", "", "nothing is not an IP address"),
        ("lan", "192.168.1.4/25", "192.168.1.4/25: lan has the subnet 192.168.1.0/24"),
        ("lan", "192.168.1.2", "192.168.1.2 is this router's own address in lan: the shared address is a third one, beside those of the two routers"),
        ("lan", "192.168.1.0", "192.168.1.0 is the address of the subnet itself"),
        ("lan", "192.168.1.255", "192.168.1.255 is the broadcast address of lan"),
        ("lan", "fd00:1::", "fd00:1:: is the address of the subnet itself"),
        ("lan", "fd00:1::ffff:ffff:ffff:ffff", None),
        ("wan", "fd00:1::4", "fd00:1::4: wan has no static IPv6 address"),
        ("wan", "192.168.0.1", "192.168.0.1 is the provider's router in wan"),
        ("p2p", "10.0.0.1", None), ("p2p", "fd00::1", None),
    ],
)  # fmt: skip
def test_a_shared_address(name: str, text: str, problem: str | None) -> None:
    network = networks(NETWORK + SMALL).get(name)
    assert network is not None and pair.address_problem(network, text) == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("192.168.1.3", None), ("192.168.1.3/24", None), ("192.168.0.3", None), ("", "nothing is not an IP address"),
        ("10.9.9.9", "10.9.9.9 is not in the subnet of any network with a static address"),
        ("192.168.1.2", "192.168.1.2 is this router's own address"),
        ("192.168.1.4", "192.168.1.4 is the address that both routers share: the other router has one of its own"),
        ("192.168.0.1", "192.168.0.1 is the provider's router in wan"),
        ("192.168.1.255", "192.168.1.255 is the broadcast address of lan"),
    ],
)  # fmt: skip
def test_the_other_router(text: str, problem: str | None) -> None:
    assert pair.peer_problem(setup().shared, networks(), text) == problem


@pytest.mark.parametrize(
    ("own", "gateway", "address", "peer"),
    [
        ("10.0.0.5/24", None, "10.0.0.1", "10.0.0.6"), ("10.0.0.1/24", None, "10.0.0.254", "10.0.0.2"),
        ("10.0.0.5/24", "10.0.0.1", "10.0.0.254", "10.0.0.6"), ("10.0.0.254/24", None, "10.0.0.1", "10.0.0.253"),
        ("10.0.0.1/30", None, "10.0.0.2", ""), ("10.0.0.2/30", None, "10.0.0.1", ""), ("10.0.0.1/29", "10.0.0.6", "10.0.0.5", "10.0.0.2"),
        ("fd00::2/64", None, "fd00::1", "fd00::3"), ("fd00::1/64", None, "fd00::ffff:ffff:ffff:ffff", "fd00::2"),
        ("10.0.0.0/31", None, "10.0.0.1", ""), ("10.0.0.1/29", None, "10.0.0.6", "10.0.0.2"),
        ("10.0.0.9/28", "10.0.0.1", "10.0.0.14", "10.0.0.10"),
    ],
)  # fmt: skip
def test_proposals(own: str, gateway: str | None, address: str, peer: str) -> None:
    kind = "ip6addr" if ":" in own else "ipaddr"
    text = f"config interface x\n option proto static\n option device a\n option {kind} {own}\n"
    (network,) = networks(text + (f" option gateway {gateway}\n" if gateway else "")).static
    assert pair.propose_address(network) == address
    if address:
        assert pair.propose_peer([pair.Shared(network, (address,))]) == peer


@pytest.mark.parametrize(
    ("taken", "peer"), [(("6",), "4"), (("6", "4"), "7"), (("4", "6", "7"), "3"), (("3", "4", "6", "7"), "")]
)
def test_the_other_router_is_next_to_this_one(taken: tuple[str, ...], peer: str) -> None:
    text = "config interface x\n option proto static\n option device a\n option ipaddr 10.0.0.5/24\n"
    (network,) = networks(text).static
    shared = pair.Shared(network, tuple(f"10.0.0.{number}" for number in taken))
    assert pair.propose_peer([shared]) == (peer and f"10.0.0.{peer}")


def test_networks_that_can_not_be_shared() -> None:
    found = networks(DYNAMIC + "config interface 'odd'\n\toption proto 'static'\n")
    for name, why in (
        (
            "cable",
            "network cable can't have a shared address: its protocol is dhcp, both routers need static ones",
        ),
        (
            "odd",
            "network odd can't have a shared address: it has no usable address, both routers need static ones",
        ),
        ("nowhere", "there is no network nowhere; with static addresses: lan, wan"),
    ):
        with pytest.raises(SetupError) as caught:
            pair.share(found, name, ["192.168.1.4"])
        assert caught.value.problems == (why,)
    with pytest.raises(SetupError, match="with static addresses: none"):
        pair.share(networks(" "), "lan", [])
    with pytest.raises(SetupError) as caught:
        pair.share(found, "lan", ["192.168.1.2", "x", "192.168.1.4"])
    assert len(caught.value.problems) == 2


def test_a_gateway_of_another_family_or_none() -> None:
    def gateway(text: str) -> str | None:
        return (
            read_networks(
                f"config interface x\n option proto static\n option device a\n option ipaddr 10.0.0.2/8\n option gateway '{text}'\n",
                "f",
            )
            .static[0]
            .gateway
        )

    assert [gateway(text) for text in ("10.0.0.1", "fd00::1", "x", "")] == ["10.0.0.1", None, None, None]


@pytest.mark.parametrize("name", ["lan", "wan"])
def test_the_way_out_is_an_ipv4_route_of_its_network(name: str) -> None:
    addresses = {"lan": ["192.168.1.4", "fd00:1::4"], "wan": ["192.168.0.4"]}[name]
    found = networks(
        NETWORK.replace(
            "option gateway '192.168.0.1'", "list ip6addr 'fd00::2/64'\n\toption gateway '192.168.0.1'"
        )
    )
    text = compose(Setup((pair.share(found, name, [*addresses, *(["fd00::4"] if name == "wan" else [])]),)))
    assert text.count("virtual_routes") == (name == "wan")
    if name == "wan":
        assert "src 192.168.0.4 to 0.0.0.0/0 via 192.168.0.1 metric 5" in text


# The token


def packed(fields: Any, version: int = 2, **damage: int) -> str:
    """A token with these fields, as `encode` would write it."""
    data = zlib.compress(fields if isinstance(fields, bytes) else json.dumps(fields).encode(), 9)
    whole = bytes((version,)) + zlib.crc32(data).to_bytes(4, "big") + data
    return urlsafe_b64encode(whole).decode().rstrip("=")


GOOD = [51, "1", [["lan", ["192.168.1.4"], True, False]], "", 0, "", ""]


def changed(at: int, value: Any) -> list[Any]:
    return [*GOOD[:at], value, *GOOD[at + 1 :]]


@pytest.mark.parametrize(
    ("vrid", "fits"), [(0, False), (1, True), (255, True), (256, False), (True, False), ("5", False)]
)
def test_the_number_in_a_token(vrid: Any, fits: bool) -> None:
    assert accepted(packed(changed(0, vrid))) == fits


def accepted(text: str) -> bool:
    try:
        token.decode(text)
    except SetupError as error:
        assert error.problems == (
            "this is not a token of `tandem init`, or not all of it: copy the whole line",
        )
        return False
    return True


@pytest.mark.parametrize(
    "fields",
    [
        changed(2, "lan"), changed(2, {}), changed(4, 2), changed(4, -1), changed(4, "1"), changed(1, 1), changed(3, None), changed(5, "a\nb"),
        changed(2, [["lan", "192.168.1.4", True, False]]), changed(2, [["lan", ["x"], 1, False]]), changed(2, [["lan", ["x"], True, 0]]),
        changed(2, [["lan", ["x"], True]]), changed(2, [[5, ["x"], True, True]]), changed(2, [["lan", [5], True, True]]),
        GOOD[:-1], [*GOOD, ""], {}, 5, b"x", b"[" * 20_000,
    ],
)  # fmt: skip
def test_fields_that_no_token_has(fields: Any) -> None:
    assert not accepted(packed(fields))


def test_a_token_and_its_bounds() -> None:
    text = packed(GOOD)
    assert accepted(text) and accepted(f" {text[:9]}\n{text[9:]} ") and accepted(packed(changed(2, [])))
    assert not accepted(text[:-3]) and not accepted("") and not accepted("Ag") and not accepted("AgAAAAA")
    for version in (1, 3):
        with pytest.raises(SetupError, match=f"of version {version}: install the same version on both"):
            token.decode(packed(GOOD, version))
    assert not accepted("A" * 4097)


def test_what_a_token_may_unpack_to() -> None:
    room = 16_384 - len(json.dumps(GOOD))
    for spare, fits in ((0, True), (1, False)):
        assert accepted(packed(json.dumps(GOOD).encode() + b" " * (room + spare))) == fits
