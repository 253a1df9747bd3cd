# SPDX-License-Identifier: GPL-2.0-or-later
"""A router of the lab, and the daemons that can run on it: tandemd, keepalived, FRR's vrrpd."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.tools.json_schema import problems

from . import process
from .lab import Host, Port, open_log
from .netns import LabError
from .scenario import Groups, Instance, frr_conf, frr_macvlans, keepalived_conf, tandem_uci
from .wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
TANDEMD = ROOT / "files/usr/sbin/tandemd"
STATUS_SCHEMA = json.loads((ROOT / "docs/status.schema.json").read_text())
TANDEM = ROOT / "files/usr/bin/tandem"


class Daemon(ABC):
    """A VRRP daemon with its configuration. One object serves one router.

    `text` replaces the configuration made from the instances (they still say what to look for).
    """

    name: str

    def __init__(
        self, instances: Sequence[Instance] = (), groups: Groups | None = None, text: str | None = None
    ) -> None:
        self.instances = tuple(instances)
        self.groups = dict(groups or {})
        self.text = text

    def prepare(self, router: Router) -> None:  # noqa: B027 - most need nothing
        """Set up what the daemon expects in a namespace that is new."""

    @abstractmethod
    def write(self, router: Router) -> None:
        """Write the configuration."""

    @abstractmethod
    def commands(self, router: Router) -> Iterable[list[str]]:
        """The programs to start, in order, each when it is asked for; the last one gets the signals."""

    def held(self, router: Router) -> Collection[str]:
        """The addresses that the router answers for."""
        return router.addresses()

    @abstractmethod
    def states(self, router: Router) -> dict[str, str]:
        """Each instance's state: MASTER, BACKUP, FAULT or INIT; empty while it is not known."""


class Keepalived(Daemon):
    """keepalived; its states are read from its log, its NAT is a fixed nftables ruleset."""

    name = "keepalived"

    def __init__(
        self,
        instances: Sequence[Instance] = (),
        groups: Groups | None = None,
        text: str | None = None,
        nft: str = "",
    ) -> None:
        super().__init__(instances, groups, text)
        self.nft = nft

    def prepare(self, router: Router) -> None:
        if self.nft:
            router.exec("nft", "-f", "-", stdin=self.nft)

    def write(self, router: Router) -> None:
        text = self.text if self.text is not None else keepalived_conf(self.instances, self.groups)
        router.file("conf").write_text(text)
        for name in ("pid", "vrrp.pid"):  # /run is empty after a boot
            router.file(name).unlink(missing_ok=True)

    def commands(self, router: Router) -> list[list[str]]:
        files = [f"-f{router.file('conf')}", f"-p{router.file('pid')}", f"-r{router.file('vrrp.pid')}"]
        return [["keepalived", "--dont-fork", "--log-console", "--vrrp", *files]]

    def states(self, router: Router) -> dict[str, str]:
        return dict(re.findall(r"\((\S+)\) Entering (\w+) STATE", router.log()))


