# SPDX-License-Identifier: GPL-2.0-or-later
"""The composition root: reads a plan, puts the parts together, runs the loop."""

from __future__ import annotations

import os
import signal

from tandem import __version__
from tandem.bugs import Bugs
from tandem.control import DEFAULT_SOCKET
from tandem.control.history import History
from tandem.control.history_file import HistoryFile
from tandem.control.server import ControlServer
from tandem.control.standby import Standby
from tandem.core.events import Stop
from tandem.core.timers import SECOND
from tandem.effects.announce import Announcer
from tandem.effects.executor import Executor
from tandem.effects.firewall import Firewall
from tandem.effects.fw4 import Fw4
from tandem.effects.guard import ADDRESSES, Guard, clear_guard
from tandem.effects.interfaces import Interfaces
from tandem.effects.nftables import Nftables
from tandem.effects.notify import TIMEOUT as SCRIPTS_TIMEOUT
from tandem.effects.rtnl import Rtnl
from tandem.effects.saved import SavedFile
from tandem.effects.table_watch import TableWatch
from tandem.handlers import Handlers
from tandem.health_checks import HealthChecks
from tandem.loop import Loop
from tandem.openwrt import find_libubus
from tandem.plan.kept import Kept
from tandem.plan.result import Plan, PlanError
from tandem.plan.runner import Planning
from tandem.programs import PACKAGE_DIR
from tandem.reloading import Reloading
from tandem.router import Router
from tandem.scheduling import lock_memory, set_realtime, settle_memory
from tandem.scripts import Scripts
from tandem.serving import Serving
from tandem.sharing import Sharing
from tandem.telling import Telling
from tandem.voting import Voting
from tandem.wire_watch import WireWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.control.server import Reply
    from tandem.doctor.exchange import Exchange
    from tandem.log import Logger
    from tandem.openwrt.integration import OpenWrt
    from tandem.scripts import Runners
    from tandem.sharing import Send
    from tandem.status_schema import DaemonFacts, Entry
    from tandem.upgrade.exchange import Exchange as Upgrades

STOP_LIMIT = SCRIPTS_TIMEOUT + 5 * SECOND  # then the end comes, whatever is missing; procd waits longer
CLEAN_UP_LIMIT = 5 * SECOND  # for an end that nobody asked for
GAVE_UP = 4
LASTING_DIR = "/etc/tandem"


