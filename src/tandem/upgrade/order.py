# SPDX-License-Identifier: GPL-2.0-or-later
"""An order: what one router may ask the other to do in an upgrade, and nothing else. Pure.

An order is "job:number". The asker chooses the number, 8 hexadecimal digits, so that it takes no former
report for the one that it waits for.
"""

from __future__ import annotations

# check: read the feeds' indexes. install: upgrade Tandem's packages. failover, resume: as the commands.
JOBS = ("check", "install", "failover", "resume")
REPORT_MAX = 8192  # bytes


def parse_order(text: str) -> tuple[str, str] | None:
    """Return job and number of an order; None: this release knows no such order."""
    job, _, number = text.partition(":")
    known = job in JOBS and len(number) == 8 and not number.strip("0123456789abcdef")
    return (job, number) if known else None


def report_file(control: str) -> str:
    """Return the path of the report; it lies beside the daemon's control socket, in memory."""
    return f"{control}.upgrade"
