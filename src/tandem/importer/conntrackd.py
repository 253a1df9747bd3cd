# SPDX-License-Identifier: GPL-2.0-or-later
"""A conntrackd.conf to `config peer` and `config conntrack_sync`.

conntrackd's file is a sequence of words in which only braces matter, with `#` comments (its
read_config_lex.l). Tandem has one protocol of its own between the routers, so that of its modes and
tuning nothing is left to say but which peer, over which path, and which connections.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from tandem.config import sync_values
from tandem.config.problem import Problem
from tandem.importer.draft import Draft, Origin, Section
from tandem.importer.keepalived import Statement, Tree

DEFAULT_SECRET = "/etc/tandem/secret"
MOST_NESTING = 32

_TOKEN = re.compile(r"#[^\n]*|\"([^\"\n]*)\"?|[{}]|[^\s{}\"#]+")
_LINKS = ("Multicast", "UDP", "TCP")
_ADDRESS_WORDS = ("IPv4_address", "IPv6_address")
_DESTINATION_WORDS = ("IPv4_Destination_Address", "IPv6_Destination_Address")
_SOURCE_WORDS = ("IPv4_interface", "IPv6_interface")
_NOT_OURS = {
    "Stats": "not supported: `tandem status` and `tandem conntrack` show what is replicated",
    "Helper": "not supported: what belongs to a helper's connection (FTP, SIP) is replicated with it",
}


def parse(text: str, file: str) -> Tree:
    """The file as a tree; never raises, whatever the text holds.

    A word at the beginning of a line begins a statement; a block belongs to the statement before it.
    """
    tree = Tree()
    blocks: list[Statement] = []
    current: Statement | None = None
    for number, line in enumerate(text.split("\n"), 1):
        current = None
        for match in _TOKEN.finditer(line):
            word = match[0]
            level = tree.statements if not blocks else blocks[-1].inside()
            if word.startswith("#"):
                break
            if word == "}":
                current = None
                if blocks:
                    blocks.pop()
                else:
                    tree.problems.append(Problem(file, number, "'}' without a block that it could close"))
            elif word == "{":
                opener = current or (level[-1] if level else None)
                if opener is None or opener.block is not None or len(blocks) >= MOST_NESTING:
                    tree.problems.append(
                        Problem(file, number, "'{' that nothing is before; the rest is not read")
                    )
                    return tree
                opener.block = []
                blocks.append(opener)
                current = None
            else:
                value = match[1] if word.startswith('"') else word
                if current is None:
                    current = Statement([value], line.strip(), file, number)
                    level.append(current)
                else:
                    current.words.append(value)
    tree.problems += [
        Problem(file, block.line, f"the block '{block.keyword}' that begins here is never closed")
        for block in blocks
    ]
    return tree


def convert(tree: Tree, draft: Draft, peer: str | None, secret_file: str, enabled: bool) -> None:
    """Add what the tree says to the draft.

    `peer` is the other router's address, where the file does not tell it or another one is wanted;
    without `enabled` the channel comes out switched off.
    """
    draft.left_out += tree.problems
    sync = next((statement for statement in tree.statements if statement.keyword == "Sync"), None)
    for statement in tree.statements:
        if statement.keyword in _NOT_OURS:
            draft.leave_out(_origin(statement), _NOT_OURS[statement.keyword])
        elif statement.keyword not in ("Sync", "General"):
            draft.leave_out(_origin(statement), "unknown section; it has Sync and General")
    if sync is None:
        return
    channel = draft.section("peer", _origin(sync))
    channel.name = "other"
    draft.put(channel, "enabled", "1" if enabled else "0", _origin(sync))
    section = draft.section("conntrack_sync", _origin(sync))
    section.name = "sync"
    draft.put(section, "enabled", "1", _origin(sync))
    links = [inner for inner in sync.inside() if inner.keyword in _LINKS]
    for inner in sync.inside():
        if inner.keyword == "Mode":
            mode = inner.argument() or ""
            draft.remark(_origin(inner), f"{mode}: Tandem has one way, reliable and resynchronised by itself")
        elif inner not in links and inner.keyword != "Options":
            draft.leave_out(_origin(inner), "unknown; Sync has Mode, Multicast, UDP, TCP and Options")
    _links(links, channel, draft, peer, _origin(sync))
    draft.put(channel, "secret_file", secret_file, _origin(sync))
    if channel.get("address") is None:
        draft.sections.remove(channel)
        draft.sections.remove(section)
    for general in tree.statements:
        if general.keyword == "General":
            _general(general, section, draft)


def _origin(statement: Statement) -> Origin:
    return Origin(statement.file, statement.line, statement.text)


def _words(statement: Statement) -> Iterator[tuple[str, str, Origin]]:
    """Keywords of a block with their values, wherever its lines end."""
    for inner in statement.inside():
        for at in range(0, len(inner.words), 2):
            word = inner.words[at]
            value = inner.words[at + 1] if at + 1 < len(inner.words) else ""
            yield word, value, Origin(inner.file, inner.line, f"{word} {value}".strip())


# the way to the peer


def _links(links: list[Statement], channel: Section, draft: Draft, peer: str | None, sync: Origin) -> None:
    """One path for each link; the one marked Default first. Multicast does not tell the peer."""
    paths: list[tuple[str, Origin]] = []
    port: tuple[str, Origin] | None = None
    for link in sorted(links, key=lambda link: "Default" not in link.words):
        destination = "" if peer is None else peer
        source = interface = ""
        for word, value, where in _words(link):
            if word in _DESTINATION_WORDS:
                destination = destination or value
            elif word in _SOURCE_WORDS or (word in _ADDRESS_WORDS and link.keyword != "Multicast"):
                source = value
            elif word == "Interface":
                interface = value
            elif word in ("Port", "Group"):
                if port is not None and port[0] != value:
                    draft.leave_out(where, f"all paths have one port, and that is {port[0]}")
                port = port or (value, where)
            elif word not in (*_ADDRESS_WORDS, "SndSocketBuffer", "RcvSocketBuffer", "Checksum"):
                draft.leave_out(where, f"unknown in {link.keyword}")
        if not destination:
            draft.leave_out(
                _origin(link),
                "a multicast group does not tell which router the peer is: give its address with --peer",
            )
            continue
        path = [destination, *(["dev", interface] if interface else []), *(["src", source] if source else [])]
        paths.append((" ".join(path), _origin(link)))
        if peer is not None:
            break  # it is the address on one of these links; the first is the one that is used
    if not links and peer is not None:
        paths.append((peer, sync))
    for address, where in paths:
        draft.put_item(channel, "address", address, where)
    if port is not None:
        draft.put(channel, "port", port[0], port[1])


# which connections


_GENERAL = (  # needless here, and dropped silently
    "Nice", "HashSize", "LogFile", "Syslog", "LockFile", "UNIX", "Unix", "NetlinkBufferSize",
    "NetlinkBufferSizeMaxGrowth", "NetlinkOverrunResync", "NetlinkEventsReliable", "PollSecs",
    "EventIterationLimit", "Systemd", "Scheduler", "Family",
)  # fmt: skip
_SYNONYMS = {"CLOSED": "CLOSE"}  # of TCP states, in its read_config_lex.l
_NEVER = ("LISTEN", "NONE")
_OWN = ("virtual_ipaddress", "virtual_ipaddress_excluded", "mcast_src_ip", "unicast_src_ip", "source")


def _general(general: Statement, section: Section, draft: Draft) -> None:
    for inner in general.inside():
        where = _origin(inner)
        if inner.keyword == "Filter":
            _filter(inner, section, draft)
        elif inner.keyword == "HashLimit":
            draft.put(section, "limit_entries", inner.argument() or "", where)
        elif inner.keyword not in _GENERAL:
            draft.leave_out(where, "unknown in General")


def _filter(statement: Statement, section: Section, draft: Draft) -> None:
    for inner in statement.inside():
        what, how = inner.keyword, inner.argument()
        if how not in ("Accept", "Ignore"):
            if inner.keyword != "for":
                draft.leave_out(
                    _origin(inner), "a filter has Protocol, Address and State, with Accept or Ignore"
                )
        elif what == "Protocol":
            for item in inner.inside():
                for word in item.words:
                    draft.put_item(
                        section,
                        "protocol" if how == "Accept" else "ignore_protocol",
                        word.lower(),
                        _origin(item),
                    )
        elif what == "Address":
            for _, value, where in _words(inner):
                _address(value, how == "Accept", section, draft, where)
        elif what == "State":
            _states(inner, how == "Accept", section, draft)
        else:
            draft.leave_out(_origin(inner), "unknown in a filter; it has Protocol, Address and State")


def _address(value: str, accept: bool, section: Section, draft: Draft, where: Origin) -> None:
    """Take an address of the filter; Tandem leaves the router's own connections out by itself."""
    if not accept and _is_own(value, draft):
        draft.remark(where, "not needed: the router's own connections are left out unless local is 1")
    else:
        draft.put_item(section, "address" if accept else "ignore_address", value, where)


