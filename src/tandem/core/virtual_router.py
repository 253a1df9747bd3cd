# SPDX-License-Identifier: GPL-2.0-or-later
"""VirtualRouter: one instance of the machine of RFC 9568 section 6.4 (RFC 3768 section 6.4).

The RFC lets every virtual router decide alone. Here it only says what it would do, and its
`SyncGroup` (a group of one, when it is in none) does it for all members together:

    BACKUP   `expired`  the Active_Down_Timer has fired: "I would become active"
    BACKUP   `resigned` the active said goodbye: "we should become active, whatever the others hear"
    ACTIVE   `receive()` returns True: "a better router is active: we should become backup"

Deadlines are fields, never callbacks; the owner calls `due()` when `next_deadline()` has passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tandem.core.actions import Action, Announce, Cause, Contested, Greet, SendAdvert
from tandem.core.announcing import Announcing
from tandem.core.bounds import learned_interval
from tandem.core.events import AdvertReceived
from tandem.core.limits import STREAM_LIMIT
from tandem.core.packet import Advertisement
from tandem.core.settings import Instance
from tandem.core.state import Role, user_state
from tandem.core.timers import (
    CENTISECOND,
    MILLISECOND,
    SECOND,
    active_down_interval,
    earliest,
    resignation_skew,
    skew_time,
)
from tandem.core.tracking import OWNER

# A flood of lesser adverts must not make us answer each: assert our role at most this often.
ASSERT_INTERVAL = 10 * MILLISECOND
HICCUP = 200 * MILLISECOND  # an advert that is late by less is no sign of a long sleep
# A switch port that has just come up may forward nothing for 30 s (twice the forward delay of IEEE 802.1D),
# a LACP bundle for a few: meanwhile a router that was active all the time could not be heard.
DEAF = 50 * SECOND
RESOLVE = SECOND  # a unicast peer may have to resolve our MAC address first: the kernel asks once a second


@dataclass(frozen=True, slots=True)
class Peer:
    """The router last heard as active."""

    source: bytes
    priority: int
    interval_cs: int
    heard: int  # ns


class VirtualRouter:
    """State and timers of one virtual router; all times in monotonic ns."""

    __slots__ = (  # a dictionary of so many fields costs 2 KiB for each virtual router
        "_active_down_at",
        "_advert_at",
        "_announcing",
        "_asserted_at",
        "_beats_peer_until",
        "_contest_interval",
        "_contested_at",
        "_deaf_until",
        "_farewell_until",
        "_inherited_until",
        "_leaver",
        "_leaver_until",
        "_preempt_at",
        "_preempted",
        "_resigned_by",
        "_suspect_at",
        "_takeover_at",
        "active_adver_interval_cs",
        "damped",
        "degraded",
        "expired",
        "hold",
        "on_probation",
        "patient",
        "peer",
        "priority",
        "resigned",
        "role",
        "settings",
        "source",
        "suspects",
        "told",
        "unheard",
        "watchful",
    )

    def __init__(self, settings: Instance, watchful: bool = False) -> None:
        """`watchful`: note the first advertisement that is overdue (`suspects`)."""
        self.settings = settings
        self.watchful = watchful
        self.role = Role.INITIALIZE
        self.told = user_state(self.role, False)  # the state that was reported last
        self.priority = settings.priority  # effective, set by the group
        self.source: bytes | None = None  # primary address
        self.peer: Peer | None = None
        self.hold = False  # no preemption until active again (operator's failover)
        self.on_probation = False  # no preemption until what failed when it was active has changed
        self.patient = False  # no preemption yet: the peer's connections are not all known here
        self.damped = False  # its group has changed its role too often
        self.degraded = False  # in fault, and no other router is better
        self.unheard = False  # another router is active and hears nothing of this one
        self.suspects = False  # backup, and an advertisement of the active is overdue
        self.expired = False
        self.resigned = False
        self.active_adver_interval_cs = settings.advert_int_cs
        # Until then this router may have heard nobody since it came up; None: it has heard another router.
        self._deaf_until: int | None = None
        self._active_down_at: int | None = None
        self._suspect_at: int | None = None
        self._takeover_at: int | None = None
        self._preempt_at: int | None = None
        self._advert_at: int | None = None
        self._asserted_at: int | None = None
        self._preempted: bytes | None = None  # the lesser router that this one has just replaced
        self._farewell_until = 0  # its last adverts come until then
        self._leaver: bytes | None = None  # the router that has offered its role to this one
        self._leaver_until = 0  # its adverts count for nothing until then
        self._resigned_by: bytes | None = None  # the router that resigned last
        self._inherited_until = 0  # after its resignation: it should be silent until then
        self._beats_peer_until = 0
        # Since then a lesser router claims to be active, without a pause.
        self._contested_at: int | None = None
        self._contest_interval = 0  # its Active_Down_Interval
        self._announcing = Announcing(settings.name)

    # Questions of the group

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.settings.name

    def next_deadline(self) -> int | None:
        """When `due()` has something to do."""
        if self.role is Role.BACKUP:
            return earliest(self._active_down_at, self._suspect_at, self._takeover_at)
        return earliest(self._advert_at, self._announcing.at)

    def beats_peer(self, now: int, patience: int = 1) -> bool:
        """Whether this router is active, and better than all others that claimed so here lately.

        In the first Active_Down_Interval nobody need have claimed it. Until a better router would have been
        heard here, no later LAN may decide. Otherwise two routers that become active together, each the
        better one on another LAN, would yield to each other forever. A lesser router that goes on for
        `patience` times its Active_Down_Interval does not hear us: the LAN carries one way only, and both
        would stay active.
        """
        if self.role is not Role.ACTIVE or now >= self._beats_peer_until:
            return False
        return self._contested_at is None or now < self._contested_at + patience * self._contest_interval

    def overslept(self, now: int) -> bool:
        """Whether this router was active but silent for three intervals: a backup has taken over meanwhile.

        The process was stopped, or got no processor, and its role is of the past. A pause shorter than
        `HICCUP` does not count, however short the interval: a router that has taken over is heard at once,
        and where none has, a role that is given up is an outage.
        """
        at = self._advert_at
        if at is None or now < at + HICCUP:  # nearly always: this is asked with each advert
            return False
        end = self.role_ends
        return end is not None and now >= end

    @property
    def role_ends(self) -> int | None:
        """When the role is of the past, if no advert is sent before; None: this router is not active."""
        if self._advert_at is None:  # one interval after the last one
            return None
        return self._advert_at + max(2 * self.settings.advert_int_cs * CENTISECOND, HICCUP)

    def active_down_interval(self) -> int:
        """Active_Down_Interval with the interval learned from the active (v3) or our own (v2).

        A damped router waits for its own interval at least: one forged advert in the name of the active
        router can claim a shorter one than that router has, which is then late ever after.
        """
        interval_cs = self.active_adver_interval_cs
        return self._down_interval(
            max(interval_cs, self.settings.advert_int_cs) if self.damped else interval_cs
        )

    def _down_interval(self, interval_cs: int) -> int:
        settings = self.settings
        return active_down_interval(settings.version, self.priority, interval_cs, settings.down_timer_adverts)

    def preempts(self, priority: int) -> bool:
        """Whether this backup takes the role from an active router of this priority."""
        lesser = 0 < priority < self.priority
        willing = self.settings.preempt and not (self.hold or self.on_probation or self.unheard)
        return lesser and self.role is Role.BACKUP and willing

    def hears_lesser(self, now: int) -> bool:
        """Whether a lesser router was heard as active lately, so that this one preempts it."""
        peer, lately = self.peer, now - self.active_down_interval()
        return peer is not None and peer.heard > lately and peer.priority < self.priority

    def is_farewell(self, source: bytes, now: int) -> bool:
        """Whether an advert of `source` is the last one of a router that was just preempted.

        A router that advertises for longer does not hear us, and contests the role.
        """
        return source == self._preempted and now < self._farewell_until

    def expect_leaving(self, source: bytes, now: int) -> None:
        """The router `source` goes on only until this one serves: its adverts count for nothing meanwhile."""
        self._leaver, self._leaver_until = source, now + STREAM_LIMIT

    def is_leaver(self, source: bytes, now: int) -> bool:
        """Whether an advert of `source` comes from the router that has offered its role to this one."""
        return source == self._leaver and now < self._leaver_until

    def was_deceived(self, advert: Advertisement, source: bytes, now: int) -> bool:
        """Whether the resignation of `source`, by which this router became active, was forged.

        A router that resigns listens for an interval at least before it is active again.
        """
        inherited = self.role is Role.ACTIVE and now < self._inherited_until
        return inherited and advert.priority > 0 and source == self._resigned_by

    @property
    def gives_way(self) -> bool:
        """Whether this router is active because it could hear nobody, and leaves the role to another one.

        The other one may have been active all the time: `nopreempt` and `preempt_delay` hold then as well.
        """
        active = self.role is Role.ACTIVE and self.settings.priority != OWNER
        return active and self._deaf_until is not None

    def met(self) -> None:
        """Another router is there and not active, so that it was not active before this one either."""
        self._deaf_until = None

    # Transitions, called by the group

    def come_up(self, now: int) -> list[Action]:
        """Leave INITIALIZE for BACKUP: at the start, or when the link is back."""
        first_wait = self.first_wait()
        if self.settings.unicast_peers:
            first_wait = max(first_wait, RESOLVE)
        self.become_backup(now, first_wait)
        settings = self.settings
        patience = settings.preempt_delay_ms * MILLISECOND if settings.preempt else DEAF
        self._deaf_until = now + patience if patience else None
        return [Greet(self.name)]

    def become_backup(self, now: int, first_wait: int | None = None) -> None:
        """Enter BACKUP and wait `first_wait` ns, by default Active_Down_Interval, for an active."""
        self.role = Role.BACKUP
        self._clear_timers()
        self._active_down_at = now + (self.active_down_interval() if first_wait is None else first_wait)

    def first_wait(self) -> int:
        """The first wait after the start: `state MASTER` listens for one interval only."""
        return self.listening_time() if self.settings.initial_master else self.active_down_interval()

    def listening_time(self) -> int:
        """Return the time in which an active router is heard, if there is one and nothing is lost."""
        interval_cs = self.settings.advert_int_cs
        return interval_cs * CENTISECOND + skew_time(self.settings.version, self.priority, interval_cs)

    def advertise_first(self, now: int) -> list[Action]:
        """Enter ACTIVE and say so; promotion.py does the rest."""
        self._preempted = self.peer.source if self.peer is not None and self.hears_lesser(now) else None
        self._farewell_until = now + self.settings.advert_int_cs * CENTISECOND
        self._inherited_until = self._farewell_until if self.resigned else 0
        self.role = Role.ACTIVE
        self.hold = False
        self.active_adver_interval_cs = self.settings.advert_int_cs  # whoever taught us another is gone
        self._clear_timers()
        self._beats_peer_until, self._contested_at = now + self.active_down_interval(), None
        return self.advertise(now)

    def announce(self, now: int) -> list[Action]:
        """Tell hosts that the virtual addresses are here, now that they are, and again a little later."""
        self._announcing.begin(self.settings.garp, now)
        return [Announce(self.name, self.settings.garp.repeat)]

    def moved(self, now: int) -> list[Action]:
        """Tell hosts the new MAC address of the virtual addresses, now and a little later."""
        return self._announcing.now_and_again(self.settings.garp, now) if self.role is Role.ACTIVE else []

    def become_initialize(self) -> None:
        """Enter INITIALIZE."""
        self.role = Role.INITIALIZE
        self.peer = None
        self.active_adver_interval_cs = self.settings.advert_int_cs
        self._clear_timers()

    def advertise(self, now: int) -> list[Action]:
        """Send an advertisement now and the next one an interval later."""
        self._advert_at = now + self.settings.advert_int_cs * CENTISECOND
        return [SendAdvert(self.settings.name, self.priority)]

    def set_priority(self, priority: int, now: int) -> list[Action]:
        """Take a new effective priority; the active says so at once."""
        if priority == self.priority:
            return []
        self.priority = priority
        return self.advertise(now) if self.role is Role.ACTIVE else []

    def reconfigure(self, settings: Instance, now: int) -> None:
        """Take changed settings in the same role; the group then says them when we are active."""
        timing = (settings.version, settings.advert_int_cs)
        changed = timing != (self.settings.version, self.settings.advert_int_cs)
        fewer = settings.down_timer_adverts != self.settings.down_timer_adverts
        self.settings = settings
        if changed:
            self.active_adver_interval_cs = settings.advert_int_cs
        if (changed or fewer) and self._active_down_at is not None:
            self._active_down_at = now + self.active_down_interval()

    # Timers

    def due(self, now: int) -> list[Action]:
        """Act on the deadlines that are not later than `now`."""
        actions: list[Action] = []
        self._end_deafness(now)
        if self._active_down_at is not None and self._active_down_at <= now:
            self._active_down_at = None
            self.expired = True
        if self._suspect_at is not None and self._suspect_at <= now:
            self._suspect_at = None
            self.suspects = True
        if self._takeover_at is not None and self._takeover_at <= now:
            self._takeover_at = None
            self.resigned = True
        if self._advert_at is not None and self._advert_at <= now:
            in_phase = self._advert_at + self.settings.advert_int_cs * CENTISECOND
            actions += self.advertise(now)
            if in_phase > now:  # lateness must not add up
                self._advert_at = in_phase
        if self._announcing.at is not None and self._announcing.at <= now:
            actions += self._announcing.due(self.settings.garp, now)
        return actions

    def _end_deafness(self, now: int) -> None:
        if self._deaf_until is not None and self._deaf_until <= now:
            self._deaf_until = None

    # Packets

    def heard(self, advert: Advertisement, source: bytes, now: int) -> None:
        """Note another router that this one could not hear before."""
        self._deaf_until = None
        self._follow(advert, source, now)

    def receive(self, advert: Advertisement, source: bytes, now: int, leaves: bool = False) -> bool:
        """Take in a checked advertisement; True when we are active and `source` is better.

        After True the group calls either `become_backup` or `defend`; after False, `defend`
        says what an active router answers. `leaves`: `source` leaves the role to us.
        """
        self._end_deafness(now)
        if self.role is Role.BACKUP:
            self._receive_in_backup(advert, source, now)
            return False
        if self.role is not Role.ACTIVE or advert.priority == 0:
            return False
        if not leaves and self._is_better(advert.priority, source):
            self._follow(advert, source, now)
            return True
        if self.is_farewell(source, now):
            return False
        # The lesser router's interval, as it is that router's next advert that renews this.
        interval = self._down_interval(self._bounded(advert))
        if self._contested_at is None or now >= self._beats_peer_until:
            self._contested_at = now
        self._contest_interval = interval
        self._beats_peer_until = now + interval
        return False

    def contested_since(self, now: int) -> bool:
        """Whether a lesser router claims to be active since `now`, and did not before."""
        return self.role is Role.ACTIVE and self._contested_at == now

    def defend(self, advert: Advertisement, now: int, announce: bool = True) -> list[Action]:
        """Return the answer of an active router to an advertisement that it does not yield to (6.4.3).

        `announce`: tell hosts as well that the addresses are here.
        """
        if self.role is not Role.ACTIVE:
            return []
        actions = self._assert(now)
        if announce and advert.priority:
            begins = self.contested_since(now)
            actions += self._announcing.answer(self.settings.garp, begins, now)
            if begins:
                actions.append(Contested(self.name, self.priority))
        return actions

    def _assert(self, now: int) -> list[Action]:
        """Say that we are active: now, or ASSERT_INTERVAL after we last said so.

        An answer may be late but must come: a backup that has heard a stranger's priority 0 waits
        no longer than its skew time for the next advertisement of its active.
        """
        if self._asserted_at is None or now >= self._asserted_at + ASSERT_INTERVAL:
            self._asserted_at = now
            return self.advertise(now)
        answer_at = self._asserted_at + ASSERT_INTERVAL
        if self._advert_at is not None and answer_at < self._advert_at:
            self._advert_at = self._asserted_at = answer_at
        return []

    def _receive_in_backup(self, advert: Advertisement, source: bytes, now: int) -> None:
        if advert.priority:
            self._deaf_until = None
        if advert.priority == 0:
            self._receive_resignation(source, now)
        elif self._accepts(advert.priority, now):
            self._follow(advert, source, now)
            self.expired = self.resigned = self.suspects = False
            self._takeover_at = None
            self._active_down_at = now + self.active_down_interval()
            if self.watchful:
                self._suspect_at = now + self.active_adver_interval_cs * CENTISECOND * 5 // 4
        elif self.follows(source, now):
            self._note_peer(advert, source, now)

    def _receive_resignation(self, source: bytes, now: int) -> None:
        if self.follows(source, now):
            if self._takeover_at is None and not self.resigned:
                self._takeover_at = now + resignation_skew(self.priority)
                self._resigned_by = source
        elif self._active_down_at is not None and not self.damped:
            # Not the router we follow: the RFC's own rule, which that one's next advert undoes.
            skew = skew_time(self.settings.version, self.priority, self.active_adver_interval_cs)
            self._active_down_at = min(self._active_down_at, now + skew)

    def follows(self, source: bytes, now: int) -> bool:
        """Whether `source` is the active router for us, or there is none that we have heard lately.

        A lesser router beside the active one does not become it by speaking: when it resigns, no
        gap is left.
        """
        peer = self.peer
        return peer is None or peer.source == source or now - peer.heard >= self.active_down_interval()

    def _accepts(self, priority: int, now: int) -> bool:
        """Whether a backup stays backup for this active (6.4.2), with keepalived's preempt_delay."""
        if priority >= self.priority:
            self._preempt_at = None
            return True
        reluctant = self.hold or self.patient or self.damped or self.on_probation or self.unheard
        if reluctant or self.degraded or not self.settings.preempt:
            return True
        if not self.settings.preempt_delay_ms:
            return False
        if self._preempt_at is None:
            self._preempt_at = now + self.settings.preempt_delay_ms * MILLISECOND
        return now < self._preempt_at

    def _is_better(self, priority: int, source: bytes) -> bool:
        if priority != self.priority:
            return priority > self.priority
        return self.source is None or source > self.source

    def _follow(self, advert: Advertisement, source: bytes, now: int) -> None:
        """Take `source` for the active router; version 3 learns its interval."""
        if self.settings.version == 3:
            self.active_adver_interval_cs = self._bounded(advert)
        self._note_peer(advert, source, now)

    def _bounded(self, advert: Advertisement) -> int:
        settings = self.settings
        return learned_interval(advert.interval_cs, settings.advert_int_cs, settings.max_learned_interval_cs)

    def _note_peer(self, advert: Advertisement, source: bytes, now: int) -> None:
        self.peer = Peer(source, advert.priority, advert.interval_cs, now)

    def _clear_timers(self) -> None:
        self.expired = self.resigned = self.suspects = False
        self._active_down_at = self._suspect_at = self._takeover_at = self._preempt_at = None
        self._advert_at = None
        self._announcing.stop()


def last_heard(members: Iterable[VirtualRouter]) -> Cause | None:
    """Return the active router that was heard last by any of these, or None."""
    peers = [member.peer for member in members if member.peer is not None]
    if not peers:
        return None
    last = max(peers, key=lambda peer: peer.heard)
    return Cause(last.source, last.priority, last.interval_cs, last.heard)


def cause_of(event: Cause | AdvertReceived | None) -> Cause | None:
    """Return who caused a transition; of adverts, which come all the time, only when there is one."""
    if not isinstance(event, AdvertReceived):
        return event
    return Cause(event.source, event.advert.priority, event.advert.interval_cs)
