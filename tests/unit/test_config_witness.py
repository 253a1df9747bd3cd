# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections `witness` and `witness_server`, and the options of the quorum."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import Loaded, load_text
from tandem.config.schema import Witness, WitnessServer
from tandem.config.witness import MOST_WITNESSES
from tandem.core.quorum import Rules
from tandem.witness.voter import rules_of

SECRET = "x8Tz0o2u9vbbfN4rkLm2"
PEER = f"config peer 'r2'\n\tlist address '192.168.1.3'\n\toption secret '{SECRET}'\n"
TWO_NODE = "\toption two_node '1'\n"
THIRD = f"config witness 'third'\n\toption address '192.168.9.9'\n\toption secret '{SECRET}'\n"
OPEN = THIRD.replace(f"\toption secret '{SECRET}'\n", "")
PINGED = THIRD + "\toption kind 'ping'\n"

INSTANCE = (
    "config vrrp_instance 'I1'\n\toption interface 'lan'\n\toption virtual_router_id '51'\n"
    "\tlist virtual_ipaddress '192.168.9.9/24'\n"
)


def loaded(policy: str, *sections: str, options: str = "") -> Loaded:
    return load_text(
        f"config globals\n\toption witness_policy '{policy}'\n{options}" + "".join(sections), "f"
    )


def problems(found: Loaded) -> list[str]:
    return [problem.reason for problem in (*found.errors, *found.warnings)]


def test_a_witness_of_each_kind() -> None:
    text = (
        THIRD
        + "config witness\n\toption name 'p'\n\toption kind 'ping'\n\toption address '192.0.2.1'\n"
        + "config witness 't'\n\toption kind 'tcp'\n\toption address '2001:db8::1'\n\toption port '53'\n"
        "\toption interval '0.5'\n\toption fall '2'\n"
    )
    found = loaded("required", PEER, text)
    assert problems(found) == [] and found.config is not None
    assert found.config.witnesses == (
        Witness("third", "192.168.9.9", "tandem", 3781, SECRET.encode()),
        Witness("p", "192.0.2.1", "ping"),
        Witness("t", "2001:db8::1", "tcp", 53, b"", 500, 2),
    )
    assert rules_of(found.config) == Rules("required", ("r2",), "third")
    effective = render(found.config)
    assert SECRET not in effective and "\toption port '3781'\n" in effective
    assert "witness_policy 'required'" in effective


def test_a_server() -> None:
    files = "\tlist secret_file '/a'\n\tlist secret_file '/b'\n"
    text = f"config witness_server\n\toption enabled '1'\n\toption lease '2'\n{files}"
    found = load_text(text, "f")
    assert problems(found) == [] and found.config is not None
    assert found.config.witness_server == WitnessServer(True, "", 3781, 2000, ("/a", "/b"))
    assert load_text(render(found.config), "f").config == found.config


@pytest.mark.parametrize(
    ("policy", "sections", "options", "reason"),
    [
        ("required", (), "", "needs a peer with a channel (config peer), or a witness"),
        ("required", (PEER,), "", "with two routers and no witness of kind tandem no router is active"),
        ("required", (PEER, THIRD), TWO_NODE, "is for two votes; here 3 are expected"),
        ("none", (PEER, THIRD), "", "is none: no witness is asked"),
        ("none", (PEER,), TWO_NODE, "has no effect: witness_policy is none"),
        ("required", (PEER, THIRD, THIRD.replace("third", "fourth")), "", "two votes would decide nothing"),
        ("required", (PEER, OPEN), "", "is missing: the witness"),
        ("required", (PEER, PINGED), "",
         "only a witness of kind tandem has a secret"),
        ("required", (PEER, "config witness\n\toption kind 'tcp'\n\toption address '192.0.2.1'\n"), "",
         "is missing: which port"),
        ("required", (PEER, THIRD, "config witness_server\n\toption enabled '1'\n"), "",
         "without a secret it answers nobody"),
        ("required", (PEER, THIRD, "config witness_server\n" * 2), "",
         "there is a witness_server section already, at line 9"),
        ("required", (PEER, PINGED.replace(f"\toption secret '{SECRET}'\n", "") + "\toption port '7'\n"), "",
         "has no effect: a ping has no port"),
        ("required", (PEER, THIRD, INSTANCE), "", "is a virtual address of 'I1'"),
        ("required", (PEER, THIRD + "\toption secret_file '/a'\n"), "", "contradicts secret"),
    ],
)  # fmt: skip
def test_what_does_not_fit(policy: str, sections: tuple[str, ...], options: str, reason: str) -> None:
    found = problems(loaded(policy, *sections, options=options))
    assert any(reason in one for one in found), found


@pytest.mark.parametrize("peers", range(4))
@pytest.mark.parametrize("witness", ["", THIRD, PINGED.replace(f"\toption secret '{SECRET}'\n", "")])
def test_two_node_is_for_one_vote_beside_our_own(peers: int, witness: str) -> None:
    """That of a router, or of a witness of kind tandem; a witness that is pinged has none."""
    others = "".join(
        PEER.replace("'r2'", f"'r{number}'").replace("192.168.1.3", f"192.168.1.{number}")
        for number in range(2, 2 + peers)
    )
    votes = 1 + peers + (witness == THIRD)
    found = [problem.reason for problem in loaded("required", others, witness, options=TWO_NODE).errors]
    if not peers and not witness:
        assert found[0].startswith("needs a peer with a channel")
    assert (f"is for two votes; here {votes} are expected" in found) is (votes != 2)


def test_witnesses_are_bounded() -> None:
    ping = "config witness 'w{0}'\n\toption kind 'ping'\n\toption address '192.0.2.{0}'\n"
    text = "".join(ping.format(number) for number in range(1, MOST_WITNESSES + 2))
    assert problems(loaded("advisory", PEER, text)) == [f"more than {MOST_WITNESSES} witnesses"]
    assert problems(loaded("advisory", PEER, text.rpartition("config")[0])) == []


@pytest.mark.parametrize(
    ("options", "waits"),
    [("", False), (TWO_NODE, True), (TWO_NODE + "\toption wait_for_all '0'\n", False),
     ("\toption wait_for_all '1'\n", True)],
)  # fmt: skip
def test_two_node_turns_wait_for_all_on(options: str, waits: bool) -> None:
    found = loaded("advisory", PEER, options=options)
    assert found.config is not None, problems(found)
    assert rules_of(found.config).wait_for_all is waits