def _is_own(value: str, draft: Draft) -> bool:
    """Return whether an address is this router's: loopback, virtual, or one that it sends from."""
    try:
        if ipaddress.ip_interface(value).ip.is_loopback:
            return True
    except ValueError:
        return False
    return value in (address for section in draft.sections for address in _own_addresses(section))


def _own_addresses(section: Section) -> Iterator[str]:
    for entry in section.entries:
        words = entry.value.split()
        if entry.name in _OWN:
            yield words[0].partition("/")[0]
        elif entry.name == "address" and "src" in words[:-1]:
            yield words[words.index("src") + 1]


def _states(statement: Statement, accept: bool, section: Section, draft: Draft) -> None:
    """`{ ESTABLISHED CLOSED ... for TCP }`: states of TCP, as Tandem knows no others."""
    words = [(word, _origin(item)) for item in statement.inside() for word in item.words]
    names = [word for word, _ in words]
    if "for" in names:
        at = names.index("for")
        protocol = " ".join(names[at + 1 :])
        words = words[:at]
        if protocol.upper() != "TCP":
            draft.leave_out(_origin(statement), f"{protocol} has no states here: all its flows count")
            return
    found = {_SYNONYMS.get(word.upper(), word.upper()): where for word, where in words}
    if not accept:
        rest = (name for name in sync_values.STATE_NAMES.values() if name not in found)
        found = {name: _origin(statement) for name in rest}
    for name, where in found.items():
        if name in _NEVER:
            draft.remark(where, f"no connection through a router is in the state {name}")
        else:
            draft.put_item(section, "tcp_state", name, where)
