# SPDX-License-Identifier: GPL-2.0-or-later
"""Services of real daemons follow the role: Debian's nginx, and Dummy of Debian's resource-agents."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LanLab, Router, Tandem, netns, process, stays, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_SECRET

from .daemon import V1, VIP, state, status

Open = Callable[[Any], Any]
NGINX = """daemon off; master_process off; pid {run}.pid; error_log {run}.error;
events {{}}
http {{
    access_log off; client_body_temp_path {run}.body; proxy_temp_path {run}.proxy;
    fastcgi_temp_path {run}.fast; uwsgi_temp_path {run}.uwsgi; scgi_temp_path {run}.scgi;
    server {{ listen {vip}:80; return 200 "{name}\\n"; }}
}}
"""


class Served(Tandem):
    """tandemd with a peer, and with services; "{run}" stands for a path of this router."""

    def __init__(self, services: str, priority: int, number: int) -> None:
        super().__init__([replace(V1, priority=priority)])
        self._services = services
        self._number = number

    def write(self, router: Router) -> None:
        run = router.file("run")
        router.file("nginx").write_text(NGINX.format(run=run, vip=VIP, name=router.name))
        peer = f"""
config peer 'r{3 - self._number}'
	list address '192.168.1.{4 - self._number}'
	option secret '{SYNC_SECRET}'
"""
        services = self._services.replace("{run}", str(run)).replace("{nginx}", str(router.file("nginx")))
        self.text = tandem_uci(self.instances) + peer + services
        super().write(router)


WEB = """
config service 'web'
	option command '/usr/sbin/nginx -c {nginx}'
