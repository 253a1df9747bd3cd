# SPDX-License-Identifier: GPL-2.0-or-later
"""netifd tells which device each of OpenWrt's networks has now, so that `option interface 'lan'` works.

A name in the configuration means a network if netifd knows one of that name, otherwise a device. On a
router with DSA, `lan` is often both, and a user of UCI means the network. A network stands for its
layer-3 device (`pppoe-wan`, not `eth1`) while it is up, and for none while it is not, even if the device
itself is there: `ifdown wan` is as good as pulling the cable.

    ubus call network.interface status '{"interface": "lan"}'     at start, for each name
    ubus subscribe network.interface                              afterwards; each carries the whole status

While netifd has not answered yet, a name that may be a network's stands for nothing, at most for HOLD;
then it is a device until netifd says otherwise. When netifd or ubusd ends, its last word stays valid.
A network that is deleted is a network without a device, until the daemon is started again.
"""

from __future__ import annotations

import os

from tandem.openwrt import libubus as lib
from tandem.openwrt.resolvers import METHOD, Resolvers
from tandem.openwrt.ubus import Pending, UbusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from tandem.config.schema import Config
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.openwrt.connection import Connection

    Table = dict[str, Any]
    Devices = dict[str, str | None]

OBJECT = "network.interface"
PROGRAM = "/sbin/netifd"
HOLD_NS = 10_000_000_000
ANSWER_NS = 5_000_000_000  # netifd must answer within this time; then the daemon asks again
FIELDS = (
    "interface", "up", "l3_device", "device", "data", "proto", "ipv4-address", "route", "dns-server",
    "ipv6-address", "ipv6-prefix", "ipv6-prefix-assignment",
)  # fmt: skip


def names_in(config: Config) -> frozenset[str]:
    """Return every name of an interface in the configuration that may be the name of a network.

    The names of networks are those of UCI sections: letters, digits and "_".
    """
    names: set[str | None] = set()
    addresses, routes = list(config.static_addresses), list(config.static_routes)
    tracks = [track for group in config.groups for track in group.tracks]
    for instance in config.instances:
        names.add(instance.interface)
        addresses += instance.virtual_addresses + instance.excluded_addresses
        routes += instance.routes
        tracks += instance.tracks
    names.update(address.device for address in addresses)
    for path in (path for peer in config.peers for path in peer.paths):
        names.add(path.interface)
        names.update(text.partition("%")[2] for text in (path.address, path.source or ""))
    for route in routes:
        names.update((route.device, *(hop.device for hop in route.nexthops)))
    names.update(follow.port for follow in config.follows)
    names.update(check.interface for check in config.checks)
    names.update(internet.network for internet in config.internets)
    names.update(track.name for track in tracks if track.kind == "interface")
    return frozenset(name for name in names if name and name.isascii() and name.replace("_", "0").isalnum())


