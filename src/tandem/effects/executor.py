# SPDX-License-Identifier: GPL-2.0-or-later
"""Executor: carries out the actions of core in their order; failures come back as events.

Nothing here starts a process, reads a file or opens a socket: see `endpoint` for what lies ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic_ns

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Contested,
    Degraded,
    Follow,
    Greet,
    GroupTransition,
    HandOver,
    Install,
    RaiseMacs,
    Remove,
    Restore,
    Retire,
    Reunite,
    SendAdvert,
    Serve,
    Speculate,
    StopSpeculating,
    Transition,
    Unfollow,
    Withdraw,
)
from tandem.core.events import EffectFailed
from tandem.effects.announce import Announcer
from tandem.effects.endpoint import Endpoint
from tandem.effects.firewall import Firewall
from tandem.effects.guard import Guard
from tandem.effects.interfaces import Interfaces
from tandem.effects.rtnl import Batch, Failure, Rtnl, Unbound, bind
from tandem.plan.result import NOTRACK_TABLE, TABLE, Plan, Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Connections(Protocol):
        """Replication, as the executor sees it: `replication.Replication`."""

        def restore(self, group: str, handed_over: bool) -> None: ...
        def hand_over(self, group: str) -> None: ...
        def reunite(self, group: str) -> None: ...
        def speculate(self, group: str) -> None: ...
        def stop_speculating(self, group: str) -> None: ...

    class Following(Protocol):
        """The networks that follow the role: `follow.following.Following`."""

        def begin(self, group: str) -> None: ...
        def end(self, group: str) -> None: ...
        def refresh(self) -> None: ...

    class Services(Protocol):
        """The services, as the executor sees them: `services.manager.Manager`."""

        def serve(self, group: str, handed_over: bool) -> None: ...
        def retire(self, group: str) -> None: ...


SILENT = 3  # unsent adverts in a row after which a backup takes over

Told = Callable[[Transition | GroupTransition | Contested | Degraded], None]


class Executor:
    """Carries out actions on the endpoints by name; `told` gets the transitions."""

    def __init__(
        self,
        rtnl: Rtnl,
        firewall: Firewall,
        announcer: Announcer,
        interfaces: Interfaces,
        told: Told,
        caught: Callable[[Exception], None],
        switch: Guard,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        """`switch` is the guard of addresses with an ordinary lifetime; `beat` sends a heartbeat now."""
        self.endpoints: dict[str, Endpoint] = {}
        self.guard: Guard | None = None  # set where DHCP follows the role
        self._connections: Connections | None = None
        self._following: Following | None = None
        self._services: Services | None = None
        self._caught = caught
        self._rtnl = rtnl
        self._firewall = firewall
        self._announcer = announcer
        self._interfaces = interfaces
        self._told = told
        self._switch = switch
        self._beat = beat

    def execute(self, actions: Sequence[Action], until: int | None = None) -> list[EffectFailed]:
        """Do the actions in order; return the failures that an active router cannot live with.

        From `until` (monotonic ns) on no router and no host hears any more that this router is active: it has
        stood still since the decision, and another one may be active.
        """
        failed: list[EffectFailed] = []
        moved = removed = False  # whether an instance was installed or withdrawn, and whether one was removed
        for action in actions:
            try:
                match action:
                    case SendAdvert(name, priority):
                        if not priority or until is None or monotonic_ns() < until:
                            self._advertise(self.endpoints[name], priority)
                    case Install(names):
                        moved = True
                        failed += self._install([self.endpoints[name] for name in names])
                    case Remove(names):
                        removed = True
                        for name in names:
                            self._remove(self.endpoints[name])
                    case RaiseMacs(names):
                        for name in names:
                            self._raise_mac(self.endpoints[name])
                    case Withdraw(names):
                        moved = True
                        self._withdraw([self.endpoints[name] for name in names])
                    case Announce(name, repeat):
                        if until is None or monotonic_ns() < until:
                            self._announce(self.endpoints[name], repeat)
                    case Beat():
                        self._beat()
                    case Greet(name):
                        self._greet(self.endpoints[name])
                    case Follow(group) if self._following is not None:
                        self._following.begin(group)
                    case Unfollow(group) if self._following is not None:
                        self._following.end(group)
                    case Serve(group, handed_over):
                        if self._services is not None:
                            self._services.serve(group, handed_over)
                    case Retire(group):
                        if self._services is not None:
                            self._services.retire(group)
                    case Transition() | GroupTransition() | Contested() | Degraded():
                        self._told(action)
                    case _:
                        if self._connections is not None:
                            self._tell_connections(self._connections, action)
            except Exception as error:  # noqa: BLE001 - what comes after this action is wanted all the same
                self._caught(error)
                if isinstance(action, Install):
                    reason = f"{type(error).__name__}: {error}"
                    failed += [EffectFailed(name, reason) for name in action.instances]
        for guard in self._guards() if moved else ():  # after the transitions: DHCP may stay silent longer
            guard.set_active(self._installed())
        if removed:
            self._interfaces.take_news()
        return failed

    def _tell_connections(self, connections: Connections, action: Action) -> None:
        match action:
            case Restore(group, handed_over):
                connections.restore(group, handed_over)
            case HandOver(group):
                connections.hand_over(group)
            case Reunite(group):
                connections.reunite(group)
            case Speculate(group):
                connections.speculate(group)
            case StopSpeculating(group):
                connections.stop_speculating(group)

    def take_connections(self, connections: Connections | None) -> None:
        """Use this from now on to restore and hand over connections; None: they are not replicated."""
        self._connections = connections

    def take_following(self, following: Following | None) -> None:
        """Let these networks follow the role from now on; None: no network does."""
        self._following = following

    def take_services(self, services: Services) -> None:
        """Tell these from now on which groups are active."""
        self._services = services

    def take_guard(self, guard: Guard | None) -> None:
        """Tell this one from now on who may answer DHCP; None: DHCP does not follow the role."""
        self.guard = guard
        if guard is not None:
            guard.set_active(self._installed())

    def refresh(self) -> list[EffectFailed]:
        """Renew the lifetime of the addresses of active instances (dead man's switch)."""
        for guard in self._guards():
            guard.refresh()
        if self._following is not None:
            self._following.refresh()
        return self._send_for_active(lambda endpoint: endpoint.refresh)

    def restore_tables(self) -> tuple[list[str], list[EffectFailed]]:
        """Put back the tables that another program has changed; return their names, and the refusals.

        OSError when the kernel does not show them.
        """
        restored: list[str] = []
        failed: list[EffectFailed] = []
        if self._firewall.restore():
            restored.append(f"table inet {TABLE}")
            for endpoint in self.endpoints.values():
                if endpoint.installed and endpoint.plan.nft:
                    failed += _failures(endpoint, self._firewall.failures)
        if self._firewall.restore_untracked():
            restored.append(f"table inet {NOTRACK_TABLE}")
        restored += [f"table inet {guard.table}" for guard in self._guards() if guard.restore()]
        return restored, failed

    def reinstall(self, name: str) -> list[EffectFailed]:
        """Send everything of an instance again that its role needs; it may have another macvlan now."""
        endpoint = self.endpoints.get(name)
        if endpoint is not None and (endpoint.installed or endpoint.mac_wanted):
            self._raise_mac(endpoint)
        if endpoint is None or not endpoint.installed:
            return []
        return self._install([endpoint])

    def take_plan(self, plan: Plan, stale: Iterable[Template]) -> None:
        """Go over to the plan of a reload; `stale` removes what it no longer has."""
        self._firewall.take_plan(plan)
        self._firewall.keep_untracked()
        if self.guard is not None:
            self.guard.hold(plan.guard)
        self._switch.take(plan.switch)
        batch = bind(stale, self._interfaces.index, skip_missing=True)
        if not isinstance(batch, Unbound):
            self._rtnl.send(batch)

    def close(self) -> None:
        """Remove the firewall table and close the sockets."""
        self._firewall.clear()
        self._switch.clear()
        self._firewall.close()
        for guard in self._guards():
            guard.close()
        self._announcer.close()
        self._rtnl.close()

    def _guards(self) -> list[Guard]:
        return [self._switch] if self.guard is None else [self._switch, self.guard]

    def _installed(self) -> list[str]:
        return [name for name, endpoint in self.endpoints.items() if endpoint.installed]

    def _send_for_active(self, batch_of: Callable[[Endpoint], Batch | Unbound]) -> list[EffectFailed]:
        failed: list[EffectFailed] = []
        for endpoint in self.endpoints.values():
            batch = batch_of(endpoint)
            if endpoint.installed and not isinstance(batch, Unbound):
                failed += _failures(endpoint, self._rtnl.send(batch))
        return failed

    def _advertise(self, endpoint: Endpoint, priority: int) -> None:
        result = endpoint.advertise(priority)
        if result:
            endpoint.count("send_errors")
            endpoint.unsent += 1
            return
        endpoint.count("adverts_sent" if priority else "priority_zero_sent")
        unsent, endpoint.unsent = endpoint.unsent, 0
        if unsent >= SILENT and priority and endpoint.installed:
            # A backup may have taken over meanwhile, and told the hosts so.
            self._announce(endpoint, endpoint.settings.garp.repeat)

    def _install(self, endpoints: list[Endpoint]) -> list[EffectFailed]:
        """Install a group: one nftables transaction for all, and then each member's batch."""
        for endpoint in endpoints:
            endpoint.installed = True
        self._switch.set_active(self._installed())
        firewall = self._firewall_failures()
        failed: list[EffectFailed] = []
        for endpoint in endpoints:
            if isinstance(endpoint.up, Unbound):
                missing = ", ".join(endpoint.up.missing)
                failed.append(EffectFailed(endpoint.settings.name, f"no interface {missing}"))
            else:
                failed += _failures(endpoint, [*firewall, *self._rtnl.send(endpoint.up)])
                endpoint.installed_at = monotonic_ns()
        return failed

    def _raise_mac(self, endpoint: Endpoint) -> None:
        """Set the macvlan up, also another one that an active instance has got."""
        endpoint.mac_wanted = True
        if endpoint.plan.vmac is not None and not endpoint.mac_is_up:
            self._set_mac(endpoint, True)

    def _set_mac(self, endpoint: Endpoint, up: bool) -> None:
        endpoint.mac_is_up = up
        batch = endpoint.mac_up if up else endpoint.mac_down
        if isinstance(batch, Unbound) or self._rtnl.send(batch):
            endpoint.count("vmac_errors")

    def _withdraw(self, endpoints: list[Endpoint]) -> None:
        self._firewall_failures()
        for endpoint in endpoints:
            endpoint.mac_wanted = False
            if endpoint.mac_is_up:
                self._set_mac(endpoint, False)

    def _remove(self, endpoint: Endpoint) -> None:
        endpoint.installed = False
        if not isinstance(endpoint.down, Unbound):
            for _ in self._rtnl.send(endpoint.down):
                endpoint.count("removal_errors")

    def _firewall_failures(self) -> tuple[Failure, ...]:
        active = [
            name for name, endpoint in self.endpoints.items() if endpoint.installed and endpoint.plan.nft
        ]
        return self._firewall.set_active(active)

    def _announce(self, endpoint: Endpoint, repeat: int) -> None:
        for device, frames in endpoint.frames:
            ifindex = self._interfaces.index(device)
            if ifindex is None or self._announcer.send(ifindex, frames, repeat):
                endpoint.count("announce_errors")
            else:
                endpoint.count("announcements_sent", repeat * len(frames))
                if endpoint.announced_at < endpoint.installed_at:
                    endpoint.announced_at = monotonic_ns()

    def _greet(self, endpoint: Endpoint) -> None:
        device = endpoint.settings.interface
        ifindex = self._interfaces.index(device)
        if ifindex is not None and (frames := endpoint.greetings(self._interfaces.links.mac(device))):
            self._announcer.send(ifindex, frames)


def _failures(endpoint: Endpoint, failures: Iterable[Failure]) -> list[EffectFailed]:
    return [EffectFailed(endpoint.settings.name, str(failure)) for failure in failures]
