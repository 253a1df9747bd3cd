# SPDX-License-Identifier: GPL-2.0-or-later
"""SyncGroup: virtual routers that are active together or not at all.

Members only say what each would do alone (see `virtual_router`); after every event the rules below
run until none applies, so that a group never rests in mixed roles:

    stopped, or any reason for a fault      all INITIALIZE, priority 0 on every interface
    INITIALIZE, started, nothing pending    all BACKUP (all ACTIVE when all own their addresses)
    BACKUP, any member heard a resignation  all ACTIVE: the peer gives up the group as a whole
    BACKUP, every member's timer expired    all ACTIVE: no advert on any interface, it is dead. One
                                            silent LAN is a broken LAN: two would meet on the others
    ACTIVE, any member heard a better one   all BACKUP, unless an earlier member beats its own peer
    ACTIVE, silent for too long             all BACKUP: the process was stopped, a backup has taken over

The last exception settles equal priorities whose addresses compare differently on two LANs: the
first member in the configuration decides, instead of both routers yielding to each other. It stops
deciding when the other one goes on there: a LAN that carries one way only would keep both active.

An instance in no sync group is a group of one, for which these rules are those of the RFC.

With replicated connections (`restores`), becoming active has a step more: after the first
advertisements the group asks for `Restore` and installs its addresses when that is done, for a
packet that meets an address before its connection ends that connection. A backup asks for
`Speculate` at the first advertisement that is overdue, and does not preempt before it is in step.
A group that gives the role up asks for `HandOver` between the removal of its addresses and its goodbye.

Two routers that were both active exchange their connections before one of them yields, see `reunion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tandem.core import reunion
from tandem.core.actions import (
    Action,
    Calm,
    Cause,
    Contested,
    GroupTransition,
    HandOver,
    Restore,
    Reunite,
    SendAdvert,
    Speculate,
    Transition,
)
from tandem.core.damping import Damping
from tandem.core.events import (
    AdvertReceived,
    EffectFailed,
    Event,
    Failover,
    Moved,
    Partner,
    Rebound,
    Restored,
    Resume,
    Reunited,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Synchronised,
    Tick,
    TrackerChanged,
)
from tandem.core.faults import EffectFaults, missing_sources, tracks_of
from tandem.core.limits import RESTORE_LIMIT
from tandem.core.reunion import Reunion, Stage
from tandem.core.settings import Group, Instance
from tandem.core.state import Role, user_state
from tandem.core.timers import earliest
from tandem.core.tracking import OWNER, Tracking
from tandem.core.virtual_router import VirtualRouter, last_heard


class SyncGroup:
    """One sync group with its members; `handle` takes events and returns actions in order."""

    def __init__(
        self, settings: Group, instances: Iterable[Instance], restores: bool = False, sync_patience: int = 0
    ) -> None:
        """`sync_patience`: how long, in ns, a router that would preempt waits until it is in step."""
        self.settings = settings
        self.members = tuple(VirtualRouter(instance, restores) for instance in instances)
        """At least one; `leave` and `reconfigure` change them."""
        self.tracking = Tracking(tracks_of(self.settings, self.members))
        self.damping = Damping()
        self._deceived_at: int | None = None  # when a forged resignation was believed
        self.standby = False
        self._by_name = {member.name: member for member in self.members}
        self._start_at: int | None = None
        self._grace_until: int | None = None  # after the start: interfaces may come up until then
        self._started = False
        self._stopped = False
        self._restores = restores
        self._restore_by: int | None = None  # restoring until then, at the latest
        self._restore_why = ""
        self._restore_cause: Cause | None = None
        self._cause: Cause | None = None  # of the transitions of the present event
        self._speculating = False
        self._synchronised = False
        self._sync_patience = sync_patience
        self._patient_until: int | None = None  # None: there was nobody to preempt
        self._partner = Partner(known=False, in_step=False)
        self._reunion = Reunion()
        self._effects = EffectFaults()
        self.probation = ""  # why the last active time failed: no preemption until that has changed
        self.faults = self._reasons()  # kept, not derived: every advert and every timer looks at it
        self._reported = (settings.name, self.state)

    # What the shell asks

    @property
    def role(self) -> Role:
        """The role of every member."""
        return self.members[0].role

    @property
    def held(self) -> bool:
        """Whether preemption is suspended since an operator's failover."""
        return any(member.hold for member in self.members)

    @property
    def state(self) -> str:
        """keepalived's word for the state of the group."""
        faulty = self._started and bool(self.faults) and not self._comes_up()
        return user_state(self.role, faulty, self._stopped)

    def overslept(self, now: int) -> bool:
        """Whether the next event finds a group that has lost its role while the process was stopped."""
        return any(member.overslept(now) for member in self.members)

    def next_deadline(self) -> int | None:
        """When `handle(Tick())` has something to do."""
        own = earliest(self._start_at, self._effects.retry_at, self._restore_by, self._reunion.deadline)
        own = earliest(own, self._grace_until)
        return earliest(own, *[member.next_deadline() for member in self.members])

    # Input

    def handle(self, event: Event, now: int) -> list[Action]:
        """Take in one event at time `now` (monotonic ns) and return what is to be done, in order."""
        before, self._cause = self.role, None
        actions = self._handle(event, now)
        if self.role is not before and Role.ACTIVE in (self.role, before):
            self.damping.note(now)
        return actions

    def _handle(self, event: Event, now: int) -> list[Action]:
        actions = self._wake_up(now) if self.overslept(now) else []
        actions += self._take_in(event, now)
        # What comes all the time and touches no rule but those in `_take_in`.
        if type(event) is AdvertReceived or (type(event) is Tick and self.role is Role.ACTIVE):
            return actions + self._suspicion()
        if type(event) is not Tick:
            self.faults = self._reasons()
            for member in self.members:
                actions += member.set_priority(self.tracking.priority(member.settings.priority), now)
        return actions + self._settle(now)

    # Reloads

    def leave(self, names: Iterable[str]) -> list[Action]:
        """Let members go while others go on.

        They do not resign: a resignation on one interface makes a backup take over its whole group.
        """
        going = set(names)
        leaving = [member for member in self.members if member.name in going]
        self._take_members(member for member in self.members if member.name not in going)
        actions: list[Action] = []
        for member in leaving:
            self._effects.forget(member.name)
            actions += member.become_initialize()
            actions.append(Transition(member.name, "STOP", member.priority, "reloaded"))
        return actions

    def sibling(self) -> SyncGroup:
        """Return another group in the same situation, for members that leave this group."""
        other = object.__new__(SyncGroup)
        other.__dict__.update(self.__dict__)
        other.tracking = self.tracking.copy()
        other.damping = Damping(self.damping.changes, self.damping.time)
        other._effects = self._effects.copy()
        other._reunion = self._reunion.copy()
        return other

    def reconfigure(
        self,
        settings: Group,
        instances: Iterable[Instance],
        now: int,
        joining: Mapping[str, VirtualRouter] | None = None,
        sources: Mapping[str, bytes | None] | None = None,
    ) -> list[Action]:
        """Go on in the same role with changed settings.

        `joining` come from other groups, with their roles; an instance that nobody knows joins in the role
        of the others, with the address that `sources` has for it.
        """
        woken = self._wake_up(now) if self.overslept(now) else []
        before, self.settings = self.settings, settings
        known = {**self._by_name, **(joining or {})}
        members, new = [], []
        for instance in instances:
            member = known.get(instance.name)
            if member is None:
                member = VirtualRouter(instance, self._restores)
                member.source = (sources or {}).get(instance.name)
                new.append(member)
            else:
                member.reconfigure(instance, now)
            members.append(member)
        self._take_members(members)
        self.tracking.replace(tracks_of(self.settings, self.members))
        self._forgive()
        for member in self.members:
            member.priority = self.tracking.priority(member.settings.priority)
        joined = self._unite(new, now)
        if self._restore_by is not None and settings.name != before.name:
            joined.append(Restore(settings.name))
        actions = [*woken, *joined, *self._settle(now)]  # a new fault comes before anything is installed
        if self.role is not Role.ACTIVE or self._restore_by is not None:
            return actions
        for member in self.members:
            actions += member.advertise_first(now)
        return actions + self._take_over("reloaded")

    def _take_members(self, members: Iterable[VirtualRouter]) -> None:
        self.members = tuple(members)
        self._by_name = {member.name: member for member in self.members}

    def _unite(self, new: list[VirtualRouter], now: int) -> list[Action]:
        """Bring members that come from elsewhere into one role; the new ones have none yet."""
        roles = {member.role for member in self.members if member not in new}
        actions: list[Action] = []
        if len(roles) > 1:  # they were active separately: nobody knows which of the roles is the right one
            active = [member for member in self.members if member.role is Role.ACTIVE]
            self._part()
            for member in self.members:
                actions += member.become_initialize()
            if active:
                actions += self._last_words()
            return actions + [SendAdvert(member.name, 0) for member in active]
        for member in new:
            if Role.ACTIVE in roles:
                actions += member.advertise_first(now)
            elif Role.BACKUP in roles:
                actions += member.come_up(now)
        if new and not self.faults:
            actions += self._report(f"joins {self.settings.name}")
        return actions

    def replicate(self, restores: bool, sync_patience: int, now: int) -> list[Action]:
        """Connections are replicated from now on, or no longer."""
        self._restores, self._sync_patience = restores, sync_patience
        for member in self.members:
            member.watchful = restores
        if not restores:
            self._speculating = False
            if self._restore_by is not None:
                return self._take_over(self._restore_why)
            return self._meet(reunion.OVERDUE, now)
        return []

    def _take_in(self, event: Event, now: int) -> list[Action]:
        match event:
            case AdvertReceived(name, advert, source):
                member = self._by_name[name]
                self._cause = Cause(source, advert.priority, advert.interval_cs)
                member.patient = self._is_patient(member, advert.priority, now)
                member.damped = self.damping.until(now) is not None
                if member.was_deceived(advert, source, now):
                    self._deceived_at = now
                if member.receive(advert, source, now) and not self._earlier_member_wins(member, now):
                    return self._yield(source, now)
                # A peer that is in step was active before only if its connections had come here.
                before = self._reunion.followed or not self._partner.known
                if advert.priority and before and member.must_give_way(now):
                    return self._give_way(event, now)
                meets = self._meet_lesser(member, now)
                # Hosts are not told before the connections are there and the addresses are installed.
                quiet = self._reunion.stage is not Stage.ALONE or self._restore_by is not None
                announce = not quiet and not member.is_farewell(source, now)
                return meets + member.defend(advert, now, announce)
            case Tick():
                return self._due(now)
            case TrackerChanged(kind, name, up):
                self.tracking.update(kind, name, up)
                if kind == "interface" and up:
                    self._forgive()
            case SourceChanged(name, source):
                self._by_name[name].source = source
                self._forgive()
            case Moved(name) if self._restore_by is None:
                return self._by_name[name].moved(now)
            case EffectFailed(name, reason):
                self._effects.failed(name, reason, now)
                self._put_on_probation(f"{name}: {reason}")
            case Rebound() if self.probation:
                self._forgive()
            case Restored() if self._restore_by is not None:
                return self._take_over(self._restore_why)
            case Reunited():
                return self._meet(reunion.REUNITED, now)
            case Synchronised(yes):
                self._synchronised = yes
                if yes:
                    self._patient_until = None
            case Partner():
                self._partner = event
                if event.in_step:
                    return self._meet(reunion.IN_STEP, now)
            case Failover() if self.role is Role.ACTIVE:
                actions = self._hand_over(now, "failover asked for")
                for member in self.members:
                    member.hold = True
                return actions
            case Standby():
                self.standby = True
            case Resume():
                self.standby = False
                self._forgive()
                self.damping.forget()
                for member in self.members:
                    member.hold = False
            case Start(delay, grace):
                self._start_at = now + delay
                self._grace_until = self._start_at + grace if grace else None
                return self._due(now)
            case Stop():
                self._stopped = True
        return []

    def _due(self, now: int) -> list[Action]:
        if self._start_at is not None and self._start_at <= now:
            self._start_at = None
            self._started = True
        if self._grace_until is not None and self._grace_until <= now:
            self._grace_until = None
        if self._effects.retry_at is not None and self._effects.retry_at <= now:
            self._retry_effects()
        actions: list[Action] = []
        for member in self.members:
            actions += member.due(now)
        if self._restore_by is not None and self._restore_by <= now:
            actions += self._take_over(self._restore_why)
        return actions + self._end_reunion(now)

    def _is_patient(self, member: VirtualRouter, priority: int, now: int) -> bool:
        """Whether the connections of a lesser active router are waited for before it is preempted.

        Not only after the start: this router may have been cut off, or out of service, and know less again.
        """
        if not self._restores or self._synchronised or not member.preempts(priority):
            return False
        if self._patient_until is None:
            self._patient_until = now + self._sync_patience
        return now < self._patient_until

    # Two active routers

    def _yield(self, source: bytes, now: int) -> list[Action]:
        """A better router is active: become backup, or go on until it knows our connections."""
        if not self._exchanges or not self._reunion.needs_exchange(self._partner, source, now):
            return self._all_backup(now, "a better router is active")
        return self._end_reunion(now) + self._meet(reunion.BETTER, now)

    def _meet_lesser(self, member: VirtualRouter, now: int) -> list[Action]:
        """Ask for the connections of a lesser router that has just begun to claim that it is active."""
        begins = self._exchanges and self._partner.known and member.contested_since(now)
        return self._meet(reunion.LESSER, now) if begins else []

    @property
    def _exchanges(self) -> bool:
        """Whether this router, which is active, has connections to exchange, and may wait for it."""
        return self._restores and self._restore_by is None and self._sync_patience > 0

    def _meet(self, event: str, now: int) -> list[Action]:
        """Tell the reunion of two active routers what happens, and do what it wants."""
        steps = self._reunion.handle(event, now, self._sync_patience)
        if self.role is not Role.ACTIVE or self._restore_by is not None:
            return []
        actions: list[Action] = []
        for step in steps:
            if step == reunion.EXCHANGE:
                actions.append(Reunite(self.settings.name))
            elif step == reunion.YIELD:
                actions += self._all_backup(now, "a better router is active")
            elif step == reunion.ANNOUNCE:
                actions += [action for member in self.members for action in member.moved(now)]
            elif step == reunion.CONTESTED:
                actions += [Contested(member.name, member.priority) for member in self.members]
        return actions

    def _end_reunion(self, now: int) -> list[Action]:
        """End a wait of the reunion that has lasted for long enough."""
        deadline = self._reunion.deadline
        return self._meet(reunion.OVERDUE, now) if deadline is not None and deadline <= now else []

    def _part(self) -> None:
        """End every exchange and wait that belonged to the former role."""
        self._grace_until = self._restore_by = self._patient_until = None
        self._reunion.end()

    # The joint rules

    def _settle(self, now: int) -> list[Action]:
        actions: list[Action] = []
        while (more := self._step(now)) is not None:
            actions += more
        return actions + self._suspicion() + self._report("")

    def _step(self, now: int) -> list[Action] | None:
        """Apply the first rule that changes the role of the group; None when none does."""
        role = self.role
        if self._stopped or self.faults:
            return None if role is Role.INITIALIZE else self._all_initialize()
        if role is Role.INITIALIZE:
            if not self._started or self.tracking.pending:
                return None
            owners = all(member.settings.priority == OWNER for member in self.members)
            if owners and not self.probation:
                return self._all_active(now, "owner of the addresses")
            return self._all_backup(now, "started")
        if role is Role.BACKUP:
            doubts = self.damping.doubts(self._partner.known, self._deceived_at, now)
            if not doubts and any(member.resigned for member in self.members):
                self._cause = last_heard(self.members)
                return self._all_active(now, "the active router resigned", handed_over=True)
            if all(member.expired for member in self.members):
                # The timers ended because lesser routers were not listened to, and not in silence.
                preempts = any(member.hears_lesser(now) for member in self.members)
                self._cause = last_heard(self.members)
                silent, lesser = (
                    "no advertisement from an active router",
                    "preempts a router of lower priority",
                )
                return self._all_active(now, lesser if preempts else silent, handed_over=preempts)
        return None

    def _all_active(self, now: int, why: str, handed_over: bool = False) -> list[Action]:
        # Step by step for the whole group: traffic needs every member, so none is served first.
        self._reunion.begin(now, self._synchronised)
        actions: list[Action] = []
        for member in self.members:
            actions += member.advertise_first(now)
        if not self._restores:
            return actions + self._take_over(why)
        self._restore_by, self._restore_why = now + RESTORE_LIMIT, why
        self._restore_cause = self._cause
        self._speculating = False
        return [*actions, Restore(self.settings.name, handed_over)]

    def _take_over(self, why: str) -> list[Action]:
        if self._restore_by is not None:
            self._restore_by, self._cause = None, self._restore_cause
        self._put_on_probation("")  # another failure begins another probation
        actions: list[Action] = []
        for member in self.members:
            actions += member.install()
        for member in self.members:
            actions += member.announce()
        return actions + self._report(why)

    def _suspicion(self) -> list[Action]:
        """Begin to restore when an advert is overdue; stop when the active speaks again."""
        if not self._restores:
            return []
        suspects = self.role is Role.BACKUP and any(member.suspects for member in self.members)
        if suspects == self._speculating or self.role is Role.ACTIVE:
            return []
        self._speculating = suspects
        return [Speculate(self.settings.name) if suspects else Calm(self.settings.name)]

    def _all_backup(self, now: int, why: str) -> list[Action]:
        was_active = self.role is Role.ACTIVE
        restoring = self._restore_by is not None
        self._part()
        actions: list[Action] = []
        for member in self.members:
            comes_up = member.role is Role.INITIALIZE
            actions += member.come_up(now) if comes_up else member.become_backup(now)
        if was_active:
            # The better router may not know that there was another one: with this it tells hosts where the
            # addresses are (keepalived's higher_prio_send_advert).
            actions += [
                SendAdvert(member.name, member.priority)
                for member in self.members
                if member.settings.higher_prio_send_advert
            ]
        if was_active and not restoring:
            actions += self._last_words()
        return actions + self._report(why)

    def _wake_up(self, now: int) -> list[Action]:
        """Start over as backup: whoever took over meanwhile has the connections, and hosts know it."""
        self._part()
        actions: list[Action] = []
        for member in self.members:
            actions += member.become_backup(now, member.listening_time())
        return actions + self._report("silent for too long: it was stopped")

    def _all_initialize(self) -> list[Action]:
        was_active = self.role is Role.ACTIVE
        self._part()
        actions: list[Action] = []
        for member in self.members:
            actions += member.become_initialize()
        if was_active:
            actions += [*self._last_words(), *self._goodbye()]
        return actions + self._report("")

    def _hand_over(self, now: int, why: str) -> list[Action]:
        self._part()
        actions: list[Action] = []
        for member in self.members:
            actions += member.become_backup(now)
        return [*actions, *self._last_words(), *self._goodbye(), *self._report(why)]

    def _give_way(self, event: AdvertReceived, now: int) -> list[Action]:
        """Leave the role to a lesser router that was active before this one could hear anybody."""
        actions = self._hand_over(now, "another router was active before")
        self._by_name[event.instance].heard(event.advert, event.source, now)
        return actions

    def _last_words(self) -> list[Action]:
        """What the peers should know before they take over."""
        return [HandOver(self.settings.name)] if self._restores else []

    def _goodbye(self) -> list[Action]:
        """Priority 0 on every interface: those that still work carry it, and one is enough."""
        return [SendAdvert(member.name, 0) for member in self.members]

    def _earlier_member_wins(self, member: VirtualRouter, now: int) -> bool:
        # Later members are more patient, so that two routers that do not hear each other on different
        # LANs do not give up at the same time, again and again.
        earlier = self.members[: self.members.index(member)]
        return any(other.beats_peer(now, patience) for patience, other in enumerate(earlier, 1))

    # Faults of effects

    def _put_on_probation(self, why: str) -> None:
        """Come back, but leave the role to whoever has it: each new failure would be an outage."""
        self.probation = why
        for member in self.members:
            member.on_probation = bool(why)

    def _forgive(self) -> None:
        """End the probation: what failed has changed, and may work now."""
        self._put_on_probation("")
        self._retry_effects()

    def _retry_effects(self) -> None:
        self._effects.clear()
        self.faults = self._reasons()

    def _reasons(self) -> tuple[str, ...]:
        """Every reason why this group must not take part in the election."""
        reasons = [*self.tracking.faults, *missing_sources(self.members), *self._effects.reasons()]
        if self.standby:
            reasons.append("standby")
        return tuple(dict.fromkeys(reasons))

    def _comes_up(self) -> bool:
        """Whether the daemon has just started, and only interfaces or their addresses are missing.

        A router brings its networks up one after the other when it boots. Nobody needs to hear of that fault.
        """
        others = [track for track in self.tracking.failed if track.kind != "interface"]
        return self._grace_until is not None and not (self.standby or self._effects or others)

    # Reports

    def _report(self, why: str) -> list[Action]:
        """Report the state when it differs from the one reported last."""
        state = self.state
        news = [member for member in self.members if member.told != state]
        group = (self.settings.name, state)
        if self._restore_by is not None or not (news or group != self._reported):
            return []
        told, self._reported = self._reported, group
        why = why or ("stopped" if self._stopped else ", ".join(self.faults))
        why = why or f"waiting for {', '.join(self.tracking.pending)}"
        actions: list[Action] = []
        for member in news:
            member.told = state
            actions.append(Transition(member.name, state, member.priority, why, self._cause))
        if not self.settings.implicit and group != told:
            actions.append(GroupTransition(self.settings.name, state))
        return actions
