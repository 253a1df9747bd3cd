# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of services and checks: plans for 100 services, 100 checks a second; scripts beside keepalived."""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import tempfile
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tandem.config.schema import Check
from tandem.core.service import Operation
from tandem.core.services import Action, Place, Run, Services
from tandem.core.settings import Service
from tandem.health.prober_link import ProberLink
from tandem.log import Logger, StderrSink
from tandem.loop import Loop
from tests.lab import Keepalived, LanLab, wait_until
from tests.lab.certificate import self_signed
from tests.lab.process import cost, tree
from tests.lab.scenario import keepalived_conf
from tests.netns.daemon import V1

Figures = dict[str, float]
COUNT = 100
CHECKS_S = 15.0
KINDS = ("tcp", "http", "https", "dns", "ping", "file", "process", "script")


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


def _answer_queries(port: int) -> None:
    """Answer each DNS query with the address 192.0.2.7; never returns."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.7")
        while True:
            data, client = sock.recvfrom(512)
            head = data[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
            sock.sendto(head + data[12:] + record, client)


def checks(kind: str) -> Figures:
    """A hundred checks of each kind, one a second each: their share of a core with all processes, in percent.

    keepalived has scripts only: its other checkers need LVS in the kernel.
    """
    if kind != "tandemd":
        return _scripts_of_keepalived()
    found: Figures = {}
    for what in KINDS:
        found |= _checks(what)
    return found


def _checks(kind: str) -> Figures:
    server = _Server(("127.0.0.1", 0), _Page)
    port = server.server_address[1]
    if kind == "https":
        with tempfile.TemporaryDirectory() as directory:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self_signed(Path(directory), 30))
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    child = os.fork()
    if not child:
        _answer_queries(port) if kind == "dns" else server.serve_forever()
    server.socket.close()
    more: dict[str, dict[str, Any]] = {
        "file": {"file": "/etc/passwd"}, "process": {"process": "python3"}, "ping": {"host": "127.0.0.1"},
        "script": {"script": ("/bin/true",)},
        "dns": {"host": "127.0.0.1", "port": port, "query": "a.test", "record": "A", "answer": "192.0.2.7"},
    }  # fmt: skip
    options = more.get(kind, {"host": "127.0.0.1", "port": port})
    loop = Loop()
    link = ProberLink(loop, Logger("error", StderrSink()), lambda *_: None)
    link.want({("", str(n)): (Check(str(n), kind, **options), None) for n in range(COUNT)})
    try:
        _turn(loop, 3)
        before, own = _cpu_s(link.process.pid), time.thread_time()
        _turn(loop, CHECKS_S)
        used, of_daemon = _cpu_s(link.process.pid) - before, time.thread_time() - own
        assert all(one.up and not one.figures[1] for one in link.known.values()), f"{kind}: a check failed"
    finally:
        link.close()
        os.kill(child, 9)
        os.waitpid(child, 0)
    return {
        f"{COUNT} checks a second ({kind}), % of a core": 100 * used / CHECKS_S,
        f"{COUNT} checks a second ({kind}), daemon, %": 100 * of_daemon / CHECKS_S,
    }


def _scripts_of_keepalived() -> Figures:
    script = 'vrrp_script s{0} {{\n  script "/bin/true"\n  interval 1\n}}\n'
    tracked = ("track_script {", *(f"  s{number}" for number in range(COUNT)), "}")
    daemon = Keepalived([replace(V1, advert_s=1.0, keepalived=tracked)])
    text = keepalived_conf(daemon.instances)
    scripts = "".join(script.format(number) for number in range(COUNT))
    daemon.text = text.replace("vrrp_instance", f"{scripts}vrrp_instance", 1)
    with LanLab([daemon], "checks") as lab:
        lab.up()
        lab.start()
        [router] = lab.routers
        wait_until(lambda: router.active, 20, "keepalived is active", explain=router.log)
        before = _cpu_s(router.pid)
        time.sleep(CHECKS_S)
        used = _cpu_s(router.pid) - before
    return {f"{COUNT} checks a second (script), % of a core": 100 * used / CHECKS_S}


def _cpu_s(pid: int) -> float:
    """The time that a process and its children have had, also of those that have ended."""
    ended = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ended += int(fields[13]) + int(fields[14])  # cutime, cstime
    return cost(pid).cpu_s + ended / os.sysconf("SC_CLK_TCK")


def _turn(loop: Loop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        loop.turn(100_000_000)
