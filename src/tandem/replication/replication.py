# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication: what conntrackd and its scripts do for keepalived, in the right order.

active   kernel events -> own table -> every peer        backup   session -> held table -> Mirror -> kernel

The life of a table, whose turns `Ownership` decides:

a backup becomes active:
  restore    what the kernel does not have yet of the held tables goes there, a chunk a turn of the loop; then
             `restored`, and only then the addresses
  MASTER     what was held is our own table now; listen, stream, and look through the kernel's table once for
             what neither events nor the peer told
an active of one group becomes active of another:
  restore    what our own table does not know of the held ones, or not as well, goes to the kernel; then
             `restored`, and the kernel's table is looked through
an active becomes backup: the last events go out before it resigns; its own table is then what it holds of the
next active router, and its kernel has it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from tandem.channel.events import (
    Acked,
    Event,
    PeerHandedOver,
    PeerInStep,
    PeerOutOfStep,
    PeerStream,
    of_neighbour,
)
from tandem.config.schema import ConntrackSync
from tandem.conntrack.ctnetlink import SETTINGS
from tandem.conntrack.kernel_table import OWNER, KernelTable
from tandem.conntrack.writer import Restorer
from tandem.core.limits import GOODBYE_LIMIT
from tandem.core.neighbour import STREAM_OFF
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.sysctl import Sysctls
from tandem.log import Logger
from tandem.loop import TIMER_SLACK, Loop
from tandem.replication import configured
from tandem.replication.cache import Cache
from tandem.replication.health import Health, lacking, peer_health
from tandem.replication.journal import Journal
from tandem.replication.mirror import Mirror
from tandem.replication.ownership import (
    FOLLOWING,
    CatchUp,
    Complete,
    Follow,
    Leave,
    Look,
    Merged,
    Ownership,
    Refresh,
    Restored,
    Retire,
    Silence,
    Stream,
)
from tandem.replication.reunion import (
    HANDED_OVER,
    MERGE,
    MERGE_LAST,
    SEEK,
    STOP,
    STREAM_ENDED,
    TELL_ALL,
    Exchange,
)
from tandem.replication.surplus import Surplus
from tandem.replication.survey import Survey
from tandem.scheduling import give_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tandem.channel.channel import Channel
    from tandem.channel.incoming import Store
    from tandem.channel.stream import Source
    from tandem.gate.link import GateLink
    from tandem.replication.ownership import Action

WORK = SECOND
TIDY_SHARE = 3 * MILLISECOND  # of a turn
GOODBYE_LOOK = 5 * MILLISECOND
SHORT_LAG_MS = 500  # a peer that may lag for less must not be patient (channel/patience.py)
EVENTS_BEFORE_COMMIT = 4096
LISTED = 250  # entries of a table in one answer, or a shard more: well under 1 ms of the loop
_OWNERSHIP, _TIDY = "conntrack ownership", "conntrack tidy"
ESTABLISHED = ("net", "netfilter", "nf_conntrack_tcp_timeout_established")


