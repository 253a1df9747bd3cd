# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication: what conntrackd and its scripts do for keepalived, in the right order.

    active   kernel events -> Own -> every peer           backup   session -> Held
    a backup becomes active:
      Restore   the entries of Held go to the kernel, a chunk a turn of the loop; then `restored`, and only
                then the addresses. Nobody listens to events meanwhile: they would halve the speed
      MASTER    what was held is our own table now; listen, stream, and look through the kernel's table
                once for what neither events nor the peer told
    an active becomes backup: it hears no events any more, and what was its own table is what it holds.

A backup that misses an advertisement speculates: it restores what it holds already, and notes what changes
from there on, so that little is left to do when the active is dead. If it comes back, the entries stay
in the kernel, where no packet asks for them; the next restore updates them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from tandem.config.schema import ConntrackSync
from tandem.effects.sysctl import Sysctls
from tandem.log import Logger
from tandem.loop import Loop
from tandem.replication.cache import Cache
from tandem.replication.channel import Channel, Peer
from tandem.replication.conntrack_filter import Filter, checker
from tandem.replication.ctnetlink import SETTINGS, Dump, Events, lookup
from tandem.replication.expectation import master_key
from tandem.replication.health import Health
from tandem.replication.parser import Parser
from tandem.replication.peer_socket import Path, pack
from tandem.replication.record import EXPECTATION, NEW
from tandem.replication.restore import Builder
from tandem.replication.restorer import Restorer
from tandem.replication.session import Settings
from tandem.replication.session_events import (
    Closed,
    Event,
    HeldInStep,
    HeldOutOfStep,
    Opened,
    PeerInStep,
    PeerOutOfStep,
)
from tandem.replication.tables import Held, Own, entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tandem.replication.gate_link import GateLink
    from tandem.replication.record import Record
    from tandem.replication.topics import Subscriber

OWNER = "conntrack_sync"  # of the sysctls
SECOND = 1_000_000_000
MILLISECOND = 1_000_000
WORK = SECOND
EVENTS_A_TURN = 256
EVENTS_BEFORE_COMMIT = 4096
LISTED = 250  # entries of a table in one answer, or a shard more: well under 1 ms of the loop
STEPS_KEPT = 8  # of one restore
ESTABLISHED = ("net", "netfilter", "nf_conntrack_tcp_timeout_established")
MASTERS_A_TURN = 16
EXPECTATION_KIND = bytes((EXPECTATION,))


