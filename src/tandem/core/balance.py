# SPDX-License-Identifier: GPL-2.0-or-later
"""Balance: which real server gets which part of the connections to a virtual server.

The kernel computes a number below SLOTS for each connection, from the client's address or by counting, and a
map says which server has that slot. Servers have slots by their weights, interleaved as nginx's smooth
weighted round robin does it. When a server goes down, its slots go to the others, and it gets the same slots
back: clients of servers that are up stay with them. Routers with the same configuration have the same slots.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

SLOTS = 256


def assign(weights: Mapping[str, int], up: Collection[str]) -> tuple[str, ...]:
    """Return the server of each slot; empty: there is none. `weights` has all servers, in their order."""
    owners = _spread(weights, range(SLOTS))
    alive = {name: weight for name, weight in weights.items() if name in up}
    lost = [slot for slot, name in owners.items() if name not in alive]
    owners |= _spread(alive, lost)
    if not owners or not set(owners.values()) <= alive.keys():
        return ()
    return tuple(owners[slot] for slot in range(SLOTS))


def _spread(weights: Mapping[str, int], slots: Iterable[int]) -> dict[int, str]:
    """Give slots to servers in turn, by their weights."""
    turns = {name: 0 for name, weight in weights.items() if weight}
    total = sum(weights.values())
    found: dict[int, str] = {}
    for slot in slots if turns else ():
        for name in turns:
            turns[name] += weights[name]
        chosen = max(turns, key=lambda name: turns[name])
        turns[chosen] -= total
        found[slot] = chosen
    return found
