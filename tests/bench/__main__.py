# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.bench`: keepalived and tandemd on the same lab, alternating; medians with their spread.

    --runs N            runs of each daemon (5)
    --only A,B          of: power, term, wan, idle, strangers, many, full;
                        restore, stream, lag, burst, crowd, takeover, gate,
                        everyday, small, handover, saturated, loss,
                        services, checks, service_outage, heartbeats, line
                        (of these keepalived's column is conntrackd: connections.py, replication.py)
    --advert A,B        intervals in s for power, term and wan (1,0.1,0.02; version 3 below 1 s)
    --daemon A,B        of: keepalived, tandemd
    --json FILE         all single values as well

The default takes about twenty minutes. Expect about (2-core VM): power loss within 5 % of 3 intervals +
skew, but a single figure is uniform over one interval (compare 20 runs or more); WAN link loss under
30 ms at any interval; SIGTERM under 3 datagrams.

RSS of keepalived is the sum of its two processes and counts what they share twice. PSS shares out the pages
of an interpreter that other programs on this machine use too (both routers and the bench itself): on a
router of its own tandemd's is close to its RSS.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.connections import restore
from tests.bench.everyday import everyday
from tests.bench.handover import handover
from tests.bench.heartbeats import heartbeats
from tests.bench.lag import lag
from tests.bench.line import line
from tests.bench.loss import loss
from tests.bench.measure import Figures, failover, full, idle, many, strangers
from tests.bench.replication import burst, crowd, gate, stream
from tests.bench.saturated import saturated
from tests.bench.service_outage import service_outage
from tests.bench.services import checks, services
from tests.bench.small import small
from tests.bench.takeover import takeover

KINDS = ["keepalived", "tandemd"]
PARTS = [
    "power", "term", "wan", "idle", "strangers", "many", "full", "restore", "stream", "lag", "burst", "crowd",
    "takeover", "gate", "everyday", "small", "handover", "saturated", "loss", "services", "checks",
    "service_outage", "heartbeats", "line",
]  # fmt: skip
Values = dict[str, dict[str, list[float]]]  # figure -> daemon -> one value for each run


def words(allowed: list[str]) -> Callable[[str], list[str]]:
    """An argparse type: a comma-separated choice."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not in {', '.join(allowed)}")
        return chosen

    return parse


def number(value: float) -> str:
    """Three significant digits at least, no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(values: Values, kinds: list[str]) -> str:
    """One line a figure: median [min-max] of each daemon, and the ratio of the medians."""
    width = max((len(figure) for figure in values), default=0)
    heads = "".join(f"{kind:>26}" for kind in kinds)
    lines = [f"{'median [min-max]':<{width}}{heads}{'ratio' if len(kinds) > 1 else '':>8}"]
    for figure, by_kind in values.items():
        line = f"{figure:<{width}}"
        for kind in kinds:
            sample = by_kind.get(kind, [])
            text = "-"
            if sample:
                text = f"{number(statistics.median(sample))} [{number(min(sample))}-{number(max(sample))}]"
            line += f"{text:>26}"
        if len(kinds) > 1 and all(by_kind.get(kind) for kind in kinds):
            first, second = (statistics.median(by_kind[kind]) for kind in kinds[:2])
            line += f"{number(second / first) if first else '-':>8}"
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """Run what was chosen; exit 1 when a run failed (its reason is on stderr)."""
    parser = argparse.ArgumentParser(
        "python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", type=words(PARTS), default=PARTS)
    parser.add_argument("--advert", default="1,0.1,0.02")
    parser.add_argument("--daemon", type=words(KINDS), default=KINDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    chosen = set(options.only)
    jobs: list[tuple[str, Callable[[str], Figures]]] = []
    if events := chosen & {"power", "term", "wan"}:
        jobs += [
            (f"failover at {text} s", partial(failover, advert_s=float(text), only=events))
            for text in options.advert.split(",")
        ]
    others: dict[str, Callable[[str], Figures]] = {
        "idle": idle, "strangers": strangers, "many": many, "full": full,
        "restore": restore, "stream": stream, "lag": lag, "burst": burst, "crowd": crowd,
        "takeover": takeover, "gate": gate, "everyday": everyday, "small": small, "handover": handover,
        "saturated": saturated, "loss": loss, "services": services, "checks": checks,
        "service_outage": service_outage, "heartbeats": heartbeats, "line": line,
    }  # fmt: skip
    jobs += [(name, job) for name, job in others.items() if name in chosen]

    values: Values = {}
    failures = 0
    began = time.monotonic()
    for title, job in jobs:
        for run in range(1, options.runs + 1):
            for kind in options.daemon:
                print(f"{time.monotonic() - began:5.0f} s  {title}: {kind}, run {run}", file=sys.stderr)
                try:
                    figures = job(kind)
                except AssertionError as error:  # a condition that never came true
                    failures += 1
                    print(f"FAILED: {error}", file=sys.stderr)
                    continue
                for figure, value in figures.items():
                    values.setdefault(figure, {}).setdefault(kind, []).append(value)
    if options.json:
        options.json.write_text(json.dumps(values, indent=1) + "\n")
    print(f"{options.runs} runs each, alternating, {os.cpu_count()} cores, Linux {os.uname().release}\n")
    print(table(values, options.daemon))
    if failures:
        print(f"\n{failures} runs failed")
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
