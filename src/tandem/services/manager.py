# SPDX-License-Identifier: GPL-2.0-or-later
"""Manager: carries out what core/services.py decides, and tells it what has happened.

roles, ends of operations, words of peers, commands -> Services -> agents, words to peers, trackers, history
"""

from __future__ import annotations

import os
import time

from tandem.core.service import Operation
from tandem.core.services import Changed, Failed, Fit, Left, Place, Run, Runs, Services, Tell
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.process import KILL_GRACE, Processes
from tandem.services import agents, record
from tandem.services.guardian import Guardian, watch_end
from tandem.services.messages import TOPIC, pack, unpack
from tandem.services.operations import Operations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.channel.channel import Channel
    from tandem.core.service import ServiceState
    from tandem.core.services import Action
    from tandem.core.settings import Service
    from tandem.effects.process import Exit
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.services.guardian import Stop
    from tandem.services.trial import Running
    from tandem.status_schema import ServiceStatus

COMMANDS_MAX = 256  # services that are commands
FOR_EVER = 10**9 * SECOND
SILENT = ("unknown", "probing", "failed")  # states that nobody asks for
PLACES = {"MASTER": Place.ACTIVE, "BACKUP": Place.BACKUP}


class Manager:
    """The services of this router.

    `tracker(kind, name, up)` gets what moves a group's role, `noted(name, state, why)` what to remember,
    `served()` that other services run, for their checks.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        settings: Sequence[Service],
        peers: Sequence[str],
        router: str,
        limit: int,
        tracker: Callable[[str, str, bool], None],
        noted: Callable[[str, str, str], None],
        path: str,
        served: Callable[[], None] = lambda: None,
    ) -> None:
        """`limit`: how long, in ns, services outlive a daemon that hangs; 0: until it ends.

        `path` is the file for the record of processes.
        """
        self._loop = loop
        self._log = log
        self._tracker = tracker
        self._noted = noted
        self._served = served
        self.running: set[str] = set()  # the services that run, as told last
        self._trials: dict[str, Running] = {}
        nonce = int.from_bytes(os.urandom(7), "big")
        self._core = Services(settings, peers, nonce)
        self._operations = Operations(loop, log, router)
        self._commands = Processes(loop, log, COMMANDS_MAX)
        self._busy: set[str] = set()  # services with an operation under way
        self._next: dict[str, Operation] = {}  # for when the present operation has ended
        self._pids: dict[str, int] = {}  # of commands
        self._path = path
        self._recorded: dict[str, record.Process] = {}
        self._left_over: dict[str, record.Process] = {}  # processes of a daemon that has crashed
        self._probes: set[str] | None = None  # that wait until its guardian has ended; None: it has
        self._limit = limit
        self._guardian = Guardian(loop, self._unguarded)
        self._channel: Channel | None = None
        # Sequence numbers that were acknowledged to each peer in its session.
        self._acked: dict[str, int] = {}
        self._left: dict[str | None, list[Callable[[], None]]] = {}  # what follows departures
        self._closed = False

    # Life

    def start(self) -> None:
        """Look which services run; the guardian of a daemon that has crashed ends its work first."""
        os.makedirs(agents.TEMPORARY, 0o755, exist_ok=True)
        self._left_over = record.read(self._path)
        guardian = self._left_over.pop(record.GUARDIAN, None)
        if guardian is not None and watch_end(self._loop, guardian[0], self._probe):
            self._probes = set()
        for name in [name for name in self._left_over if name not in self._core.services]:
            pid, _ = self._left_over.pop(name)
            if self._commands.adopt(pid, lambda _: None, KILL_GRACE):
                self._commands.expire(pid, self._now())
        self._do(self._core.start(self._now()))

    def _probe(self) -> None:
        """Run the probes that have waited."""
        names, self._probes = self._probes or set(), None
        for name in names:
            if name in self._core.services:
                self._run(name, Operation.PROBE)

    def reload(self, settings: Sequence[Service], peers: Sequence[str], limit: int) -> None:
        """Go over to other services; a service whose program stays the same goes on."""
        self._limit = limit
        self._do(self._core.reload(settings, peers, self._now()))

    def join(self, channel: Channel | None) -> None:
        """Talk to the peers over this channel."""
        if channel is not self._channel:
            self._channel = channel
            if channel is not None:
                channel.subscribe(TOPIC, self)

    def leave(self, group: str | None, then: Callable[[], None]) -> None:
        """Stop the services of a group's role, or all, and call `then`, within DEPARTURE_LIMIT."""
        self._left.setdefault(group, []).append(then)
        self._do(self._core.leave(group, self._now()))

    def close(self) -> None:
        """End; the guardian stops what still runs."""
        self._closed = True
        self._loop.call_at("services", None)
        self._guardian.close()
        self._operations.close()
        self._commands.close()

    # Roles

    def serve(self, group: str, handed_over: bool) -> None:
        """The group has its role here; what follows is left to another turn of the loop."""
        self._place(group, Place.ACTIVE, handed_over)

    def retire(self, group: str) -> None:
        """The group has lost its role."""
        self._place(group, Place.NONE)

    def state(self, group: str, state: str) -> None:
        """The group has this state, one of keepalived's words."""
        if state != "MASTER":
            self._place(group, PLACES.get(state, Place.NONE))

    def _place(self, group: str, place: Place, handed_over: bool = False) -> None:
        key = ("services", group)
        self._loop.call_at(
            key, self._now(), lambda now: self._do(self._core.placed(group, place, now, handed_over))
        )

    # Commands of an operator

    def clear(self, name: str) -> None:
        """Forget the failures of a service. ValueError: there is none of this name."""
        self._known(name)
        self._do(self._core.clear(name, self._now()))

    def disable(self, name: str, disabled: bool) -> None:
        """Stop a service on this router, or let it start again. ValueError: there is none of this name."""
        self._known(name)
        self._do(self._core.disable(name, disabled, self._now()))

    def trial(self, name: str, answer: Callable[[str], None]) -> None:
        """Start the agent of a running service twice and stop it twice; `answer` gets what is wrong with it.

        ValueError: the service does not run here, or has no agent.
        """
        one = self._known(name)
        if not one.settings.agent:
            raise ValueError(f"service {name} is a command, which has no agent to try")
        if not one.up or name in self._busy or name in self._trials:
            raise ValueError(f"service {name} does not run here undisturbed now: it is {one.state.value}")
        from tandem.services.trial import Running

        def run(operation: Operation, ended: Callable[[int | None, str], None]) -> None:
            self._run_agent(one.settings, operation, ended)

        def disable(off: bool) -> None:
            if name in self._core.services:  # no reload has come meanwhile
                self.disable(name, off)

        self._trials[name] = trial = Running(
            self._loop, run, disable, lambda text: self._tried(name, text, answer)
        )
        trial.go()

    def _tried(self, name: str, found: str, answer: Callable[[str], None]) -> None:
        self._trials.pop(name, None)
        answer(found)

    def group_of(self, name: str) -> str:
        """Return the group that a service follows; empty: none. ValueError: there is no such service."""
        return self._known(name).settings.group

    def _known(self, name: str) -> ServiceState:
        if name not in self._core.services:
            known = ", ".join(self._core.services) or "none"
            raise ValueError(f"no service {name!r}; known: {known}")
        return self._core.services[name]

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, for people."""
        now = self._now()
        return [self._status(name, one, now) for name, one in self._core.services.items()]

    def _status(self, name: str, one: ServiceState, now: int) -> ServiceStatus:
        age = None if one.since is None else round((now - one.since) / SECOND, 3)
        last = one.last
        expires = one.forgets_at
        return {
            "name": name,
            "agent": one.settings.agent or " ".join(one.settings.command),
            "group": one.settings.group,
            "where": one.settings.where,
            "state": "running" if one.up else one.state.value,
            "wanted": self._core.wanted(name),
            "waits_for": self._core.waits_for(name),
            "since_s": age,
            "since": None if age is None else round(time.time() - age),
            "failures": one.failures,
            "failures_expire_s": None if expires is None else round((expires - now) / SECOND, 3),
            "banned": one.banned,
            "last_operation": last.operation if last is not None else "",
            "last_result": last.outcome if last is not None else "",
            "last_reason": last.reason if last is not None else "",
            "failure": "" if one.failure is None else str(one.failure),
        }

    @property
    def health(self) -> list[str]:
        """The services that need a person, with the reason."""
        return [
            f"{name}: {one.failure or one.state.value}"
            for name, one in self._core.services.items()
            if one.banned or one.state.value == "blocked"
        ]

    # The channel: a subscriber of the topic

    def peer_opened(self, peer: str) -> None:
        """Tell a peer that now has a session the words of this router."""
        self._acked[peer] = 0
        self._send(peer)
        self._do(self._core.connected(peer, self._now()))

    def peer_closed(self, peer: str) -> None:
        """Note that the session with a peer has ended."""
        self._acked.pop(peer, None)
        link = self._channel.links.get(peer) if self._channel is not None else None
        self._do(self._core.lost(peer, link is not None and link.crashed, self._now()))

    def judged(self, peer: str, alive: bool) -> None:
        """Take the verdict of the heartbeats on a peer."""
        if alive:
            self._core.peer_lives(peer)
        else:
            self._do(self._core.peer_died(peer, self._now()))

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer, and acknowledge what is new in it."""
        found = unpack(data)
        if found is None:
            self._log.limited(("services", peer), "warning", f"{peer}: a message about services is malformed")
            return
        words, sequence, ack, nonce = found
        self._do(self._core.heard(peer, words, sequence, ack, nonce, self._now()))
        if self._acked.get(peer) != sequence:
            self._send(peer)

    def _send(self, peer: str) -> None:
        claims = self._core.claims
        if self._channel is not None and peer in self._acked:
            self._acked[peer] = ack = claims.ack(peer)
            self._channel.send(peer, TOPIC, pack(claims.words, claims.sequence, ack, claims.nonce))

    # Actions

    def _now(self) -> int:
        return self._loop.now()

    def _do(self, actions: Sequence[Action]) -> None:
        if self._closed:
            return
        for action in actions:
            match action:
                case Run(name, operation):
                    self._run(name, operation)
                case Tell():
                    for peer in list(self._acked):
                        self._send(peer)
                case Fit(name, up):
                    self._tracker("service", name, up)
                case Runs(name, up):
                    self._tracker("running", name, up)
                case Changed(name):
                    self._changed(name)
                case Failed(name):
                    self._failed(name)
                case Left(group):
                    for then in self._left.pop(group, ()):
                        then()
        self._guardian.guard(self._stops(), self._limit)
        self._record()
        self._tell_checks()
        self._loop.call_at("services", self._core.next_deadline(), self._due)

    def _record(self) -> None:
        """Note the processes for a daemon that comes after a crash of this one."""
        pids = ({record.GUARDIAN: self._guardian.pid} if self._guardian.pid else {}) | self._pids
        found: dict[str, record.Process] = {}
        for name, pid in pids.items():
            known = self._recorded.get(name)
            since = known[1] if known is not None and known[0] == pid else record.started(pid)
            if since is not None:
                found[name] = pid, since
        if found != self._recorded:
            self._recorded = found
            try:
                record.write(self._path, found)
            except OSError as error:
                problem = f"{self._path}: {error.strerror}: services are not found again after a crash"
                self._log.limited(("services", "record"), "warning", problem)

    def ailed(self, name: str, check: str, reason: str) -> None:
        """A check of a service is down."""
        self._do(self._core.ailed(name, check, reason, self._now()))

    def _tell_checks(self) -> None:
        up = {name for name, one in self._core.services.items() if one.up}
        if up != self.running:
            self.running = up
            self._served()

    def _due(self, now: int) -> None:
        self._do(self._core.due(now))

    def _changed(self, name: str) -> None:
        one = self._core.services[name]
        if name in self._trials:
            self._trials[name].changed(one.state)
        state = "running" if one.up else one.state.value
        probed = one.last is None or one.last.operation == "probe"
        if state in SILENT or (state == "stopped" and probed):
            return
        self._log.change(("service", name), "info", f"service {name}: {state}")
        if state in ("running", "stopped", "blocked"):
            self._noted(name, state, str(one.failure) if state == "blocked" else "")

    def _failed(self, name: str) -> None:
        why = str(self._core.services[name].failure)
        self._log.limited(("service", name, why), "warning", f"service {name}: failed ({why})")
        self._noted(name, "failed", why)

    def _run(self, name: str, operation: Operation) -> None:
        """Begin an operation; one that is under way is ended first."""
        if operation is Operation.PROBE and self._probes is not None:
            self._probes.add(name)
            return
        if name in self._trials and operation is Operation.MONITOR:
            self._report(name, operation, 0, "")  # a trial has just asked, or will
            return
        if name in self._busy:
            self._next[name] = operation
            self._operations.cut(name)
            return
        service = self._core.services[name].settings
        if service.agent:
            self._run_agent(
                service, operation, lambda status, reason: self._take(name, operation, status, reason)
            )
        else:
            self._run_command(service, operation)

    def _run_agent(
        self, service: Service, operation: Operation, ended: Callable[[int | None, str], None]
    ) -> None:
        """Run an operation of an agent; `ended` gets its exit status, or None: another one has to follow."""
        self._busy.add(service.name)

        def over(status: int, reason: str) -> None:
            self._busy.discard(service.name)
            following = self._next.pop(service.name, None)
            if following is None:
                ended(status, reason)
            else:
                ended(None, "")
                self._run(service.name, following)

        self._operations.begin(service, operation, over)

    def _take(self, name: str, operation: Operation, status: int | None, reason: str) -> None:
        if status is not None:
            self._do(self._core.ended(name, operation, status, reason, self._now()))

    def _run_command(self, service: Service, operation: Operation) -> None:
        """Start or stop the process of a command: it is up while the process lives."""
        name = service.name
        timeout = service.stop_timeout_ms * MILLISECOND
        if operation is Operation.PROBE:
            self._adopt(name, timeout)
        pid = self._pids.get(name)
        if operation is Operation.START:
            pid = self._commands.start(
                service.command,
                FOR_EVER,
                lambda result: self._command_ended(name, result),
                outlives=self._outlives(service),
                output=True,
                whole=True,
                grace=timeout,
            )
            if pid is not None:
                self._pids[name] = pid
            self._report(
                name, operation, 0 if pid is not None else 1, "" if pid is not None else "cannot be started"
            )
        elif operation is Operation.STOP and pid is not None:
            self._busy.add(name)
            self._commands.expire(pid, self._now())
        else:
            self._report(name, operation, 0 if pid is not None else agents.NOT_RUNNING, "")

    def _adopt(self, name: str, grace: int) -> None:
        """Take the process that an earlier daemon has left of a command, if it lives."""
        pid, since = self._left_over.pop(name, (0, 0))
        if pid and record.lives(pid, since):
            ended = self._command_ended
            if self._commands.adopt(pid, lambda result: ended(name, result), grace):
                self._pids[name] = pid

    def _command_ended(self, name: str, result: Exit) -> None:
        self._pids.pop(name, None)
        reason = agents.reason_of(result.output)
        if name in self._busy:
            self._busy.discard(name)
            self._do(self._core.ended(name, Operation.STOP, 0, "", self._now()))
        else:
            text = str(result) + (f": {reason}" if reason else "")
            self._do(self._core.died(name, text, self._now()))

    def _report(self, name: str, operation: Operation, status: int, reason: str) -> None:
        """Report an end that is known at once, in a turn of its own."""
        self._loop.call_at(
            ("service", name),
            self._now(),
            lambda now: self._do(self._core.ended(name, operation, status, reason, now)),
        )

    # The guardian

    def _outlives(self, service: Service) -> bool:
        """Whether a service goes on when the daemon crashes: it runs on the other routers anyway."""
        return service.where == "everywhere"

    def _stops(self) -> list[Stop]:
        """Return the commands that stop what may run, in order; those that depend on others first."""
        found: list[Stop] = []
        for name, one in reversed(self._core.services.items()):
            service = one.settings
            if one.state.value in ("stopped", "unknown", "probing") or self._outlives(service):
                continue
            if not service.agent:
                if name in self._pids:
                    timeout = service.stop_timeout_ms * MILLISECOND
                    found.append(((), {}, self._pids[name], timeout, ()))
                continue
            found.append(self._operations.stop(service))
        return found

    def _unguarded(self, why: str) -> None:
        self._log.limited(("guardian", why), "warning", why)
        self._do(self._core.look(self._now()))
