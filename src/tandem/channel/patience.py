# SPDX-License-Identifier: GPL-2.0-or-later
"""Patience: when a backup reads what a peer's stream has brought; pure, times in ns.

To be woken costs ten times as much as to take in a record. A record that has come is in this router's memory:
it is not lost when the peer dies, and is read before this router takes over (`Channel.be_patient`). So
records that come one after the other, and whose acknowledgement nobody waits for, wait for each other:

    prompt    the first byte wakes the router
    patient   ENOUGH bytes wake the router (SO_RCVLOWAT). It looks for fewer from LOOK after a read on, with
              what wakes it anyway, and BUSY after it at the latest
"""

from __future__ import annotations

from tandem.core.timers import MILLISECOND

LOOK = 100 * MILLISECOND
SLACK = 100 * MILLISECOND  # adverts of 100 ms, and heartbeats, wake the router in time
BUSY = LOOK + SLACK  # records that come within this of each other wait for each other
ENOUGH = 2048  # bytes: about 50 records


class Patience:
    """Says after each read how many bytes wake the router (`least`), and when to look for fewer."""

    __slots__ = ("_found_at", "least")

    def __init__(self) -> None:
        self.least = 1
        self._found_at = -BUSY  # when records were read last

    def read(self, found: bool, may_wait: bool, now: int) -> int | None:
        """Records were `found` by a read, or none; return when to look again, None: there is no need to.

        `may_wait`: nobody waits for what comes next.
        """
        recent, patient = now - self._found_at < BUSY, self.least > 1
        patient = may_wait and found + recent + patient >= 2
        if found:
            self._found_at = now
        self.least = ENOUGH if patient else 1
        return now + LOOK if patient else None
