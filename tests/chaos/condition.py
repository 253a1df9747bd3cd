# SPDX-License-Identifier: GPL-2.0-or-later
"""The audits of one router: its kernel, and the processes, descriptors, memory and log of its daemon.

What the routers of a lab have in common is held against the same `Measure`, taken when nothing had gone wrong
yet: so a leftover of the first change of the role shows as well as a later one.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.lab import LabError, Router, Tandem, wait_until

STOPPED = "stopped"  # as a role: no daemon has started yet, or the last one has ended in good order
DESCRIPTORS = 8  # more than at first: sockets for heartbeats, within 5 s, and for a new connection to a peer
# More memory than at first, in walks in which no daemon ended. Without flows 640 KiB, constant from the 60th
# fault on: 280 KiB in free lists of the interpreter, which a full collection empties (4,600 blocks), 150 KiB
# of living objects (tracemalloc: history, tables, log budgets), and pages that these leave partly free.
# For each flow that a daemon has had: its entry, and during a takeover its key in lists, and a message. In a
# backup's kernel a flow lasts 300 s at least (replication/pacer.py), so that those of several floods add up.
MEMORY_KIB = 1280
FLOW_KIB = 0.44
LOG_LINES = 120  # of a router after one step
PROCESS_S = 10  # until a planner or another helper has ended
VOLATILE = re.compile(  # not part of a state: counts, and limits of the machine, which other programs may set
    r"nf_conntrack_(count|expect_count|max|expect_max|buckets)|\.(route\.flush|random|stable_secret)"
)
BLOCKED = re.compile(r"table inet chaos \{.*?\n\}\n", re.DOTALL)  # of the walk itself
LINK_LOCAL = re.compile(r"\bfe80::[0-9a-f:]+")

Look = dict[str, Counter[str]]


class Measure:
    """What a router looks like: its kernel by role; descriptors and memory of its daemon by release."""

    def __init__(self) -> None:
        self.kernels: dict[str, Look] = {}
        self.daemons: dict[Path | None, tuple[int, int]] = {}


class Condition:
    """The state of one router."""

    def __init__(self, router: Router, measure: Measure | None = None) -> None:
        """`measure`: of all routers of the lab; without it, this router is its own measure."""
        self._router = router
        self._measure = measure or Measure()
        self._log_at = 0
        self._pid = self._flows = 0  # the daemon, and the most flows that it has had at an audit
        self.memory_kib = self.descriptors = 0

    def kernel(self, role: str, again: Callable[[], bool]) -> None:
        """Compare what the kernel has with the first look; `again` says whether to look once more."""
        while True:
            found = look(self._router)
            first = self._measure.kernels.setdefault(role, found)
            if found == first:
                return
            if not again():
                break
        wrong = []
        for part in first:
            wrong += [f"{part} more: {line}" for line in (found[part] - first[part]).elements()]
            wrong += [f"{part} less: {line}" for line in (first[part] - found[part]).elements()]
        raise AssertionError(f"{self._router.name} as {role}: " + "\n  ".join(["", *wrong[:20]]))

    def process(self, settled: bool = True) -> None:
        """One process and no helper, no more descriptors and memory than at first, no exception.

        The first look at a release has to be a `settled` one, with a session.
        """
        router = self._router
        wait_until(lambda: len(router.family()) == 1, PROCESS_S, "one process", explain=self._processes)
        [pid] = router.family()
        self.descriptors, self.memory_kib = len(os.listdir(f"/proc/{pid}/fd")), _memory_kib(pid)
        release = getattr(router.daemon, "release", None)
        now = self.descriptors, self.memory_kib
        known = self._measure.daemons
        first = known.setdefault(release, now) if settled else known.get(release, now)
        if pid != self._pid:
            self._pid, self._flows = pid, 0
        self._flows = max(self._flows, _flows(router))
        found = f"{router.name}: {now[0]} descriptors and {now[1]} KiB, {first} at first; {self._flows} flows"
        assert now[0] <= first[0] + DESCRIPTORS, found
        assert now[1] <= first[1] + MEMORY_KIB + FLOW_KIB * self._flows, found
        status: dict[str, Any] = Tandem.request(router, "status")
        bugs = status["counters"].get("exceptions", 0)
        assert not bugs, f"{router.name}: {bugs} exceptions: {status['health']}"

    def _processes(self) -> str:
        return f"{self._router.name}: {[(pid, _program(pid)) for pid in self._router.family()]}"

    def log(self) -> None:
        """A step adds few lines, and no traceback."""
        path = self._router.file("log")
        data = path.read_bytes() if path.exists() else b""
        new, self._log_at = data[self._log_at :].decode(errors="replace"), len(data)
        assert "Traceback" not in new, f"{self._router.name}: {new[-3000:]}"
        lines = new.splitlines()
        assert len(lines) <= LOG_LINES, f"{self._router.name}: {len(lines)} lines of log:\n{new[-3000:]}"


def _flows(router: Router) -> int:
    """Return how many flows its daemon knows, of its own and of a peer."""
    try:
        found = Tandem.request(router, "conntrack")
    except LabError:  # it replicates none
        return 0
    return int(found["own"]) + sum(found["held"].values())


def _memory_kib(pid: int) -> int:
    """Return the memory that is the process's own: pages of files come and go with what others read."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0])


def _program(pid: int) -> str:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended"
    return b" ".join(argv).decode(errors="replace") or "a zombie"


def look(router: Router) -> Look:
    """Return what the kernel of a router has, without what changes by itself and what names this router."""
    addresses = [
        f"{link['ifname']} {info['local']}/{info['prefixlen']} {info.get('scope')}"
        for link in json.loads(router.exec("ip", "-j", "address"))
        for info in link["addr_info"]
    ]
    routes = [
        " ".join(f"{key} {value}" for key, value in sorted(route.items()) if key not in ("flags", "expires"))
        for family in ("-4", "-6")
        for route in json.loads(router.exec("ip", "-j", family, "route", "show", "table", "all") or "[]")
    ]
    rules = [line for family in ("-4", "-6") for line in router.exec("ip", family, "rule").splitlines()]
    ruleset = BLOCKED.sub("", router.exec("nft", "-s", "list", "ruleset"))
    nft = [line.strip() for line in ruleset.splitlines()]
    sysctls = [
        line
        for line in router.exec("sysctl", "-a", "-e", "-r", r"^net\.", check=False).splitlines()
        if not VOLATILE.search(line)
    ]
    found = {"address": addresses, "route": routes, "rule": rules, "nft": nft, "sysctl": sysctls}
    names = _names(router)
    return {part: Counter(_anonymous(line, names) for line in lines) for part, lines in found.items()}


def _names(router: Router) -> dict[re.Pattern[str], str]:
    """Return words for the addresses in which the routers of a lab differ."""
    found = {LINK_LOCAL: "LINK-LOCAL"}
    for host in router.lab.hosts.values():
        if isinstance(host, Router):
            whose = "OWN" if host is router else "PEER"
            for number, port in enumerate(host.ports):
                for address in (*(one.partition("/")[0] for one in port.addresses), host.mac(port.device)):
                    kind = 6 if ":" in address else 4
                    found[re.compile(rf"(?<![\w.:]){re.escape(address)}(?![\w.:])")] = (
                        f"{whose}{number}.{kind}"
                    )
    return found


def _anonymous(line: str, names: dict[re.Pattern[str], str]) -> str:
    for pattern, name in names.items():
        line = pattern.sub(name, line)
    return line
