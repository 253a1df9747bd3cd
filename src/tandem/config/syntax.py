# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses, routes, rules and trackers written in place, in keepalived.conf's syntax.

Each reader takes one text and returns a schema object, or raises ValueError with the whole
reason. The words and their meaning are keepalived.conf(5)'s ("Static routes/addresses/rules"),
which are those of ip-address(8), ip-route(8) and ip-rule(8). What keepalived knows and Tandem
does not is refused by name. Paths to peers are Tandem's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

from tandem.config import values
from tandem.config.problem import suggestion
from tandem.config.schema import SyncPath
from tandem.core.settings import Address, Nexthop, Route, Rule, Track

SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}  # RT_SCOPE_*, linux/rtnetlink.h
TABLES = {"default": 253, "main": 254, "local": 255}
PROTOCOLS = {  # RTPROT_*, linux/rtnetlink.h
    "redirect": 1, "kernel": 2, "boot": 3, "static": 4, "gated": 8, "ra": 9, "mrt": 10, "zebra": 11,
    "bird": 12, "dnrouted": 13, "xorp": 14, "ntk": 15, "dhcp": 16, "mrouted": 17, "keepalived": 18,
    "babel": 42, "bgp": 186, "isis": 187, "ospf": 188, "rip": 189, "eigrp": 192,
}  # fmt: skip
ROUTE_KINDS = ("blackhole", "unreachable", "prohibit", "throw")
RULE_ACTIONS = ("blackhole", "unreachable", "prohibit")
MOST_WEIGHT = 253  # of a tracker: keepalived's bound, a priority is 1..254

_ANY = {"default": None, "any": None, "all": None, "default4": 4, "default6": 6}
_NOT_FOR_ADDRESSES = {
    "home", "mngtmpaddr", "noprefixroute", "autojoin", "no_track", "track_group", "use_vmac",
}  # fmt: skip
_NOT_FOR_ROUTES = {
    "as", "from", "or", "encap", "expires", "hoplimit", "rtt", "rttvar", "reordering", "window", "cwnd",
    "ssthresh", "realms", "rto_min", "initcwnd", "initrwnd", "features", "quickack", "congctl", "pref",
    "ttl-propagate", "fastopen_no_cookie", "add", "prepend", "append", "no_track", "track_group", "vrf",
    "local", "broadcast", "anycast", "multicast", "nat", "xresolve", "lock",
}  # fmt: skip
_NOT_FOR_RULES = {
    "realms", "suppress_ifgroup", "sup_group", "tunnel-id", "uidrange", "l3mdev", "protocol", "ipproto",
    "ip_proto", "sport", "dport", "no_track", "track_group", "nop", "nat",
}  # fmt: skip

Reader = Callable[[str], Any]


class _Words:
    """The words of one text, taken one by one; knows how to complain."""

    def __init__(self, text: str) -> None:
        self.words = text.split()
        self.at = 0

    def __iter__(self) -> Iterator[str]:
        while self.at < len(self.words):
            self.at += 1
            yield self.words[self.at - 1]

    def peek(self) -> str | None:
        return self.words[self.at] if self.at < len(self.words) else None

    def argument(self, keyword: str, read: Reader) -> Any:
        """The value that follows the keyword; ValueError begins with the keyword."""
        if self.at >= len(self.words):
            raise ValueError(f"'{keyword}' needs a value after it")
        self.at += 1
        try:
            return read(self.words[self.at - 1])
        except ValueError as error:
            raise ValueError(f"'{keyword} {self.words[self.at - 1]}': {error}") from None


