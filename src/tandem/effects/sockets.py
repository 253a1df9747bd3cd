# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets: the VRRP sockets of this router, one for each device and family that endpoints use."""

from __future__ import annotations

from tandem.effects.reception import OTHERS_BUFFER, Reception
from tandem.effects.vrrp_socket import VrrpSocket, group_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.effects.endpoint import Endpoint
    from tandem.effects.links import Links
    from tandem.effects.reception import Packets, Wanted
    from tandem.log import Logger
    from tandem.loop import Loop

    Key = tuple[str, int]  # device and family

REOPEN_PAUSE = 1_000_000_000  # ns


class Sockets:
    """Opens sockets, joins groups, and opens a socket again when its device was created again."""

    def __init__(self, loop: Loop, log: Logger, links: Links) -> None:
        self._loop = loop
        self._log = log
        self._links = links
        self._sockets: dict[Key, VrrpSocket] = {}
        self._receptions: dict[Key, Reception] = {}  # of the sockets that receive
        self._joined: dict[Key, frozenset[bytes] | None] = {}

    def serve(self, endpoints: Sequence[Endpoint], packets: Packets, again: Callable[[], None]) -> None:
        """Open what these endpoints need and close the rest; `packets` reads a socket.

        `again` is called after a pause when a socket could not be opened.
        """
        groups: dict[Key, set[bytes] | None] = {}  # None: a socket that only sends
        for endpoint in endpoints:
            if device := self._links.device(endpoint.sends_on):
                groups.setdefault((device, endpoint.settings.family), None)
        for endpoint in endpoints:
            device = self._links.device(endpoint.settings.interface)
            if device is None:
                continue
            key = (device, endpoint.settings.family)
            joined = groups.get(key) or set()
            group = group_of(endpoint.settings)
            groups[key] = joined | {group} if group else joined
        for key in [key for key in self._sockets if key not in groups]:
            self._close(key)
        for key, wanted in groups.items():
            self._open(key, None if wanted is None else frozenset(wanted), packets, again)

    def of(self, endpoint: Endpoint) -> VrrpSocket | None:
        """Return the socket that an endpoint sends by."""
        return self._sockets.get((self._links.device(endpoint.sends_on) or "", endpoint.settings.family))

    def hear(self, wanted: dict[Key, Wanted]) -> None:
        """Let the kernel keep away the packets that nobody wants."""
        for key, reception in self._receptions.items():
            try:
                if key in wanted:
                    reception.want(wanted[key])
            except OSError as error:
                why = "the kernel refuses the filter for adverts, so that a flood costs time"
                text = f"{key[0]}: {why}: {error.strerror}"
                self._log.limited(("filter", key), "warning", text)

    def close(self) -> None:
        """Close all sockets."""
        for key in list(self._sockets):
            self._close(key)

    def _open(
        self, key: Key, groups: frozenset[bytes] | None, packets: Packets, again: Callable[[], None]
    ) -> None:
        name, family = key
        ifindex = self._links.device_index(name)
        known = self._sockets.get(key)
        if known is not None and known.ifindex == ifindex and self._joined[key] == groups:
            return
        self._close(key)
        if ifindex is None:
            return
        opened = None
        try:
            opened = VrrpSocket(name, ifindex, family, groups or ())
            if groups is not None:
                others = VrrpSocket(name, ifindex, family, groups, OTHERS_BUFFER)
                self._receptions[key] = Reception(self._loop, opened, others, packets)
        except OSError as error:
            if opened is not None:
                opened.close()
            self._log.limited(("open", name, family), "error", f"{name}: cannot open a VRRP socket: {error}")
            self._loop.call_at(("open", key), self._loop.now() + REOPEN_PAUSE, lambda _now: again())
            return
        self._sockets[key] = opened
        self._joined[key] = groups

    def _close(self, key: Key) -> None:
        sock, reception = self._sockets.pop(key, None), self._receptions.pop(key, None)
        if reception is not None:
            reception.close()
        elif sock is not None:
            sock.close()