class Replication:
    """One router's side of connection replication.

    `restored(group)` is called when what a group waits for is in the kernel, `synchronised(yes)` when taking
    over would lose nothing, or would again. OSError when the kernel lacks what it takes.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        settings: ConntrackSync,
        router_id: str,
        sysctls: Sysctls,
        local: frozenset[bytes],
        restored: Callable[[str], None],
        synchronised: Callable[[bool], None],
    ) -> None:
        self.settings = settings
        self._loop = loop
        self._log = log
        self._sysctls = sysctls
        self._local = local
        self._restored = restored
        self._synchronised = synchronised
        self._active: set[str] = set()  # instances that are MASTER
        self._parser = Parser()
        self._builder = Builder()
        self._restorer = Restorer()
        self._events = Events(
            self._filter(), (self._restorer.port,), receive_buffer=settings.receive_buffer
        )
        self._events.pause()
        self._wanted = checker(self._filter())
        self._overruns = 0
        self._overrun = False  # and not looked through the table since
        self._established: int | None = None  # s; an event may carry the short one of unacknowledged data
        self._dumps: list[Dump] = []
        self._undumped = False
        self._own = Own(self._cache)
        self._held: dict[str, Held] = {}
        self._in_step: set[str] = set()  # peers whose whole table we hold
        self._waiting: list[str] = []  # groups that want `restored`
        self._restoring = False
        self._speculated = False  # the kernel has what was held when `watch` began
        self._began = 0
        self.last_restore: dict[str, Any] = {}
        self._steps: list[dict[str, Any]] = []  # of the last restore, each like `last_restore`
        self._restored_at = 0
        self._health = Health(settings.stale_lag_ms * MILLISECOND, settings.stale_loss)
        self._received = self._rate = 0  # events: in all at the last `work`, and in the second before
        self.unreadable = 0  # messages of the kernel that are no record
        peers = [
            Peer(peer.name, tuple(Path(p.address, p.port, p.source, p.interface) for p in peer.paths))
            for peer in settings.peers
        ]
        session = Settings(
            secrets=dict(settings.secrets),
            key_id=settings.key_id,
            insecure=settings.insecure,
            router_id=router_id,
            heartbeat=settings.heartbeat_ms * MILLISECOND,
            digest_interval=settings.digest_interval_ms * MILLISECOND,
            stall_timeout=settings.stall_timeout_ms * MILLISECOND,
            queue_limit=settings.queue_limit,
        )
        self._channel = Channel(loop, log, session, peers, self._tables, self._happened)
        self._gate: GateLink | None = None
        if settings.guarantee:
            from tandem.replication.gate_link import GateLink

            timeout = settings.guarantee_timeout_ms * MILLISECOND
            self._gate = GateLink(loop, log, timeout, settings.port, self._commit)

    # Life

    def start(self) -> None:
        """Set the kernel up and look for the peers."""
        for problem in self._sysctls.hold(OWNER, SETTINGS):
            self._log.warning(f"{OWNER}: {problem}")
        found = self._sysctls.read(ESTABLISHED)
        self._established = int(found) if found else None
        self._channel.start()
        if self._gate:
            self._gate.start()
        self._loop.call_at("conntrack work", self._loop.now() + WORK, self._work)

    def stop(self) -> None:
        """Say goodbye to the peers and leave the kernel as it was."""
        if self._gate:
            self._gate.stop()
        self._channel.close()
        if self._active:
            self._listen(False)
        for key in ("conntrack work", "conntrack restore"):
            self._loop.call_at(key, None)
        self._events.close()
        self._restorer.close()
        self._sysctls.release(OWNER)

    def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Use the channel for another topic, see `Channel.subscribe`."""
        self._channel.subscribe(topic, subscriber)

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        """Send a message of another topic, see `Channel.send`."""
        return self._channel.send(peer, topic, data)

    def set_local(self, local: frozenset[bytes]) -> None:
        """The router's own addresses are these now."""
        if local != self._local:
            self._local = local
            self._events.set_filter(self._filter())
            self._wanted = checker(self._filter())

    # Roles

    def role(self, instance: str, state: str) -> None:
        """An instance has changed its state."""
        before = bool(self._active)
        if state == "MASTER":
            self._active.add(instance)
        else:
            self._active.discard(instance)
        if bool(self._active) != before:
            if self._active:
                self._become_active()
            else:
                self._become_backup()

    def _become_active(self) -> None:
        self._finish_restore()
        adopted = len(self._held) == 1 and not len(self._own.cache)
        if adopted:
            [held] = self._held.values()
            self._own.cache, held.cache = held.cache, self._own.cache
        self._listen(True)
        self._channel.stream_on(adopt=adopted)
        self._dump()
        self._tell_gate()

    def _become_backup(self) -> None:
        # What came before the role was lost belongs to the table that is handed over, and must not be taken
        # for news when we are active again. The queue does not grow any more.
        self._events.pause()
        self._read_events()
        while not self._events.drained:
            self._read_events()
        self._listen(False)
        self._channel.stream_off()
        self._tell_gate()

    def _listen(self, on: bool) -> None:
        if on:
            self._events.resume()
            self._loop.add_reader(self._events.fileno(), self._read_events)
        else:
            self._loop.remove_reader(self._events.fileno())
            self._events.pause()
            self._loop.call_at("conntrack overrun", None)
            self._overrun = False
            self._end_dumps()

    # The kernel's table

    def _read_events(self) -> None:
        records = self._parse(self._events.read(EVENTS_A_TURN))
        records += self._masters(records)
        if records:
            self._own.cache.apply_all(records, self._loop.now())
            self._channel.push(records)
        if self._events.overruns != self._overruns:
            self._overruns = self._events.overruns
            self._log.limited(OWNER, "warning", f"{OWNER}: events were lost, looking through the whole table")
            self._overrun = True
        if self._overrun:  # the kernel drops events until its queue is empty: a dump before that misses them
            if self._events.drained:
                self._overrun = False
                self._dump()
            else:
                self._loop.call_at("conntrack overrun", self._loop.now(), lambda _now: self._read_events())

    def _parse(self, messages: Iterable[bytes]) -> list[Record]:
        parse = self._parser.parse
        records = []
        for message in messages:
            record = parse(message)
            if record is None:
                self.unreadable += 1
            else:
                records.append(record)
        return records

    def _masters(self, records: Iterable[Record]) -> list[Record]:
        """The flows that new expectations belong to, as they are now.

        A helper that rewrote an address has shifted the flow's sequence numbers: no event says by how much.
        """
        expected = [key for op, key, body in records if op == NEW and body[:1] == EXPECTATION_KIND]
        asked = (lookup(self._builder.get(master_key(key))) for key in expected[:MASTERS_A_TURN])
        return self._parse(message for message in asked if message is not None)

    def _dump(self) -> None:
        """Look through the kernel's table for what is not in ours; events go on meanwhile."""
        if self._dumps:
            self._undumped = True  # again, when this one is done
            return
        rules = self._filter()
        try:
            self._dumps = [Dump(rules), Dump(rules, expectations=True)]
        except OSError as error:
            self._log.error(f"{OWNER}: {error}")
            return
        self._own.cache.begin_bulk()
        self._loop.add_reader(self._dumps[0].fileno(), self._read_dump)

    def _read_dump(self) -> None:
        dump = self._dumps[0]
        try:
            records = self._parse(dump.read())
        except OSError as error:
            self._log.warning(f"{OWNER}: {error}")
            self._end_dumps()
            return
        own = self._own.cache
        unknown = [record for record in records if own.get(record[1]) is None]
        own.apply_all(records, self._loop.now())
        if unknown:
            self._channel.push(unknown)
        if not dump.done:
            return
        self._loop.remove_reader(dump.fileno())
        dump.close()
        del self._dumps[0]
        if self._dumps:
            self._loop.add_reader(self._dumps[0].fileno(), self._read_dump)
        else:
            own.end_bulk()
            if self._undumped:
                self._undumped = False
                self._dump()

    def _end_dumps(self) -> None:
        if self._dumps:
            self._loop.remove_reader(self._dumps[0].fileno())
            for dump in self._dumps:
                dump.close()
            self._dumps.clear()
            self._undumped = False
            self._own.cache.abort_bulk()

    # Restore

    def restore(self, group: str) -> None:
        """Put everything held into the kernel and then call `restored(group)`."""
        self._waiting.append(group)
        if not self._restoring:
            self._begin_restore()

    def speculate(self, group: str) -> None:
        """The active may be dead: begin to restore."""
        if not self._restoring and not self._active:
            self._begin_restore()

    def calm(self, group: str) -> None:
        """The active is alive: stop. What is in the kernel already stays there and does no harm."""
        if self._waiting:
            return
        self._restorer.stop()
        self._loop.call_at("conntrack restore", None)
        self._restoring = False
        self._forget_speculation()

    def _begin_restore(self) -> None:
        held = list(self._held.values())
        if self._speculated:
            known = [entry for table in held for entry in table.changes()]
            chunks = self._builder.chunks(known, established=self._established)
        else:
            chunks = self._builder.chunks(entries(held), established=self._established)
            self._steps.clear()
        for table in held:
            table.watch()
        self._restoring = True
        self._began = self._loop.now()
        self._restorer.restore(chunks)
        self._loop.call_at("conntrack restore", self._began, self._step)

    def _step(self, now: int) -> None:
        if not self._restorer.step():
            self._loop.call_at("conntrack restore", self._loop.now(), self._step)
            return
        self._restoring = False
        self._note_restore()
        if any(table.changed for table in self._held.values()):
            self._speculated = True
            if self._waiting:  # what came in while we restored
                self._begin_restore()
            return
        self._speculated = True
        self._finish_restore()

    def _finish_restore(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._forget_speculation()
        for group in waiting:
            self._restored(group)

    def _forget_speculation(self) -> None:
        self._speculated = False
        for table in self._held.values():
            table.unwatch()

    def _note_restore(self) -> None:
        figures = self._restorer.figures
        self.last_restore = {
            "entries": figures.entries,
            "updated": figures.updated,
            "replaced": figures.replaced,
            "clashed": figures.clashed,
            "failed": figures.failed,
            "errors": {os.strerror(number): count for number, count in figures.errors.items()},
            "ms": round((self._loop.now() - self._began) / MILLISECOND, 2),
            "busy_ms": round(figures.busy / MILLISECOND, 2),
            "longest_step_ms": round(figures.longest / MILLISECOND, 2),
            "speculative": not self._waiting,
        }
        self._restored_at = self._loop.now()
        self._steps.append(self.last_restore)
        del self._steps[:-STEPS_KEPT]

    # Peers

    def _tables(self, name: str) -> tuple[Own, Held]:
        held = Held(self._own, self._cache, lambda: not self._active and len(self._held) == 1)
        self._held[name] = held
        return self._own, held

    def _happened(self, name: str, event: Event) -> None:
        before = self.in_step
        match event:
            case Opened():
                self._log.info(f"{OWNER}: connected with {name}")
            case Closed(reason, detail):
                self._log.limited(
                    (OWNER, name, reason), "warning", f"{OWNER}: {name}: {detail or reason}"
                )
            case HeldInStep():
                self._in_step.add(name)
            case HeldOutOfStep():
                self._in_step.discard(name)
            case PeerInStep():
                self._log.info(f"{OWNER}: {name} holds all our connections")
            case PeerOutOfStep(reason):
                self._log.info(f"{OWNER}: {name} is out of step ({reason})")
        self._tell_gate()
        if self.in_step != before:
            self._synchronised(self.in_step)

    # The gate

    def _tell_gate(self) -> None:
        """Release what a peer has acknowledged, and hold packets only while there is one to do so."""
        if self._gate:
            position = self._channel.acked_position() if self._active else None
            self._gate.switch(position is not None)
            self._gate.acked(position)

    def _commit(self, messages: list[bytes]) -> int | None:
        """Make flows known whose first reply the gate holds; the position to wait for.

        Events that are older than the entries we were told must not undo them, so that they go first.
        """
        if not self._active or self._channel.acked_position() is None:
            return None
        for _ in range(EVENTS_BEFORE_COMMIT // EVENTS_A_TURN):
            self._read_events()
            if self._events.drained:
                break
        records = self._parse(filter(self._wanted, messages))
        if not records:
            return None
        self._own.cache.apply_all(records, self._loop.now())
        position = self._channel.push(records, urgent=True)
        return position if self._channel.acked_position() is not None else None

    @property
    def in_step(self) -> bool:
        """Whether we hold everything of every peer that streams."""
        return bool(self._in_step)

    def _work(self, now: int) -> None:
        for cache in (self._own.cache, *(held.cache for held in self._held.values())):
            cache.work(now)
        self._rate, self._received = self._events.received - self._received, self._events.received
        self._judge(now)
        self._loop.call_at("conntrack work", now + WORK, self._work)

    def _judge(self, now: int) -> None:
        peers = self._channel.status()["peers"]
        lost = self._events.overruns + self._own.cache.overflow
        lost += sum(held.cache.overflow for held in self._held.values())
        lost += sum(peer["totals"].get(name, 0) for peer in peers for name in ("dropped", "oversized"))
        if self._health.judge(now, map(_peer_health, peers), lost):
            if self.stale:
                self._log.warning(f"{OWNER}: replication_stale: {', '.join(self.stale)}")
            else:
                self._log.info(f"{OWNER}: no longer replication_stale")

    # For people

    @property
    def stale(self) -> list[str]:
        """Why the health reason `replication_stale` holds; empty: it does not."""
        return self._health.stale

    def listing(self, peer: str | None, cursor: str) -> dict[str, Any]:
        """Some entries of our own table or of what we hold of a peer, from a cursor on ("0": all).

        Keys and bodies as in `record`, in hexadecimal; `next` is the cursor of the rest, or None. While
        the table changes, what stays comes once. ValueError when there is no such peer or cursor.
        """
        if peer is not None and peer not in self._held:
            raise ValueError(f"no peer {peer!r}; known: {', '.join(self._held)}")
        if not cursor.isdecimal() or len(cursor) > 4:
            raise ValueError(f"no cursor {cursor[:40]!r}")
        cache = self._own.cache if peer is None else self._held[peer].cache
        found, rest = cache.page(int(cursor), LISTED)
        return {
            "entries": [(key.hex(), body.hex()) for key, body in found],
            "next": None if rest is None else str(rest),
        }

    def status(self) -> dict[str, Any]:
        """Everything `tandem conntrack` shows."""
        count, _ = self._own.digest() or (0, b"")
        return {
            "own": count,
            "held": {name: len(held.cache) for name, held in self._held.items()},
            "in_step": sorted(self._in_step),
            "stale": self.stale,
            "overflow": {
                "own": self._own.cache.overflow,
                **{f"held {name}": held.cache.overflow for name, held in self._held.items()},
            },
            "limit_entries": self.settings.limit_entries,
            "channel": self._channel.status(),
            "events": {
                "received": self._events.received,
                "last_second": self._rate,
                "filtered": self._events.filtered,
                "overruns": self._events.overruns,
                "unreadable": self.unreadable,
            },
            "gate": self._gate.status() if self._gate else None,
            "last_restore": self.last_restore,
            "restore_steps": self._steps,
            "restored_s": round((self._loop.now() - self._restored_at) / SECOND, 3) if self._steps else None,
        }

    def _cache(self) -> Cache:
        return Cache(self.settings.limit_entries, self.settings.limit_bytes, self.settings.hold_s)

    def _filter(self) -> Filter:
        settings = self.settings
        protocols = frozenset(settings.protocols) or None
        if settings.ignore_protocols:
            protocols = frozenset(range(256)) - frozenset(settings.ignore_protocols)
        return Filter(
            protocols=protocols,
            tcp_states=frozenset(settings.tcp_states) or None,
            zones=frozenset(settings.zones) or None,
            networks=tuple(_network(text) for text in settings.only_networks or settings.ignore_networks),
            include=bool(settings.only_networks),
            local=self._local,
            own=settings.local,
            channel_port=settings.port,
        )


def _peer_health(peer: dict[str, Any]) -> tuple[str, str, int]:
    """What `Health` wants to know of a peer, from its status."""
    if peer["state"] != "up":
        return peer["name"], "not connected", 0
    there = not peer["streaming"] or peer["in_step"]
    here = not peer["peer_streaming"] or peer["held_in_step"]
    lag = int(peer["lag_ms"] * MILLISECOND) if peer["lag_records"] else 0
    return peer["name"], "" if here and there else "out of step", lag


def _network(text: str) -> tuple[bytes, int]:
    """A canonical prefix as packed address and length."""
    address, _, length = text.partition("/")
    return pack(address), int(length)