class Tandem(Daemon):
    """tandemd; its states come over its control socket."""

    name = "tandemd"

    def __init__(
        self,
        instances: Sequence[Instance] = (),
        groups: Groups | None = None,
        text: str | None = None,
        options: dict[str, str] | None = None,
        ubus: tuple[str, str] | None = None,
    ) -> None:
        """`options` of the globals section; `ubus`: ubusd's socket and the directory of libubus."""
        super().__init__(instances, groups, text)
        self.options = options or {}
        self.ubus = ubus

    def write(self, router: Router) -> None:
        text = self.text if self.text is not None else tandem_uci(self.instances, self.groups, self.options)
        router.file("conf").write_text(text)

    def commands(self, router: Router) -> list[list[str]]:
        control = str(router.file("sock"))
        argv = [sys.executable, "-IS", str(TANDEMD), "-c", str(router.file("conf")), "--control", control]
        if self.ubus is not None:
            argv = ["env", f"LD_LIBRARY_PATH={self.ubus[1]}", *argv, "--ubus", self.ubus[0]]
        return [argv]

    def states(self, router: Router) -> dict[str, str]:
        try:
            status = self.request(router, "status")
        except OSError:
            return {}
        return {item["name"]: item["state"] for item in status["instances"]}

    def follows(self, router: Router) -> bool:
        """Whether every instance is backup and has heard its active router."""
        instances = self.request(router, "status")["instances"]
        return all(item["state"] == "BACKUP" and item["peer"] for item in instances)

    @staticmethod
    def request(router: Router, command: str, **arguments: Any) -> Any:
        """One command over the control socket. OSError: no daemon; LabError: it refused."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30 if command == "reload" else 5)  # a reload starts the planner
            sock.connect(str(router.file("sock")))
            sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            line = sock.makefile("rb").readline()
        answer = json.loads(line) if line else {"ok": False, "error": "no answer"}
        if not answer["ok"]:
            raise LabError(f"{command}: {answer}")
        result = answer["result"]
        if command == "status" and "schema_version" in result:  # an older release has no schema
            assert not (wrong := list(problems(result, STATUS_SCHEMA))), wrong
        return result


class Frr(Daemon):
    """FRR's zebra and vrrpd, with their sockets in the lab's directory.

    vrrpd must find zebra at once: otherwise it tries again only 10 s later.
    """

    name = "frr"

    def prepare(self, router: Router) -> None:
        router.ip(*frr_macvlans(self.instances))

    def write(self, router: Router) -> None:
        directory = router.file("frr")
        directory.mkdir(exist_ok=True)
        shutil.chown(directory, "frr", "frr")  # both programs give up root
        router.lab.directory.chmod(0o711)
        text = self.text if self.text is not None else frr_conf(self.instances)
        router.file("conf").write_text(text)

    def commands(self, router: Router) -> Iterator[list[str]]:
        directory = router.file("frr")
        zebra = directory / "zserv.api"
        zebra.unlink(missing_ok=True)
        for program in ("zebra", "vrrpd"):
            files = [f"--pid_file={directory}/{program}.pid", f"--socket={zebra}"]
            files += [f"--vty_socket={directory}", f"--config_file={router.file('conf')}", "--vty_port=0"]
            yield [f"/usr/lib/frr/{program}", "--log=stdout", *files]
            wait_until(zebra.exists, 10, "zebra's socket", explain=router.log)

    def held(self, router: Router) -> Collection[str]:
        # The addresses stay on macvlans, which are down (protodown) while in backup.
        states = self.states(router)
        mine = [vr for vr in self.instances if states.get(vr.name) == "MASTER"]
        return {item.split("/")[0] for vr in mine for item in vr.addresses}

    def states(self, router: Router) -> dict[str, str]:
        text = router.exec(
            "vtysh", f"--vty_socket={router.file('frr')}", "-d", "vrrpd", "-c", "show vrrp json", check=False
        )
        words = {"Master": "MASTER", "Backup": "BACKUP", "Initialize": "INIT"}
        found = {}
        for item in json.loads(text) if text.startswith("[") else ():
            for family, ipv6 in (("v4", False), ("v6", True)):
                for vr in self.instances:
                    identity = (vr.device, vr.virtual_router_id, vr.ipv6)
                    if identity == (item["interface"], item["vrid"], ipv6):
                        found[vr.name] = words[item[family]["status"]]
        return found


class Router(Host):
    """A host that forwards and runs a VRRP daemon."""

    forwarding = True

    def __init__(
        self, name: str, ports: Sequence[Port], daemon: Daemon, *, routes: Sequence[str] = ()
    ) -> None:
        super().__init__(name, ports, routes=routes)
        self.daemon = daemon
        self.processes: list[subprocess.Popen[bytes]] = []
        self.powered = True
        self._log_start = 0

    def prepare(self) -> None:
        self.daemon.prepare(self)

    # Output and state of the daemon

    def states(self) -> dict[str, str]:
        """Each instance's state as the daemon tells it."""
        return self.daemon.states(self)

    def all_in(self, state: str) -> bool:
        """Whether every instance is in the state."""
        states = self.states()
        return all(states.get(vr.name) == state for vr in self.daemon.instances)

    @property
    def active(self) -> bool:
        """Whether the kernel holds every virtual address (the fact, not what the daemon says)."""
        held = self.daemon.held(self) if self.powered else ()
        return all(item.split("/")[0] in held for vr in self.daemon.instances for item in vr.addresses)

    @property
    def passive(self) -> bool:
        """Whether the kernel holds none of the virtual addresses."""
        held = self.daemon.held(self) if self.powered else ()
        return not any(item.split("/")[0] in held for vr in self.daemon.instances for item in vr.addresses)

    def log(self) -> str:
        """The log of the daemon since its last start."""
        path = self.file("log")
        return path.read_bytes()[self._log_start :].decode(errors="replace") if path.exists() else ""

    def cost(self) -> process.Cost:
        """CPU and memory of the daemon's processes."""
        return process.cost(self.processes[-1].pid)

    # The daemon's life

    @property
    def pid(self) -> int:
        """Process id of the daemon."""
        return self.processes[-1].pid

    @property
    def running(self) -> bool:
        """Whether the daemon was started and has not ended."""
        return bool(self.processes) and self.processes[-1].poll() is None

    def configure(self, daemon: Daemon) -> None:
        """Replace the configuration (for a reload: then `signal(SIGHUP)`)."""
        self.daemon = daemon
        daemon.write(self)

    def start(self) -> None:
        """Start the daemon; returns at once."""
        if self.running:
            raise LabError(f"{self.name}: {self.daemon.name} runs already")
        self.daemon.write(self)
        with open_log(self) as log:
            self._log_start = log.tell()
            self.processes = [
                self.popen(*argv, stdout=log, stderr=log) for argv in self.daemon.commands(self)
            ]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon's main process."""
        self.processes[-1].send_signal(number)

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, and wait until it has ended. Returns the exit status of the daemon."""
        for item in reversed(self.processes):
            item.terminate()
            item.wait(timeout)
        return self.processes[-1].returncode

    def family(self) -> list[int]:
        """All processes of the daemon."""
        return [pid for item in self.processes for pid in process.tree(item.pid)]

    def freeze(self) -> None:
        """SIGSTOP to all processes of the daemon."""
        process.send_signal(self.family(), signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to all processes of the daemon."""
        process.send_signal(self.family(), signal.SIGCONT)

    def kill(self) -> None:
        """Freeze all, then SIGKILL: keepalived's child would say goodbye when only its parent dies."""
        self.freeze()
        process.send_signal(self.family(), signal.SIGKILL)
        for item in self.processes:
            item.wait(5)

    def power_off(self) -> None:
        """The plug is pulled: the daemon stops at once, all cables are dead, nobody says goodbye."""
        self.freeze()
        self.lab.cut(self)
        self.kill()
        self.powered = False  # its kernel still holds the addresses; nobody can see them

    def power_on(self) -> None:
        """Boot: a new kernel (namespace), live cables, the daemon started."""
        self.lab.rebuild(self)
        self.powered = True
        self.start()

    def wait_started(self, timeout: float = 15.0) -> None:
        """Wait until the daemon tells a state other than INIT for every instance."""

        def ready() -> bool:
            if not self.running:
                raise LabError(f"{self.name}: {self.daemon.name} ended:\n{self.log()}")
            states = self.states()
            return all(states.get(vr.name, "INIT") != "INIT" for vr in self.daemon.instances)

        wait_until(ready, timeout, f"{self.name}: {self.daemon.name} started", explain=self.log)
