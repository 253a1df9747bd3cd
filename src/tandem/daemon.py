# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd: the composition root. Reads a plan, puts the parts together, runs the loop.

Exit status: 0 stopped as asked, 1 could not start, 2 usage or configuration; with --check 3: `option
enabled` is 0.
"""

from __future__ import annotations

import getopt
import os
import signal
import sys

import tandem.lean  # noqa: F401  (before anything that imports dataclasses)
from tandem import __version__
from tandem.control.history import History, entry
from tandem.control.server import DEFAULT_SOCKET, ControlServer
from tandem.control.status import snapshot
from tandem.core.actions import GroupTransition, Transition
from tandem.core.events import Event, Failover, Resume, Standby
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.tracking import OWNER
from tandem.effects.announce import Announcer
from tandem.effects.dhcp_guard import DhcpGuard, clear_guard
from tandem.effects.executor import Executor
from tandem.effects.firewall import Firewall
from tandem.effects.fw4 import Fw4
from tandem.effects.interfaces import Interfaces
from tandem.effects.nftables import Nftables
from tandem.effects.rtnl import Rtnl
from tandem.effects.table_watch import TableWatch
from tandem.log import LEVELS, Logger, StderrSink, SyslogSink
from tandem.loop import Loop
from tandem.openwrt import find_libubus
from tandem.plan.result import Plan, PlanError
from tandem.plan.runner import Planning
from tandem.router import Router
from tandem.scheduling import lock_memory, set_realtime, settle_memory
from tandem.scripts import Scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.control.peer_roles import PeerRoles
    from tandem.dhcp.gateway import Gateway
    from tandem.doctor.exchange import Exchange
    from tandem.openwrt.integration import OpenWrt
    from tandem.replication.replication import Replication

USAGE = """usage: tandemd -c FILE [--control SOCKET] [--ubus SOCKET] [--syslog] [--log-level LEVEL]

The Tandem daemon, in the foreground. FILE is the configuration in UCI syntax
(/etc/config/tandem). SIGHUP reloads it, SIGTERM hands over to the peer and ends.

  -c FILE            configuration, default /etc/config/tandem
  --control SOCKET   where `tandem` asks, default /var/run/tandem/control.sock
  --ubus SOCKET      where ubusd listens, default where it usually does; "" for no ubus
  --syslog           log to /dev/log instead of standard error
  --log-level LEVEL  error, warning, info or debug, instead of the configuration's
  --check            only look at FILE: status 0 usable, 2 not (it says why), 3 option enabled is 0
  --clear            take away what a tandemd has left that was killed, and end
  --version          print the version