class _Once(dict[str, Any]):
    """Fields of an object in the making; each may be set once."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            raise ValueError(f"{key.replace('_', ' ')} is given twice")
        super().__setitem__(key, value)


def _number(low: int, high: int) -> Reader:
    return lambda text: values.integer(text, low, high)


def _named_number(names: dict[str, int], low: int, high: int) -> Reader:
    def read(text: str) -> int:
        if text in names:
            return names[text]
        try:
            return values.integer(text, low, high)
        except ValueError:
            known = ", ".join(names)
            raise ValueError(f"must be one of {known} or a number from {low} to {high}") from None

    return read


def scope(text: str) -> int:
    """RT_SCOPE_* of a scope's name or number; ValueError."""
    if text in ("nowhere", "255"):
        raise ValueError("means that nothing can be reached; use global, site, link or host")
    return int(_named_number(SCOPES, 0, 254)(text))


table = _named_number(TABLES, 1, 0xFFFFFFFF)
protocol = _named_number(PROTOCOLS, 0, 255)
metric = _number(0, 0xFFFFFFFF)
mtu = _number(68, 65535)


def tos(text: str) -> int:
    """A type-of-service byte in hexadecimal or decimal, without the two ECN bits; ValueError."""
    number = values.integer(text, 0, 255)
    if number & 3:
        raise ValueError("the two lowest bits of tos belong to ECN and must be 0")
    return number


def _unknown(word: str, known: set[str], unsupported: set[str]) -> ValueError:
    if word in unsupported:
        return ValueError(f"'{word}' is not supported")
    return ValueError(f"unknown word '{word}'{suggestion(word, known)}")


class _Family:
    """The address family that all addresses of one text share."""

    def __init__(self) -> None:
        self.version: int | None = None

    def agree(self, version: int, what: str) -> None:
        if self.version not in (None, version):
            raise ValueError(f"mixes IPv{self.version} and IPv{version}: {what}")
        self.version = version

    def host(self, text: str) -> str:
        address = values.host(text)
        self.agree(address.version, text)
        return str(address)

    def unicast(self, text: str) -> str:
        address = values.unicast(values.host(text))
        self.agree(address.version, text)
        return str(address)

    def prefix(self, text: str) -> str | None:
        """A canonical prefix; None for `default` of a family not known yet."""
        if text in _ANY:
            version = _ANY[text]
            if version is None:
                return None
            self.agree(version, text)
            return "0.0.0.0/0" if version == 4 else "::/0"
        found = values.network(text)
        self.agree(found.version, text)
        return str(found)

    @property
    def number(self) -> int:
        return self.version or 4  # keepalived: what could be either is IPv4

    @property
    def everything(self) -> str:
        return "0.0.0.0/0" if self.number == 4 else "::/0"


# addresses


def label(text: str) -> str:
    """An address label (IFA_LABEL): at most 15 bytes; ValueError."""
    if not 1 <= len(text.encode()) <= 15 or not text.isprintable() or " " in text:
        raise ValueError("a label is 1 to 15 bytes without blanks")
    return text


def _lifetime(text: str) -> int | None:
    return None if text == "forever" else values.integer(text, 0, 0xFFFFFFFE)


def address(text: str) -> Address:
    """`ADDRESS[/LENGTH] [dev NAME] [scope S] [label L] [brd A|+|-] [peer A] [preferred_lft N]`."""
    words = _Words(text)
    found = None
    fields = _Once()
    readers: dict[str, tuple[str, Reader]] = {
        "dev": ("device", values.device),
        "scope": ("scope", scope),
        "label": ("label", label),
        "brd": ("broadcast", str),
        "broadcast": ("broadcast", str),
        "peer": ("peer", values.interface),
        "preferred_lft": ("preferred_lifetime_s", _lifetime),
    }
    for word in words:
        if word in readers:
            key, read = readers[word]
            fields[key] = words.argument(word, read)
        elif word == "-nodad":
            pass  # as always: an address that waits for DAD comes two seconds late
        elif found is None and word not in _NOT_FOR_ADDRESSES:
            found = values.interface(word)
        else:
            raise _unknown(word, set(readers), _NOT_FOR_ADDRESSES)
    if found is None:
        raise ValueError("there is no address in it")
    return make_address(found, dict(fields))


