# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of fw4's rules for virtual devices: which of them a table lacks. On the genuine fw4: tests/netns."""

from __future__ import annotations

import re

import pytest

from tandem.effects.fw4_zones import missing

LISTING = """\
table inet fw4 { # handle 5
	ct helper amanda { # handle 90
		type "amanda" protocol udp
		l3proto inet
	}

	flowtable ft { # handle 91
		hook ingress priority filter
		devices = { br-lan, wan }
	}

	chain tandem_input { # handle 1
		iifname "br-lan" ip daddr 224.0.0.18 ip ttl 255 meta l4proto 112 accept # handle 40
	}

	chain input { # handle 2
		type filter hook input priority filter; policy drop;
		iifname "lo" accept comment "!fw4: Accept traffic from loopback" # handle 41
		tcp flags & (fin | syn | rst | ack) == syn jump syn_flood comment "!fw4: # handle 7" # handle 42
		iifname { "br-lan", "wg0" } jump input_lan comment "!fw4: Handle lan input" # handle 43
		iifname "wan" jump input_wan # handle 44
		jump handle_reject # handle 45
	}

	chain accept_to_lan { # handle 3
		oifname "br-lan" counter packets 12 bytes 3456 accept comment "!fw4: accept lan" # handle 46
		iifname "br-lan" oifname "br-lan" accept # handle 47
		iifname != "br-lan" drop # handle 48
		iifname "br-*" oifname "wan" log prefix "# handle 1" # handle 49
	}
}
"""
BASES = {"vrrp.51": "br-lan"}
COPIES = [
    'add rule inet fw4 input handle 43 iifname "vrrp.51" jump input_lan',
    'add rule inet fw4 accept_to_lan handle 46 oifname "vrrp.51" counter accept',
    'add rule inet fw4 accept_to_lan handle 47 iifname "vrrp.51" oifname "br-lan" accept',
    'add rule inet fw4 accept_to_lan handle 47 iifname "br-lan" oifname "vrrp.51" accept',
    'add rule inet fw4 accept_to_lan handle 47 iifname "vrrp.51" oifname "vrrp.51" accept',
    'add rule inet fw4 accept_to_lan handle 49 iifname "vrrp.51" oifname "wan" log prefix "# handle 1"',
]
COMMENT = ' comment "!tandem: as for br-lan"'


def applied(listing: str, script: list[str]) -> str:
    """The listing after nft has done this."""
    lines, fresh = listing.splitlines(), 1000
    for command in script:
        if done := re.fullmatch(r"delete rule inet fw4 (\S+) handle (\d+)", command):
            lines = [line for line in lines if not line.endswith(f" # handle {done[2]}")]
        elif done := re.fullmatch(r"add rule inet fw4 (\S+) handle (\d+) (.*)", command):
            at = next(n for n, line in enumerate(lines) if line.endswith(f" # handle {done[2]}"))
            text = done[3].replace("counter", "counter packets 0 bytes 0")
            lines.insert(at + 1, f"\t\t{text} # handle {fresh}")
            fresh += 1
    return "\n".join(lines)


def test_every_rule_with_the_interface_has_a_copy_beside_it() -> None:
    assert missing(LISTING, BASES) == [copy + COMMENT for copy in COPIES]


def test_nothing_is_done_twice() -> None:
    assert missing(applied(LISTING, missing(LISTING, BASES)), BASES) == []


def test_what_is_not_wanted_any_more_goes() -> None:
    zoned = applied(LISTING, missing(LISTING, BASES))
    assert sorted(applied(zoned, missing(zoned, {})).split("\n")) == sorted(
        LISTING.removesuffix("\n").split("\n")
    )
    other = missing(zoned, {"vrrp.51": "wan"})
    assert [line for line in other if "delete" in line] and any("input_wan" in line for line in other)
    assert missing(applied(zoned, other), {"vrrp.51": "wan"}) == []


def test_what_the_zone_names_itself_needs_no_copy() -> None:
    """As `list device 'vrrp.51'` in /etc/config/firewall does."""
    listing = LISTING.replace('"br-lan", "wg0"', '"br-lan", "vrrp.51"')
    assert not any("input handle" in line for line in missing(listing, BASES))


def test_what_waits_is_set_free_when_the_copies_are_there() -> None:
    listing = LISTING.replace(
        "chain input {",
        'chain tandem_zones {\n\t\tiifname "vrrp.51" drop # handle 60\n\t}\n\n\tchain input {',
    )
    script = missing(listing, BASES)
    assert script[0] == "flush chain inet fw4 tandem_zones"
    assert script[1:] == missing(LISTING, BASES)


@pytest.mark.parametrize("text", ["", "table inet fw4 { # handle 5\n}\n", "no such thing\n"])
def test_nothing_to_do_without_rules(text: str) -> None:
    assert missing(text, BASES) == []
