# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of a walk that is not the main one: its seed, its length, a line for each step."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Walk(Protocol):
    """A walk in its lab; AssertionError: an audit failed."""

    def go(self, count: int, tell: Callable[[str], None]) -> None: ...


def run(
    program: str, about: str | None, faults: int, running: Callable[[int], AbstractContextManager[Walk]]
) -> int:
    """Run one walk, of `faults` steps by default; return the exit status, 1: an audit failed."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--faults", type=int, default=faults)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with running(arguments.seed) as walk:
        try:
            walk.go(arguments.faults, lambda line: print(line, flush=True))
        except AssertionError as error:
            print(error, file=sys.stderr)
            return 1
    return 0
