# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of a sync group: the reasons for which it takes no part in elections.

A tracked object is down, an address to send from is missing, the kernel has refused an effect, or an operator
wants it so. A refused effect is tried again after a pause, or as soon as what it needs has changed.

The first two kinds can be compared with those of another router: `count` is their number. A router with them
is still of use while one of its segments works.

A router whose promotion has failed comes back on probation: it leaves the role to whoever has it until what
failed has changed. Each new failure would be an outage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tandem.core.events import Company
from tandem.core.settings import Group, Instance, Track
from tandem.core.timers import SECOND, earliest
from tandem.core.tracking import Tracking
from tandem.core.virtual_router import VirtualRouter

EFFECT_RETRY = 10 * SECOND
EFFECT_RETRY_MAX = 300 * SECOND


class EffectFaults:
    """The effects that the kernel refused, by instance; each failure doubles the pause before a retry."""

    def __init__(self) -> None:
        self.retry_at: int | None = None
        self._reasons: dict[str, str] = {}
        self._pause = EFFECT_RETRY
        self._failed_at: int | None = None

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def copy(self) -> EffectFaults:
        """Return the same faults with the same deadline, for another group."""
        other = EffectFaults()
        other.__dict__.update(self.__dict__)
        other._reasons = dict(self._reasons)
        return other

    def failed(self, name: str, reason: str, now: int) -> None:
        """Note that the kernel refused something of an instance."""
        failed_at, self._failed_at = self._failed_at, now
        self._reasons[name] = reason
        if self.retry_at is None:
            again = failed_at is not None and now < failed_at + 2 * self._pause
            self._pause = min(2 * self._pause, EFFECT_RETRY_MAX) if again else EFFECT_RETRY
            self.retry_at = now + self._pause

    def forget(self, name: str) -> None:
        """Drop the fault of an instance that leaves the group."""
        self._reasons.pop(name, None)

    def clear(self) -> None:
        """Drop all faults: the effects are tried again."""
        self.retry_at = None
        self._reasons.clear()

    def reasons(self) -> list[str]:
        """Return one sentence for each fault."""
        return [f"{name}: {reason}" for name, reason in self._reasons.items()]


class Faults:
    """All faults of one group; `look` finds them, and `reasons` keeps them for every timer to see."""

    def __init__(self, settings: Group, members: Iterable[VirtualRouter]) -> None:
        members = tuple(members)
        self.tracking = Tracking(tracks_of(settings, members))
        self.effects = EffectFaults()
        self.standby = False
        self.grace_until: int | None = None  # after the start: interfaces may come up until then
        self.reasons: tuple[str, ...] = ()
        self.sourceless = False  # a member has no address to send from
        self.count = 0  # of the faults that can be compared
        self.useful = True  # there are no others, and a segment works
        self.probation = ""  # why the last active time failed: no preemption until that has changed
        self._degraded_by = ""  # the faults that were reported last, while the group was degraded
        self.look(members)

    def copy(self) -> Faults:
        """Return the same faults, for another group with some of the members."""
        other = object.__new__(Faults)
        other.__dict__.update(self.__dict__)
        other.tracking, other.effects = self.tracking.copy(), self.effects.copy()
        return other

    def look(self, members: Iterable[VirtualRouter]) -> None:
        """Find every reason again."""
        members = tuple(members)
        missing = list(missing_sources(members))
        self.sourceless = bool(missing)
        reasons = [*self.tracking.faults, *missing, *self.effects.reasons()]
        if self.standby:
            reasons.append("standby")
        self.reasons = tuple(dict.fromkeys(reasons))
        self.count = len({*self.tracking.faults, *missing})
        self.useful = not self.standby and not self.effects and self._serves(members)

    @property
    def forwards(self) -> bool:
        """Whether traffic goes on through this router until another one has the role."""
        broken = any(track.kind == "interface" for track in self.tracking.failed) or self.effects
        return not broken and not self.sourceless

    @property
    def lasts(self) -> bool:
        """Whether a router with these faults may go on for a while: it forwards, or no other is better."""
        return self.forwards or bool(self._degraded_by)

    def degraded(self, company: Company) -> bool:
        """Whether the group takes part in elections in spite of its faults: no neighbour has fewer.

        A failed promotion would be repeated for ever, so that it ends this.
        """
        comparable = company.compares and self.useful and not self.probation
        return bool(self.count) and comparable and (company.least is None or company.least >= self.count)

    def compare(self, members: Iterable[VirtualRouter], company: Company) -> str:
        """Let members that are degraded not preempt; return the faults when they are to be reported."""
        degraded = self.degraded(company)
        for member in members:
            member.degraded = degraded
        before, self._degraded_by = self._degraded_by, ", ".join(self.reasons) if degraded else ""
        return self._degraded_by if self._degraded_by != before else ""

    def put_on_probation(self, members: Iterable[VirtualRouter], why: str) -> None:
        """Let members not preempt because of `why`; empty: they may."""
        self.probation = why
        for member in members:
            member.on_probation = bool(why)

    def forgive(self, members: Iterable[VirtualRouter]) -> None:
        """End the probation: what failed has changed, and may work now."""
        self.put_on_probation(members, "")
        self.retry_effects(members)

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        return earliest(self.effects.retry_at, self.grace_until)

    def due(self, members: Iterable[VirtualRouter], now: int) -> None:
        """Act on the deadlines that are not later than `now`."""
        if self.grace_until is not None and self.grace_until <= now:
            self.grace_until = None
        if self.effects.retry_at is not None and self.effects.retry_at <= now:
            self.retry_effects(members)

    def retry_effects(self, members: Iterable[VirtualRouter]) -> None:
        """Drop what the kernel refused: it is tried again."""
        self.effects.clear()
        self.look(members)

    def _serves(self, members: Iterable[VirtualRouter]) -> bool:
        """Whether one of the segments works."""
        down = {track.name for track in self.tracking.failed if track.kind == "interface"}
        return any(one.source is not None and one.settings.interface not in down for one in members)

    def comes_up(self) -> bool:
        """Whether the daemon has just started, and only interfaces or their addresses are missing.

        A router brings its networks up one after the other when it boots. Nobody needs to hear of that fault.
        """
        others = [track for track in self.tracking.failed if track.kind != "interface"]
        return self.grace_until is not None and not (self.standby or self.effects or others)


def tracks_of(settings: Group, members: Iterable[VirtualRouter]) -> list[Track]:
    """Return everything that a group tracks: its own trackers, its members' and their interfaces."""
    tracks = list(settings.tracks)
    for member in members:
        instance = member.settings
        explicit = any((t.kind, t.name) == ("interface", instance.interface) for t in instance.tracks)
        if instance.track_primary and not explicit:
            tracks.append(Track("interface", instance.interface))
        tracks += instance.tracks
    return tracks


def missing_sources(members: Iterable[VirtualRouter]) -> Iterator[str]:
    """Yield a fault for each member that has no address to send from, and needs one."""
    for member in members:
        settings = member.settings
        if member.source is None and (settings.track_primary or _tracks_source(settings)):
            if settings.source:
                yield f"{settings.source} is not on {settings.interface}"
            else:
                yield f"no address on {settings.interface}"


def _tracks_source(settings: Instance) -> bool:
    """Whether the instance needs its configured source address, whatever becomes of its interface."""
    return settings.source is not None and settings.track_src_ip
