# SPDX-License-Identifier: GPL-2.0-or-later
"""`make chaos SEED=1 FAULTS=500`: walk until an audit fails, or so many faults have come."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

from tests.chaos.faults import policies
from tests.chaos.run import Failed, running
from tests.lab import release


def main() -> int:
    """Run one walk; exit status 1: an audit failed."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the walk (default: another one each time)")
    parser.add_argument("--faults", type=int, default=150, help="how many (default: 150)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="FAULT",
        help="it never comes: namespaces share one connection table, so that `fill` disturbs a second walk",
    )  # fmt: skip
    parser.add_argument("--hasty", action="store_true", help="faults come while the routers work at others")
    arguments = parser.parse_args()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    chosen = policies(seed)
    said = f"fault_policy '{chosen.fault}', partition_policy '{chosen.partition}'"
    print(f"seed {seed}, {said}{', no daemon ends' if chosen.lasting else ''}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        old = release.unpack(Path(directory))
        tell, without = partial(print, flush=True), frozenset(arguments.without)
        with running(seed, old, tell, without, arguments.hasty) as run:
            try:
                run.go(arguments.faults)
            except Failed as error:
                print(f"{error}\n\n{run.logs()}", file=sys.stderr)
                return 1
            finally:
                counts = Counter(step.what for step in run.steps).most_common()
                print(", ".join(f"{what} {count}" for what, count in counts))
    return 0


sys.exit(main())
