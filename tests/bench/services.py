# SPDX-License-Identifier: GPL-2.0-or-later
"""What services and checks cost: a plan for 100 services, and 100 checks a second; keepalived has neither."""

from __future__ import annotations

import os
import random
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tandem.config.schema import Check
from tandem.core.service import Operation
from tandem.core.services import Action, Place, Run, Services
from tandem.core.settings import Service
from tandem.health.prober_link import ProberLink
from tandem.log import Logger, StderrSink
from tandem.loop import Loop
from tests.lab.process import cost

Figures = dict[str, float]
COUNT = 100
CHECKS_S = 15.0
KINDS = ("tcp", "http", "ping", "file", "process")


def services(kind: str) -> Figures:
    """A graph of services comes up: each end of an operation is one plan."""
    if kind != "tandemd":
        return {}
    chance = random.Random(1)
    settings = [
        Service(
            f"s{one}",
            "ocf:a:b",
            group="G",
            after=tuple(f"s{chance.randrange(one)}" for _ in range(min(one, 3))),
        )
        for one in range(COUNT)
    ]
    core, times, now = Services(settings, (), 1), list[float](), 1_000_000_000

    def go(actions: list[Action]) -> None:
        nonlocal now
        while runs := [action for action in actions if isinstance(action, Run)]:
            actions = []
            for run in runs:
                now += 1_000_000
                status = 7 if run.operation is Operation.PROBE else 0
                began = time.thread_time()
                actions += core.ended(run.name, run.operation, status, "", now)
                times.append(time.thread_time() - began)

    go(core.start(now))
    go(core.placed("G", Place.ACTIVE, now))
    assert all(one.up for one in core.services.values())
    return {
        f"a plan of {COUNT} services, ms": 1000 * sum(times) / len(times),
        f"the longest plan of {COUNT} services, ms": 1000 * max(times),
    }


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 512


def checks(kind: str) -> Figures:
    """A hundred checks of each kind, one a second each: the prober's share of a core, in percent."""
    found: Figures = {}
    for what in KINDS if kind == "tandemd" else ():
        found |= _checks(what)
    return found


def _checks(kind: str) -> Figures:
    server = _Server(("127.0.0.1", 0), _Page)
    port = server.server_address[1]
    child = os.fork()
    if not child:
        server.serve_forever()
    server.socket.close()
    more = {"file": {"file": "/etc/passwd"}, "process": {"process": "python3"}, "ping": {"host": "127.0.0.1"}}
    options = more.get(kind, {"host": "127.0.0.1", "port": port})
    loop = Loop()
    link = ProberLink(loop, Logger("error", StderrSink()), lambda *_: None)
    link.want({("", str(n)): (Check(str(n), kind, **options), None) for n in range(COUNT)})  # type: ignore[arg-type]
    try:
        _turn(loop, 3)
        before, own = cost(link._pid).cpu_s, time.thread_time()
        _turn(loop, CHECKS_S)
        used, of_daemon = cost(link._pid).cpu_s - before, time.thread_time() - own
    finally:
        link.close()
        os.kill(child, 9)
        os.waitpid(child, 0)
    return {
        f"{COUNT} checks a second ({kind}), % of a core": 100 * used / CHECKS_S,
        f"{COUNT} checks a second ({kind}), daemon, %": 100 * of_daemon / CHECKS_S,
    }


def _turn(loop: Loop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        loop.turn(100_000_000)
