# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses, routes, rules and trackers of keepalived.conf, written as Tandem reads them.

The words are keepalived's, which are those of ip(8). Words that keepalived ignores are left out. Of an option
that Tandem lacks, only the option is left out when the other words still say where packets go. Otherwise (a
route that encapsulates, a rule for some ports) the whole item is left out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tandem.config.problem import suggestion
from tandem.config.syntax.route import ROUTE_OPTIONS
from tandem.config.syntax.rule import RULE_OPTIONS
from tandem.config.syntax.words import TABLES, scope
from tandem.config.values import Interface
from tandem.importer import reading

# Words that change nothing on the network, with as many words after each.
_HINTS = {"no_track": 0, "track_group": 1}
_ADDRESS_HINTS = {**_HINTS, "home": 0, "mngtmpaddr": 0, "noprefixroute": 0, "autojoin": 0, "use_vmac": 0}
_ROUTE_HINTS = {
    **_HINTS, "hoplimit": 1, "rtt": 1, "rttvar": 1, "reordering": 1, "window": 1, "cwnd": 1, "ssthresh": 1,
    "rto_min": 1, "initcwnd": 1, "initrwnd": 1, "quickack": 1, "congctl": 1, "fastopen_no_cookie": 1,
    "features": 1, "realms": 1, "pref": 1, "ttl-propagate": 1, "expires": 1,
}  # fmt: skip
_LOCKS = ("mtu", "advmss", "rtt", "rttvar", "reordering", "rto_min", "congctl", "cwnd", "ssthresh")
_ADDRESS_WORDS = ("dev", "scope", "label", "brd", "broadcast", "peer", "preferred_lft")
_RULE_HINTS = {**_HINTS, "protocol": 1, "realms": 1}
_NEXTHOP_WORDS = ("via", "dev", "weight")

Tables = Mapping[str, int]
"""Numbers of the routing tables that have names in /etc/iproute2/rt_tables."""


@dataclass(slots=True)
class Item:
    """One line of a block; None: it is left out. Each note says what was lost."""

    text: str | None = None
    notes: list[str] = field(default_factory=list)