def make_address(found: values.Interface, fields: dict[str, Any]) -> Address:
    """The Address of a parsed address and the fields beside it; ValueError."""
    values.unicast(found.ip)
    length = found.network.prefixlen
    if "label" in fields and found.version == 6:
        raise ValueError("labels exist for IPv4 addresses only")
    if "broadcast" in fields:
        fields["broadcast"] = _broadcast(fields["broadcast"], found)
    if "peer" in fields:
        peer: values.Interface = fields["peer"]
        if peer.version != found.version:
            raise ValueError(f"mixes IPv{found.version} and IPv{peer.version}: {peer.ip}")
        fields["peer"] = str(peer.ip)
        if peer.network.prefixlen != peer.max_prefixlen:
            length = peer.network.prefixlen
    if found.version == 6 and length == 128:
        # as keepalived: such an address is deprecated from the start, so that the
        # router does not choose it as the source of its own connections
        fields.setdefault("preferred_lifetime_s", 0)
    return Address(address=str(found.ip), prefixlen=length, family=found.version, **fields)


def _broadcast(text: str, found: values.Interface) -> str:
    if found.version == 6:
        raise ValueError("IPv6 has no broadcast addresses")
    if text == "+":
        return str(found.network.broadcast_address)
    if text == "-":
        return str(found.network.network_address)
    given = values.host(text)
    if given.version == 6:
        raise ValueError(f"mixes IPv4 and IPv6: {text}")
    return str(given)


# routes


def route(text: str) -> Route:
    """`[src A] [to] PREFIX|default [via|gw A] [dev NAME] [metric N] ...`, as ip-route(8) has it."""
    words = _Words(text)
    family = _Family()
    fields = _Once()
    nexthops: list[Nexthop] = []
    readers: dict[str, tuple[str, Reader]] = {
        "src": ("source", family.unicast),
        "to": ("destination", family.prefix),
        "via": ("via", family.unicast),
        "gw": ("via", family.unicast),
        "dev": ("device", values.device),
        "oif": ("device", values.device),
        "metric": ("metric", metric),
        "priority": ("metric", metric),
        "preference": ("metric", metric),
        "table": ("table", table),
        "scope": ("scope", scope),
        "mtu": ("mtu", mtu),
        "proto": ("protocol", protocol),
        "protocol": ("protocol", protocol),
        "tos": ("tos", tos),
        "dsfield": ("tos", tos),
        "advmss": ("advmss", _number(1, 65535)),
    }
    known = {*readers, *ROUTE_KINDS, "unicast", "onlink", "nexthop", "inet", "inet6"}
    for word in words:
        if word in readers:
            key, read = readers[word]
            if key in ("mtu", "advmss") and words.peek() == "lock":
                raise _unknown("lock", known, _NOT_FOR_ROUTES)
            fields[key] = words.argument(word, read)
        elif word == "onlink":
            fields["onlink"] = True
        elif word in ROUTE_KINDS or word == "unicast":
            fields["kind"] = word
        elif word in ("inet", "inet6"):
            family.agree(4 if word == "inet" else 6, word)
        elif word == "nexthop":
            nexthops.append(_nexthop(words, family))
        elif word in _NOT_FOR_ROUTES or not (word in _ANY or word[:1].isdigit() or ":" in word):
            raise _unknown(word, known, _NOT_FOR_ROUTES)
        else:
            fields["destination"] = family.prefix(word)
    return make_route(dict(fields), tuple(nexthops), family.number, family.everything)


def make_route(fields: dict[str, Any], nexthops: tuple[Nexthop, ...], family: int, everything: str) -> Route:
    """The Route of parsed fields; ValueError when they do not fit together."""
    if "destination" not in fields:
        raise ValueError("there is no destination in it: a prefix, or 'default'")
    fields["destination"] = fields["destination"] or everything
    found = Route(family=family, nexthops=nexthops, **fields)
    if found.kind != "unicast" and (found.via or found.device or nexthops or found.onlink):
        raise ValueError(f"a {found.kind} route leads nowhere: it takes no via, dev, onlink or nexthop")
    if nexthops and (found.via or found.device or found.onlink):
        raise ValueError("via, dev and onlink belong into each nexthop when there are any")
    if found.onlink and not found.via:
        raise ValueError("onlink says something about via, and there is none")
    if found.tos and family == 6:
        raise ValueError("IPv6 routes have no tos")
    if found.via and found.via == found.source:
        raise ValueError("src and via are the same address")
    return found


