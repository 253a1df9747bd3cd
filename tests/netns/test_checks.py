# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of real servers move the role: a web server with TLS, Debian's dnsmasq and nginx, a LAN host."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab import LanLab, Router, Tandem, process, wait_until
from tests.lab.certificate import self_signed
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, instance, state, status
from .test_services import WEB, answer, pair

Open = Callable[[Any], Any]
QUICK = "\toption interval '0.2'\n\toption timeout '0.5'\n\toption fall '2'\n"
SERVER = """
import http.server, ssl, sys
from pathlib import Path
class Pages(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        file = Path(sys.argv[1]) / self.path[1:]
        self.send_response(200 if file.exists() else 503)
        self.end_headers()
        self.wfile.write(file.read_bytes() if file.exists() else b"out of order")
server = http.server.ThreadingHTTPServer(("0.0.0.0", 443), Pages)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def check(name: str, kind: str, *options: str, where: str = "192.168.1.10") -> str:
    lines = "".join(f"\toption {option}\n" for option in options)
    host = f"\toption host '{where}'\n" if where else ""
    return f"\nconfig check '{name}'\n\toption kind '{kind}'\n{host}{QUICK}{lines}"


def tracking(priority: int, checks: str, *tracked: str) -> Tandem:
    instances = [replace(V1, priority=priority, options={"track_check": tracked})]
    return Tandem(instances, text=tandem_uci(instances) + checks)


def checks(router: Router) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in Tandem.request(router, "checks")["checks"]}


def test_a_web_page_that_fails_takes_the_role(open_lab: Open, tmp_path: Path) -> None:
    name = "virtualhost 'web.example.org'"
    page = check("page", "https", "path '/r1'", name, "text 'good'", "certificate_days '2'")
    lab: LanLab = open_lab(
        LanLab([tracking(150, page, "page"), tracking(100, page.replace("/r1", "/r2"), "page")])
    )
    r1, r2 = lab.routers
    for router in lab.routers:
        (tmp_path / router.name).write_text("all is good")
    lab.client.popen("python3", "-c", SERVER, str(tmp_path), *map(str, self_signed(tmp_path, 9)))
    lab.elect()
    assert lab.active is r1
    assert checks(r1)["page"]["up"] and checks(r1)["page"]["last"] == "status 200 with the text"
    assert checks(r1)["page"]["target"] == "192.168.1.10:443"
    (tmp_path / "r1").write_text("all is bad")
    wait_until(lambda: r2.has(VIP) and state(r1) == "FAULT", 10, "r1 gives up", explain=lab.logs)
    assert instance(r1)["faults"] == ["check page failed: the text is missing (status 200)"]
    found = [one["why"] for one in status(r1)["history"] if (one["name"], one["state"]) == ("V1", "FAULT")]
    assert found[-1] == "check page failed: the text is missing (status 200)"
    (tmp_path / "r1").unlink()
    wait_until(lambda: checks(r1)["page"]["last"] == "status 503", 10, "another answer is told")
    (tmp_path / "r1").write_text("good again")
    wait_until(lambda: lab.active is r1, 10, "r1 takes it back", explain=lab.logs)


def test_other_checks_move_the_priority(open_lab: Open, tmp_path: Path) -> None:
    names = check("names", "dns", "query 'www.example.org'", "record 'A'", "answer '192.0.2.7'")
    link = check("link", "arp", "interface 'eth0'")
    ping = check("far", "ping", "count '3'", "loss '40'", "source '192.168.1.2'")
    lab: LanLab = open_lab(
        LanLab([
            tracking(150, names + link + ping, "names weight -10", "link weight 20", "far weight 5"),
            Tandem([replace(V1, priority=100)]),
        ])
    )  # fmt: skip
    r1 = lab.routers[0]

    def dnsmasq(address: str) -> Any:
        options = ("--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root", "--pid-file")
        own = ("--conf-file=/dev/null", f"--address=/www.example.org/{address}")
        return lab.client.popen("dnsmasq", *options, *own)

    server = dnsmasq("192.0.2.7")
    lab.elect()

    def why() -> list[str]:
        found: list[str] = instance(r1)["priority"]["why"]
        return found

    wait_until(lambda: why() == ["check link +20", "check far +5"], 10, "all are up", explain=lab.logs)
    server.terminate()
    server.wait(5)
    wait_until(lambda: "check names -10" in why(), 10, "nobody answers", explain=lab.logs)
    assert checks(r1)["names"]["last"] == "Connection refused"
    server = dnsmasq("192.0.2.8")
    wait_until(lambda: checks(r1)["names"]["last"] == "another answer: 192.0.2.8", 10, "a wrong answer")
    lab.client.exec("iptables", "-A", "INPUT", "-j", "DROP")
    only = ["check names -10", "check link +20"]
    wait_until(lambda: why() == only, 10, "only ARP answers", explain=lab.logs)
    assert checks(r1)["far"]["last"] == "no answer" and checks(r1)["link"]["last"] == "answers"


def test_a_service_that_hangs_fails_by_its_check(open_lab: Open) -> None:
    """Its process lives, so that nothing but a request finds it out."""
    page = check("page", "http", "status '200'", where=VIP)
    lab = pair(
        open_lab, WEB + "\toption on_fail 'failover'\n\toption stop_timeout '1'\n\tlist check 'page'\n" + page
    )
    r1, r2 = lab.routers
    wait_until(lambda: answer(lab) == "r1", 15, "r1 serves", explain=lab.logs)
    wait_until(lambda: checks(r1)["page"]["successes"] > 1, 10, "the check is made")
    assert checks(r1)["page"]["used_by"] == "service web" and not checks(r2), (
        "and only where the service runs"
    )
    process.send_signal([int(r1.file("run.pid").read_text())], signal.SIGSTOP)
    wait_until(lambda: r2.has(VIP) and answer(lab) == "r2", 15, "the address has left r1", explain=lab.logs)
    [one] = status(r1)["services"]
    assert one["failure"] == "check page failed: no answer"
    wait_until(lambda: not checks(r1) and checks(r2)["page"]["up"], 10, "r2 makes the check now")


def test_a_prober_that_is_killed_changes_no_role(open_lab: Open) -> None:
    lab: LanLab = open_lab(LanLab([tracking(150, check("link", "arp", "interface 'eth0'"), "link")]))
    [r1] = lab.routers
    r1.start()
    wait_until(lambda: r1.has(VIP), 15, "active", explain=lab.logs)
    children = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in process.tree(r1.pid)}
    [prober] = [pid for pid, command in children.items() if b"prober" in command]
    process.send_signal([prober], signal.SIGKILL)
    wait_until(
        lambda: status(r1)["health"].get("checks") == ["the prober has ended"], 10, "the status says it"
    )
    wait_until(lambda: "checks" not in status(r1)["health"], 10, "another one is started")
    assert r1.has(VIP) and checks(r1)["link"]["up"]
    assert instance(r1)["transitions"] == 2, "INIT, BACKUP, MASTER"
    r1.stop()
    assert not [pid for pid in (prober,) if Path(f"/proc/{pid}").exists()]