class _Words:
    """The words of a line, read one by one, and what has been written of them."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.at = list(words), 0
        self.kept: list[list[str]] = []  # an option and its value each, or a single word
        self.notes: list[str] = []
        self._options: dict[str, list[str]] = {}  # those of `kept` by the name of the option

    def more(self) -> bool:
        return self.at < len(self.words)

    def next(self) -> str:
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else ""

    def peek(self) -> str:
        return self.words[self.at] if self.more() else ""

    def keep(self, *words: str, option: str = "") -> None:
        """Write words. Those of an `option` replace its earlier ones: for keepalived the last one counts."""
        if option and (before := self._options.get(option)) is not None:
            self.notes.append(f"'{' '.join(before)}' is overridden by '{' '.join(words)}', as in keepalived")
            before[:] = words
            return
        self.kept.append(list(words))
        if option:
            self._options[option] = self.kept[-1]

    def has(self, option: str) -> bool:
        return option in self._options

    def text(self) -> str:
        return " ".join(word for group in self.kept for word in group)

    def drop(self, word: str, count: int) -> None:
        """Leave out an option and the words that belong to it."""
        dropped = " ".join([word, *(self.next() for _ in range(count))]).strip()
        self.notes.append(f"'{dropped}' is not supported; the rest is imported")


def address(words: Sequence[str]) -> Item:
    """An address, which keepalived expects first; it ignores what it does not know (alloc_ipaddress())."""
    line = _Words(words)
    first = line.next()
    found = _interface(first)
    if found is None:
        return Item(None, [f"'{first}' is not an address: keepalived ignores the line as well"])
    if first != str(found) and "/" in first:
        line.notes.append(f"counts as {found}, as in keepalived")
    options: dict[str, str] = {}
    while line.more():
        word = line.next()
        if word in _ADDRESS_HINTS:
            if word != "no_track":
                line.drop(word, _ADDRESS_HINTS[word])
        elif word == "-nodad":
            options.setdefault(word, "")
        elif word not in _ADDRESS_WORDS:
            line.notes.append(f"'{word}' is ignored, as in keepalived: it reads one address on a line")
        elif not line.more():
            return Item(None, [f"'{word}' needs a value: keepalived ignores the line as well"])
        else:
            _address_option(line, found, options, word, line.next())
    if lost := _impossible(found, options):
        return Item(None, [f"{lost}: keepalived ignores the line as well"])
    host = "/" not in first or "peer" in options  # the address of a peer is a host's, and so is this one
    return Item(" ".join([str(found.ip) if host else str(found), *_pairs(options)]), line.notes)


def _pairs(options: Mapping[str, str]) -> list[str]:
    return [f"{name} {value}".strip() for name, value in options.items()]


def _interface(text: str) -> Interface | None:
    """The address with its prefix length; a wrong length is that of a single host (parse_ipaddress())."""
    host, slash, length = text.partition("/")
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return None
    bits = reading.number(length, 0, found.max_prefixlen) if slash else None
    return ipaddress.ip_interface(f"{host}/{found.max_prefixlen if bits is None else bits}")


def _address_option(line: _Words, found: Interface, options: dict[str, str], word: str, value: str) -> None:
    if _is_ignored(found, options, word, value):
        line.notes.append(f"'{word} {value}' is ignored, as in keepalived")
    elif word == "dev" and "dev" in options:
        options["twice"] = "dev"
    elif word == "preferred_lft" and value != "forever":
        options[word] = str(reading.number(value, 0, 0xFFFFFFFF))
    else:
        options["brd" if word == "broadcast" else word] = value


def _is_ignored(found: Interface, options: dict[str, str], word: str, value: str) -> bool:
    match word:
        case "scope":
            return found.version == 6 or not _reads(scope, value)
        case "label":
            return found.version == 6
        case "peer":
            return "peer" in options or _family(value) != found.version
        case "preferred_lft":
            return value != "forever" and reading.number(value, 0, 0xFFFFFFFF) is None
    return False


def _impossible(found: Interface, options: dict[str, str]) -> str | None:
    """Return why keepalived ignores the whole line; drop a broadcast address that it does not set."""
    if options.pop("twice", None):
        return "dev is given twice"
    if found.version == 6 and "brd" in options:
        return "IPv6 has no broadcast addresses"
    brd = options.get("brd")
    if brd and brd not in ("+", "-") and _family(brd) != 4:
        return f"'{brd}' is not a broadcast address"
    if len(options.get("label", "").encode()) > 15:
        return "the label is longer than 15 characters"
    if brd and ("peer" in options or (brd in ("+", "-") and found.network.prefixlen > 30)):
        del options["brd"]
    return None


def _family(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def route(words: Sequence[str], tables: Tables) -> Item:
    """A route without the options that change only how packets look, not where they go (alloc_route())."""
    line = _Words(words)
    ways: list[str] = []  # addresses of `via A or B`
    while line.more():
        word = line.next()
        if word in ("via", "gw"):
            if line.peek() in ("inet", "inet6"):
                line.next()
            ways = [line.next()]
            line.keep("via", ways[0], option="via")
        elif word == "or":
            ways.append(line.next())
        elif word == "nexthop":
            if (lost := _nexthop(line)) is not None:
                return lost
        elif word in _LOCKS and line.peek() == "lock":
            line.next()
            if word in ("mtu", "advmss"):
                line.notes.append(f"'{word} lock' is not supported: the value is imported without lock")
                line.keep(word, line.next(), option=word)
            else:
                line.drop(word + " lock", 1)
        elif word in ("no_track", "add", "prepend", "append"):
            continue
        elif word in _ROUTE_HINTS:
            line.drop(word, _ROUTE_HINTS[word])
        elif word in ("protocol", "proto"):
            line.next()  # keepalived overrides it with its own number, and Tandem with its own
        elif word == "as":
            line.drop(word, 2 if line.peek() == "to" else 1)
        elif word in ("table", "lookup"):
            line.keep(word, _table(line.next(), tables), option="table")
        elif word in ROUTE_OPTIONS:
            value = line.next()
            line.keep(word, _prefix(value) if ":" in value else value, option=ROUTE_OPTIONS[word])
        elif word in ("encap", "from", "vrf"):
            return Item(None, [f"'{word}' is not supported: without it, the route would lead elsewhere"])
        else:
            leads = word[:1].isdigit() or ":" in word or word in ("default", "default6")
            line.keep(_prefix(word) if ":" in word else word, option="destination" if leads else "")
    wrong = ("realms",) if _has_ipv6(words) else ("expires", "pref")
    if found := [word for word in wrong if word in words]:
        family = 4 if _has_ipv6(words) else 6
        return Item(None, [f"'{found[0]}' is for IPv{family} only: keepalived ignores the line as well"])
    if len(ways) > 1 and line.has("via"):
        return _two_ways(line, ways)
    return Item(line.text(), line.notes)


def _has_ipv6(words: Sequence[str]) -> bool:
    return any(":" in word or word in ("inet6", "default6") for word in words)


def _prefix(text: str) -> str:
    """The prefix without host bits, as the kernel reads it (it refuses IPv4 routes that have some)."""
    try:
        return str(ipaddress.ip_network(text, strict=False)) if "/" in text else text
    except ValueError:
        return text


def _two_ways(line: _Words, ways: list[str]) -> Item:
    """keepalived's old `via A or B`: the same as two nexthops."""
    line.kept = [group for group in line.kept if group[0] != "via"]
    line.kept += [["nexthop", "via", way] for way in ways[:2]]
    return Item(line.text(), line.notes)