def _nexthop(words: _Words, family: _Family) -> Nexthop:
    fields = _Once()
    readers: dict[str, tuple[str, Reader]] = {
        "via": ("via", family.unicast),
        "dev": ("device", values.device),
        "weight": ("weight", _number(1, 256)),
    }
    while (word := words.peek()) in (*readers, "onlink", "encap", "realms", "as"):
        words.at += 1
        if word in readers:
            key, read = readers[word]
            fields[key] = words.argument(word, read)
        elif word == "onlink":
            fields["onlink"] = True
        else:
            raise ValueError(f"'{word}' is not supported")
    if "via" not in fields and "device" not in fields:
        raise ValueError("a nexthop needs via or dev")
    return Nexthop(**fields)


# rules


def fwmark(text: str) -> tuple[int, int | None]:
    """`MARK[/MASK]`; ValueError."""
    mark, slash, mask = text.partition("/")
    number = values.integer(mark, 0, 0xFFFFFFFF)
    return number, values.integer(mask, 0, 0xFFFFFFFF) if slash else None


def rule(text: str) -> Rule:
    """`[not] [from P] [to P] [iif|dev N] [oif N] [fwmark M[/M]] [tos T] [priority N] table T | ...`."""
    words = _Words(text)
    family = _Family()
    fields = _Once()
    readers: dict[str, tuple[str, Reader]] = {
        "from": ("source", family.prefix),
        "to": ("destination", family.prefix),
        "iif": ("iif", values.device),
        "dev": ("iif", values.device),
        "oif": ("oif", values.device),
        "tos": ("tos", tos),
        "dsfield": ("tos", tos),
        "fwmark": ("fwmark", fwmark),
        "priority": ("priority", metric),
        "preference": ("priority", metric),
        "order": ("priority", metric),
        "table": ("table", table),
        "lookup": ("table", table),
        "goto": ("goto", _number(1, 0xFFFFFFFF)),
        "suppress_prefixlength": ("suppress_prefixlength", _number(0, 128)),
        "sup_pl": ("suppress_prefixlength", _number(0, 128)),
    }
    known = {*readers, *RULE_ACTIONS, "not", "type", "inet", "inet6"}
    for word in words:
        if word in readers:
            key, read = readers[word]
            fields[key] = words.argument(word, read)
        elif word == "not":
            fields["invert"] = True
        elif word in RULE_ACTIONS:
            fields["action"] = word
        elif word in ("inet", "inet6"):
            family.agree(4 if word == "inet" else 6, word)
        elif word != "type" or words.peek() not in RULE_ACTIONS:
            raise _unknown(word, known, _NOT_FOR_RULES)
    return make_rule(dict(fields), family.number)


def make_rule(fields: dict[str, Any], family: int) -> Rule:
    """The Rule of parsed fields; ValueError when they do not fit together."""
    if "fwmark" in fields:
        fields["fwmark"], fields["fwmask"] = fields["fwmark"]
    if "goto" in fields:
        if "action" in fields:
            raise ValueError("a rule has one action")
        fields["action"] = "goto"
    found = Rule(family=family, **fields)
    ways = (found.table is not None) + (found.action != "lookup")
    if ways != 1:
        raise ValueError("a rule needs exactly one of table, goto, blackhole, unreachable and prohibit")
    if found.goto is not None and found.priority is not None and found.goto <= found.priority:
        raise ValueError("goto must lead to a higher priority than the rule's own")
    if found.suppress_prefixlength is not None:
        if found.table is None:
            raise ValueError("suppress_prefixlength says something about table, and there is none")
        if found.suppress_prefixlength > (32 if family == 4 else 128):
            raise ValueError("suppress_prefixlength is longer than an address")
    return found


