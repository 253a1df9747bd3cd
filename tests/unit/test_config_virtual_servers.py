# SPDX-License-Identifier: GPL-2.0-or-later
"""`config virtual_server` and `config real_server`: what they make, and every error."""

from __future__ import annotations

import pytest

from tandem.config.effective import render
from tandem.config.load import load_text
from tandem.core.settings import RealServer, VirtualServer

HEAD = """
config vrrp_instance 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	list virtual_ipaddress '192.168.1.4/24'

config check 'alive'
	option kind 'tcp'
"""


def virtual(*lines: str, name: str = "web") -> str:
    options = ("option ipaddr '192.168.1.4'", "option port '80'", "list real_server 's1 s2'")
    given = {line.split()[1] for line in lines}
    kept = [line for line in options if line.split()[1] not in given]
    return f"\nconfig virtual_server '{name}'\n" + "".join(f"\t{line}\n" for line in (*kept, *lines))


def real(name: str, *lines: str, address: str = "10.0.0.1") -> str:
    return f"\nconfig real_server '{name}'\n\toption ipaddr '{address}'\n" + "".join(
        f"\t{x}\n" for x in lines
    )


S1, S2 = real("s1", "list check 'alive'"), real("s2", "option weight '3'", address="10.0.0.2")


def test_what_they_make() -> None:
    text = (
        HEAD
        + virtual("option lb_algo 'rr'", "option sorry_server_ip '10.0.0.9'", "option masquerade '1'")
        + S1
        + S2
    )
    loaded = load_text(text, "f")
    assert (loaded.errors, loaded.warnings) == ((), ()) and loaded.config is not None
    assert loaded.config.virtual_servers == (
        VirtualServer(
            "web", "192.168.1.4", 80, algorithm="rr", servers=("s1", "s2"), sorry_address="10.0.0.9",
            masquerade=True,
        ),
    )  # fmt: skip
    assert loaded.config.real_servers == (
        RealServer("s1", "10.0.0.1", checks=("alive",)),
        RealServer("s2", "10.0.0.2", weight=3),
    )
    again = load_text(render(loaded.config), "f").config
    assert again is not None
    assert (again.virtual_servers, again.real_servers) == (
        loaded.config.virtual_servers,
        loaded.config.real_servers,
    )


def test_what_is_not_enabled() -> None:
    text = HEAD + virtual() + virtual("option enabled '0'", "option port '81'", name="off") + S1
    config = load_text(text + real("s2", "option enabled '0'", address="10.0.0.2"), "f").config
    assert config is not None and [server.name for server in config.virtual_servers] == ["web"]
    assert [(server.name, server.weight) for server in config.real_servers] == [("s1", 1), ("s2", 0)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            virtual() + S1,
            "option 'real_server', value 's2': there is no real_server of this name; there is s1",
        ),
        (virtual("list real_server 's1 s1'") + S1, "value 's1': is listed twice"),
        (virtual("option lb_algo 'lc'") + S1 + S2, "option 'lb_algo', value 'lc': must be sh, rr or wrr"),
        (virtual("option lb_kind 'DR'") + S1 + S2, "option 'lb_kind', value 'DR': must be NAT"),
        (virtual("option protocol 'sctp'") + S1 + S2, "option 'protocol', value 'sctp': must be tcp or udp"),
        (
            virtual("option sorry_server_port '8'") + S1 + S2,
            "option 'sorry_server_port', value '8': needs sorry",
        ),
        (virtual("option ipaddr 'fd00::4'") + S1 + S2, "10.0.0.1 is not of the address family of ipaddr"),
        (virtual("option sorry_server_ip 'fd00::1'") + S1 + S2, "fd00::1 is not of the address family"),
        (
            virtual() + virtual(name="two") + S1 + S2,
            "virtual_server 'web' has this address, port and protocol",
        ),
        (
            virtual() + virtual("option port '81'", name="two") + S1 + S2,
            "virtual servers have the ports 80, 81",
        ),
        (
            virtual() + S1 + S2 + real("s3"),
            "section 's3' (real_server): is not used: no virtual_server names it",
        ),
        (
            virtual() + real("s1", "list check 'x'") + S2,
            "option 'check', value 'x': there is no check of this",
        ),
        (
            virtual() + real("s1", "option url 'x'") + S2,
            "option 'url', value 'x': not supported: write a config",
        ),
        (virtual("option fwmark '7'") + S1 + S2, "option 'fwmark', value '7': not supported: give ipaddr"),
    ],
)
def test_problems(text: str, problem: str) -> None:
    loaded = load_text(HEAD + text, "f")
    assert problem in "\n".join(map(str, (*loaded.errors, *loaded.warnings)))


def test_bounds() -> None:
    many = "".join(real(f"s{number}") for number in range(130))
    names = " ".join(f"s{number}" for number in range(33))
    text = HEAD + virtual(f"list real_server '{names}'") + many
    text += "".join(
        virtual(f"option port '{number}'", "list real_server 's0'", name=f"v{number}")
        for number in range(1, 66)
    )
    said = "\n".join(map(str, load_text(text, "f").errors))
    for reason in ("more than 32 real servers", "more than 64 virtual servers", "more than 128 real servers"):
        assert reason in said


@pytest.mark.parametrize(("kind", "address", "right"), [
    ("arp", "10.0.0.1", True), ("ping", "2001:db8::1", True), ("arp", "2001:db8::1", False),
])  # fmt: skip
def test_ipv6_servers_have_no_arp(kind: str, address: str, right: bool) -> None:
    more = "\n\toption interface 'eth0'" if kind == "arp" else ""
    own = "2001:db8::4" if ":" in address else "192.168.1.4"
    both = "'192.168.1.4/24'\n\tlist virtual_ipaddress_excluded '2001:db8::4/64'"
    head = HEAD.replace("'192.168.1.4/24'", both).replace("kind 'tcp'", f"kind '{kind}'{more}")
    web = virtual(f"option ipaddr '{own}'", "list real_server 's1'")
    text = head + web + real("s1", "list check 'alive'", address=address)
    reasons = [problem.reason for problem in load_text(text, "f").errors]
    assert reasons == ([] if right else ["real_server 's1' has an IPv6 address, which has no ARP"])