def _nexthop(line: _Words) -> Item | None:
    """Read one nexthop; return the item that stands for the route when a word is not supported."""
    line.keep("nexthop")
    while (word := line.peek()) and word != "nexthop":
        line.next()
        if word in _NEXTHOP_WORDS:
            if word == "via" and line.peek() in ("inet", "inet6"):
                line.next()
            line.keep(word, line.next())
        elif word == "onlink":
            line.keep(word)
        elif word == "realms":
            line.drop(word, 1)
        else:
            return Item(None, [f"'{word}' is not supported in a nexthop"])
    return None


def _table(text: str, tables: Tables) -> str:
    """The number of a table that has a name of its own."""
    return text if text in TABLES else str(tables.get(text, text))


def rule(words: Sequence[str], tables: Tables) -> Item:
    """A rule (alloc_rule()); without one of its conditions it would match other packets, and is left out."""
    line = _Words(words)
    while line.more():
        word = line.next()
        if word in _RULE_HINTS:
            if word == "realms":
                line.drop(word, 1)
            elif _RULE_HINTS[word]:
                line.next()
        elif word in ("table", "lookup"):
            line.keep(word, _table(line.next(), tables))  # a second action is an error for keepalived, too
        elif word in RULE_OPTIONS:
            value = line.next()
            option = "" if word == "goto" else RULE_OPTIONS[word]
            line.keep(word, _prefix(value) if word in ("from", "to") else value, option=option)
        elif word == "type" and line.peek() == "goto":
            continue
        else:
            line.keep(word)
    if "realms" in words and (_has_ipv6(words) or not {"table", "lookup"} & set(words)):
        return Item(None, ["realms are for IPv4 and a table: keepalived ignores the line as well"])
    if any(group[0] == "goto" for group in line.kept) and not line.has("priority"):
        return Item(None, ["goto needs a priority: keepalived ignores the line as well"])
    return Item(line.text(), line.notes)


def track(kind: str, words: Sequence[str], default: int = 0) -> Item:
    """Something tracked (alloc_track_if(), alloc_track_script()).

    `default` is the weight of the script, which counts when the weight here is out of bounds.
    """
    line = _Words(words)
    name = line.next()
    if not line.more():
        return Item(name)
    word = line.next()
    if word != "weight" or not line.more():
        reason = f"'{word}' " + (
            "needs a value" if word == "weight" else "is unknown" + suggestion(word, ("weight",))
        )
        return Item(None, [f"{reason}: keepalived ignores the line as well"])
    weight, note = reading.weight(line.next(), default)
    notes = [note] if note else []
    way = ""
    if line.more():
        way = line.next()
        if way != "reverse" and (kind == "track_interface" or way != "noreverse"):
            notes.append(f"'{way}' is ignored, as in keepalived")
            way = ""
    return Item(f"{name} weight {weight} {way}".strip(), notes)