# trackers


def weight(text: str) -> tuple[int, bool]:
    """`N [reverse|noreverse]`; ValueError."""
    words = text.split()
    if not 1 <= len(words) <= 2 or words[1:] not in ([], ["reverse"], ["noreverse"]):
        raise ValueError(f"must be a whole number from -{MOST_WEIGHT} to {MOST_WEIGHT}, then maybe 'reverse'")
    return values.integer(words[0], -MOST_WEIGHT, MOST_WEIGHT), words[1:] == ["reverse"]


def track(kind: str, text: str, default: tuple[int, bool]) -> Track:
    """`NAME [weight N] [reverse|noreverse]`; the default is (weight, reverse)."""
    words = _Words(text)
    name = ""
    fields = _Once()
    for word in words:
        if not name:
            name = word
        elif word == "weight":
            fields["weight"] = words.argument(word, _number(-MOST_WEIGHT, MOST_WEIGHT))
        elif word in ("reverse", "noreverse"):
            fields["reverse"] = word == "reverse"
        else:
            raise _unknown(word, {"weight", "reverse", "noreverse"}, set())
    if not name:
        raise ValueError("there is no name in it")
    if kind == "interface":
        values.device(name)
    return Track(kind, name, fields.get("weight", default[0]), fields.get("reverse", default[1]))


# paths


def paths(text: str) -> tuple[SyncPath, ...]:
    """`ADDRESS [dev NAME] [src ADDRESS]`, once or several times; `ADDRESS%NAME` is dev as well.

    A link-local address without dev stays without a zone.
    """
    words = _Words(text)
    readers: dict[str, tuple[str, Reader]] = {
        "dev": ("interface", values.device),
        "src": ("source", values.ADDRESS.read),
    }
    found: list[_Once] = []
    for word in words:
        if word in readers:
            if not found:
                raise ValueError(f"'{word}' says something about an address, which stands before it")
            key, read = readers[word]
            found[-1][key] = words.argument(word, read)
        elif found and not (word[:1].isdigit() or ":" in word):
            raise _unknown(word, set(readers), set())
        else:
            found.append(_path_address(word))
    if not found:
        raise ValueError("there is no address in it")
    return tuple(_path(fields) for fields in found)


def _path_address(word: str) -> _Once:
    text, percent, zone = word.partition("%")
    fields = _Once(address=str(values.unicast(values.host(text))))
    if percent:
        if not is_link_local(text):
            raise ValueError(f"'{word}': only link-local addresses have a zone (%...)")
        fields["interface"] = values.device(zone)
    return fields


def _path(fields: dict[str, Any]) -> SyncPath:
    address, source = fields["address"], fields.get("source")
    interface = fields.get("interface")
    if source is not None:
        family = _Family()
        family.host(address)
        family.host(source)
        if source == address:
            raise ValueError("src is the peer's own address")
        if is_link_local(source) and not interface:
            raise ValueError(f"'src {source}': a link-local address needs dev")
    return SyncPath(zoned(address, interface), source and zoned(source, interface), interface)


def is_link_local(address: str) -> bool:
    """Whether it is an IPv6 address that means nothing without an interface."""
    found = values.host(address.partition("%")[0])
    return found.version == 6 and found.is_link_local


def zoned(address: str, interface: str | None) -> str:
    """The address, a link-local one with its interface if that is known."""
    return (
        f"{address}%{interface}" if interface and "%" not in address and is_link_local(address) else address
    )


def first_of_network(found: Address) -> str | None:
    """What is odd about an IPv4 address of a subnet: the network's own or its broadcast address."""
    if found.family == 6 or found.prefixlen > 30:
        return None
    network = ipaddress.ip_network(f"{found.address}/{found.prefixlen}", strict=False)
    if found.address == str(network.network_address):
        return f"{found.address} is the address of the network {network} itself"
    if found.address == str(network.broadcast_address):
        return f"{found.address} is the broadcast address of {network}"
    return None
