# SPDX-License-Identifier: GPL-2.0-or-later
"""The `conntrack_sync` section: which connections are replicated with which peers.

A section that is not enabled is checked like one that is, but its secret files are not read: they
need not be there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tandem.config import keys
from tandem.config.peers import Peers
from tandem.config.read import Parsed
from tandem.config.schema import ConntrackSync, Peer
from tandem.config.sync_values import STATE_NAMES
from tandem.limits import NETWORKS_MAX, ZONES_MAX

MOST_NETWORKS, MOST_ZONES = 256, 1024

_SYN_SENT = next(number for number, name in STATE_NAMES.items() if name == "SYN_SENT")
# For peers that the section lists; without a list, the peer sections say all this.
_OF_PEERS = ("source", "interface", "port", "max_hops", "heartbeat", "stall_timeout", "insecure", "key_id")


def build(found: Sequence[Parsed], peers: Peers) -> tuple[tuple[Peer, ...], ConntrackSync | None]:
    """Return all peers, and the section that is enabled; None when there is none, or none with a peer."""
    enabled = [parsed for parsed in found if parsed.get("enabled")]
    for more in enabled[1:]:
        more.error(f"only one conntrack_sync can be enabled, and the one at line {enabled[0].line()} is")
    listed = {id(parsed): peers.listed(parsed) for parsed in found if parsed.given("peer")}
    used = listed.get(id(enabled[0]), ()) if enabled else ()
    others = peers.unlisted(used)
    sync = None
    for parsed in found:
        mine = listed.get(id(parsed))
        if mine is None:
            mine = others
            _check_unlisted(parsed, peers)
        built = _Builder(parsed).build(mine)
        sync = built if parsed in enabled[:1] else sync
    return (*used, *others), sync


def _check_unlisted(parsed: Parsed, peers: Peers) -> None:
    """The section lists no peer: the peer sections say which routers there are, and how to talk to them."""
    for option in (*keys.OPTIONS, *_OF_PEERS):
        if parsed.given(option):
            parsed.error("has no effect without a list of peers: write it into the peer section", option)
    if not any(keys.given(section) or section.get("insecure") for section in peers.sections.values()):
        parsed.error("is missing: there is no peer section with a key (secret_file)", "peer")


class _Builder:
    """Puts one ConntrackSync together, reporting what does not fit."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = parsed

    def build(self, peers: tuple[Peer, ...]) -> ConntrackSync | None:
        parsed = self.parsed
        only, ignored = self._either("address", "ignore_address")
        for option, networks in (("address", only), ("ignore_address", ignored)):
            self._bound(option, len(networks), NETWORKS_MAX, MOST_NETWORKS)
        protocols, ignored_protocols = self._either("protocol", "ignore_protocol")
        zones = self._list("zone")
        self._bound("zone", len(zones), ZONES_MAX, MOST_ZONES)
        guarantee = self._guarantee()
        tcp_states = self._tcp_states(guarantee)
        if not peers:
            return None
        computed: dict[str, Any] = {
            "peers": tuple(peer.name for peer in peers),
            "port": peers[0].paths[0].port,
            "only_networks": only,
            "ignore_networks": ignored,
            "protocols": protocols,
            "ignore_protocols": ignored_protocols,
            "tcp_states": tcp_states,
            "zones": zones,
            "guarantee": guarantee,
        }
        fields = parsed.fields() | computed
        if guarantee is None:
            del fields["guarantee_timeout_ms"]
        return ConntrackSync(**fields)

    # filters

    def _list(self, option: str) -> tuple[Any, ...]:
        """The values of a list of lists."""
        found: list[Any] = []
        for item in self.parsed.all(option):
            for value in item.value:
                if value in found:
                    shown = STATE_NAMES[value] if option == "tcp_state" else value
                    self.parsed.error(f"{shown} is listed twice", option, item)
                else:
                    found.append(value)
        return tuple(found)

    def _either(self, only: str, ignore: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if self.parsed.given(only) and self.parsed.given(ignore):
            self.parsed.error(f"contradicts {only}, which leaves out all others already", ignore)
        return self._list(only), self._list(ignore)

    def _bound(self, option: str, number: int, kernel: int, most: int) -> None:
        if number > most:
            self.parsed.error(f"more than {most}", option)
        elif number > kernel:
            self.parsed.warn(
                f"more than {kernel} are too many for the kernel's filter: the daemon filters, at more cost",
                option,
            )

    def _tcp_states(self, guarantee: str | None) -> tuple[int, ...]:
        states = self._list("tcp_state")
        if guarantee and states and _SYN_SENT not in states:
            self.parsed.error(
                "with guarantee it needs SYN_SENT: a connection is in that state until it is answered",
                "tcp_state",
            )
        return states

    # guarantee

    def _guarantee(self) -> str | None:
        guarantee: str = self.parsed.get("guarantee")
        if guarantee == "none" and self.parsed.given("guarantee_timeout"):
            self.parsed.warn("has no effect without guarantee", "guarantee_timeout")
        return None if guarantee == "none" else guarantee
