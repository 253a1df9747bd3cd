# SPDX-License-Identifier: GPL-2.0-or-later
"""Balance: which real servers are up, and which part of the connections to a virtual server each one gets.

A server is up as long as none of its checks is known to be down.

The kernel computes a number below SLOTS for each connection, from the client's address or by counting, and a
map says which server has that slot. Servers have slots by their weights, interleaved as nginx's smooth
weighted round robin does it. When a server goes down, its slots go to the others, and it gets the same slots
back: clients of servers that are up stay with them. Routers with the same configuration have the same slots.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from tandem.core.settings import RealServer, VirtualServer

SLOTS = 256
SORRY = ""  # the owner of all slots of a virtual server whose sorry server answers


class Balance:
    """The virtual servers and their real servers.

    `owners` has the real server of each slot, by virtual server; no slots: connections are rejected.
    """

    def __init__(self) -> None:
        self.virtual: tuple[VirtualServer, ...] = ()
        self.real: dict[str, RealServer] = {}
        self.owners: dict[str, tuple[str, ...]] = {}
        self._down: dict[str, set[str]] = {}  # by real server: its checks that are down

    def settle(self, virtual: tuple[VirtualServer, ...], real: Iterable[RealServer]) -> None:
        """Take the servers of a configuration; the states of checks that stay are kept."""
        self.virtual = virtual
        self.real = {server.name: server for server in real}
        self._down = {
            name: down & set(self.real[name].checks) for name, down in self._down.items() if name in self.real
        }
        self._assign()

    def checked(self, server: str, check: str, up: bool) -> bool:
        """Take the state of a check of a real server; return whether the server went down or came up."""
        if server not in self.real:
            return False
        before = self.is_up(server)
        down = self._down.setdefault(server, set())
        (down.discard if up else down.add)(check)
        if self.is_up(server) == before:
            return False
        self._assign()
        return True

    def is_up(self, server: str) -> bool:
        """Whether a real server gets connections."""
        return not self._down.get(server)

    def is_sorry(self, virtual: str) -> bool:
        """Whether the sorry server answers, because no real server is up."""
        return self.owners.get(virtual, ())[:1] == (SORRY,)

    def reaches(self, virtual: str) -> bool:
        """Whether a real server answers."""
        return bool(self.owners.get(virtual)) and not self.is_sorry(virtual)

    def share(self, virtual: str, server: str) -> float:
        """Return which part of the connections to a virtual server a real server gets."""
        slots = self.owners.get(virtual, ())
        return round(slots.count(server) / len(slots), 3) if slots else 0.0

    def port(self, virtual: VirtualServer, server: str) -> int:
        """Return the port of a real server to which the connections of a virtual server go."""
        return self.real[server].port or virtual.port

    def ends(self, server: str) -> list[tuple[str, int]]:
        """Return the protocols and ports of a real server that virtual servers use."""
        return sorted({(v.protocol, self.port(v, server)) for v in self.virtual if server in v.servers})

    def _assign(self) -> None:
        self.owners = {}
        for virtual in self.virtual:
            weights = {name: self.real[name].weight for name in virtual.servers}
            slots = assign(weights, {name for name in virtual.servers if self.is_up(name)})
            self.owners[virtual.name] = slots or ((SORRY,) * SLOTS if virtual.sorry_address else ())


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
