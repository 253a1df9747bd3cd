# SPDX-License-Identifier: GPL-2.0-or-later
"""The start of the planner process: the kept plan is its output while that is still right.

Without a usable pyroute2 the plan holds one line that says so.
"""

from __future__ import annotations

import marshal
import sys

from tandem import lean
from tandem.plan.kept import Kept
from tandem.plan.requirement import problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run `tandem.plan.process.main` with `-c FILE` if it can be loaded; a third word is the kept plan."""
    if len(argv) == 3:
        *argv, kept = argv
        if (output := Kept(kept, argv[1], lambda text: print(text, file=sys.stderr)).output()) is not None:
            with open(1, "wb", closefd=False) as pipe:
                pipe.write(output)
            return 0
    from tandem.lean import dataclass

    lean.take("dataclasses", dataclass)
    why = problem()
    if why is None:
        try:
            from tandem.plan.inputs import Inputs

            inputs = Inputs()
            from tandem.plan.process import main as plan
        except ImportError as error:
            why = f"the planner can't be loaded: {error} (OpenWrt: is all of python3-pyroute2 installed?)"
        else:
            return plan(argv, inputs=inputs)
    with open(1, "wb", closefd=False) as pipe:
        pipe.write(marshal.dumps({"errors": (why,)}))
    return 2
