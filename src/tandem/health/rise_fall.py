# SPDX-License-Identifier: GPL-2.0-or-later
"""Rise and fall: single results become a state; pure.

The counting is keepalived's (vrrp_scheduler.c, vrrp_script_child_thread): `rise` successes in a row bring the
state up, `fall` failures in a row take it down. As long as nothing is known, the first result decides alone.
"""

from __future__ import annotations


class RiseFall:
    """The state of one probe: None (not known), True (up) or False (down)."""

    __slots__ = ("fall", "rise", "run", "up")

    def __init__(self, rise: int, fall: int, up: bool | None = None) -> None:
        self.rise = rise
        self.fall = fall
        self.up = up
        self.run = 0  # results in a row that contradict `up`

    def result(self, ok: bool) -> bool:
        """Take one result; whether the state has changed."""
        if ok == self.up:
            self.run = 0
            return False
        self.run += 1
        if self.up is not None and self.run < (self.rise if ok else self.fall):
            return False
        self.up, self.run = ok, 0
        return True
