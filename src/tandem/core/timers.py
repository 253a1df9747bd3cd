# SPDX-License-Identifier: GPL-2.0-or-later
"""The intervals of RFC 9568 section 6.1, in integer nanoseconds.

All times in the core are `time.monotonic_ns()` values and differences of them, so that no
rounding ever makes two routers disagree about which of them is earlier.
"""

from __future__ import annotations

MILLISECOND = 1_000_000
CENTISECOND = 10_000_000
SECOND = 1_000_000_000

# After a priority 0 the RFC waits a whole Skew_Time: 0.6 s at 1 s adverts and priority 100, in
# which nobody is the gateway. The skew is there to let the best of several backups go first;
# on a LAN 5 us per step of priority is enough for that, and a draw heals as any election does.
RESIGNATION_STEP = 5_000


def skew_time(version: int, priority: int, interval_cs: int) -> int:
    """Skew_Time in ns; v2: (256 - priority) / 256 s (RFC 3768 6.1), v3: of the active's interval."""
    scale = interval_cs * CENTISECOND if version == 3 else SECOND
    return (256 - priority) * scale // 256


def active_down_interval(version: int, priority: int, interval_cs: int, adverts: int = 3) -> int:
    """Active_Down_Interval in ns: three of the active's advertisement intervals plus Skew_Time.

    `adverts` is keepalived's down_timer_adverts, which the RFC does not know.
    """
    return adverts * interval_cs * CENTISECOND + skew_time(version, priority, interval_cs)


def resignation_skew(priority: int) -> int:
    """How long a backup waits, in ns, after the active said goodbye with priority 0."""
    return (256 - priority) * RESIGNATION_STEP


def earliest(*deadlines: int | None) -> int | None:
    """The earliest deadline that is set."""
    first = None
    for deadline in deadlines:  # not min() of a list: this runs for every advertisement
        if deadline is not None and (first is None or deadline < first):
            first = deadline
    return first
