# SPDX-License-Identifier: GPL-2.0-or-later
"""In a process of its own: what is set can't be taken back by everybody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
from tandem.scheduling import policy_name, set_realtime
print(policy_name())
print(set_realtime(7))
print(policy_name())
print(os.sched_getscheduler(0) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority)
print(set_realtime(100))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_fifo() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "OTHER",
        "None",
        "FIFO 7",
        "True 7",
        "no real-time scheduling: Invalid argument",
    ]
