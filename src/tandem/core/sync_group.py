# SPDX-License-Identifier: GPL-2.0-or-later
"""SyncGroup: virtual routers that are active together or not at all.

Members only say what each would do alone (see `virtual_router`). What they say, and what an operator wants,
becomes one `Cue` for the group, and the table in `role_changes` says which role all members enter on it.
After every event this is done until no cue is left, so that a group never rests in mixed roles.

Equal priorities whose addresses compare differently on two LANs are settled by the first member in the
configuration. Otherwise both routers would yield to each other. That member stops deciding when the other
router goes on there: a LAN that carries one way only would keep both active.

An instance in no sync group is a group of one, for which these rules are those of the RFC.

How a group becomes active, and gives the role up, is written in `promotion`. Where connections are replicated
(`restores`), a backup asks for `Speculate` at the first advertisement that is overdue, and does not preempt
before it is in step.

Two routers that were both active exchange their connections before one of them yields, see `reunion`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.core import offer, reunion
from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Cause,
    Contested,
    Course,
    Degraded,
    GroupTransition,
    HandOver,
    Reunite,
    SendAdvert,
    Speculate,
    StopSpeculating,
    Transition,
)
from tandem.core.damping import Damping
from tandem.core.events import (
    ANYTHING,
    AdvertReceived,
    Ballot,
    Claimed,
    Company,
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
    Taken,
    Tick,
    TrackerChanged,
    Unheard,
    Vacancy,
    Vacated,
)
from tandem.core.faults import Faults
from tandem.core.offer import Offer
from tandem.core.promotion import Demotion, Farewell, Promotion, Reason
from tandem.core.reunion import Reunion, Stage
from tandem.core.role_changes import COMMAND, FAULT, TRANSITIONS, VACANCIES, Cue
from tandem.core.settings import Group, Instance
from tandem.core.state import Role, user_state
from tandem.core.timers import earliest
from tandem.core.tracking import OWNER, Tracking
from tandem.core.virtual_router import VirtualRouter, cause_of, last_heard


class SyncGroup:
    """One sync group with its members; `handle` takes events and returns actions in order."""

    def __init__(
        self, settings: Group, instances: Iterable[Instance], restores: bool = False, sync_patience: int = 0
    ) -> None:
        """`sync_patience`: how long, in ns, a router that would preempt waits until it is in step."""
        self.settings = settings
        self.members = tuple(VirtualRouter(instance, restores) for instance in instances)
        """At least one; a reload changes them, see reload.py."""
        self.restores = restores
        self.promotion = Promotion()
        self.damping = Damping()
        self._deceived_at: int | None = None  # when a forged resignation was believed
        self.by_name = {member.name: member for member in self.members}
        self._start_at: int | None = None
        self._started = False
        self._stopped = False
        self._cause: Cause | AdvertReceived | None = None  # of the transitions of the present event
        self._speculating = False
        self._synchronised = False
        self._sync_patience = sync_patience
        self._patient_until: int | None = None  # None: there was nobody to preempt
        self._partner = Partner(known=False, in_step=False)
        self.reunion = Reunion()
        self.offer = Offer()
        self._leaves_for = Cue.OUT  # why the role is offered
        self._company = Company()
        self.claimed = False  # a neighbour is active, as its heartbeats say, so that silence is a partition
        self._unheard = False  # and hears nothing of this router
        self.fault_state = Faults(settings, self.members)
        self.ballot = ANYTHING
        self._reported = (settings.name, self.state)

    # Questions of the shell

    @property
    def claims(self) -> bool:
        """Whether the group is active, or would be if the quorum let it."""
        resigned = any(member.resigned for member in self.members)
        return self.role is Role.ACTIVE or resigned or all(member.expired for member in self.members)

    @property
    def name(self) -> str:
        """The group's name."""
        return self.settings.name

    @property
    def follows(self) -> bool:
        """Whether networks follow the role."""
        return bool(self.settings.follow)

    @property
    def line_taken(self) -> bool:
        """Whether networks follow the role, and a neighbour says that it has them still."""
        return self.follows and self._company.offers

    @property
    def gives_way(self) -> bool:
        """Whether this group leaves its role to a router that was active before it could hear anybody.

        A peer that is in step was active before only if its connections had come here. What is said in
        heartbeats must be what is done, also while the two exchange connections before: the other router
        does not yield to one that gives way.
        """
        if self.reunion.stage is Stage.DEFERS:
            return True
        before = self.reunion.followed or not self._partner.known
        return before and all(member.gives_way for member in self.members)

    @property
    def tracking(self) -> Tracking:
        """The tracked interfaces and scripts."""
        return self.fault_state.tracking

    @property
    def faults(self) -> tuple[str, ...]:
        """The reasons for which the group takes no part in elections; empty: it takes part."""
        return self.fault_state.reasons

    @property
    def degraded(self) -> bool:
        """Whether the group takes part in elections in spite of its faults: no neighbour has fewer."""
        return self.fault_state.degraded(self._company)

    @property
    def standby(self) -> bool:
        """Whether an operator has taken the group out of the elections."""
        return self.fault_state.standby

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
        faulty = self._started and bool(self.faults) and not self.fault_state.comes_up()
        return user_state(self.role, faulty, self._stopped)

    def overslept(self, now: int) -> bool:
        """Whether the next event finds a group that has lost its role while the process was stopped."""
        return any(member.overslept(now) for member in self.members)

    @property
    def role_ends(self) -> int | None:
        """When nothing more may be said as the active router: see `overslept`."""
        return earliest(*[member.role_ends for member in self.members])

    def next_deadline(self) -> int | None:
        """When `handle(Tick())` has something to do."""
        own = self._start_at, self.promotion.deadline, self.reunion.deadline, self.offer.deadline
        return earliest(
            *own, self.fault_state.next_deadline(), *[member.next_deadline() for member in self.members]
        )

    # Input

    def handle(self, event: Event, now: int) -> list[Action]:
        """Take in one event at time `now` (monotonic ns) and return what is to be done, in order."""
        before, self._cause = self.role, None
        actions = self._handle(event, now)
        if self.role is not before and Role.ACTIVE in (self.role, before):
            self.damping.note(now)
        if self.offer.pending:  # hosts and other routers hear of the new active router last
            return [action for action in actions if not isinstance(action, (SendAdvert, Announce))]
        return actions

    def _handle(self, event: Event, now: int) -> list[Action]:
        actions = self.wake_up(now) if self.role is Role.ACTIVE else []
        actions += self._take_in(event, now)
        # These events come all the time, and touch no rule outside `_take_in`.
        if type(event) is AdvertReceived or (type(event) is Tick and self.role is Role.ACTIVE):
            return actions + self._suspicion()
        if type(event) is not Tick:
            self.fault_state.look(self.members)
            for member in self.members:
                actions += member.set_priority(self.tracking.priority(member.settings.priority), now)
        return actions + self.settle(now)

    def take_members(self, members: Iterable[VirtualRouter]) -> None:
        """Use these members from now on; at least one."""
        self.members = tuple(members)
        self.by_name = {member.name: member for member in self.members}

    def replicate(self, restores: bool, sync_patience: int, now: int) -> list[Action]:
        """Connections are replicated from now on, or no longer."""
        self.restores, self._sync_patience = restores, sync_patience
        for member in self.members:
            member.watchful = restores
        if restores:
            return []
        self._speculating = False
        return [*self.promotion.skip(self, now), *self._meet(reunion.OVERDUE, now)]

    def _take_in(self, event: Event, now: int) -> list[Action]:
        match event:
            case AdvertReceived(name, advert, source):
                member = self.by_name[name]
                if self.role is Role.ACTIVE and (self.offer.pending or member.is_leaver(source, now)):
                    return []  # the two agree by heartbeats
                self._cause = event
                member.patient = self._is_patient(member, advert.priority, now)
                member.damped = self.damping.until(now) is not None
                if member.was_deceived(advert, source, now):
                    self._deceived_at = now
                # Both routers go by what both have said: otherwise each could leave the role to the other.
                leaves = source in self._company.give_way
                better = member.receive(advert, source, now, leaves and not self.gives_way)
                if better and not self._earlier_member_wins(member, now):
                    return self._yield(source, now)
                if self.role is not Role.ACTIVE:
                    return []
                if advert.priority and self.gives_way and not leaves:
                    return self._give_way(event, now)
                meets = self._meet_lesser(member, now)
                # Hosts are not told before the connections are there and the addresses are installed.
                quiet = self.reunion.stage is not Stage.ALONE or self.promotion.waiting
                announce = not quiet and not member.is_farewell(source, now)
                return meets + member.defend(advert, now, announce)
            case Tick():
                return self._due(now)
            case TrackerChanged(kind, name, up, why):
                self.tracking.update(kind, name, up, why)
                if kind == "interface" and up:
                    self.fault_state.forgive(self.members)
            case SourceChanged(name, source):
                self.by_name[name].source = source
                self.fault_state.forgive(self.members)
            case Moved(name) if not self.promotion.waiting:
                return self.by_name[name].moved(now)
            case EffectFailed(name, reason):
                self.fault_state.effects.failed(name, reason, now)
                self.fault_state.put_on_probation(self.members, f"{name}: {reason}")
            case Rebound() if self.fault_state.probation:
                self.fault_state.forgive(self.members)
            case Restored():
                return self.promotion.take_in(event, self, now)
            case Ballot():
                self.ballot = event
            case Reunited():
                return self._meet(reunion.REUNITED, now)
            case Synchronised(yes):
                self._synchronised = yes
                if yes:
                    self._patient_until = None
            case Partner():
                self._partner = event
                if event.fills:
                    self.reunion.acquaint(self._sync_patience)
                if event.in_step:
                    return self._meet(reunion.IN_STEP, now)
            case Vacated(vacancy, sources) if self.role is Role.BACKUP and self._may_follow(vacancy):
                if all(self.by_name[name].follows(source, now) for name, source in sources):
                    for name, source in sources if vacancy is Vacancy.OFFERED else ():
                        self.by_name[name].expect_leaving(source, now)
                    return self._change(VACANCIES[vacancy], now)
            case Taken(serves) if self.role is Role.ACTIVE and not self.promotion.waiting:
                return self._negotiate(offer.SERVES if serves else offer.ENTERS, now)
            case Company():
                self._company = event
                for member in self.members if event.takes else ():
                    member.met()
                actions = [] if event.offers else self.promotion.take_in(event, self, now)
                return actions if event.takes else actions + self._negotiate(offer.REFUSED, now)
            case Claimed(yes):
                self.claimed = yes
            case Unheard(yes):
                self._unheard = yes
                for member in self.members:
                    member.unheard = yes
            case Failover() if self.role is Role.ACTIVE:
                return self._leave(Cue.FAILOVER, now)
            case Standby():
                self.fault_state.standby = True
            case Resume():
                self.fault_state.standby = False
                self.fault_state.forgive(self.members)
                self.damping.forget()
                for member in self.members:
                    member.hold = False
            case Start(delay, grace):
                self._start_at = now + delay
                self.fault_state.grace_until = self._start_at + grace if grace else None
                return self._due(now)
            case Stop(at_once):
                self._stopped = True
                if at_once:
                    self._company = Company()
        return []

    def _may_follow(self, vacancy: Vacancy) -> bool:
        return self.ballot.take if vacancy is Vacancy.DIED else self.ballot.succeed

    def _due(self, now: int) -> list[Action]:
        if self._start_at is not None and self._start_at <= now:
            self._start_at = None
            self._started = True
        self.fault_state.due(self.members, now)
        actions: list[Action] = []
        for member in self.members:
            actions += member.due(now)
        actions += self.promotion.due(self, now)
        if self.offer.deadline is not None and self.offer.deadline <= now:
            actions += self._negotiate(offer.OVERDUE, now)
        return actions + self._end_reunion(now)

    def _is_patient(self, member: VirtualRouter, priority: int, now: int) -> bool:
        """Whether the connections of a lesser active router are waited for before it is preempted.

        Not only after the start: this router may have been cut off, or out of service, and know less again.
        """
        if not self.restores or self._synchronised or not member.preempts(priority):
            return False
        if self._patient_until is None:
            self._patient_until = now + self._sync_patience
        return now < self._patient_until

    # Two active routers

    def _yield(self, source: bytes, now: int) -> list[Action]:
        """A better router is active: become backup, or go on until it knows our connections."""
        if not self._exchanges or not self.reunion.needs_exchange(self._partner, source, now):
            return self._change(Cue.BETTER, now)
        return self._end_reunion(now) + self._meet(reunion.BETTER, now)

    def _meet_lesser(self, member: VirtualRouter, now: int) -> list[Action]:
        """Ask for the connections of a lesser router that has just begun to claim that it is active."""
        known = self._partner.known or self.reunion.lasted(now)
        begins = self._exchanges and known and member.contested_since(now)
        return self._meet(reunion.LESSER, now) if begins else []

    @property
    def _exchanges(self) -> bool:
        """Whether this router, which is active, has connections to exchange, and may wait for it."""
        return self.restores and not self.promotion.waiting and self._sync_patience > 0

    def _meet(self, event: str, now: int) -> list[Action]:
        """Tell the reunion of two active routers what happens, and do what it wants."""
        known = self._partner.known or self._partner.fills
        steps = self.reunion.handle(event, now, self._sync_patience, known)
        if self.role is not Role.ACTIVE or self.promotion.waiting:
            return []
        actions: list[Action] = []
        for step in steps:
            if step == reunion.EXCHANGE:
                actions.append(Reunite(self.settings.name))
            elif step in (reunion.YIELD, reunion.GIVE_WAY):
                actions += self._change(Cue.BETTER if step == reunion.YIELD else Cue.EARLIER, now)
            elif step == reunion.ANNOUNCE:
                actions += [action for member in self.members for action in member.moved(now)]
            elif step == reunion.CONTESTED:
                actions += [Contested(member.name, member.priority) for member in self.members]
        return actions

    def _end_reunion(self, now: int) -> list[Action]:
        """End a wait of the reunion that has lasted for long enough."""
        deadline = self.reunion.deadline
        return self._meet(reunion.OVERDUE, now) if deadline is not None and deadline <= now else []

    def part(self) -> None:
        """End every exchange and wait that belonged to the former role."""
        self.fault_state.grace_until = None
        self._patient_until = None
        self.reunion.end()
        self.offer.handle(offer.ENDED, 0)

    # The offer of the role

    def _leave(self, cue: Cue, now: int, waited: bool = False) -> list[Action]:
        """Give the role of an active group up: at once, or when a neighbour is in step and serves."""
        if not waited and self._lacks(cue):
            self._leaves_for = cue
            return self._negotiate(offer.LACKS, now)
        if not self._company.takes or not self._can_wait(cue):
            return self._change(cue, now)
        self._leaves_for = cue
        return self._negotiate(offer.LEAVES, now)

    def _lacks(self, cue: Cue) -> bool:
        """Whether a neighbour lacks connections, and hosts can wait: not if a link has just failed."""
        if cue is not Cue.OUT or self._stopped or not (self._exchanges and self.fault_state.useful):
            return False
        return (self.fault_state.lasts or self.offer.waits) and self._partner.fills

    def _can_wait(self, cue: Cue) -> bool:
        """Whether this router forwards as long as the role is offered, and nothing else goes on."""
        asked = cue is Cue.FAILOVER or (cue is Cue.OUT and self.fault_state.forwards)
        busy = self.promotion.waiting or self.reunion.stage is not reunion.Stage.ALONE
        return asked and not busy and not self.follows

    def _negotiate(self, event: str, now: int) -> list[Action]:
        """Tell the offer of the role what happens, and do what it wants."""
        if event == offer.ENTERS and not self.offer.pending:
            self._leaves_for = Cue.BETTER
            if self.reunion.stage is not reunion.Stage.ALONE or self.follows:
                return []
        actions: list[Action] = []
        for step in self.offer.handle(event, now, self._sync_patience):
            if step == offer.LAST and self.restores:
                actions.append(HandOver(self.name))
            elif step == offer.TELL:
                actions.append(Beat(self.name))
            elif step == offer.GO:
                actions += self._leave(self._leaves_for, now, waited=True)
            elif step == offer.LEAVE:
                actions += self._change(self._leaves_for, now, served=event == offer.SERVES)
        return actions

    # The joint rules

    def settle(self, now: int) -> list[Action]:
        """Enter the roles that the cues of now lead to, until none is left, and report the last one."""
        actions: list[Action] = []
        while (cue := self._cue(now)) is not None and (self.role, cue) in TRANSITIONS:
            actions += self._leave(cue, now) if self.role is Role.ACTIVE else self._change(cue, now)
            if self.offer.begun:
                break
        if self.offer.begun and self._leaves_for is Cue.OUT and cue is not Cue.OUT:
            actions += self._negotiate(offer.STAYS, now)
        actions += self._suspicion() + self.report("")
        if news := self.fault_state.compare(self.members, self._company):
            actions.append(Degraded(self.name, news))
        return actions

    def _cue(self, now: int) -> Cue | None:
        """Return the cue of the members and the faults; packets and operators have cues of their own."""
        role = self.role
        if self._stopped or (self.faults and not self.degraded):
            return Cue.OUT
        if role is Role.INITIALIZE:
            if not self._started or self.tracking.pending:
                return None
            owners = all(member.settings.priority == OWNER for member in self.members)
            trusted = not self.fault_state.probation and self.ballot.take
            return Cue.OWNER if owners and trusted else Cue.READY
        if role is Role.ACTIVE and not self.ballot.hold:
            return Cue.OUTVOTED
        if role is Role.BACKUP:
            doubts = self.damping.doubts(self._partner.known, self._deceived_at, now)
            if not doubts and self.ballot.succeed and any(member.resigned for member in self.members):
                return Cue.RESIGNED
            if all(member.expired for member in self.members):
                # The timers ended because lesser routers were not listened to, and not in silence.
                preempts = any(member.hears_lesser(now) for member in self.members)
                if self.claimed and not preempts:
                    for member in self.members:  # a partition: wait once more
                        member.become_backup(now)
                    return None
                if preempts:
                    return Cue.PREEMPTS if self.ballot.succeed else None
                return Cue.SILENT if self.ballot.take else None
            return None
        return Cue.UNHEARD if self._unheard else None

    def _change(self, cue: Cue, now: int, served: bool = False) -> list[Action]:
        """Enter the role that `cue` leads to; `served`: a neighbour serves already."""
        change = TRANSITIONS[self.role, cue]
        if self.role is Role.BACKUP and change.role is Role.ACTIVE:
            self._cause = last_heard(self.members)
        if change.role is Role.ACTIVE:
            self.reunion.begin(now, self._synchronised)
            self._speculating = False
            # Networks that follow are left first: see promotion.py.
            preempts = cue is Cue.PREEMPTS and self._company.offers and not self.follows
            agreed = cue is Cue.OFFERED or preempts
            if cue is Cue.PREEMPTS and agreed:
                for member in self.members:
                    if member.peer is not None:
                        member.expect_leaving(member.peer.source, now)
            cause = cause_of(self._cause)
            reason = Reason(
                change.why, cause, change.seen, change.handed_over, lives=change.lives, agreed=agreed
            )
            return self.promotion.begin(self, reason, now)
        before = self.role
        self.part()
        actions: list[Action] = []
        for member in self.members:
            if change.role is Role.INITIALIZE:
                member.become_initialize()
            elif before is Role.INITIALIZE:
                actions += member.come_up(now)
            else:
                member.become_backup(now, member.listening_time() if cue is Cue.SLEPT else None)
                member.hold = member.hold or cue is Cue.FAILOVER
        if before is Role.ACTIVE:
            how = Farewell.SILENT if served else change.farewell, self.follows, self.settings.services
            demotion = Demotion(self.name, self.members, self.restores, *how)
            actions += self.promotion.demote(demotion)
        return actions + self.report(change.why, change.seen if change.why else "")

    def wake_up(self, now: int) -> list[Action]:
        """Start over as backup after a sleep: whoever took over has the connections, and hosts know it."""
        return self._change(Cue.SLEPT, now) if self.overslept(now) else []

    def _suspicion(self) -> list[Action]:
        """Begin to restore when an advert is overdue; stop when the active speaks again."""
        if not self.restores:
            return []
        role = self.role
        suspects = role is Role.BACKUP and any(member.suspects for member in self.members)
        if suspects == self._speculating or role is Role.ACTIVE:
            return []
        self._speculating = suspects
        return [Speculate(self.settings.name) if suspects else StopSpeculating(self.settings.name)]

    def _give_way(self, event: AdvertReceived, now: int) -> list[Action]:
        """Leave the role to a lesser router that was active before this one could hear anybody."""
        if self._exchanges and self.reunion.needs_exchange(self._partner, event.source, now):
            return self._meet(reunion.EARLIER, now)
        actions = self._change(Cue.EARLIER, now)
        self.by_name[event.instance].heard(event.advert, event.source, now)
        return actions

    def _earlier_member_wins(self, member: VirtualRouter, now: int) -> bool:
        # Later members are more patient, so that two routers that do not hear each other on different
        # LANs do not give up at the same time, again and again.
        earlier = self.members[: self.members.index(member)]
        return any(other.beats_peer(now, patience) for patience, other in enumerate(earlier, 1))

    # Reports

    def promoted(self, reason: Reason) -> list[Action]:
        """Report the role when everything of it is there."""
        self.fault_state.put_on_probation(self.members, "")  # another failure begins another probation
        self._cause = reason.cause
        return self.report(reason.why, reason.seen, self.promotion.course)

    def report(self, why: str, seen: str = "", course: Course | None = None) -> list[Action]:
        """Report the state when it differs from the one reported last, but no promotion before its end."""
        state = self.state
        news = [member for member in self.members if member.told != state]
        group = (self.settings.name, state)
        if self.promotion.waiting or not (news or group != self._reported):
            return []
        told, self._reported = self._reported, group
        why = why or ("stopped" if self._stopped else ", ".join(self.faults))
        why = why or f"waiting for {', '.join(self.tracking.pending)}"
        seen = seen or (COMMAND if self._stopped or self.standby else FAULT)
        actions: list[Action] = []
        cause = cause_of(self._cause)
        for member in news:
            member.told = state
            actions.append(Transition(member.name, state, member.priority, why, cause, seen, course))
        if not self.settings.implicit and group != told:
            actions.append(GroupTransition(self.settings.name, state))
        return actions