class Daemon:
    """One run of tandemd."""

    def __init__(
        self, config_file: str, control: str, log: Logger, level: str | None, ubus: str | None = None
    ) -> None:
        self._config_file = config_file
        self._control_path = control
        self._ubus_path = ubus
        self._log = log
        self._level = level
        self._loop = Loop(self._caught)
        self._bugs = Bugs(log.error, self._loop.now, self._give_up)
        self._status = 0
        self._assembled = False
        self._stopping = False
        self._handed_over = False
        self._ending = 0  # what the end still waits for
        kept = Kept(f"{os.path.dirname(control)}/plan", config_file, log.info)
        self._planning = Planning(self._loop, PACKAGE_DIR, config_file, kept)
        self._memory_locked = False
        self._history = History()
        self._control: ControlServer | None = None
        self._openwrt: OpenWrt | None = None

    def run(self) -> int:
        """Start, run until stopped, clean up. The exit status."""
        signals = self._take_signals()
        try:
            plan = self._planning.first()
        except PlanError as error:
            for line in error.errors:
                self._log.error(line)
            return 2
        except OSError as error:
            self._log.error(f"cannot start the planner: {error.strerror}")
            return 1
        if not plan.config.globals.enabled:
            clear_guard(plan.guard)
            self._log.info(f"{self._config_file}: option enabled is 0: nothing to do")
            return 0
        self._started = self._loop.now()
        self._set_level(plan)
        self._log.attach(self._loop)
        try:
            try:
                self._start(plan, signals)
            except OSError as error:
                self._log.error(f"cannot start: {error}")
                return 1
            self._loop.run()
            return self._status
        finally:
            self._clean_up()

    def _start(self, plan: Plan, signals: int) -> None:
        self._assemble(plan)
        self._schedule(plan)
        self._loop.add_reader(signals, lambda: self._signalled(signals))
        self._log.info(f"tandemd {__version__} runs with {len(plan.config.instances)} instances")
        self._planning.keep()  # first: a daemon that dies while it is young need not plan again
        self.router.start(self._sharing.replication is not None, self._standby)
        self._scripts.start()
        if self._openwrt is not None:
            self._openwrt.start()
        settle_memory()

    # Set-up

    def _assemble(self, plan: Plan) -> None:
        """Make the parts, which changes nothing in the kernel yet, and then start them."""
        self._control = ControlServer(self._loop, self._control_path, self._asked, self._log.warning)
        self._scripts = Scripts(self._loop, self._log, plan.config, self._tracker_changed)
        rtnl = Rtnl()
        state_dir = os.path.dirname(self._control_path)
        self._nftables = Nftables()
        switch = Guard(self._nftables, ADDRESSES)
        self._interfaces = Interfaces(self._loop, rtnl, plan, state_dir, self._log, switch)
        self._fw4 = Fw4(self._loop, self._log, state_dir)
        firewall = Firewall(plan, self._interfaces.links.device, self._nftables)
        announcer = Announcer()
        self._executor = Executor(
            rtnl,
            firewall,
            announcer,
            self._interfaces,
            lambda action: self._telling.told(action),  # made after the router, of which it tells
            self._caught,
            switch,
            self._acted,
        )
        self.router = Router(
            self._loop,
            plan,
            self._executor,
            self._interfaces,
            self._scripts,
            self._log,
            self._caught,
            self._sources_changed,
            self._acted,
        )
        self._sharing = Sharing(
            self._loop,
            self._log,
            self._executor,
            self._interfaces,
            self._nftables,
            self.router,
            self._make_doctor,
            self._make_upgrades,
            self._states,
            announcer,
            self._ask_netifd,
            lambda peer, alive: self._serving.judged(peer, alive),
        )
        self._history_file = HistoryFile(
            self._loop,
            self._log,
            self._history,
            self._file("history", os.path.dirname(DEFAULT_SOCKET)),
            plan.config.globals.history_file,
        )
        standing = self._file("standby", LASTING_DIR)
        self._standby = Standby(standing, self._log, SavedFile(self._loop, self._log, standing).write)
        self._serving = Serving(
            self._loop,
            self._log,
            self.router,
            self._executor,
            lambda name, state, why: self._telling.service(name, state, why),
            lambda: self._checks.served(),  # made after the services, which they follow
            self._file("services", os.path.dirname(DEFAULT_SOCKET)),
        )
        self._checks = HealthChecks(self._loop, self._log, self.router, self._serving)
        self._telling = Telling(
            self._loop,
            self._log,
            self._history,
            self._history_file,
            self.router,
            (
                self._sharing.told,
                self._serving.told,
                self._scripts.notify,
                lambda _transition: self._checks.roles(),
            ),
            self._scripts.notify,
            self._published,
        )
        self._reloading = Reloading(
            self._loop,
            self._log,
            self._config_file,
            self._planning,
            self.router,
            self._scripts,
            self._go_over,
            self._caught,
        )
        self._handlers = Handlers(
            self._loop,
            self._log,
            self.router,
            self._sharing,
            self._history,
            self._standby,
            self._serving,
            self._facts,
            self._reloading.reload,
            self._caught,
        )
        self._openwrt = self._integrate(plan)
        self._table_watch = TableWatch(self._loop, self._log, self._restore_tables)
        self._voting = Voting(self._loop, self._log, self.router, self._sharing.presence)
        self._wire_watch = WireWatch(self._loop, self._log, self.router, announcer)
        self._assembled = True
        self._interfaces.start(self.router)
        firewall.clear_former()
        if failures := firewall.keep_untracked():
            full = "adverts can be dropped when the conntrack table is full, because nftables has no notrack"
            self._log.info(f"{full}: {failures[0]}")
        firewall.set_active(())
        switch.hold(plan.switch)
        for failure in switch.failures if plan.switch.hold else ():
            self._log.warning(f"{failure}: router advertisements show the lifetime of virtual IPv6 addresses")
        self._table_watch.start(self._nftables.port)
        self._fw4.let_in(plan.config, self._interfaces.links.device)
        self._sharing.start(plan)
        self._voting.take(plan)
        self._checks.follow(plan)
        self._serving.follow(plan, self._sharing.channel)
        self._wire_watch.start()

    def _file(self, name: str, directory: str) -> str:
        """Return the path of a file of this daemon; with another control socket it lies beside that."""
        default = self._control_path == DEFAULT_SOCKET
        return f"{directory}/{name}" if default else f"{self._control_path}.{name}"

    def _integrate(self, plan: Plan) -> OpenWrt | None:
        """ubus and what comes with it, where there is a libubus and `--ubus` does not forbid it."""
        if self._ubus_path == "" or find_libubus() is None:
            return None
        from tandem.openwrt.integration import OpenWrt

        try:
            openwrt = OpenWrt(
                self._loop,
                self._log,
                self._ubus_path,
                self._handlers.handle,
                self._name_networks,
                self._sharing.network_changed,
            )
        except OSError as error:
            self._log.warning(f"cannot use ubus: {error}")
            return None
        openwrt.take_plan(plan)
        return openwrt

    def _ask_netifd(self, method: str, network: str) -> None:
        if self._openwrt is None:
            self._log.limited("no netifd", "error", f"{network} can't be brought {method}: there is no ubus")
        else:
            self._openwrt.ask(method, network)

    def _make_doctor(self, send: Send) -> Exchange:
        from tandem.doctor.exchange import Exchange

        return Exchange(self._loop, self._log, send, PACKAGE_DIR, self._config_file, self._control_path)

    def _make_upgrades(self, send: Send, permits: Callable[[str], bool]) -> Upgrades:
        from tandem.upgrade.exchange import Exchange

        return Exchange(self._loop, self._log, send, permits, PACKAGE_DIR, self._control_path)

    def _name_networks(self, devices: dict[str, str | None]) -> None:
        """Names of the configuration stand for these devices now."""
        self._interfaces.name_networks(devices)
        self._sharing.follow_devices(self.router.plan)
        self._fw4.let_in(self.router.plan.config, self._interfaces.links.device)
        self._checks.follow(self.router.plan)

    def _states(self) -> dict[str, str]:
        return {name: running.state for name, running in self.router.groups.items()}

    def _tracker_changed(self, kind: str, name: str, up: bool) -> None:
        self.router.tracker_changed(kind, name, up)

    def _sources_changed(self) -> None:
        if self._assembled:
            self._sharing.sources_changed()

    def _acted(self) -> None:
        if self._assembled and self._sharing.heartbeats is not None:
            self._sharing.heartbeats.acted()

    def _restore_tables(self) -> list[str]:
        """Put back the tables that another program has changed, and return their names."""
        self._sharing.check_gate()
        self._fw4.changed()
        return self.router.restore_tables() + self._checks.restore()

    def _schedule(self, plan: Plan) -> None:
        settings = plan.config.globals
        if settings.rt_priority and (problem := set_realtime(settings.rt_priority)):
            self._log.warning(problem)
        if settings.no_swap:
            problem = lock_memory()
            self._memory_locked = problem is None
            if problem:
                self._log.warning(problem)

    def _set_level(self, plan: Plan) -> None:
        self._log.level = self._level or plan.config.globals.log_level
        for warning in plan.warnings:
            self._log.warning(warning)

    def _take_signals(self) -> int:
        """A descriptor that becomes readable when a signal has come."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda _number, _frame: None)
        return reading

    def _signalled(self, fd: int) -> None:
        numbers = os.read(fd, 64)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()
        elif signal.SIGHUP in numbers:
            self._reloading.reload()

    def _go_over(self, plan: Plan, runners: Runners) -> None:
        self._set_level(plan)
        self._sharing.prepare(plan)
        self._scripts.reload(plan.config, runners)
        if self._openwrt is not None:
            self._openwrt.take_plan(plan)
        self.router.reload(plan, self._sharing.replication is not None)
        self._fw4.let_in(plan.config, self._interfaces.links.device)
        self._voting.take(plan)
        self._history_file.keep_in(plan.config.globals.history_file)
        self._sharing.settle(plan)
        self._checks.follow(plan)
        self._serving.follow(plan, self._sharing.channel)

    # Commands and reports

    def _asked(self, request: dict[str, str], reply: Reply) -> None:
        self._handlers.handle(request, reply)  # made after the server, whose lock comes first

    def _facts(self) -> DaemonFacts:
        """Return what only the daemon knows of its status."""
        assert self._control is not None  # every request comes by it, or by ubus, which starts later
        counters = self._control.counters | {
            "log_lines_dropped": self._log.dropped,
            "tables_restored": self._table_watch.restored,
            "exceptions": self._bugs.total,
        }
        heartbeats = self._sharing.heartbeats
        if heartbeats is not None:
            counters["heartbeats_refused"] = heartbeats.refused
        if self._openwrt is not None:
            counters |= self._openwrt.counters
        return {
            "config_file": self._config_file,
            "started": self._started,
            "memory_locked": self._memory_locked,
            "health": self._health(),
            "dhcp": self._sharing.dhcp.status() if self._sharing.dhcp is not None else None,
            "follow": self._sharing.following.networks() if self._sharing.following is not None else [],
            "peers": self._sharing.peers(),
            "heartbeat_ms": heartbeats.held_ms if heartbeats is not None else None,
            "quorum": self._voting.status(),
            "services": self._serving.status(),
            "checks": self._checks.status(),
            "virtual_servers": self._checks.virtual_servers(),
            "history": self._history.entries(self._loop.now()),
            "counters": counters,
        }

    def _health(self) -> dict[str, list[str]]:
        """Return the problems that no group shows: reasons, each with its details."""
        bugs = self._bugs.report
        return (
            self._sharing.health
            | self._voting.health
            | self._serving.health
            | self._checks.health
            | self._wire_watch.report
            | self.router.health
            | ({"exceptions": bugs} if bugs else {})
        )

    def _published(self, found: Entry) -> None:
        if self._openwrt is not None:
            self._openwrt.told(found)

    # Bugs

    def _caught(self, error: Exception) -> None:
        self._bugs.caught(error)

    def _give_up(self) -> None:
        """Hand over in good order, in a turn of the loop of its own, because a bug comes again and again."""
        self._status = GAVE_UP
        self._loop.call_at("give up", self._loop.now(), lambda _now: self._stop())

    # The end

    def _stop(self) -> None:
        if self._stopping:
            return
        self._log.info("stopping: handing over")
        self._stopping = True
        self._reloading.stop()
        self._loop.call_at("stop", self._loop.now() + STOP_LIMIT, lambda _now: self._loop.stop())
        try:
            self._serving.leave(None, self._offer)  # services stop while their addresses are there
        except Exception as error:  # noqa: BLE001 - the role is handed over all the same
            self._caught(error)
            if not self._handed_over:
                self._hand_over()

    def _offer(self) -> None:
        """Give everything up when another router serves."""
        self.router.leave(list(self.router.groups.values()), Stop(), self._hand_over)

    def _hand_over(self) -> None:
        """Give everything up, the role first; a step that fails does not prevent the others."""
        self._handed_over = self._stopping = True
        self._reloading.stop()
        self._ending = 2  # `_sharing` and the scripts
        steps: list[Callable[[], None]] = [
            self.router.stop,
            self._voting.stop,
            self._checks.close,
            self._serving.close,
            lambda: self._sharing.stop(self._ended),
            self._fw4.close,
            self._interfaces.stop,
            self._table_watch.close,
            self._executor.close,
            self._wire_watch.close,
            self._end_openwrt,
            self._history_file.close,
            lambda: self._scripts.stop(SCRIPTS_TIMEOUT, self._ended),
        ]
        for step in steps:
            with self._bugs.guard():
                step()

    def _end_openwrt(self) -> None:
        if self._openwrt is not None:
            self._openwrt.stop()

    def _ended(self) -> None:
        self._ending -= 1
        if not self._ending:
            self._loop.stop()

    def _clean_up(self) -> None:
        """Clean up, however `run` ends."""
        if self._assembled and not self._handed_over:
            self._loop.call_at("stop", self._loop.now() + CLEAN_UP_LIMIT, lambda _now: self._loop.stop())
            self._hand_over()
            if self._ending:
                self._loop.run()
        if self._control is not None:
            self._control.close()