class Replication:
    """One router's side of connection replication.

    `local()` gives the router's own addresses. `restored(group, connections)` is called when what a group
    waits for is in the kernel, `synchronised(yes)` when taking over would lose nothing, or would again. For
    `neighbour(name, event)` see core/neighbour.py. `reunited(group)` says that connections were exchanged
    with another active router; None: for all groups. OSError when the kernel lacks what is needed.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        channel: Channel,
        settings: ConntrackSync,
        sysctls: Sysctls,
        local: Callable[[], frozenset[bytes]],
        restored: Callable[[str, int], None],
        synchronised: Callable[[bool], None],
        neighbour: Callable[[str, str], None],
        reunited: Callable[[str | None], None],
    ) -> None:
        self.settings = settings
        self._loop = loop
        self._log = log
        self._channel = channel
        self._sysctls = sysctls
        self._local = local
        self._rules = configured.wanted(settings, local())
        self._synchronised = synchronised
        self._active: set[str] = set()  # instances that are MASTER
        self._journal = Journal()
        self._ownership = Ownership(self._cache)
        self._own = self._ownership.own
        self._told_in_step = False
        self._restorer = Restorer()
        ports = (self._restorer.port,)
        self._kernel = KernelTable(
            loop, log, self._own, self._rules, ports, settings.receive_buffer, channel.push
        )
        self._mirror = Mirror(loop, self._restorer, self._journal, self._ownership.tables, Survey(loop))
        self._tell_restored = restored
        self._neighbour = neighbour
        self._exchange = Exchange()
        self._reunited = reunited
        self._health = Health(settings.stale_lag_ms * MILLISECOND, settings.stale_loss)
        self._surplus = Surplus()
        self._received = self._rate = 0  # events: in all at the last `work`, and in the second before
        self._gate: GateLink | None = self._make_gate()
        self._settle_awaited()

    def _settle_awaited(self) -> None:
        settings = self.settings
        self._channel.be_awaited(bool(settings.guarantee) or 0 < settings.stale_lag_ms < SHORT_LAG_MS)

    def _make_gate(self) -> GateLink | None:
        self._kernel.be_prompt(bool(self.settings.guarantee))
        if not self.settings.guarantee:
            return None
        from tandem.gate.link import GateLink

        timeout = self.settings.guarantee_timeout_ms * MILLISECOND
        return GateLink(self._loop, self._log, timeout, self.settings.port, self._commit)

    # Life

    def start(self) -> None:
        """Set the kernel up and exchange connections with the peers."""
        self._hold_sysctls()
        found = self._sysctls.read(ESTABLISHED)
        # An event may carry the short timeout of unacknowledged data.
        self._mirror.established = int(found) if found else None
        self._mirror.follow(whole=False)
        self._channel.join(self)
        if self._gate:
            self._gate.start()
        self._loop.call_at("conntrack work", self._loop.now() + WORK, self._work)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Leave the kernel as it was, and call `stopped` when the peers have the last records.

        The caller then closes the channel, or lets it go on without connections (`Channel.leave`).
        """
        if self._gate:
            self._gate.stop()
        self._kernel.close()
        self._mirror.leave()
        self._take_part(self._exchange.handle(STOP, self._loop.now()))
        for timer in ("conntrack work", "conntrack handed over", _OWNERSHIP, _TIDY):
            self._loop.call_at(timer, None)
        self._restorer.close()
        self._sysctls.release(OWNER)
        if self._channel.streaming:
            self._channel.stream_off()
        limit = self._loop.now() + GOODBYE_LIMIT

        def look(now: int) -> None:
            if self._channel.flushed() or now >= limit:
                stopped()
            else:
                self._loop.call_at("conntrack goodbye", now + GOODBYE_LOOK, look)

        look(self._loop.now())

    def reload(self, settings: ConntrackSync) -> None:
        """Go over to other settings, when the channel has the new peers."""
        before, self.settings = self.settings, settings
        for cache in self._caches():
            cache.limit_entries, cache.limit_bytes = settings.limit_entries, settings.limit_bytes
            cache.hold = settings.hold_s
        self._health.lag_limit = settings.stale_lag_ms * MILLISECOND
        self._health.loss_limit = settings.stale_loss
        self._settle_awaited()
        if settings.receive_buffer != before.receive_buffer:
            self._kernel.events.set_receive_buffer(settings.receive_buffer)
        names = set(settings.peers)
        self._channel.renew(names ^ set(before.peers))
        self._obey(self._ownership.forget_but(names))
        self._tell_synchronised()
        gate = (before.guarantee, before.guarantee_timeout_ms, before.port)
        if (settings.guarantee, settings.guarantee_timeout_ms, settings.port) != gate:
            if self._gate:
                self._gate.stop()
            self._gate = self._make_gate()
            if self._gate:
                self._gate.start()
        # Flows that are no longer wanted are discarded by a repeat; there is no record of each end.
        self._check_rules(lambda: self._channel.repeat("filter"))
        self._tell_gate()

    def _hold_sysctls(self) -> None:
        for problem in self._sysctls.hold(OWNER, SETTINGS):
            self._log.warning(f"{OWNER}: {problem}")

    def _check_rules(self, then: Callable[[], None] | None = None) -> None:
        """Other flows may be wanted since the configuration, or an address of the router, has changed."""
        rules = configured.wanted(self.settings, self._local())
        if rules == self._rules:
            return
        self._rules = rules
        self._kernel.set_filter(rules)
        if self._active:
            self._kernel.dump(then)

    # Roles

    def role(self, instance: str, state: str) -> None:
        """An instance has changed its state."""
        before = bool(self._active)
        if state == "MASTER":
            self._active.add(instance)
        else:
            self._active.discard(instance)
        if bool(self._active) == before:
            return
        now = self._loop.now()
        if self._active:
            self._obey(self._ownership.promoted(now))
            # In the next turn of the loop: a role is just changing.
            self._loop.call_at("conntrack in step", now, lambda _now: self._tell_synchronised())
        else:
            self._take_part(self._exchange.handle(STOP, now))
            self._obey(self._ownership.demoted(now))
            for name in self._ownership.peers:
                self._neighbour(name, STREAM_OFF)
        self._tell_gate()

    def hand_over(self, group: str) -> None:
        """The group is about to resign: what its last packets did goes to the peers first."""
        if self._active:
            self._kernel.drain()
            self._loop.call_at("conntrack handed over", self._loop.now(), self._handed_over)

    def _handed_over(self, now: int) -> None:
        if self._active:  # for another group; otherwise the end of our stream says the same
            self._channel.hand_over()

    def reunite(self, group: str) -> None:
        """Another router is active as well: exchange connections and then call `reunited(group)`."""
        if self._active:
            text = f"{OWNER}: {group}: another router is active too: the two exchange connections"
            self._log.limited((OWNER, "reunion"), "info", text)
            self._take_part(self._exchange.begin(group, self._loop.now()))

    def _take_part(self, actions: Sequence[str]) -> None:
        """Do what the exchange of connections with another active router wants."""
        for action in actions:
            if action == SEEK:
                self._channel.try_now()
            elif action in (MERGE, MERGE_LAST):
                self._merge(action == MERGE_LAST)
            elif action == TELL_ALL:
                self._reunited(None)
        self._loop.call_at("conntrack reunion", self._exchange.deadline, self._exchange_due)

    def _exchange_due(self, now: int) -> None:
        self._take_part(self._exchange.due(self._channel.are_known(), now))

    def _merge(self, last: bool) -> None:
        """Make the tables of peers that are or were active as well our own; `last`: nothing follows."""

        def merged() -> None:
            for group in self._exchange.merged(last, self._loop.now()):
                self._reunited(group)
            self._take_part(())

        self._obey(self._ownership.merge(merged, last, self._loop.now()))

    # Restore

    def restore(self, group: str, handed_over: bool) -> None:
        """Put everything held into the kernel and then call `restored(group, connections)`.

        `handed_over`: by a router that is alive, and tells the last of it.
        """
        self._obey(self._ownership.restore(group, handed_over, self._loop.now()))

    def _completed(self) -> None:
        self._obey(self._ownership.completed(self._loop.now(), self._channel.streams()))

    def _obey(self, actions: Sequence[Action]) -> None:
        """Do what ownership wants, in this order."""
        for action in actions:
            match action:
                case Complete(beside):
                    self._mirror.complete(self._completed, self._own.cache.get if beside else None)
                case Follow(whole):
                    self._mirror.follow(whole)
                case Leave():
                    self._mirror.leave()
                case Retire(table):
                    self._mirror.retire(table)
                case Refresh(table):
                    self._mirror.refresh(table)
                case CatchUp():
                    self._mirror.catch_up()
                case Stream(adopted):
                    self._channel.stream_on(adopted)
                    self._kernel.listen(known=adopted)
                case Silence():
                    self._kernel.deafen()
                    self._channel.stream_off()
                case Look():
                    self._tell_synchronised()
                    self._kernel.dump()
                case Restored(group):
                    self._tell_restored(group, sum(map(len, self._ownership.tables())))
                case Merged(asked):
                    asked()
        self._loop.call_at(
            _OWNERSHIP, self._ownership.deadline, lambda now: self._obey(self._ownership.timer(now))
        )
        self._settle_patience()

    def _settle_patience(self) -> None:
        """While this router is a backup that nobody needs, what peers stream may wait."""
        self._channel.be_patient(self._ownership.state == FOLLOWING and not self._mirror.pacer.at_full_speed)

    def speculate(self, group: str) -> None:
        """The active may be dead: get ready."""
        self._mirror.speed_up(True)
        self._settle_patience()

    def device_gone(self) -> None:
        """The kernel of a backup deletes entries by itself now: those of a device that is gone."""
        self._mirror.loses()

    def stop_speculating(self, group: str) -> None:
        """The active is alive. What is in the kernel already stays there and does no harm."""
        self._mirror.speed_up(False)
        self._settle_patience()

    # Peers

    def tables(self, peer: str) -> tuple[Source, Store] | None:
        """Return our own table and the one that holds this peer's; None: not replicated with this peer."""
        return (self._own, self._ownership.held(peer)) if peer in self.settings.peers else None

    def happened(self, name: str, event: Event) -> None:
        """Take what happens to the session with a peer."""
        if isinstance(event, Acked):  # these are frequent
            self._tell_gate()
            return
        link = self._channel.links[name]
        self._obey(self._ownership.peer(name, event, self._loop.now(), link.heard))
        if (news := of_neighbour(event)) is not None:
            self._neighbour(name, news)
        match event:
            case PeerStream(False, _) if self._active:
                self._take_part(self._exchange.handle(STREAM_ENDED, self._loop.now()))
            case PeerHandedOver():
                self._take_part(self._exchange.handle(HANDED_OVER, self._loop.now()))
            case PeerInStep():
                link.tell("in step", f"{name} holds all our connections")
            case PeerOutOfStep(reason):
                link.tell(reason, f"{name} is out of step ({reason})")
        self._tell_gate()
        self._tell_synchronised()

    # The gate

    def _tell_gate(self) -> None:
        """Release what a peer has acknowledged, and hold packets only while there is one to do so."""
        if self._gate:
            position = self._channel.acked_position() if self._active else None
            self._gate.switch(position is not None)
            self._gate.acked(position)

    def check_gate(self) -> None:
        """Let the gate check its rules, because another program has changed the firewall."""
        if self._gate:
            self._gate.check()

    def _commit(self, messages: list[bytes]) -> int | None:
        """Make flows known whose first reply the gate holds; the position to wait for.

        Events that are older than the entries we were told must not undo them, so that they go first.
        """
        if not self._active or self._channel.acked_position() is None:
            return None
        self._kernel.drain(EVENTS_BEFORE_COMMIT)
        records = self._kernel.take(messages)
        if not records:
            return None
        position = self._channel.push(records, urgent=True)
        return position if self._channel.acked_position() is not None else None

    @property
    def in_step(self) -> bool:
        """Whether we hold everything of every peer that streams, and a backup's kernel has it.

        Who preempts need not hurry: what its kernel lacks would have to be put there while nobody has the
        addresses.
        """
        return self._ownership.in_step and (bool(self._active) or self._mirror.caught_up)

    def _tell_synchronised(self) -> None:
        if self.in_step != self._told_in_step:
            self._told_in_step = self.in_step
            self._synchronised(self._told_in_step)

    # Every second

    def _work(self, now: int) -> None:
        caches = self._caches()
        # The kernel's table tells the ends of our own entries.
        steps = chain.from_iterable(cache.tidy(now, cache is not self._own.cache) for cache in caches)
        self._loop.spread(_TIDY, steps, TIDY_SHARE)
        if self._surplus.due(sum(map(len, caches)), now):
            give_back()
        self._check_rules()
        self._kernel.work(now)
        self._obey(self._ownership.second(now))
        self._mirror.second()
        self._tell_synchronised()
        received = self._kernel.events.received
        self._rate, self._received = received - self._received, received
        self._judge(now)
        self._loop.call_at("conntrack work", now + WORK, self._work, TIMER_SLACK)

    def _judge(self, now: int) -> None:
        peers = self._channel.status()["peers"]
        lost = self._kernel.events.overruns + self._own.cache.overflow
        lost += sum(table.overflow for table in self._ownership.tables())
        lost += sum(peer["totals"].get(name, 0) for peer in peers for name in ("dropped", "oversized"))
        if self._health.judge(now, map(peer_health, peers), lost, lacking(self._caches())):
            if self.stale:
                text = f"{OWNER}: replication_stale: {', '.join(self.stale)}"
                self._log.limited((OWNER, "stale"), "warning", text)
            else:
                self._log.limited((OWNER, "not stale"), "info", f"{OWNER}: replication_stale has ended")

    # For people

    @property
    def stale(self) -> list[str]:
        """Why the health reason `replication_stale` holds; empty: it does not."""
        return self._health.stale

    @property
    def unkept(self) -> list[str]:
        """Reasons why the configured guarantee does not hold, or did not within the last minute."""
        return self._gate.trouble() if self._gate else []

    def listing(self, peer: str | None, cursor: str) -> dict[str, Any]:
        """Some entries of our own table or of what we hold of a peer, from a cursor on ("0": all).

        Keys and bodies as in `record`, in hexadecimal; `next` is the cursor of the rest, or None. While
        the table changes, what stays comes once. ValueError when there is no such peer or cursor.
        """
        peers = self._ownership.peers
        if peer is not None and peer not in peers:
            raise ValueError(f"no peer {peer!r}; known: {', '.join(peers)}")
        if not cursor.isdecimal() or len(cursor) > 4:
            raise ValueError(f"no cursor {cursor[:40]!r}")
        self._look()
        cache = self._own.cache if peer is None else peers[peer].held.cache
        found, rest = cache.page(int(cursor), LISTED)
        return {
            "entries": [(key.hex(), body.hex()) for key, body in found],
            "next": None if rest is None else str(rest),
        }

    def status(self) -> dict[str, Any]:
        """Everything `tandem conntrack` shows; `at_ns` is this moment on the monotonic clock."""
        self._look()
        count, _ = self._own.digest() or (0, b"")
        events, steps = self._kernel.events, self._mirror.steps
        held = {name: peer.held.cache for name, peer in self._ownership.peers.items()}
        return {
            "at_ns": self._loop.now(),
            "own": count,
            "held": {name: len(table) for name, table in held.items()},
            "in_step": sorted(name for name, peer in self._ownership.peers.items() if peer.in_step),
            "stale": self.stale,
            "overflow": {
                "own": self._own.cache.overflow,
                **{f"held {name}": table.overflow for name, table in held.items()},
            },
            "limit_entries": self.settings.limit_entries,
            "sync_after": self.settings.sync_after if self._rules.settled else 0,
            "channel": self._channel.status(),
            "events": {
                "received": events.received,
                "last_second": self._rate,
                "filtered": events.filtered,
                "overruns": events.overruns,
                "unreadable": self._kernel.unreadable,
            },
            "gate": self._gate.status() if self._gate else None,
            "kernel": self._mirror.status(),
            "last_restore": steps[-1] if steps else {},
            "restore_steps": steps,
            "restored_s": round((self._loop.now() - self._mirror.ended_at) / SECOND, 3) if steps else None,
        }

    def _look(self) -> None:
        """Read what has come from the peers and the kernel, and waits to be read."""
        self._channel.look()
        if self._active:
            self._kernel.read()

    def _caches(self) -> list[Cache]:
        return [self._own.cache, *self._ownership.tables()]

    def _cache(self) -> Cache:
        settings = self.settings
        return Cache(settings.limit_entries, settings.limit_bytes, settings.hold_s, self._journal)