class Networks:
    """A part of the connection: `on_change(devices)` gets the networks' devices, see `Links.networks`."""

    def __init__(
        self,
        connection: Connection,
        loop: Loop,
        log: Logger,
        on_change: Callable[[Devices], None],
        on_followed: Callable[[str, Table, bool], None] = lambda _name, _status, _fresh: None,
    ) -> None:
        """`on_followed(name, status, fresh)` gets netifd's word of followed networks; `fresh`: it is news."""
        self.devices: Devices = {}
        self._connection = connection
        self._loop = loop
        self._log = log
        self._on_change = on_change
        self._on_followed = on_followed
        self._followed: frozenset[str] = frozenset()
        self._heard: frozenset[str] = frozenset()  # further networks of which `on_followed` hears
        self._wanted: dict[str, str] = {}  # what was last asked for, by followed network: "up" or "down"
        self._names: frozenset[str] = frozenset()
        self._known: dict[str, str | None] = {}  # networks that netifd has told of
        self._answered: set[str] = set()  # names for which netifd has answered
        self._asked: dict[str, Pending] = {}
        self._resolvers = Resolvers()
        self._object: int | None = None  # netifd's, on the bus
        self._holding = os.path.exists(PROGRAM)

    def follow(
        self,
        names: Iterable[str],
        resolvers: Mapping[str, tuple[str, ...]] | None = None,
        followed: frozenset[str] = frozenset(),
    ) -> None:
        """Follow these names from now on, and tell netifd these resolvers of networks, see resolvers.py.

        `followed`: networks that follow the role, of which `on_followed` hears.
        """
        self._names = frozenset(names) | self._heard
        self._followed = followed
        self._resolvers.take(resolvers or {})
        self._publish()
        self._ask_for((self._names - self._answered) | self._others)

    def start(self) -> None:
        """Hold the names from now on until netifd has answered, at most for HOLD."""
        if self._holding:
            self._loop.call_at("netifd hold", self._loop.now() + HOLD_NS, lambda _now: self._let_go())

    def ask(self, method: str, name: str) -> None:
        """Call the method "up" or "down" of a network, now, or when netifd is there.

        "status": `on_followed` hears of this network too, and its device becomes known.
        """
        if method == "status":
            self._heard |= {name}
            self._names |= {name}
            self._publish()
            self._ask_for({name})
            return
        self._wanted[name] = method
        self._connection.soon(lambda: self._call(name))

    def _call(self, name: str) -> None:
        """Call what was asked for last; netifd's answer comes as a notification."""
        if (method := self._wanted.get(name)) is not None:
            found = self._connection.bus.lookup(f"{OBJECT}.{name}")
            self._connection.bus.call_async(found, method, None, lambda _status, _replies: None)

    @property
    def _others(self) -> frozenset[str]:
        """Networks whose status is wanted for something else than their devices."""
        return self._resolvers.names | self._followed | self._heard

    # A part of the connection

    def steps(self) -> Sequence[Callable[[], None]]:
        """Return the steps that listen for netifd's start and subscribe to its networks."""
        return (self._listen, self._subscribe)

    def lost(self) -> None:
        """Forget the subscription: netifd's last word stays valid until it says something else."""
        self._forget_questions()
        self._object = None

    def _listen(self) -> None:
        self._connection.bus.listen("ubus.object.add", self._added)

    def _subscribe(self) -> None:
        if self._object is not None:
            return
        try:
            self._object = self._connection.bus.subscribe(OBJECT, self._notified, self._gone, FIELDS)
        except UbusError as error:
            if error.status != lib.NOT_FOUND:
                raise
            return  # an event tells when netifd comes
        self._answered.clear()
        self._ask_for(self._names | self._others)
        for name in self._wanted:
            self._connection.soon(lambda name=name: self._call(name))  # type: ignore[misc]

    # Reports of netifd

    def _added(self, _event: str, data: Table) -> None:
        path = str(data.get("path"))
        if path == OBJECT:
            self._connection.soon(self._subscribe)
        elif path.startswith(OBJECT + "."):
            name = path[len(OBJECT) + 1 :]
            self._ask_for({name} & (self._names | self._others))
            if name in self._wanted:
                self._connection.soon(lambda: self._call(name))

    def _gone(self) -> None:
        self._object = None
        self._forget_questions()

    def _notified(self, _kind: str, data: Table) -> None:
        name = data.get("interface")
        if name in self._names or name in self._resolvers.names:
            self._learn(str(name), data)
        if name in self._followed or name in self._heard:
            self._on_followed(str(name), data, True)

    def _ask_for(self, names: Iterable[str]) -> None:
        for name in names:
            if self._object is not None and name not in self._asked:
                self._connection.attempt(lambda name=name: self._ask(name))  # type: ignore[misc]
        if self._object is not None and self._unanswered():
            self._loop.call_at("netifd", self._loop.now() + ANSWER_NS, self._ask_again)

    def _unanswered(self) -> frozenset[str]:
        return self._names - self._answered | self._asked.keys()

    def _ask(self, name: str) -> None:
        assert self._object is not None  # _ask_for has checked it
        self._asked[name] = self._connection.bus.call_async(
            self._object,
            "status",
            {"interface": name},
            lambda status, replies: self._answer(name, status, replies),
            FIELDS,
        )

    def _answer(self, name: str, status: int, replies: list[Table]) -> None:
        self._asked.pop(name, None)
        if status == lib.OK and replies:
            self._learn(name, replies[0])
            if name in self._followed or name in self._heard:
                self._on_followed(name, replies[0], False)
        elif status == lib.NOT_FOUND:
            if name in self._known:
                self._known[name] = None
            self._answered.add(name)
            self._publish()

    def _ask_again(self, _now: int) -> None:
        names = self._unanswered()
        self._forget_questions()
        self._ask_for(names)

    def _forget_questions(self) -> None:
        for pending in self._asked.values():
            self._connection.bus.cancel(pending)
        self._asked.clear()

    def _learn(self, name: str, status: Table) -> None:
        device = (status.get("l3_device") or status.get("device")) if status.get("up") is True else None
        self._known[name] = device if isinstance(device, str) else None
        self._answered.add(name)
        resolvers = self._resolvers.answer(name, status)
        if resolvers is not None and self._object is not None:
            self._connection.attempt(lambda: self._tell(name, resolvers))
        self._publish()

    def _tell(self, name: str, resolvers: list[str]) -> None:
        assert self._object is not None  # _learn has checked it
        self._connection.bus.call_async(
            self._object, METHOD, {"interface": name, "dns": resolvers}, lambda _status, _replies: None
        )

    def _let_go(self) -> None:
        self._holding = False
        self._publish()

    def _publish(self) -> None:
        devices: Devices = {}
        for name in sorted(self._names):
            if name in self._known:
                devices[name] = self._known[name]
            elif self._holding and name not in self._answered:
                devices[name] = None
        if devices == self.devices:
            return
        for name, device in devices.items():
            if device != self.devices.get(name, "") and name in self._known:
                text = f"network {name}: {f'device {device}' if device else 'down'}"
                self._log.change(("network", name), "info", text)
        self.devices = devices
        self._on_change(devices)
