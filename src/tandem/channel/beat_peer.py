# SPDX-License-Identifier: GPL-2.0-or-later
"""One peer that takes heartbeats: its sockets, its keys, and what it has said last."""

from __future__ import annotations

import select

from tandem.channel.beat_socket import BeatSocket, Route
from tandem.channel.heartbeat import round_trip
from tandem.core.heartbeats import BeatPath
from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.core.heartbeats import Beats
    from tandem.core.standing import Entry
    from tandem.loop import Loop
    from tandem.status_schema import HeartbeatPath, PeerHeartbeats

    Said = tuple[int, int, bytes]  # flags, number of the directory, standings


class BeatPeer:
    """One peer; `woken` is called when a heartbeat comes while this router `listens`."""

    def __init__(
        self, loop: Loop, name: str, node: bytes, beats: Beats, woken: Callable[[BeatPeer], None]
    ) -> None:
        self.name = name
        self.node = node
        self.beats = beats
        self.directory: tuple[int, tuple[Entry, ...]] = (0, ())
        self.said: Said | None = None
        self.answer = 0  # the number of the heartbeat that answers this router's last one
        self.flags = 0  # of the heartbeats to it
        self.stale = False
        self.paths: tuple[tuple[str, BeatSocket], ...] = ()
        self.listens = False
        self._loop = loop
        self._woken = woken
        self._keys = b"", b""
        self._ready = select.epoll()  # all sockets: the loop watches one descriptor, or none

    def use(self, keys: tuple[bytes, bytes]) -> None:
        """Use these keys, of what is sent and of what comes, from now on."""
        self._keys = keys
        for _, sock in self.paths:
            sock.use(keys)

    def open(self, name: str, route: Route) -> None:
        """Open a path; OSError: there is none now."""
        sock = BeatSocket(route, self._keys)
        self._ready.register(sock.fileno(), select.EPOLLIN)
        self.paths += ((name, sock),)

    def keep(self, wanted: dict[str, Route]) -> None:
        """Close all paths but these."""
        for name, sock in self.paths:
            if wanted.get(name) != sock.route:
                sock.close()  # which ends the watch as well
                self.beats.lose(name)
        self.paths = tuple(one for one in self.paths if wanted.get(one[0]) == one[1].route)

    def listen(self, yes: bool) -> None:
        """Read heartbeats when they come, or no longer."""
        if yes == self.listens:
            return
        self.listens = yes
        if yes:
            self._loop.add_reader(self._ready.fileno(), lambda: self._woken(self))
        else:
            self._loop.remove_reader(self._ready.fileno())

    def status(self, now: int) -> PeerHeartbeats:
        """Return what is known of the peer's heartbeats, for people."""
        beats = self.beats
        failure, at = beats.last_failure or (None, now)
        return {
            "state": beats.life.value,
            "limit_ms": beats.limit / MILLISECOND,
            "paths": [_path(name, sock.errors, beats.paths.get(name), now) for name, sock in self.paths],
            "last_failure": failure,
            "last_failure_s": round((now - at) / SECOND, 3) if failure else None,
            "stale": self.stale,
            "repeated": beats.refused,
        }

    def close(self) -> None:
        """Close all paths."""
        self.keep({})
        self.listen(False)
        self._ready.close()


def _path(name: str, errors: int, path: BeatPath | None, now: int) -> HeartbeatPath:
    path = path or BeatPath()
    rtt = round_trip(*path.round_trip, path.clocked)
    return {
        "name": name,
        "up": path.speaks,
        "up_s": None if path.since is None else round((now - path.since) / SECOND, 3),
        "rtt_ms": None if rtt is None else rtt / MILLISECOND,
        "received": path.received,
        "lost": path.lost,
        "failures": path.failures,
        "errors": errors,
    }