"""


def dummy(name: str, *options: str) -> str:
    lines = [f"\n\toption {option}" for option in options]
    return (
        f"\nconfig service '{name}'\n\toption agent 'ocf:heartbeat:Dummy'\n"
        f"\tlist param 'state={{run}}.{name}'\n\toption monitor_interval '0.5'{''.join(lines)}\n"
    )


def pair(open_lab: Open, services: str) -> LanLab:
    lab: LanLab = open_lab(LanLab([Served(services, 150, 1), Served(services, 100, 2)]))
    lab.elect()
    return lab


def services(router: Router) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in status(router)["services"]}


def runs(router: Router, name: str) -> bool:
    """Whether a Dummy runs, by its own state file."""
    return router.file(f"run.{name}").exists()


def answer(lab: LanLab) -> str:
    """What the web server at the virtual address says to the client; empty: nothing."""
    return lab.client.exec("curl", "-s", "-m", "0.5", f"http://{VIP}/", check=False).strip()


def test_a_web_server_follows_the_role(open_lab: Open) -> None:
    lab = pair(
        open_lab, dummy("content") + WEB + "\tlist after 'content'\n" + dummy("spare", "where 'backup'")
    )
    r1, r2 = lab.routers
    wait_until(lambda: answer(lab) == "r1", 15, "r1 serves", explain=lab.logs)
    wait_until(lambda: runs(r1, "content") and runs(r2, "spare"), 10, "each in its place")
    assert not runs(r2, "content") and not runs(r1, "spare")
    assert services(r2)["web"]["state"] == "stopped" and not services(r2)["web"]["wanted"]
    log = r1.log()
    assert log.index("service content: running") < log.index("service web: running")
    # A command of an operator waits until the services have stopped.
    assert Tandem.request(r1, "service", action="move", name="web") == {"groups": {"V1": "BACKUP"}}
    assert not runs(r1, "content")
    wait_until(lambda: answer(lab) == "r2", 10, "r2 serves", explain=lab.logs)
    wait_until(lambda: runs(r1, "spare") and not runs(r2, "spare"), 10, "and r1 is the backup")
    Tandem.request(r1, "resume")
    wait_until(lambda: answer(lab) == "r1" and not runs(r2, "content"), 10, "r1 is back", explain=lab.logs)
    r1.power_off()
    wait_until(lambda: answer(lab) == "r2", 10, "r2 takes over from a dead router", explain=lab.logs)
    states = [
        (entry["name"], entry["state"]) for entry in status(r2)["history"] if entry["kind"] == "service"
    ]
    assert states[-2:] == [("content", "running"), ("web", "running")]


def test_a_router_whose_server_dies_loses_the_address(open_lab: Open) -> None:
    lab = pair(open_lab, WEB + "\toption on_fail 'failover'\n")
    r1, r2 = lab.routers
    wait_until(lambda: answer(lab) == "r1", 15, "r1 serves", explain=lab.logs)
    netns.run(["ip", "netns", "exec", r1.namespace, "sh", "-c", f"kill -9 $(cat {r1.file('run.pid')})"])
    wait_until(lambda: r2.has(VIP) and answer(lab) == "r2", 10, "the address has left r1", explain=lab.logs)
    assert state(r1) == "FAULT" and status(r1)["groups"][0]["faults"] == ["service web down"]
    one = services(r1)["web"]
    assert one["banned"] and one["failures"] == 1 and "SIGKILL" in one["failure"]
    assert "services" in status(r1)["health"]
    Tandem.request(r1, "service", action="clear", name="web")
    wait_until(
        lambda: answer(lab) == "r1", 10, "and comes back when its failure is cleared", explain=lab.logs
    )


def test_a_service_is_restarted_where_it_failed(open_lab: Open) -> None:
    lab = pair(open_lab, dummy("base") + dummy("upper", "after 'base'").replace("option after", "list after"))
    r1, r2 = lab.routers
    wait_until(lambda: runs(r1, "upper"), 15, "both run", explain=lab.logs)
    r1.file("run.base").unlink()
    wait_until(lambda: services(r1)["base"]["failures"] == 1, 10, "the monitor sees it", explain=lab.logs)
    wait_until(
        lambda: runs(r1, "base") and services(r1)["upper"]["state"] == "running",
        10,
        "restarted",
        explain=lab.logs,
    )
    log = r1.log()
    order = [
        log.rindex(f"service {text}")
        for text in ("base: failed", "upper: stopped", "base: running", "upper: running")
    ]
    assert order == sorted(order), "what stands on it stops first, and starts last"
    assert lab.active is r1 and not runs(r2, "base")


SLOW = """#!/bin/sh
# An OCF agent whose stop takes a while.
case $1 in
start) touch "$OCF_RESKEY_state" ;;
stop) sleep "$OCF_RESKEY_takes"; rm -f "$OCF_RESKEY_state" ;;
monitor) [ -e "$OCF_RESKEY_state" ] || exit 7 ;;
*) exit 3 ;;
esac
"""


@pytest.fixture
def slow_agent() -> Iterator[Callable[[float, float], str]]:
    """An agent whose stop takes a while; returns a service by that time and its timeout."""
    provider = Path("/usr/lib/ocf/resource.d/tandem-test")
    provider.mkdir(parents=True, exist_ok=True)
    (provider / "slow").write_text(SLOW)
    (provider / "slow").chmod(0o755)

    def service(takes: float, timeout: float) -> str:
        text = dummy("slow", f"stop_timeout '{timeout}'").replace("heartbeat:Dummy", "tandem-test:slow")
        return f"{text}\tlist param 'takes={takes}'\n"

    yield service
    shutil.rmtree(provider)


def test_a_failed_stop_blocks_until_an_operator_has_looked(
    open_lab: Open, slow_agent: Callable[[float, float], str]
) -> None:
    lab: LanLab = open_lab(LanLab([Served(slow_agent(60, 0.5), 150, 1), Served(slow_agent(0, 9), 100, 2)]))
    lab.elect()
    r1, r2 = lab.routers
    wait_until(lambda: services(r1)["slow"]["state"] == "running", 15, "it runs", explain=lab.logs)
    Tandem.request(r1, "failover")
    wait_until(lambda: r2.has(VIP), 10, "the role moves", explain=lab.logs)
    assert services(r1)["slow"]["state"] == "blocked" and runs(r1, "slow")
    assert services(r1)["slow"]["failure"] == "stop failed: timed out after 0.5 s"
    stays(lambda: not runs(r2, "slow"), 1.5, "it may run on r1")
    assert "r1, which could not stop it" in services(r2)["slow"]["waits_for"]
    r1.file("run.slow").unlink()  # the operator stops it by hand
    Tandem.request(r1, "service", action="clear", name="slow")
    wait_until(lambda: runs(r2, "slow"), 10, "then r2 starts it", explain=lab.logs)
    assert not runs(r1, "slow")


def test_a_daemon_that_is_killed_leaves_no_service_behind(
    open_lab: Open, slow_agent: Callable[[float, float], str]
) -> None:
    """The guardian stops them, and the other router waits for that."""
    lab = pair(open_lab, slow_agent(2, 5))
    r1, r2 = lab.routers
    wait_until(lambda: services(r1)["slow"]["state"] == "running", 15, "it runs", explain=lab.logs)
    process.send_signal([r1.pid], signal.SIGKILL)
    twice = False

    def taken_over() -> bool:
        nonlocal twice
        here, there = runs(r1, "slow"), runs(r2, "slow")
        twice |= here and there
        return there

    wait_until(taken_over, 15, "r2 runs it", explain=lab.logs)
    assert not twice and not runs(r1, "slow")


def test_a_daemon_that_hangs_leaves_no_service_behind(open_lab: Open) -> None:
    lab = pair(open_lab, WEB + "\toption stop_timeout '2'\n")
    r1, _ = lab.routers
    wait_until(lambda: answer(lab) == "r1", 15, "r1 serves", explain=lab.logs)
    process.send_signal([r1.pid], signal.SIGSTOP)
    wait_until(lambda: answer(lab) == "r2", 30, "r2 serves", explain=lab.logs)
    assert not r1.running, "its guardian has killed it"


def test_what_runs_where_it_must_not_is_stopped_at_the_start(open_lab: Open) -> None:
    lab: LanLab = open_lab(LanLab([Served(dummy("one"), 150, 1), Served(dummy("one"), 100, 2)]))
    r1, r2 = lab.routers
    r2.file("run.one").touch()
    r2.start()
    r1.start()
    wait_until(lambda: runs(r1, "one") and not runs(r2, "one"), 15, "it runs on r1 only", explain=lab.logs)


def test_a_reload_changes_services(open_lab: Open) -> None:
    lab = pair(open_lab, dummy("one") + dummy("two"))
    [r1, _] = lab.routers
    wait_until(lambda: runs(r1, "one") and runs(r1, "two"), 15, "both run", explain=lab.logs)
    r1.configure(Served(dummy("one", "monitor_timeout '5'") + dummy("three"), 150, 1))
    Tandem.request(r1, "reload")
    wait_until(
        lambda: runs(r1, "three") and not runs(r1, "two"), 10, "two has gone, three is new", explain=lab.logs
    )
    assert r1.log().count("service one: starting") == 1, "one goes on"
    Tandem.request(r1, "service", action="stop", name="one")
    wait_until(lambda: not runs(r1, "one"), 10, "stopped by an operator")
    assert "tandem service start one" in services(r1)["one"]["waits_for"]
    Tandem.request(r1, "service", action="start", name="one")
    wait_until(lambda: runs(r1, "one"), 10, "and started")
    assert r1.stop(20) == 0
    assert not runs(r1, "one") and not runs(r1, "three"), "a daemon that ends stops its services"
