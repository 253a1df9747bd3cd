# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers whose channels are joined by a dedicated cable and a LAN, each on a loop in a thread."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from tandem.channel.channel import Channel
from tandem.channel.events import Event
from tandem.channel.peer_link import Peer
from tandem.channel.peer_socket import Path
from tandem.channel.settings import Settings
from tandem.log import Logger
from tandem.loop import MILLISECOND, Loop
from tests.lab.log import Lines
from tests.lab.netns import enter, ip_batch, prefix
from tests.lab.wait import wait_until
from tests.property.replication_link import SECRET, Table

T = TypeVar("T")


class Router(threading.Thread):
    """A channel on a loop of its own, in a thread that lives in a namespace."""

    def __init__(
        self, namespace: str, paths: tuple[Path, ...], node: int, replicates: bool = True, **settings: object
    ) -> None:
        super().__init__(daemon=True)
        self.namespace = namespace
        self.own = Table()
        self.held = Table(self.own)
        self.events: list[Event] = []
        self.heard: list[str | bytes] = []  # of the topic "notes"
        self.log = Lines()
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ready, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = threading.Event()
        chosen: dict[str, object] = {"secrets": {1: SECRET}, "key_id": 1, "heartbeat": 200 * MILLISECOND}
        self.settings = Settings(**{**chosen, **settings})  # type: ignore[arg-type]
        self.paths = paths
        self._node = bytes([node] * 8)
        self._replicates = replicates
        self.channel: Channel = None  # type: ignore[assignment]
        self.start()
        self.do(lambda: self.channel.start())

    def run(self) -> None:
        enter(self.namespace, self._run)

    def _run(self) -> None:
        self.loop = loop = Loop()
        self.channel = Channel(
            loop,
            Logger("debug", self.log),
            [Peer("peer", self.paths, self.settings)],
            lambda name, event: None,
            self._node,
        )
        if self._replicates:
            self.channel.join(self)
        self.channel.subscribe("notes", self)
        loop.add_reader(self._ready, self._bidden)
        while not self._stopped.is_set():
            loop.turn(100 * MILLISECOND)
        self.channel.close()
        loop.close()

    # A subscriber that says one thing whenever there is a session.

    def peer_opened(self, peer: str) -> None:
        self.heard.append("opened")
        assert self.channel.send(peer, "notes", f"from {self._node[0]}".encode())

    def peer_closed(self, peer: str) -> None:
        self.heard.append("closed")

    def received(self, peer: str, data: bytes) -> None:
        self.heard.append(data)

    # A user that replicates connections.

    def tables(self, peer: str) -> tuple[Table, Table]:
        return self.own, self.held

    def happened(self, peer: str, event: Event) -> None:
        self.events.append(event)

    def _bidden(self) -> None:
        os.read(self._ready, 1000)
        while not self._work.empty():
            self._work.get()()

    def do(self, function: Callable[[], T]) -> T:
        """Call a function in the router's thread."""
        done: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

        def call() -> None:
            try:
                done.put(function())
            except BaseException as error:  # noqa: BLE001 - for the thread that asked
                done.put(error)

        self._work.put(call)
        os.write(self._bell, b"!")
        result = done.get(timeout=10)
        if isinstance(result, BaseException):
            raise result
        return result

    def change(self, records: list[tuple[int, bytes, bytes]], urgent: bool = False) -> int:
        def push() -> int:
            self.own.apply_all(records)
            return self.channel.push(records, urgent)

        return self.do(push)

    def reload(self, paths: tuple[Path, ...] = (), **settings: Any) -> None:
        """Let the channel have other paths or settings of its peer."""
        self.paths = paths or self.paths
        self.settings = replace(self.settings, **settings)
        self.do(lambda: self.channel.reload([Peer("peer", self.paths, self.settings)]))

    @property
    def peer(self) -> dict[str, Any]:
        """The status of the peer."""
        status: dict[str, Any] = self.do(self.channel.status)["peers"][0]
        return status

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.do(lambda: self.channel.counters))

    def stop(self) -> None:
        self._stopped.set()
        os.write(self._bell, b"!")
        self.join(10)
        os.close(self._bell)
        os.close(self._ready)


class Cables:
    """Two namespaces with the cables `sync` (10.1.0.0/24, fd01::/64) and `lan` (10.2.0.0/24)."""

    def __init__(self) -> None:
        name = prefix("channel")
        self.names = name + "l", name + "r"
        self.routers: list[Router] = []

    def build(self) -> None:
        left, right = self.names
        ip_batch([f"netns add {name}" for name in self.names])
        ip_batch(
            [f"link add {cable} type veth peer name {cable} netns {right}" for cable in ("sync", "lan")], left
        )
        for number, name in enumerate(self.names, 1):
            ip_batch(
                [
                    "link set lo up",
                    "link set sync up",
                    "link set lan up",
                    f"address add 10.1.0.{number}/24 dev sync",
                    f"address add fd01::{number}/64 dev sync nodad",
                    f"address add fe80::{number}/64 dev sync nodad",
                    f"address add 10.2.0.{number}/24 dev lan",
                ],
                name,
            )

    def paths(self, number: int) -> tuple[Path, ...]:
        """From router `number`, 0 or 1, to the other."""
        return Path(f"10.1.0.{2 - number}", interface="sync"), Path(f"10.2.0.{2 - number}", interface="lan")

    def router(
        self, number: int, node: int | None = None, paths: tuple[Path, ...] = (), **settings: Any
    ) -> Router:
        router = Router(self.names[number], paths or self.paths(number), node or number + 1, **settings)
        self.routers.append(router)
        return router

    def pair(self, **settings: object) -> tuple[Router, Router]:
        return self.router(0, **settings), self.router(1, **settings)

    def cut(self, cable: str, state: str) -> None:
        ip_batch([f"link set {cable} {state}"], self.names[0])

    def remove(self) -> None:
        for router in self.routers:
            if router.is_alive():
                router.stop()
        ip_batch([f"netns del {name}" for name in self.names], force=True)


def up(*routers: Router, path: str = "") -> None:
    """Wait for sessions, by a path."""

    def there() -> bool:
        ways = [router.peer.get("path") for router in routers]
        return all(way is not None and path in way for way in ways)

    wait_until(
        there, 10, f"session by {path}", explain=lambda: str([(r.peer, r.log.lines[-5:]) for r in routers])
    )


def connections(*routers: Router) -> list[int]:
    """How many each has: of two that crossed one is given up."""

    def of(router: Router) -> int:
        return router.do(lambda: len(router.channel.links["peer"].connections))

    return [of(router) for router in routers]


def in_step(sender: Router, receiver: Router) -> None:
    def there() -> bool:
        return bool(sender.peer.get("in_step")) and sender.own.entries == receiver.held.entries

    wait_until(there, 10, "in step", explain=lambda: str((sender.peer, receiver.peer)))
