# SPDX-License-Identifier: GPL-2.0-or-later
"""Bounds of the advertisement interval that a router learns from another.

A version 3 router learns the interval of the active router, and takes over after three of these without an
advertisement. A forged advertisement with the longest interval, 40.95 s, would leave hosts without a gateway
for two minutes. With an interval of 0.01 s, a backup would take over after every small delay.
"""

from __future__ import annotations

FASTEST = 10  # an active router advertises at most this many times as often as this one


def learned_interval(heard_cs: int, own_cs: int, longest_cs: int) -> int:
    """Return the interval to use when an active router says `heard_cs`; all in centiseconds."""
    return max(-(-own_cs // FASTEST), min(heard_cs, longest_cs))
