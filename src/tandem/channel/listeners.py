# SPDX-License-Identifier: GPL-2.0-or-later
"""Listening sockets for the peers: each is bound to our address by which a peer is reached.

Nobody can connect by another address of the router. Addresses, routes and interfaces come and go, so the
sockets are compared with them every LISTEN_CHECK, or every LISTEN_SOON while there is no way to a peer.
"""

from __future__ import annotations

import socket

from tandem.channel.peer_socket import accept, listen, local_address
from tandem.core.timers import SECOND
from tandem.loop import TIMER_SLACK

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Sequence
    from typing import Protocol

    from tandem.channel.peer_socket import Path
    from tandem.loop import Loop

    class Owner(Protocol):
        """The channel, which gets the connections."""

        def accepted(self, sock: socket.socket, address: bytes) -> None:
            """Take a connection from this packed address."""

        def count(self, name: str, level: str, message: str, of: str = "") -> None:
            """Count and log a problem."""

    Place = tuple[int, int, str, str | None, int | None, int]  # family, port, address, device, index, hops

LISTEN_CHECK = 5 * SECOND
LISTEN_SOON = SECOND
ACCEPTS = 4  # in one turn


class Listeners:
    """The sockets of a channel, one for each place that a peer may connect to."""

    def __init__(self, loop: Loop, paths: Sequence[Path], owner: Owner) -> None:
        self._loop = loop
        self._paths = paths
        self._owner = owner
        self._by_device = _all_by_device(paths)
        self._sockets: dict[Place, socket.socket] = {}

    def start(self) -> None:
        """Listen; where that fails, try again later."""
        self._check(self._loop.now())

    def reload(self, paths: Sequence[Path]) -> None:
        """Listen for the peers that have these paths."""
        self._paths = paths
        self._by_device = _all_by_device(paths)
        self._check(self._loop.now())

    def close(self) -> None:
        """Close all sockets."""
        self._loop.call_at(("conntrack_sync listen", id(self)), None)
        for place in list(self._sockets):
            self._shut(place)

    def places(self) -> list[str]:
        """Return the places where sockets listen, for people."""
        return sorted(_text(place) for place in self._sockets)

    def _check(self, now: int) -> None:
        wanted: dict[Place, None] = {}
        missing = False
        for path in self._paths:
            try:
                device = path.interface if self._by_device[path.family, path.port] else None
                index = socket.if_nametoindex(device) if device else None
                address = local_address(path)
            except OSError as error:
                self._failed(f"for {path}", error)
                missing = True
                continue
            wanted[path.family, path.port, address, device, index, path.max_hops] = None
        for place in [place for place in self._sockets if place not in wanted]:
            self._shut(place)
        for place in wanted:
            missing |= not self._open(place)
        when = now + (LISTEN_SOON if missing else LISTEN_CHECK)
        self._loop.call_at(("conntrack_sync listen", id(self)), when, self._check, TIMER_SLACK)

    def _open(self, place: Place) -> bool:
        sock = self._sockets.get(place)
        if sock is None:
            family, port, address, device, _, max_hops = place
            try:
                sock = listen(family, port, address, device, max_hops)
            except OSError as error:
                self._failed(f"at {_text(place)}", error)
                return False
            self._sockets[place] = sock
        self._loop.add_reader(sock.fileno(), lambda: self._acceptable(place))  # after _acceptable removed it
        return True

    def _failed(self, where: str, error: OSError) -> None:
        self._owner.count("listen", "warning", f"can't listen {where}: {error.strerror or error}", where)

    def _acceptable(self, place: Place) -> None:
        for _ in range(ACCEPTS):
            sock = self._sockets.get(place)
            if sock is None:
                return
            try:
                found = accept(sock)
            except OSError as error:
                # Out of descriptors: the waiting connection would wake the loop for ever.
                self._owner.count("accept", "error", f"can't accept: {error.strerror}")
                self._loop.remove_reader(sock.fileno())
                return
            if found is None:
                return
            self._owner.accepted(*found)

    def _shut(self, place: Place) -> None:
        sock = self._sockets.pop(place)
        self._loop.remove_reader(sock.fileno())
        sock.close()


def _all_by_device(paths: Sequence[Path]) -> dict[tuple[int, int], bool]:
    """Whether all paths of a family and port name a device.

    A socket that is bound to an address alone takes it from one that is bound to a device as well.
    """
    found: dict[tuple[int, int], bool] = {}
    for path in paths:
        key = path.family, path.port
        found[key] = found.get(key, True) and path.interface is not None
    return found


def _text(place: Place) -> str:
    _, port, address, device, _, _ = place
    return f"{address} port {port}" + (f" on {device}" if device else "")
