# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy routing rules, as ip-rule(8) and keepalived.conf(5) write them."""

from __future__ import annotations

from typing import Any

from tandem.config import values
from tandem.config.syntax.words import (
    TABLE_NAMES,
    Family,
    Once,
    Reader,
    Words,
    metric,
    number,
    pairs_text,
    table,
    tos,
    unknown_word,
)
from tandem.core.settings import Rule

RULE_ACTIONS = ("blackhole", "unreachable", "prohibit")
# Words with a value, and the field of the rule that the value is for.
RULE_OPTIONS = {
    "from": "source", "to": "destination", "iif": "iif", "dev": "iif", "oif": "oif", "tos": "tos",
    "dsfield": "tos", "fwmark": "fwmark", "priority": "priority", "preference": "priority",
    "order": "priority", "table": "table", "lookup": "table", "goto": "goto",
    "suppress_prefixlength": "suppress_prefixlength", "sup_pl": "suppress_prefixlength",
}  # fmt: skip
_UNSUPPORTED = {
    "realms", "suppress_ifgroup", "sup_group", "tunnel-id", "uidrange", "l3mdev", "protocol", "ipproto",
    "ip_proto", "sport", "dport", "no_track", "track_group", "nop", "nat",
}  # fmt: skip


def fwmark(text: str) -> tuple[int, int | None]:
    """Read `MARK[/MASK]`; ValueError."""
    mark, slash, mask = text.partition("/")
    number = values.integer(mark, 0, 0xFFFFFFFF)
    return number, values.integer(mask, 0, 0xFFFFFFFF) if slash else None


def read_rule(text: str) -> Rule:
    """Read `[not] [from P] [to P] [iif|dev N] [oif N] [fwmark M[/M]] [tos T] [priority N] table T | ...`."""
    words = Words(text)
    family = Family()
    fields = Once()
    readers: dict[str, Reader] = {
        "source": family.prefix,
        "destination": family.prefix,
        "iif": values.device,
        "oif": values.device,
        "tos": tos,
        "fwmark": fwmark,
        "priority": metric,
        "table": table,
        "goto": number(1, 0xFFFFFFFF),
        "suppress_prefixlength": number(0, 128),
    }
    known = {*RULE_OPTIONS, *RULE_ACTIONS, "not", "type", "inet", "inet6"}
    for word in words:
        if (key := RULE_OPTIONS.get(word)) is not None:
            fields[key] = words.argument(word, readers[key])
        elif word == "not":
            fields["invert"] = True
        elif word in RULE_ACTIONS:
            fields["action"] = word
        elif word in ("inet", "inet6"):
            family.agree(4 if word == "inet" else 6, word)
        elif word != "type" or words.peek() not in RULE_ACTIONS:
            raise unknown_word(word, known, _UNSUPPORTED)
    return _rule(dict(fields), family.number)


def _rule(fields: dict[str, Any], family: int) -> Rule:
    """Return the Rule of parsed fields; ValueError when the fields contradict each other."""
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


def write_rule(found: Rule) -> str:
    """Return the rule as `read_rule` reads it."""
    mark = None if found.fwmark is None else hex(found.fwmark)
    if found.fwmask is not None:
        mark = f"{mark}/{found.fwmask:#x}"
    words = ["inet6" if found.family == 6 else "inet"]
    words += ["not"] if found.invert else []
    words += [
        pairs_text(
            ("from", found.source),
            ("to", found.destination),
            ("iif", found.iif),
            ("oif", found.oif),
            ("fwmark", mark),
            ("tos", hex(found.tos) if found.tos else None),
            ("priority", found.priority),
            ("table", None if found.table is None else TABLE_NAMES.get(found.table, found.table)),
            ("goto", found.goto),
            ("suppress_prefixlength", found.suppress_prefixlength),
        ).strip()
    ]
    words += [found.action] if found.action not in ("lookup", "goto") else []
    return " ".join(word for word in words if word)