"""
_OPTIONS = ("control=", "ubus=", "syslog", "log-level=", "check", "clear", "version", "help")
STOP_TIMEOUT = 5_000_000_000  # ns that stop scripts get
_EVENTS: dict[str, Event] = {"failover": Failover(), "standby": Standby(), "resume": Resume()}
PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


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
        self._loop = Loop()
        self._stopping = False
        self._ending = 0  # what the end still waits for
        self._replies: list[Callable[[dict[str, object]], None]] = []
        self._planning = Planning(self._loop, PACKAGE_DIR, config_file, self._planned)
        self._memory_locked = False
        self._doctor: Exchange | None = None
        self._peer_roles: PeerRoles | None = None
        self._history = History()
        self._replication: Replication | None = None

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
            self._assemble(plan)
        except OSError as error:
            self._log.error(f"cannot start: {error}")
            return 1
        self._schedule(plan)
        self._loop.add_reader(signals, lambda: self._signalled(signals))
        self._log.info(f"tandemd {__version__} runs with {len(plan.config.instances)} instances")
        self.router.start()
        self._scripts.start()
        if self._openwrt is not None:
            self._openwrt.start()
        settle_memory()
        self._loop.run()
        return 0

    # Set-up

    def _assemble(self, plan: Plan) -> None:
        self._control = ControlServer(self._loop, self._control_path, self._command, self._log.warning)
        self._scripts = Scripts(self._loop, self._log, plan.config)
        rtnl = Rtnl()
        state_dir = os.path.dirname(self._control_path)
        self._interfaces = Interfaces(self._loop, rtnl, plan, state_dir, self._log)
        self._fw4 = Fw4(self._loop, self._log, state_dir)
        self._nftables = Nftables()
        firewall = Firewall(plan, self._interfaces.links.device, self._nftables)
        self._executor = Executor(rtnl, firewall, Announcer(), self._interfaces, self._told)
        self.router = Router(self._loop, plan, self._executor, self._interfaces, self._scripts, self._log)
        self._scripts.on_change = self.router.tracker_changed
        self._openwrt = self._integrate(plan)
        self._table_watch = TableWatch(self._loop, self._log, self._restore_tables)
        self._interfaces.start(self.router)
        firewall.clear_former()
        firewall.set_active(())
        self._table_watch.start(self._nftables.port)
        self._fw4.let_in(plan.config, self._interfaces.links.device)
        self._replication = self._replicate(plan)
        self._dhcp = self._follow(plan)

    def _integrate(self, plan: Plan) -> OpenWrt | None:
        """ubus and what comes with it, where there is a libubus and `--ubus` does not forbid it."""
        if self._ubus_path == "" or find_libubus() is None:
            return None
        from tandem.openwrt.integration import OpenWrt

        try:
            openwrt = OpenWrt(self._loop, self._log, self._ubus_path, self._command, self._name_networks)
        except OSError as error:
            self._log.warning(f"no ubus: {error}")
            return None
        openwrt.take_config(plan.config)
        return openwrt

    def _name_networks(self, devices: dict[str, str | None]) -> None:
        """Names of the configuration stand for these devices now."""
        self._interfaces.name_networks(devices)
        self._replicate_on_devices(self.router.plan)
        self._fw4.let_in(self.router.plan.config, self._interfaces.links.device)

    def _restore_tables(self) -> list[str]:
        """Somebody has changed nftables: put back what was ours; its names."""
        if self._replication is not None:
            self._replication.check_gate()
        return self.router.restore_tables()

    def _replicate(self, plan: Plan) -> Replication | None:
        """Replication of connections, if it is configured: it costs nothing where it is not."""
        settings = plan.config.conntrack_sync
        if settings is None:
            return None
        from tandem.replication.configured import on_devices
        from tandem.replication.replication import Replication

        replication = Replication(
            self._loop,
            self._log,
            on_devices(settings, self._interfaces.links.device),
            plan.config.globals.router_id,
            self._interfaces.sysctls,
            self._interfaces.local_addresses,
            self.router.restored,
            self.router.synchronised,
            self.router.partner,
            self.router.reunited,
        )
        self._executor.connections = replication
        from tandem.doctor.exchange import TOPIC, Exchange

        doctor = Exchange(self._loop, self._log, PACKAGE_DIR, self._config_file, self._control_path)
        doctor.send = lambda peer, data: replication.send(peer, TOPIC, data)
        replication.subscribe(TOPIC, doctor)
        self._doctor = doctor
        from tandem.control.peer_roles import TOPIC as ROLES
        from tandem.control.peer_roles import PeerRoles

        self._peer_roles = PeerRoles(self._states, lambda peer, data: replication.send(peer, ROLES, data))
        replication.subscribe(ROLES, self._peer_roles)
        replication.start()
        for group in self.router.groups.values():
            for member in group.members if group.state == "MASTER" else ():
                replication.role(member.settings.name, "MASTER")
        return replication

    def _replicate_otherwise(self, plan: Plan) -> None:
        """Go over to another `conntrack_sync`. OSError: the kernel can't, and nothing has changed."""
        settings = plan.config.conntrack_sync
        if settings is None:
            return  # it ends when the groups have been told
        if self._replication is None:
            self._replication = self._replicate(plan)
        else:
            self._replicate_on_devices(plan)

    def _replicate_on_devices(self, plan: Plan) -> None:
        """Let the running replication have the settings of `plan`, with the devices of now."""
        settings = plan.config.conntrack_sync
        if self._replication is not None and settings is not None:
            from tandem.replication.configured import on_devices

            devices = on_devices(settings, self._interfaces.links.device)
            self._replication.reload(devices, plan.config.globals.router_id)

    def _follow(self, plan: Plan) -> Gateway | None:
        """DHCP that follows the role, if it is configured; else what a former life left of it goes."""
        settings = plan.config.dhcp_gateway
        if settings is None or plan.leases is None:
            clear_guard(plan.guard)
            self._executor.take_guard(None)
            return None
        from tandem.dhcp.gateway import Gateway

        guard = self._executor.guard or DhcpGuard(self._nftables)
        guard.hold(plan.guard)
        self._executor.take_guard(guard)
        gateway = Gateway(self._loop, self._log, settings, plan.leases, guard)
        gateway.start(
            member.settings.name
            for group in self.router.groups.values()
            if group.state == "MASTER"
            for member in group.members
        )
        if self._replication is not None and settings.replicate:
            gateway.exchange.join(self._replication)
        return gateway

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
            self._reload()

    # The plan

    def _reload(self, reply: Callable[[dict[str, object]], None] | None = None) -> None:
        """Plan the configuration anew, off the loop; a bad one leaves everything as it is."""
        if reply is not None:
            self._replies.append(reply)
        if self._stopping:
            self._answer({"ok": False, "error": "tandemd is stopping"})
            return
        self._planning.again()

    def _planned(self, outcome: Plan | PlanError) -> None:
        if isinstance(outcome, PlanError):
            self._refuse_plan(outcome)
        elif not outcome.config.globals.enabled:
            # Ended by itself it would be started again: only who started it can stop it.
            self._refuse_plan(PlanError((f"{self._config_file}: option enabled is 0: stop the service",)))
        elif self._stopping or self._take_plan(outcome):
            self._answer({"ok": True, "result": "reloaded"})

    def _refuse_plan(self, error: PlanError) -> None:
        for line in error.errors:
            self._log.error(line)
        refused = "the configuration is not usable, the old one stays"
        self._log.error(f"reload: {refused}")
        self._answer({"ok": False, "error": refused, "errors": list(error.errors)})

    def _take_plan(self, plan: Plan) -> bool:
        before, replicated = self.router.plan, self._replication
        try:
            self._replicate_otherwise(plan)
        except OSError as error:
            self._refuse_plan(PlanError((f"conntrack_sync: {error}",)))
            return False
        self._set_level(plan)
        self._scripts.reload(plan.config)
        if self._openwrt is not None:
            self._openwrt.take_config(plan.config)
        self.router.reload(plan)
        self._fw4.let_in(plan.config, self._interfaces.links.device)
        if plan.config.conntrack_sync is None and self._replication is not None:
            self._replication.stop(lambda: None)
            self._replication = self._peer_roles = None
            if self._doctor is not None:
                self._doctor.close()
                self._doctor = None
        leases = (before.config.dhcp_gateway, before.leases) != (plan.config.dhcp_gateway, plan.leases)
        if leases or self._replication is not replicated:
            if self._dhcp is not None:
                self._dhcp.stop() if plan.leases is not None else self._dhcp.release()
            self._dhcp = self._follow(plan)
        self._log.info(f"{self._config_file} reloaded")
        return True

    def _answer(self, response: dict[str, object]) -> None:
        replies, self._replies = self._replies, []
        for reply in replies:
            reply(response)

    # Commands and reports

    def _command(self, request: dict[str, str], reply: Callable[[dict[str, object]], None]) -> None:
        command = request["command"]
        if command == "reload":
            self._reload(reply)
            return
        if command == "examine" and self._doctor is not None:
            self._doctor.examine(request.get("listen", "4"), reply)
            return
        try:
            if command.startswith("conntrack"):
                result = self._connections(request)
            else:
                result = self._do(command, request.get("group"), forced="force" in request)
            reply({"ok": True, "result": result})
        except ValueError as error:
            reply({"ok": False, "error": str(error)})

    def _do(self, command: str, group: str | None, forced: bool) -> object:
        if command == "version":
            return {"version": __version__}
        if command == "examine":
            return {}  # there is no channel to ask anybody by
        if command == "status":
            facts = {
                "config_file": self._config_file,
                "started": self._started,
                "memory_locked": self._memory_locked,
                "health": self._health(),
                "dhcp": self._dhcp.status() if self._dhcp is not None else None,
                "history": self._history.entries(self._loop.now()),
            }
            counters = self._control.counters | {
                "log_lines_dropped": self._log.dropped,
                "tables_restored": self._table_watch.restored,
            }
            if self._openwrt is not None:
                counters |= self._openwrt.counters
            return snapshot(self.router, self._loop, counters, facts)
        if command == "history":
            return {"transitions": self._history.entries(self._loop.now())}
        groups = self._groups(group)
        if command == "failover":
            active = [g for g in groups if g.role is Role.ACTIVE]
            if not active:
                raise ValueError("not MASTER here: run failover on the router that is")
            for running in active:
                if all(member.settings.priority == OWNER for member in running.members):
                    raise ValueError(
                        f"{running.settings.name} owns its addresses (priority 255): use standby"
                    )
            groups = active
        if command != "resume" and not forced:
            self._check_successor(groups)
        for running in groups:
            self._log.info(f"{running.settings.name}: {command} asked for")
            self.router.dispatch(running, _EVENTS[command])
        return {"groups": {running.settings.name: running.state for running in groups}}

    def _check_successor(self, groups: list[SyncGroup]) -> None:
        """ValueError when these groups would leave nobody active, as far as the peers tell."""
        active = [running.settings.name for running in groups if running.role is Role.ACTIVE]
        refusal = self._peer_roles.refusal(active) if active and self._peer_roles is not None else None
        if refusal is not None:
            raise ValueError(f"nobody would take over ({refusal}); with --force it happens all the same")

    def _states(self) -> dict[str, str]:
        return {name: running.state for name, running in self.router.groups.items()}

    def _connections(self, request: dict[str, str]) -> object:
        if self._replication is None:
            raise ValueError("connections are not replicated: there is no conntrack_sync section")
        if request["command"] == "conntrack":
            return self._replication.status()
        return self._replication.listing(request.get("peer"), request.get("cursor", "0"))

    def _health(self) -> dict[str, list[str]]:
        """What is wrong though every group may be fine: reasons, each with its details."""
        stale = self._replication.stale if self._replication is not None else []
        health = {"replication_stale": stale} if stale else {}
        if self._dhcp is not None and self._dhcp.trouble:
            health["dhcp"] = [self._dhcp.trouble]
        return health

    def _groups(self, name: str | None) -> list[SyncGroup]:
        if name is None:
            return list(self.router.groups.values())
        if name not in self.router.groups:
            known = ", ".join(self.router.groups) or "none"
            raise ValueError(f"no group {name!r}; known: {known}")
        return [self.router.groups[name]]

    def _told(self, transition: Transition | GroupTransition) -> None:
        self._history.note(transition, self._loop.now())
        if self._openwrt is not None:
            self._openwrt.told(entry(transition, 0))
        if isinstance(transition, Transition):
            self.router.note(transition)
            if self._replication is not None:
                self._replication.role(transition.instance, transition.state)
            if self._dhcp is not None:
                self._dhcp.role(transition.instance, transition.state)
            why = f" ({transition.why})" if transition.why else ""
            text = f"{transition.instance}: {transition.state}{why}, priority {transition.priority}"
            self._log.change(("role", transition.instance), "info", text)
        name = transition.instance if isinstance(transition, Transition) else transition.group
        if self._peer_roles is not None and name in self.router.groups:
            self._peer_roles.tell(name, transition.state)
        self._scripts.notify(transition)

    # The end

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._log.info("stopping: handing over")
        self.router.stop()
        self._ending = 1
        if self._replication is not None:
            self._ending += 1
            self._replication.stop(self._ended)
        if self._dhcp is not None:
            self._dhcp.stop()
        if self._doctor is not None:
            self._doctor.close()
        self._fw4.close()
        self._interfaces.stop()
        self._table_watch.close()
        self._executor.close()
        if self._openwrt is not None:
            self._openwrt.stop()
        self._scripts.stop(STOP_TIMEOUT, self._ended)

    def _ended(self) -> None:
        self._ending -= 1
        if not self._ending:
            self._control.close()
            self._loop.stop()


