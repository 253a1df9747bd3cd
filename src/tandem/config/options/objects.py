# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the sections that others name: scripts, addresses, routes, rules, trackers; and static ones."""

from __future__ import annotations

from dataclasses import replace

from tandem.config.option import Option, Table, switch
from tandem.config.options.common import REFERENCE, name
from tandem.config.syntax import words
from tandem.config.syntax.address import write_address
from tandem.config.syntax.route import write_route
from tandem.config.syntax.rule import RULE_ACTIONS, write_rule
from tandem.config.syntax.track import read_weight, write_weight
from tandem.config.values import (
    ADDRESS,
    COMMAND,
    DEVICE,
    NAME,
    TEXT,
    USER,
    Kind,
    choice,
    interface,
    network,
    seconds,
    whole,
)


def _prefix(text: str) -> str:
    return text if text == "default" else str(network(text))


def _word(text: str) -> str:
    if len(text.split()) != 1:
        raise ValueError
    return text


_WORD = Kind("one word", _word)  # `syntax` reads it together with the other words of its text
_SCOPE = Kind("global, site, link or host", words.scope)
_DIRECTION = choice("reverse", "noreverse")

SCRIPT: Table = {
    "name": name("The name of the script.", "name"),
    "script": Option(
        COMMAND, None, "The command; exit status 0 means that what it checks is up.", "argv", required=True
    ),
    "interval": Option(seconds("0.1", "86400"), "1", "The command runs in this interval.", "interval_ms"),
    "timeout": Option(
        seconds("0.1", "86400"),
        None,
        "A run that takes longer counts as down. Default: interval.",
        field="timeout_ms",
    ),
    "rise": Option(whole(1, 1000), "1", "So many good runs in sequence mean up.", "rise"),
    "fall": Option(whole(1, 1000), "1", "So many bad runs in sequence mean down.", "fall"),
    "weight": Option(
        Kind("a whole number from -253 to 253, then maybe 'reverse'", read_weight, write_weight),
        "0",
        "The priority that the script is worth where a tracker names no weight; 0: down is a fault.",
    ),
    "direction": Option(_DIRECTION, None, "With reverse, up counts as down. Default: as weight says."),
    "user": Option(
        USER,
        None,
        "The script runs as this user, and group. Default: script_user of globals.",
        shown=lambda found: (found.user, found.group) if found.user else None,
    ),
    "init_fail": switch("0", "The script counts as down until it has been up.", "init_fail"),
}

IPADDRESS: Table = {
    "name": name("virtual_ipaddress names the section by this."),
    "address": Option(
        Kind("an IP address with prefix length", interface, type="address"),
        None,
        "The address.",
        required=True,
    ),
    "device": Option(DEVICE, None, "The address stands on this network or device. Default: the instance's."),
    "scope": Option(_SCOPE, "global", "The scope, see ip-address(8)."),
    "label_suffix": Option(TEXT, None, "The label of the address is device:suffix. Default: vip."),
}

ROUTE: Table = {
    "name": name("virtual_routes names the section by this."),
    "address": Option(
        Kind("a prefix without host bits, or default", _prefix, type="network"),
        None,
        "The destination.",
        required=True,
    ),
    "src_addr": Option(ADDRESS, None, "The router's own connections use this source address."),
    "gateway": Option(ADDRESS, None, "The next router."),
    "device": Option(DEVICE, None, "The route leads over this network or device. Default: the instance's."),
    "scope": Option(_SCOPE, None, "The scope. Default: as ip-route(8) chooses it."),
    "table": Option(
        Kind("main, local, default or a number", words.table), "main", "The route stands in this table."
    ),
    "metric": Option(Kind("a whole number", words.metric, type="integer"), None, "The lowest metric wins."),
    "mtu": Option(
        Kind("a whole number", words.mtu, type="integer", unit="bytes"), None, "The MTU of the route."
    ),
    "onlink": switch("0", "The gateway is on the link even if no address says so."),
    "proto": Option(
        Kind("a known name or a number", words.protocol), None, "The protocol. Default: Tandem's own."
    ),
    "blackhole": switch("0", "Packets to the destination are discarded."),
}

RULE_WORDS = (
    "from", "to", "iif", "oif", "fwmark", "tos", "priority", "table", "goto", "suppress_prefixlength",
)  # fmt: skip
RULE: Table = {
    "name": name("virtual_rules names the section by this."),
    "from": Option(_WORD, None, "The rule is for packets from this prefix; or all."),
    "to": Option(_WORD, None, "The rule is for packets to this prefix; or all."),
    "iif": Option(DEVICE, None, "The rule is for packets that come in by this network or device."),
    "oif": Option(
        DEVICE, None, "The rule is for packets of sockets that are bound to this network or device."
    ),
    "fwmark": Option(_WORD, None, "The rule is for packets with this mark: MARK or MARK/MASK."),
    "tos": Option(_WORD, None, "The rule is for packets with this type of service."),
    "not": switch("0", "The rule is for all packets but these."),
    "priority": Option(
        _WORD, None, "The kernel tries rules of lower priority first. Default: from 16384 up."
    ),
    "table": Option(_WORD, None, "Packets use this table: main, local, default or a number."),
    "action": Option(choice(*RULE_ACTIONS), None, "This happens to packets, instead of a table."),
    "goto": Option(_WORD, None, "The kernel goes on with the rule of this priority."),
    "suppress_prefixlength": Option(
        _WORD, None, "Routes of the table with a prefix this long or shorter are left out."
    ),
    "inet6": switch("0", "The rule is for IPv6, where no address says so."),
}

TRACK_INTERFACE: Table = {
    "name": name("track_interface names the section by this."),
    "value": Option(DEVICE, None, "The network or device.", required=True),
    "weight": Option(whole(-253, 253), "0", "The priority that it is worth; 0: down is a fault."),
    "direction": Option(_DIRECTION, "noreverse", "With reverse, up counts as down."),
}

TRACK_SCRIPT: Table = {
    "name": name("track_script names the section by this."),
    "value": Option(NAME, None, "The name of the vrrp_script.", required=True),
    "weight": Option(
        whole(-253, 253), None, "The priority that it is worth. Default: the weight of the vrrp_script."
    ),
    "direction": Option(
        _DIRECTION, None, "With reverse, up counts as down. Default: as the vrrp_script says."
    ),
}

STATIC: dict[str, Table] = {
    kind: {
        option: Option(
            replace(REFERENCE, write=write),
            None,
            f"{what} that are kept in place whatever the role.",
            shown=lambda found: found,
            many=True,
        )
    }
    for kind, option, write, what in (
        ("static_ipaddress", "address", write_address, "ipaddress sections or addresses"),
        ("static_routes", "route", write_route, "route sections or routes"),
        ("static_rules", "rule", write_rule, "rule sections or rules"),
    )
}
