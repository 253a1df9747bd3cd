# SPDX-License-Identifier: GPL-2.0-or-later
"""Resolvers that odhcpd tells the hosts of a network: the virtual address. dnsmasq reads it from a file.

Without this, odhcpd tells an address of the router (RDNSS in router advertisements, DHCPv6's option 23),
which is lost with the router. odhcpd reads `dns` from the `data` of netifd's networks, like `list dns` in
/etc/config/dhcp:

    ubus call network.interface set_data '{"interface": "lan", "dns": ["fd00:1::4"]}'

netifd forgets this data when the network goes down. It reports every change, and the daemon then sends the
data again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

METHOD = "set_data"


class Resolvers:
    """Decides which resolvers netifd must be told, and replaces none but Tandem's own."""

    def __init__(self) -> None:
        self._wanted: dict[str, list[str]] = {}
        self._told: dict[str, list[list[str]]] = {}  # resolvers in netifd that may be Tandem's

    @property
    def names(self) -> frozenset[str]:
        """Return the names of the networks whose state is needed."""
        return frozenset(self._wanted) | frozenset(self._told)

    def take(self, wanted: Mapping[str, tuple[str, ...]]) -> None:
        """Name these resolvers of each network from now on."""
        self._wanted = {name: list(addresses) for name, addresses in wanted.items()}

    def answer(self, network: str, status: dict[str, Any]) -> list[str] | None:
        """Return the resolvers to tell netifd after this status of a network; None when it needs none."""
        if status.get("up") is not True:
            return None
        data = status.get("data")
        found = data.get("dns") if isinstance(data, dict) else None
        wanted, told = self._wanted.get(network, []), self._told.setdefault(network, [])
        if (found or []) == wanted or (found and found not in told):
            return None
        if wanted not in told:
            told.append(wanted)
        del told[:-8]
        return wanted