def main(argv: Sequence[str]) -> int:
    """The program: `argv` without its name; returns the exit status."""
    try:
        options, rest = getopt.getopt(list(argv), "c:h", list(_OPTIONS))
    except getopt.GetoptError as error:
        print(f"tandemd: {error}\n{USAGE}", end="", file=sys.stderr)
        return 2
    given = dict(options)
    level = given.get("--log-level")
    if "-h" in given or "--help" in given:
        print(USAGE, end="")
        return 0
    if "--version" in given:
        print(f"tandemd {__version__}")
        return 0
    if rest or (level is not None and level not in LEVELS):
        print(f"tandemd: unexpected {' '.join(rest) or level}\n{USAGE}", end="", file=sys.stderr)
        return 2
    config_file = os.path.abspath(given.get("-c", "/etc/config/tandem"))
    if "--check" in given:
        return _check(config_file)
    log = Logger(level or "info", SyslogSink() if "--syslog" in given else StderrSink())
    control = os.path.abspath(given.get("--control", DEFAULT_SOCKET))
    if "--clear" in given:
        from tandem.clear import clear

        return clear(PACKAGE_DIR, config_file, control, log)
    return Daemon(config_file, control, log, level, given.get("--ubus")).run()


def _check(config_file: str) -> int:
    """Whether a daemon would run with `config_file`, for init scripts: an exit status, see USAGE.

    Without the planner, which would take as long again as the start itself: what is valid, and names users
    that there are, can be planned, where there is a pyroute2.
    """
    from tandem.config.load import load_file
    from tandem.plan.accounts import unknown_accounts
    from tandem.plan.requirement import ask

    loaded = load_file(config_file)
    problems = [str(problem) for problem in loaded.errors]
    if loaded.config is not None:
        problems += [f"{config_file}: {problem}" for problem in unknown_accounts(loaded.config)]
        if loaded.config.globals.enabled and (problem := ask(PACKAGE_DIR)):
            problems.append(problem)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems or loaded.config is None:
        return 2
    return 0 if loaded.config.globals.enabled else 3
