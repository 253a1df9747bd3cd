# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual and static routes, as ip-route(8) and keepalived.conf(5) write them."""

from __future__ import annotations

from typing import Any

from tandem.config import values
from tandem.config.syntax.words import (
    ANY,
    SCOPE_NAMES,
    TABLE_NAMES,
    Family,
    Once,
    Reader,
    Words,
    metric,
    mtu,
    number,
    pairs_text,
    protocol,
    scope,
    table,
    tos,
    unknown_word,
)
from tandem.core.settings import Nexthop, Route

ROUTE_KINDS = ("blackhole", "unreachable", "prohibit", "throw")
# Words with a value, and the field of the route that the value is for.
ROUTE_OPTIONS = {
    "src": "source", "to": "destination", "via": "via", "gw": "via", "dev": "device", "oif": "device",
    "metric": "metric", "priority": "metric", "preference": "metric", "table": "table", "scope": "scope",
    "mtu": "mtu", "proto": "protocol", "protocol": "protocol", "tos": "tos", "dsfield": "tos",
    "advmss": "advmss",
}  # fmt: skip
_UNSUPPORTED = {
    "as", "from", "or", "encap", "expires", "hoplimit", "rtt", "rttvar", "reordering", "window", "cwnd",
    "ssthresh", "realms", "rto_min", "initcwnd", "initrwnd", "features", "quickack", "congctl", "pref",
    "ttl-propagate", "fastopen_no_cookie", "add", "prepend", "append", "no_track", "track_group", "vrf",
    "local", "broadcast", "anycast", "multicast", "nat", "xresolve", "lock",
}  # fmt: skip


def read_route(text: str) -> Route:
    """Read `[src A] [to] PREFIX|default [via|gw A] [dev NAME] [metric N] ...`, as ip-route(8) does."""
    words = Words(text)
    family = Family()
    fields = Once()
    nexthops: list[Nexthop] = []
    readers: dict[str, Reader] = {
        "source": family.unicast,
        "destination": family.prefix,
        "via": family.unicast,
        "device": values.device,
        "metric": metric,
        "table": table,
        "scope": scope,
        "mtu": mtu,
        "protocol": protocol,
        "tos": tos,
        "advmss": number(1, 65535),
    }
    known = {*ROUTE_OPTIONS, *ROUTE_KINDS, "unicast", "onlink", "nexthop", "inet", "inet6"}
    for word in words:
        if (key := ROUTE_OPTIONS.get(word)) is not None:
            if key in ("mtu", "advmss") and words.peek() == "lock":
                raise unknown_word("lock", known, _UNSUPPORTED)
            fields[key] = words.argument(word, readers[key])
        elif word == "onlink":
            fields["onlink"] = True
        elif word in ROUTE_KINDS or word == "unicast":
            fields["kind"] = word
        elif word in ("inet", "inet6"):
            family.agree(4 if word == "inet" else 6, word)
        elif word == "nexthop":
            nexthops.append(_nexthop(words, family))
        elif word in _UNSUPPORTED or not (word in ANY or word[:1].isdigit() or ":" in word):
            raise unknown_word(word, known, _UNSUPPORTED)
        else:
            fields["destination"] = family.prefix(word)
    return _route(dict(fields), tuple(nexthops), family.number, family.everything)


def _route(fields: dict[str, Any], nexthops: tuple[Nexthop, ...], family: int, everything: str) -> Route:
    """Return the Route of parsed fields; ValueError when the fields contradict each other."""
    if "destination" not in fields:
        raise ValueError("there is no destination in it: a prefix, or 'default'")
    fields["destination"] = fields["destination"] or everything
    found = Route(family=family, nexthops=nexthops, **fields)
    if found.kind != "unicast" and (found.via or found.device or nexthops or found.onlink):
        raise ValueError(f"a {found.kind} route leads nowhere: remove via, dev, onlink and nexthop")
    if nexthops and (found.via or found.device or found.onlink):
        raise ValueError("via, dev and onlink belong into each nexthop when there are any")
    if found.onlink and not found.via:
        raise ValueError("onlink says something about via, and there is none")
    if found.tos and family == 6:
        raise ValueError("IPv6 routes have no tos")
    if found.via and found.via == found.source:
        raise ValueError("src and via are the same address")
    return found


def _nexthop(words: Words, family: Family) -> Nexthop:
    fields = Once()
    readers: dict[str, tuple[str, Reader]] = {
        "via": ("via", family.unicast),
        "dev": ("device", values.device),
        "weight": ("weight", number(1, 256)),
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


def write_route(found: Route) -> str:
    """Return the route as `read_route` reads it."""
    text = "" if found.kind == "unicast" else f"{found.kind} "
    text += found.destination + pairs_text(
        ("src", found.source),
        ("via", found.via),
        ("dev", found.device),
        ("metric", found.metric),
        ("table", None if found.table == 254 else TABLE_NAMES.get(found.table, found.table)),
        ("scope", None if found.scope is None else SCOPE_NAMES.get(found.scope, found.scope)),
        ("mtu", found.mtu),
        ("advmss", found.advmss),
        ("proto", found.protocol),
        ("tos", hex(found.tos) if found.tos else None),
    )
    if found.onlink:
        text += " onlink"
    for hop in found.nexthops:
        text += " nexthop" + pairs_text(("via", hop.via), ("dev", hop.device), ("weight", hop.weight))
        text += " onlink" if hop.onlink else ""
    return text
