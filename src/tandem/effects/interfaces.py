# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces: follows the kernel's links and addresses, and installs what does not depend on a role.

Interfaces may appear, vanish, be renamed or made anew at any time. Whenever one changes, the endpoints are
connected anew (bindings.py); virtual MACs are created when their base appears.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from tandem.effects.bindings import Bindings, virtual_addresses
from tandem.effects.endpoint import Endpoint
from tandem.effects.leftovers import foreign_addresses, leftovers, routes_of
from tandem.effects.links import Links, What
from tandem.effects.rtnl import (
    AddressMessage,
    LinkMessage,
    Monitor,
    Overrun,
    Rtnl,
    Unbound,
    bind,
    dump_addresses,
    dump_links,
)
from tandem.effects.sockets import Sockets
from tandem.effects.sysctl import Sysctls
from tandem.effects.vmac import settings_of
from tandem.effects.watches import Watches
from tandem.log import Logger
from tandem.loop import Loop
from tandem.plan.result import Plan, Template, Vmac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.effects.guard import Guard
    from tandem.effects.reception import Packets, Wanted

    class Listener(Protocol):
        """The Router, which hears what has changed."""

        def interfaces_changed(self) -> None: ...
        def reinstall(self, name: str) -> None: ...
        def moved(self, name: str) -> None: ...
        def rebound(self, name: str) -> None: ...
        def is_installed(self, name: str) -> bool: ...
        def restore(self, name: str) -> None: ...


RESTORE_PAUSE = 100_000_000  # ns between two restorations of one instance: someone may fight us


