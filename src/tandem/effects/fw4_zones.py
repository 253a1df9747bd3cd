# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual devices of `use_vmac` in OpenWrt's firewall: each is in the zone of its interface.

Packets to the virtual MAC come in by the macvlan, which fw4 puts into no zone: it would refuse them all.
Every rule of the table `inet fw4` that names the interface (iifname, oifname) therefore gets a copy beside it
that names the macvlan. Zones, port forwards, the user's own rules and their order then hold for both.

This is a short-lived process: `nft` lists the table, and makes the missing copies in one transaction. fw4
removes the copies when it loads its table anew. The daemon hears of that and starts the process again. Until
then the chain `tandem_zones`, which fw4 includes, drops the first packet of a connection, so that the client
tries again.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

CHANGED = 10  # exit status, as in fw4.py
NFT = "/usr/sbin/nft"
TABLE = "inet fw4"
WAITING = "tandem_zones"  # the chain that holds until the copies are there

_MARK = "!tandem: as for "  # begins the comment of a copy
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_RULE = re.compile(r"^\t\t(.*?) # handle (\d+)$")
_MATCH = re.compile(r'\b([io]ifname) (?:\{ ([^}]*) \}|("[^"]*"))')
_COMMENT = re.compile(r' comment "[^"]*"$')
_COUNTED = re.compile(r"counter packets \d+ bytes \d+")

Rule = tuple[str, str, str]  # chain, text, handle


def missing(listing: str, base_of: Mapping[str, str]) -> list[str]:
    """Return the script for `nft -f` that completes a table, as `nft -a list table` shows it; [] for none.

    `base_of` has the interface of each virtual device.
    """
    chains, rules = _read(listing)
    present = [rule for rule in rules if _MARK in rule[1]]
    wanted = [
        (chain, copy, handle)
        for chain, text, handle in rules
        if _MARK not in text and not chain.startswith("tandem_")
        for copy in _copies(text, base_of)
    ]
    script = [f"flush chain {TABLE} {WAITING}"] if any(chain == WAITING for chain, *_ in rules) else []
    if sorted(rule[:2] for rule in wanted) != sorted(rule[:2] for rule in present):
        script += [f"delete rule {TABLE} {chain} handle {handle}" for chain, _, handle in present]
        script += [f"add rule {TABLE} {chain} handle {handle} {text}" for chain, text, handle in wanted]
    return script if chains else []


def _read(listing: str) -> tuple[list[str], list[Rule]]:
    chains: list[str] = []
    rules: list[Rule] = []
    for line in listing.splitlines():
        if head := _CHAIN.match(line):
            chains.append(head[1])
        elif line == "\t}":
            chains.append("")
        elif chains and chains[-1] and (rule := _RULE.match(line)):
            rules.append((chains[-1], _COUNTED.sub("counter", rule[1]), rule[2]))
    return chains, rules


def _copies(text: str, base_of: Mapping[str, str]) -> Iterator[str]:
    """Yield a copy of a rule for each virtual device whose interface, but not itself, the rule names."""
    matches = list(_MATCH.finditer(text))
    for device, base in base_of.items():
        hits = [match for match in matches if _names(match, base) and not _names(match, device)]
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(hits, number) for number in range(1, len(hits) + 1)
        ):
            copy = text
            for match in reversed(chosen):
                copy = f'{copy[: match.start()]}{match[1]} "{device}"{copy[match.end() :]}'
            yield _COMMENT.sub("", copy) + f' comment "{_MARK}{base}"'


def _names(match: re.Match[str], device: str) -> bool:
    """Whether a match names the device; `br-*` is a pattern."""
    names = re.findall(r'"([^"]*)"', match[2] or match[3])
    return any(name == device or (name[-1:] == "*" and device.startswith(name[:-1])) for name in names)


def main(argv: Sequence[str]) -> int:
    """Complete the table; `argv`: DEVICE=INTERFACE pairs. 0: it was complete, 1: it can't be completed."""
    base_of = dict(word.split("=", 1) for word in argv)
    listed = subprocess.run(
        [NFT, "-a", "list", "table", *TABLE.split()], capture_output=True, text=True, env={}
    )
    script = missing(listed.stdout, base_of) if listed.returncode == 0 else []
    if not script:
        return 0
    done = subprocess.run([NFT, "-f", "-"], input="\n".join([*script, ""]), text=True, env={})
    return 1 if done.returncode else CHANGED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
