# SPDX-License-Identifier: GPL-2.0-or-later
"""Tunnels: WireGuard networks that follow the role. The active router tells its peers where theirs are.

netifd brings such a network up on the active router. Then the router that takes over sets the endpoints that
it was told, and begins a handshake with each peer of the tunnel.
"""

from __future__ import annotations

from tandem.core.timers import SECOND
from tandem.follow import endpoints as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.channel.channel import Channel
    from tandem.effects.process import Exit, Processes
    from tandem.follow.endpoints import Endpoints
    from tandem.log import Logger
    from tandem.loop import Loop

TOPIC = "tunnels"
PROTO = "wireguard"  # of netifd's networks
WG = "/usr/bin/wg"
LOOK_EVERY = 30 * SECOND  # at where the peers are
_LIMIT = 5 * SECOND  # of one wg


class Tunnels:
    """The tunnels of one router. `processes` runs wg(8)."""

    def __init__(self, loop: Loop, log: Logger, processes: Callable[[], Processes]) -> None:
        self._loop = loop
        self._log = log
        self._processes = processes
        self._devices: dict[str, str] = {}  # of the tunnels that are up here, by network
        self._known: dict[str, Endpoints] = {}  # by network
        self._names: frozenset[str] = frozenset()  # networks that may be tunnels
        self._channel: Channel | None = None
        self._peers: set[str] = set()

    def take(self, names: frozenset[str]) -> None:
        """Hear what peers tell of these networks from now on."""
        self._names = names
        for name in self._devices.keys() - names:
            self.down(name)

    def join(self, channel: Channel) -> None:
        """Tell this router's endpoints on this channel, and hear the peers' endpoints."""
        self._channel = channel
        channel.subscribe(TOPIC, self)

    def up(self, name: str, device: str) -> None:
        """The network is up on this router, which is active; a second call changes nothing."""
        if self._devices.get(name) == device:
            return
        self._devices[name] = device
        self._wg(["show", device, "persistent-keepalive"], lambda printed: self._shake_hands(name, printed))
        self._look_later(name)

    def down(self, name: str) -> None:
        """The network is no longer up here."""
        if self._devices.pop(name, None) is not None:
            self._loop.call_at(("tunnel", name), None)

    def _shake_hands(self, name: str, printed: bytes) -> None:
        device = self._devices.get(name)
        found = words.intervals(printed)
        if device is not None and (argv := words.shake_hands(device, self._known.get(name, {}), found)):
            self._log.info(f"{name}: handshakes with {len(found)} peers begin")
            self._wg(argv, lambda _printed: None)

    def _look_later(self, name: str) -> None:
        self._loop.call_at(("tunnel", name), self._loop.now() + LOOK_EVERY, lambda _now: self._look(name))

    def _look(self, name: str) -> None:
        """Look where the peers of the tunnel are, and tell the other routers what has changed."""
        if (device := self._devices.get(name)) is None:
            return
        self._wg(["show", device, "endpoints"], lambda printed: self._looked(name, printed))
        self._look_later(name)

    def _looked(self, name: str, printed: bytes) -> None:
        found = words.endpoints(printed)
        if name in self._devices and found != self._known.get(name):
            self._known[name] = found
            for peer in self._peers:
                self._send(peer, name)

    def _wg(self, argv: Sequence[str], on_output: Callable[[bytes], None]) -> None:
        def ended(result: Exit) -> None:
            if result.ok:
                on_output(result.output)
            else:
                self._log.limited("wg", "warning", f"wg {argv[0]} {argv[1]}: {result}")

        self._processes().start([WG, *argv], _LIMIT, ended, output=True)

    # A subscriber of the channel

    def peer_opened(self, peer: str) -> None:
        """Tell a peer that now has a session where the peers of this router's tunnels are."""
        self._peers.add(peer)
        for name in self._devices:
            self._send(peer, name)

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has ended."""
        self._peers.discard(peer)

    def received(self, peer: str, data: bytes) -> None:
        """Take the endpoints that a peer tells of tunnels that are not up here."""
        try:
            found = words.unpack(data)
        except ValueError:
            self._log.limited(("tunnels", peer), "warning", f"tunnels: {peer} sent something malformed")
            return
        for name, endpoints in found.items():
            if name in self._names and name not in self._devices:
                self._known[name] = endpoints

    def _send(self, peer: str, name: str) -> None:
        if self._channel is not None and name in self._known:
            self._channel.send(peer, TOPIC, words.pack({name: self._known[name]}))