class Interfaces:
    """The kernel's interfaces, and the sockets, addresses and batches that endpoints get from them."""

    def __init__(
        self, loop: Loop, rtnl: Rtnl, plan: Plan, state_dir: str, log: Logger, switch: Guard | None = None
    ) -> None:
        """`switch` is the table of addresses with an ordinary lifetime; None: this kernel has none."""
        self.links = Links()
        self._loop = loop
        self._rtnl = rtnl
        self._plan = plan
        self._log = log
        self.sysctls = Sysctls(f"{state_dir}/sysctls.json")
        self._monitor = Monitor(routes=True, protocols=plan.route_protocols, ignore_port=rtnl.port)
        self._sockets = Sockets(loop, log, self.links)
        self._prepared: dict[str, tuple[int, int | None]] = {}  # instance -> indexes of base and home
        self._bindings = Bindings(self.links, rtnl, self._sockets, switch)
        self._watches = Watches(self.links)
        self._restored: dict[str, int] = {}
        self._vmacs: dict[str, Vmac] = {}
        self._started = False
        self._foreign: frozenset[str] = frozenset()  # labels of addresses that others have installed

    # Life

    def start(self, listener: Listener) -> None:
        """Learn what there is, clear what a former life left behind, install what is static."""
        self._listener = listener
        self._started = True
        self._clear_leftovers()
        self._note_foreign(self._plan, frozenset())
        self._send(self._plan.static_up)
        for problem in self.sysctls.settle():
            self._log.warning(problem)
        self._loop.add_reader(self._monitor.fileno(), self._readable, first=True)

    def clear(self) -> None:
        """Instead of `start`: only clear what a former life left behind."""
        self._clear_leftovers()
        for problem in self.sysctls.settle():
            self._log.warning(problem)
        self._monitor.close()

    def _clear_leftovers(self) -> None:
        self._dump()
        virtual = [(4 if len(address) == 4 else 6, address) for address in virtual_addresses(self._plan)]
        self._send(leftovers(virtual) + routes_of(self._plan))
        self._dump()
        for problem in self.sysctls.load():
            self._log.warning(problem)
        self._adopt(self._plan)
        for name, vmac in self._vmacs.items():
            if self.links.index(name) is not None:
                self._send([vmac.delete])
        self._dump()

    def stop(self) -> None:
        """Remove what is static and the virtual MACs, put the sysctls back, close the sockets."""
        self._loop.remove_reader(self._monitor.fileno())
        self._send(self._plan.static_down)
        self._send([vmac.delete for vmac in self._vmacs.values()])
        for problem in self.sysctls.restore_all():
            self._log.warning(problem)
        self._sockets.close()
        self._monitor.close()

    def take_plan(self, plan: Plan) -> None:
        """Go over to the plan of a reload; what only the old one had is removed."""
        old = self._plan
        self._plan = plan
        self._send([template for template in old.static_down if template not in plan.static_down])
        before = dict(self._vmacs)
        self._adopt(plan)
        self._send([vmac.delete for name, vmac in before.items() if self._vmacs.get(name) != vmac])
        self._dump()
        self._note_foreign(plan, _labels(old))
        self._send(plan.static_up)
        self._prepared.clear()
        for name in old.instances:
            if name not in plan.instances:
                self.sysctls.release(name)

    def name_networks(self, devices: dict[str, str | None]) -> None:
        """Let these names stand for the devices of OpenWrt's networks, see `Links.networks`."""
        names = dict.fromkeys((*devices, *self.links.networks))
        changed = [name for name in names if devices.get(name, name) != self.links.device(name)]
        self._send(_about(changed, self._plan.static_down))
        self.links.networks = dict(devices)
        if not self._started or not changed:
            return
        self._adopt(self._plan)
        untouched = _labels(self._plan).difference(
            label for part in self._plan.instances.values() for label, _, _ in _about(changed, part.up)
        )
        self._note_foreign(self._plan, untouched)
        self._send(_about(changed, self._plan.static_up))
        self._listener.interfaces_changed()

    def usable(self, name: str) -> bool:
        """Whether the interface exists, is up and has a carrier."""
        return self.links.usable(name)

    def local_addresses(self) -> frozenset[bytes]:
        """Every address that this router has, or has while active, packed."""
        return self.links.addresses().union(virtual_addresses(self._plan))

    def index(self, name: str) -> int | None:
        """The interface's index, None when there is none of that name."""
        return self.links.index(name)

    # Endpoints

    def serve(self, endpoints: Iterable[Endpoint], packets: Packets) -> None:
        """Connect every endpoint to the interfaces of now; `packets` reads a socket."""
        endpoints = list(endpoints)
        for endpoint in endpoints:
            self._prepare(endpoint)
        self._sockets.serve(endpoints, packets, lambda: self._listener.interfaces_changed())
        for endpoint in endpoints:
            self._bindings.connect(endpoint, self._plan, self._foreign, self._listener)

    def hear(self, wanted: dict[tuple[str, int], Wanted]) -> None:
        """Let the kernel keep away the packets that nobody wants; `wanted` is by interface and family."""
        self._sockets.hear(wanted)

    # Virtual MACs and sysctls

    def _adopt(self, plan: Plan) -> None:
        self._vmacs = {part.vmac.name: part.vmac for part in plan.instances.values() if part.vmac}
        self._watches.take(plan)

    def _note_foreign(self, plan: Plan, known: frozenset[str]) -> None:
        """Find virtual addresses that someone else has put on their interface: an owner's own ones.

        Those in `known` have been looked at before: they may be Tandem's by now.
        """
        templates = [t for part in plan.instances.values() for t in part.up if t[0] not in known]
        found = foreign_addresses(templates, dump_addresses(), self.links.index)
        for label in sorted(found):
            self._log.warning(f"{label} is not Tandem's: Tandem neither adds nor removes it")
        self._foreign = (self._foreign & _labels(plan)) | found

    def _prepare(self, endpoint: Endpoint) -> None:
        """Make the macvlan and set the sysctls that the instance needs, once its interface is there."""
        settings, vmac = endpoint.settings, endpoint.plan.vmac
        base = self.links.index(settings.interface)
        before = self._prepared.get(settings.name)
        if base is None or before == (base, self.links.index(endpoint.home)):
            return
        if vmac is not None and before is not None and before[0] != base:
            self._send([vmac.delete])  # from the device that its network has left
            self._dump()
        if vmac is not None and self.links.index(vmac.name) is None:
            self._send([vmac.create])
            self._dump()  # its index is needed now, not when the notification is read
        on_device = replace(settings, interface=self.links.device(settings.interface) or settings.interface)
        for problem in self.sysctls.hold(settings.name, settings_of(on_device, self.sysctls.read)):
            self._log.warning(f"{settings.name}: {problem}")
        if vmac is not None:
            self._send([vmac.configure, vmac.down])  # up with the first advert, see executor
        self._prepared[settings.name] = (base, self.links.index(endpoint.home))

    # The kernel's news

    def _readable(self) -> None:
        if self._take_news():
            self._listener.interfaces_changed()

    def take_news(self) -> None:
        """Read the kernel's news of now, before an instance that was removed may be installed again.

        The news of its own removal would look like a loss then. The listener hears the rest in the next turn.
        """
        if self._take_news():
            changed = self._listener.interfaces_changed
            self._loop.call_at("interfaces", self._loop.now(), lambda _now: changed())

    def _take_news(self) -> bool:
        """Read what the kernel says; return whether an interface has come, gone or changed."""
        restore: set[str] = set()
        changed = False
        for message in self._monitor.read():
            if isinstance(message, Overrun):
                self._log.warning("netlink notifications were lost: all interfaces are read again")
                self._dump()
                restore.update(self._watches.owners)
                changed = True
            elif isinstance(message, LinkMessage | AddressMessage):
                owner = self._watches.owner_of(message)
                changes = self.links.update(message)
                changed = changed or bool(changes)
                for change in changes:
                    if change.what is What.VANISHED:
                        self.sysctls.forget(change.name)
                if owner is not None and not message.is_new:
                    restore.add(owner)
            elif (owner := self._watches.owner_of(message)) is not None:
                restore.add(owner)
        for name in filter(self._listener.is_installed, restore):  # the others were removed by the daemon
            self._restore_soon(name)
        return changed

    def _restore_soon(self, name: str) -> None:
        now = self._loop.now()
        when = max(now, self._restored.get(name, 0) + RESTORE_PAUSE)
        self._loop.call_at(("restore", name), when, lambda _now: self._restore(name))

    def _restore(self, name: str) -> None:
        self._restored[name] = self._loop.now()
        self._listener.restore(name)

    def _dump(self) -> None:
        self.links.resync([*dump_links(), *dump_addresses()])

    def _send(self, templates: Iterable[Template]) -> None:
        """Send requests that no instance depends on; failures are logged."""
        batch = bind(templates, self.links.index, skip_missing=True)
        if not isinstance(batch, Unbound):
            for failure in self._rtnl.send(batch):
                self._log.warning(str(failure))


def _about(names: Collection[str], templates: Iterable[Template]) -> list[Template]:
    """The templates that name one of the interfaces."""
    return [template for template in templates if any(name in names for _, name in template[2])]


def _labels(plan: Plan) -> frozenset[str]:
    return frozenset(label for part in plan.instances.values() for label, _, _ in part.up)
