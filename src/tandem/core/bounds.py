# SPDX-License-Identifier: GPL-2.0-or-later
"""Bounds of what an advertisement may teach a router.

Version 3 learns the interval of the active router, and with it for how long a silence is no death. Anybody
on the LAN can say 40.95 s, the longest there is, and then be silent: without a bound nobody would be the
gateway for two minutes. An interval of 0.01 s would make every delay a death.
"""

from __future__ import annotations

FASTEST = 10  # an active router is taken to be at most so many times as fast as this one


def learned_interval(heard_cs: int, own_cs: int, longest_cs: int) -> int:
    """The interval to reckon with when an active router says `heard_cs`; all in centiseconds."""
    return max(-(-own_cs // FASTEST), min(heard_cs, longest_cs))
