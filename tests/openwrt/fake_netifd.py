# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for netifd on ubus: `network.interface` with the networks that a test gives it.

    python -m tests.openwrt.fake_netifd SOCKET NETWORKS

`ubus call fake set '{"interface": "lan", "status": {"up": true, "l3_device": "br-lan"}}'` makes or changes
a network, `ubus call fake delete '{"interface": "lan"}'` removes it; notifications go out as netifd sends
them (ubus.c, netifd_ubus_interface_notify).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from tandem.openwrt import libubus as lib
from tandem.openwrt.ubus import Call, Method, Object, Ubus, UbusError

from .ubusd import LIBUBUS


class FakeNetifd:
    """The networks and their objects."""

    def __init__(self, bus: Ubus, networks: dict[str, dict[str, Any]]) -> None:
        self.bus = bus
        self.networks = networks
        self.objects: dict[str, Object] = {}
        self.todo: list[Callable[[], None]] = []  # what waits for ubusd: not from within a callback
        self.main = bus.add("network.interface", {"status": Method(self.status, {"interface": str})})
        bus.add(
            "fake",
            {
                "set": Method(self.set, {"interface": str, "status": dict}),
                "delete": Method(self.delete, {"interface": str}),
            },
        )

    def status(self, _call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
        if "interface" not in arguments:
            raise UbusError(lib.INVALID_ARGUMENT)
        if arguments["interface"] not in self.networks:
            raise UbusError(lib.NOT_FOUND)
        return self.networks[arguments["interface"]]

    def set(self, _call: Call, arguments: dict[str, Any]) -> None:
        name, status = arguments["interface"], arguments["status"]
        self.networks[name] = {"up": False, "pending": False, "available": True, "data": {}, **status}
        self.later(lambda: self.changed(name))

    def delete(self, _call: Call, arguments: dict[str, Any]) -> None:
        name = arguments["interface"]
        del self.networks[name]
        self.later(lambda: self.bus.remove(self.objects.pop(name)))

    def later(self, action: Callable[[], None]) -> None:
        self.todo.append(action)
        self.bus.stop()

    def changed(self, name: str) -> None:
        if name not in self.objects:
            self.objects[name] = self.bus.add(f"network.interface.{name}", {})
        status = self.networks[name]
        kind = "interface.update" if status["up"] else "interface.down"
        self.bus.notify(self.main, kind, {"interface": name, **status})

    def run(self) -> None:
        while self.bus.connected:
            self.bus.loop()
            while self.todo:
                self.todo.pop(0)()


def main() -> None:
    bus = Ubus(sys.argv[1], library=LIBUBUS)
    bus.connect()
    FakeNetifd(bus, json.loads(sys.argv[2])).run()


if __name__ == "__main__":
    main()
