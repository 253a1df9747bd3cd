# SPDX-License-Identifier: GPL-2.0-or-later
"""A deterministic simulated LAN, or several, with routers on it that run the pure core.

One event queue in ns drives everything. A router is on every LAN, with one instance on each:
in one sync group ("tandem") or each for itself ("plain", as any RFC 9568 router would). Frames
may be lost, delayed, overtaken, duplicated, and cut off by a partition. Routers lose and regain
links (and see it), stand still, crash, start again with an empty memory, and have clocks of their own.

`Checked` is a SyncGroup whose every answer is held against the invariants that must always hold.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    GroupTransition,
    Install,
    Remove,
    Restore,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.events import (
    AdvertReceived,
    Event,
    Partner,
    Restored,
    SourceChanged,
    Start,
    Tick,
    TrackerChanged,
)
from tandem.core.packet import Advertisement
from tandem.core.reload import reconfigure
from tandem.core.settings import Group, Instance
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup

MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def replay(installed: frozenset[str], actions: Iterable[Action]) -> frozenset[str]:
    """The instances that a kernel holds after these actions."""
    for action in actions:
        if isinstance(action, Install):
            installed |= frozenset(action.instances)
        elif isinstance(action, Remove):
            installed -= frozenset(action.instances)
    return installed


def _named(kind: type[Install | Remove | Withdraw], actions: list[Action]) -> list[tuple[int, str]]:
    """The instances in the actions of one kind, with the places of these."""
    found = [(i, action) for i, action in enumerate(actions) if isinstance(action, kind)]
    return [(i, name) for i, action in found for name in action.instances]


class Checked:
    """A SyncGroup with a model kernel; AssertionError when an answer breaks an invariant.

    `patience`: it replicates connections, which are restored at once, and has lost its peer; 0: it does not.
    """

    def __init__(self, settings: Group, instances: Iterable[Instance], patience: int = 0) -> None:
        self.group = SyncGroup(settings, instances, patience > 0, patience)
        if patience:
            self.group.handle(Partner(known=True, in_step=False), 0)
        self.kernel: frozenset[str] = frozenset()
        self.offered = False  # before the present event
        self.told = self.group.state
        self.names = [member.name for member in self.group.members]

    def handle(self, event: Event, now: int) -> list[Action]:
        before, slept = self.group.role, self.group.overslept(now)
        self.offered = self.group.offer.pending
        actions = self._restored(self.group.handle(event, now), now)
        return self._checked(before, slept, actions, now, isinstance(event, Tick))

    def reconfigure(self, settings: Group, instances: Iterable[Instance], now: int) -> list[Action]:
        before, slept = self.group.role, self.group.overslept(now)
        actions = self._restored(reconfigure(self.group, settings, instances, now), now)
        return self._checked(before, slept, actions, now, False)

    def _restored(self, actions: list[Action], now: int) -> list[Action]:
        """Connections that are to be restored are there at once."""
        asked = any(isinstance(action, Restore) for action in actions)
        return actions + self.group.handle(Restored(), now) if asked else actions

    def _checked(
        self, before: Role, slept: bool, actions: list[Action], now: int, ticked: bool
    ) -> list[Action]:
        group, names = self.group, self.names
        after = group.role
        assert {member.role for member in group.members} == {after}, "mixed roles"
        deadline = group.next_deadline()
        assert deadline is None or deadline > now or not ticked, "a busy loop"

        assert group.faults == (group.fault_state.look(group.members), group.fault_state.reasons)[1], (
            "the reasons kept are not those there are"
        )

        sent = [(i, action) for i, action in enumerate(actions) if isinstance(action, SendAdvert)]
        adverts = [(i, action.instance) for i, action in sent if action.priority]
        goodbyes = [(i, action.instance) for i, action in sent if not action.priority]
        installs = _named(Install, actions)
        removes = _named(Remove, actions)
        withdrawn = _named(Withdraw, actions)
        if installs or any(isinstance(action, Announce) for action in actions):
            assert after is Role.ACTIVE, "acted as active without being it"
        if adverts and after is not Role.ACTIVE:  # who yields says so once, when its addresses are gone
            assert (before, after, goodbyes) == (Role.ACTIVE, Role.BACKUP, []), "speaks as active"
            assert [name for _, name in adverts] == names and removes[-1][0] < adverts[0][0]
        assert not (slept and after is Role.ACTIVE), "has slept through its role and goes on with it"
        if installs:
            assert {name for _, name in installs} == set(names)
            agreed = isinstance(actions[0], Beat | Install)  # another router goes on until this one serves
            first = {name for i, name in adverts if i < installs[0][0]}
            assert first == (set() if agreed else set(names)), "adverts come first"
        if before is Role.ACTIVE and after is not Role.ACTIVE:
            assert [name for _, name in removes] == names, "every effect removed, once"
            assert [name for _, name in withdrawn] == names, "and what takes long"
            assert all(i < withdrawn[0][0] for i, _ in removes + goodbyes), "which is last"
            assert goodbyes or after is Role.BACKUP or slept or self.offered, "left without a goodbye"
            assert not (goodbyes and slept), "a goodbye that is not ours to say"
        else:
            assert not removes and not goodbyes and not withdrawn
        if goodbyes:
            assert [name for _, name in goodbyes] == names, "goodbye on every LAN"
            assert removes[-1][0] < goodbyes[0][0], "the addresses are gone before the goodbye"

        self._check_reports(actions)
        self.kernel = replay(self.kernel, actions)
        assert self.kernel == (frozenset(names) if after is Role.ACTIVE else frozenset())
        assert replay(self.kernel, actions) == self.kernel, "doing it twice changes something"
        return actions

    def _check_reports(self, actions: list[Action]) -> None:
        told: dict[str, list[str]] = {name: [] for name in self.names}
        for action in actions:
            if isinstance(action, Transition):
                assert action.why, "a transition without a reason"
                told[action.instance].append(action.state)
        states = told[self.names[0]]
        assert all(other == states for other in told.values()), "members are told of together"
        groups = [action.state for action in actions if isinstance(action, GroupTransition)]
        assert groups == ([] if self.group.settings.implicit else states)
        for state in states:
            assert state != self.told, "told what was known"
            self.told = state
        assert self.told == self.group.state, "a change that nobody was told of"


@dataclass
class Wire:
    """The harm that a LAN does to frames at present."""

    delay: tuple[int, int] = (20_000, 200_000)  # ns, least and most
    loss: float = 0.0
    duplicate: float = 0.0
    overtake: bool = False  # frames of one sender may arrive in another order
    sides: dict[int, int] = field(default_factory=dict)  # router -> part; other parts are not heard
    deaf: frozenset[tuple[int, int]] = frozenset()  # sender, receiver: one way only
    silent: frozenset[tuple[int, int]] = frozenset()  # the same, but for adverts alone


class Router:
    """One router: its configuration, and while it is powered its groups."""

    def __init__(
        self, number: int, instances: tuple[Instance, ...], sources: tuple[bytes, ...], plain: bool
    ) -> None:
        self.number = number
        self.instances = instances
        self.sources = sources
        self.plain = plain
        self.patience = 0  # ns to be in step before it preempts; 0: it does not replicate
        self.offset = 0  # its clock minus the simulation's
        self.lateness = 0  # ns from a deadline to the tick, at most
        self.start_delay = 0
        self.links = [True] * len(instances)
        self.groups: list[Checked] = []  # empty: powered off
        self.life = 0
        self.backlog: list[tuple[bool, Callable[[], None]]] | None = None  # to do when it goes on
        self.fifo: dict[tuple[int, int], int] = {}

    def configured(self) -> list[Checked]:
        names = tuple(instance.name for instance in self.instances)
        if self.plain:
            groups = [(Group(i.name, (i.name,), implicit=True), [i]) for i in self.instances]
            return [Checked(*group, self.patience) for group in groups]
        return [Checked(Group("G", names, implicit=len(names) == 1), self.instances, self.patience)]

    def role(self, lan: int) -> Role | None:
        """The role on one LAN; None while powered off."""
        if not self.groups:
            return None
        return (
            (self.groups[lan] if self.plain else self.groups[0]).group.members[0 if self.plain else lan].role
        )

    @property
    def eligible(self) -> bool:
        """Powered, all links up: nothing keeps it from being the active one."""
        return bool(self.groups) and all(self.links)


class Lan:
    """The simulation: LANs 0..n-1, routers on all of them, and a queue of what is to happen."""

    def __init__(self, routers: list[Router], lans: int, seed: int) -> None:
        self.routers = routers
        self.wires = [Wire() for _ in range(lans)]
        self.random = random.Random(seed)
        self.now = 0
        self.changes: list[tuple[int, int, str]] = []  # when, router, to which state
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._pushed = 0

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Do something at a time."""
        self._pushed += 1
        heapq.heappush(self._queue, (when, self._pushed, what))

    def run(self, until: int) -> None:
        """Let everything up to `until` happen."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = until

    # Faults of routers

    def power_on(self, router: Router) -> None:
        """A start with an empty memory."""
        if router.groups:
            return
        router.life += 1
        router.groups = router.configured()
        for checked in router.groups:
            for member in checked.group.members:
                lan = self._lan_of(router, member.name)
                self._handle(router, checked, TrackerChanged("interface", f"eth{lan}", router.links[lan]))
                self._handle(router, checked, SourceChanged(member.name, router.sources[lan]))
            self._handle(router, checked, Start(router.start_delay))

    def power_off(self, router: Router) -> None:
        """A crash: no goodbye."""
        router.groups, router.backlog = [], None
        router.life += 1

    def freeze(self, router: Router) -> None:
        """The router stands still."""
        router.backlog = []

    def thaw(self, router: Router) -> None:
        """The router goes on, and finds what has come meanwhile; its timers run after that, as in loop.py."""
        backlog, router.backlog = router.backlog or [], None
        for _, what in sorted(backlog, key=lambda one: one[0]):
            what()

    def set_link(self, router: Router, lan: int, up: bool) -> None:
        """The router sees its link on one LAN go down or up."""
        router.links[lan] = up
        self.tell(router, TrackerChanged("interface", f"eth{lan}", up))

    def tell(self, router: Router, event: Event) -> None:
        """Give an event to every group of a router."""
        for checked in list(router.groups):
            self._do(router, lambda checked=checked: self._handle(router, checked, event))  # type: ignore[misc]

    def reload(self, router: Router) -> None:
        """A reload without news."""
        for checked in router.groups:
            again = checked.group.settings, router.instances, self.now + router.offset
            self._act(router, checked, checked.reconfigure(*again))

    # The machinery

    def _at(self, when: int, router: Router, what: Callable[[], None], timer: bool = False) -> None:
        """Let a router do something at a time, or later when it stands still then."""
        self.at(when, lambda: self._do(router, what, timer))

    @staticmethod
    def _do(router: Router, what: Callable[[], None], timer: bool = False) -> None:
        if router.backlog is None:
            what()
        else:
            router.backlog.append((timer, what))

    def _handle(self, router: Router, checked: Checked, event: Event) -> None:
        self._act(router, checked, checked.handle(event, self.now + router.offset))

    def _act(self, router: Router, checked: Checked, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendAdvert):
                self._send(router, action)
            elif isinstance(action, Beat):
                self.beat_now(router)
            elif isinstance(action, Transition):
                self.changes.append((self.now, router.number, action.state))
        self._wake(router, checked)

    def beat_now(self, router: Router) -> None:
        """Send heartbeats, where there are any."""

    def _wake(self, router: Router, checked: Checked) -> None:
        deadline = checked.group.next_deadline()
        if deadline is None:
            return
        life = router.life
        due = deadline - router.offset

        def tick() -> None:  # a deadline that has moved since is not acted upon, like the shell's
            if router.life == life and checked.group.next_deadline() == deadline:
                self._handle(router, checked, Tick())

        self._at(max(due, self.now) + self.random.randint(0, router.lateness), router, tick, timer=True)

    def _send(self, router: Router, action: SendAdvert) -> None:
        lan = self._lan_of(router, action.instance)
        if not router.links[lan]:
            return
        instance = router.instances[lan]
        advert = Advertisement(instance.version, 51, action.priority, instance.advert_int_cs, ())
        wire = self.wires[lan]
        for other in self.routers:
            if other is router:
                continue
            copies = 2 if self.random.random() < wire.duplicate else 1
            for _ in range(copies):
                if self.random.random() < wire.loss:
                    continue
                when = self.now + self.random.randint(*wire.delay)
                if not wire.overtake:
                    when = max(when, other.fifo.get((router.number, lan), 0))
                    other.fifo[router.number, lan] = when
                self.at(when, lambda other=other: self._arrive(router, other, lan, advert))  # type: ignore[misc]

    def _arrive(self, sender: Router, router: Router, lan: int, advert: Advertisement) -> None:
        sides = self.wires[lan].sides
        if not router.groups or not router.links[lan]:
            return
        if (sender.number, router.number) in self.wires[lan].deaf | self.wires[lan].silent:
            return
        if sides.get(sender.number, 0) != sides.get(router.number, 0):
            return
        self._do(router, lambda: self._receive(sender, router, lan, advert))

    def _receive(self, sender: Router, router: Router, lan: int, advert: Advertisement) -> None:
        if not router.groups:
            return
        name = router.instances[lan].name
        checked = router.groups[lan] if router.plain else router.groups[0]
        self._handle(router, checked, AdvertReceived(name, advert, sender.sources[lan]))

    @staticmethod
    def _lan_of(router: Router, name: str) -> int:
        return next(lan for lan, instance in enumerate(router.instances) if instance.name == name)
