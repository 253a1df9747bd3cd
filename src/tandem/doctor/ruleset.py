# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of nftables for translated packets and for adverts, from `nft --json list ruleset`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

from tandem.doctor.facts import RulesetFacts
from tandem.effects.fw4 import CHAIN
from tandem.plan.result import TABLE as OUR_TABLE
from tandem.programs import PATH

Json = dict[str, Any]
Chain = tuple[str, str, str]  # family, table, chain

_NFT = "/usr/sbin/nft"
OUR_PRIORITY = 99  # as in plan/encode_nft.py
_TRANSLATES = ("snat", "masquerade")


def read() -> RulesetFacts:
    """Return the loaded rules; nothing is known without an nft that speaks JSON."""
    try:
        argv = [_NFT, "--json", "list", "ruleset"]
        done = subprocess.run(argv, capture_output=True, timeout=30, env={"PATH": PATH})
        return summary(json.loads(done.stdout)["nftables"])
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError, AttributeError):
        return RulesetFacts()


def summary(items: list[Json]) -> RulesetFacts:
    """Return the facts in nft's list of objects. KeyError, TypeError or AttributeError: it is malformed."""
    chains: dict[Chain, Json] = {}
    rules: dict[Chain, list[list[Json]]] = {}
    tables = set()
    for item in items:
        if "table" in item:
            tables.add((item["table"]["family"], item["table"]["name"]))
        elif "chain" in item:
            chain = item["chain"]
            chains[chain["family"], chain["table"], chain["name"]] = chain
        elif "rule" in item:
            rule = item["rule"]
            statements = [part for part in rule["expr"] if isinstance(part, dict)]
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(statements)
    nat = [
        key
        for key, chain in chains.items()
        if (chain.get("type"), chain.get("hook")) == ("nat", "postrouting") and key[1] != OUR_TABLE
    ]
    early = [key for key in nat if int(chains[key]["prio"]) <= OUR_PRIORITY]
    return RulesetFacts(
        readable=True,
        fw4=("inet", "fw4") in tables,
        included=any(_jumps(rule) == CHAIN for rule in rules.get(("inet", "fw4", "input"), ())),
        snat=tuple(
            str(part["snat"]["addr"])
            for rule in rules.get(("inet", OUR_TABLE, "postrouting"), ())
            for part in rule
            if "snat" in part
        ),
        early_nat=tuple(" ".join(key) for key in early if _reaches(key, rules)),
        masquerading=tuple(dict.fromkeys(device for key in nat for device in _masqueraded(key, rules))),
        zones=tuple(_zones(rules.get(("inet", "fw4", "input"), ()))),
    )


def _jumps(rule: list[Json]) -> str | None:
    for part in rule:
        for verdict in ("jump", "goto"):
            if verdict in part:
                return str(part[verdict]["target"])
    return None


def _reaches(chain: Chain, rules: dict[Chain, list[list[Json]]], depth: int = 8) -> bool:
    """Return whether a rule that translates can be reached from the chain."""
    for rule in rules.get(chain, ()):
        if any(word in part for part in rule for word in _TRANSLATES):
            return True
        target = _jumps(rule)
        if depth and target and _reaches((chain[0], chain[1], target), rules, depth - 1):
            return True
    return False


def _masqueraded(chain: Chain, rules: dict[Chain, list[list[Json]]]) -> Iterator[str]:
    """Yield the devices for which a rule of the chain, or of a chain that it jumps to, translates."""
    for rule in rules.get(chain, ()):
        target = _jumps(rule)
        here = any("masquerade" in part for part in rule)
        if here or (target and _reaches((chain[0], chain[1], target), rules)):
            yield from _devices(rule, "oifname")


def _zones(rules: Iterable[list[Json]]) -> Iterator[str]:
    for rule in rules:
        chain = _jumps(rule)
        if chain and chain.startswith("input_"):
            yield from (f"{device} {chain}" for device in _devices(rule, "iifname"))


def _devices(rule: list[Json], key: str) -> Iterator[str]:
    for part in rule:
        match = part.get("match")
        if match and match["op"] == "==" and match["left"] == {"meta": {"key": key}}:
            right = match["right"]
            for name in right["set"] if isinstance(right, dict) else [right]:
                yield str(name)
